//! `margay flows`: prints the live flows page by page, so that a great many cost neither side memory and
//! first packets do not wait for them.

use crate::client::ask_for;
use crate::protocol::{FlowPage, Request};
use crate::render;
use anyhow::Result;
use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::path::Path;

/// Prints every flow, as one JSON array or as a table.
pub fn print(run: &Path, json: bool) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    let mut next_page = |behind| ask_for(run, &Request::Flows { behind });
    let printed = match json {
        true => print_json(&mut out, &mut next_page),
        false => print_table(&mut out, &mut next_page),
    };
    let written = printed.and_then(|()| Ok(out.flush()?));
    match written {
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        written => written,
    }
}

/// The page behind a slot, or the first.
type NextPage<'a> = &'a mut dyn FnMut(Option<u32>) -> Result<FlowPage>;

fn print_json(out: &mut impl Write, next_page: NextPage<'_>) -> Result<()> {
    let mut before = "[";
    each_page(next_page, |page| {
        for flow in &page.flows {
            write!(out, "{before}{}", serde_json::to_string(flow)?)?;
            before = ",\n";
        }
        Ok(())
    })?;
    // An array without flows begins here.
    let end = if before == "[" { "[]" } else { "]" };
    Ok(writeln!(out, "{end}")?)
}

fn print_table(out: &mut impl Write, next_page: NextPage<'_>) -> Result<()> {
    let mut table = render::flow_table();
    each_page(next_page, |page| {
        let rows: Vec<_> = page.flows.iter().map(render::flow).collect();
        Ok(out.write_all(table.page(&rows).as_bytes())?)
    })
}

fn each_page(
    next_page: NextPage<'_>,
    mut print: impl FnMut(&FlowPage) -> Result<()>,
) -> Result<()> {
    let mut behind = None;
    loop {
        let page = next_page(behind)?;
        print(&page)?;
        if page.next.is_none() {
            return Ok(());
        }
        behind = page.next;
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::FlowRow;

    fn row(client: &str) -> FlowRow {
        FlowRow {
            client: client.to_owned(),
            ..FlowRow::default()
        }
    }

    /// What is printed of these pages, each of which is asked for behind the one before.
    fn printed(pages: &[&[&str]], json: bool) -> String {
        let mut out = Vec::new();
        let mut asked = Vec::new();
        let mut next_page = |behind: Option<u32>| {
            asked.push(behind);
            let number = asked.len();
            Ok(FlowPage {
                flows: pages[number - 1].iter().copied().map(row).collect(),
                next: (number < pages.len()).then_some(number as u32),
            })
        };
        match json {
            true => print_json(&mut out, &mut next_page).unwrap(),
            false => print_table(&mut out, &mut next_page).unwrap(),
        }
        let expected: Vec<_> = (0..pages.len() as u32)
            .map(|n| (n > 0).then_some(n))
            .collect();
        assert_eq!(asked, expected);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn pages_become_one_array() {
        for pages in [
            &[&[][..]][..],
            &[&["1.a"]],
            &[&["1.a", "2.a"], &["3.a"]],
            &[&["1.a"], &[]],
        ] {
            let text = printed(pages, true);
            let rows: Vec<FlowRow> = serde_json::from_str(&text).unwrap();
            let clients: Vec<&str> = rows.iter().map(|row| &row.client[..]).collect();
            assert_eq!(clients, pages.concat(), "{text}");
        }
    }

    #[test]
    fn pages_become_one_table() {
        let text = printed(&[&["1.a", "2.a"], &["3.a"]], false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[0].starts_with("PROTOCOL") && lines[3].contains("3.a"),
            "{text}"
        );
    }
}
