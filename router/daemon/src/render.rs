//! Tables for people.

use crate::protocol::{FlowRow, InstanceRow, MemberRow};
use margay_core::drop_reason::DropReason;
use margay_datapath::host_link::LinkDrop;
use serde_json::Value;
use std::collections::BTreeMap;

/// Renders rows under a heading, columns aligned.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    Table::new(heading).page(rows)
}

/// A table that is rendered page by page, for what does not fit at once.
pub struct Table {
    heading: Vec<String>,
    /// The widest cell of each column so far.
    widths: Vec<usize>,
    begun: bool,
}

impl Table {
    /// A table of these columns.
    pub fn new(heading: &[&str]) -> Self {
        Table {
            heading: heading.iter().map(ToString::to_string).collect(),
            widths: heading.iter().map(|cell| cell.len()).collect(),
            begun: false,
        }
    }

    /// Renders further rows, the heading before the first; columns only ever grow wider.
    pub fn page(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            text += &self.line(&self.heading);
        }
        for row in rows {
            text += &self.line(row);
        }
        text
    }

    fn line(&self, cells: &[String]) -> String {
        let padded = cells.iter().zip(&self.widths);
        let padded: Vec<String> = padded
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    }
}

/// Renders `ps`, with the hosts if there may be others.
pub fn instances(rows: &[InstanceRow], with_hosts: bool) -> String {
    let host = |row: &InstanceRow| row.host.clone().unwrap_or_else(|| "here".to_owned());
    let cells = rows.iter().map(|row| {
        let mut cells = vec![
            row.name.clone(),
            format!("{}@{}", row.composition, row.version),
            row.state.clone(),
            if row.ready { "yes" } else { "no" }.to_owned(),
            row.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            row.restarts.to_string(),
            row.called_v4.clone(),
            row.called_v6.clone(),
            row.problem.clone().unwrap_or_default(),
        ];
        if with_hosts {
            cells.insert(1, host(row));
        }
        cells
    });
    let mut heading = vec![
        "INSTANCE",
        "COMPOSITION",
        "STATE",
        "READY",
        "PID",
        "RESTARTS",
        "IPV4",
        "IPV6",
        "PROBLEM",
    ];
    if with_hosts {
        heading.insert(1, "HOST");
    }
    table(&heading, &cells.collect::<Vec<_>>())
}

/// Renders `members`.
pub fn members(rows: &[MemberRow]) -> String {
    let dash = || "-".to_owned();
    let cells = rows.iter().map(|row| {
        vec![
            row.name.clone(),
            row.site.clone(),
            row.state.clone(),
            row.link.clone(),
            row.address.map_or_else(dash, |address| address.to_string()),
            row.path.clone().unwrap_or_else(dash),
            row.blocks.join(" "),
            row.roles.join(" "),
            row.until.clone(),
            row.host.chars().take(8).collect(),
            row.problem.clone().unwrap_or_default(),
        ]
    });
    let heading = [
        "HOST", "SITE", "STATE", "LINK", "ADDRESS", "PATH", "IPV4", "ROLES", "UNTIL", "ID",
        "PROBLEM",
    ];
    table(&heading, &cells.collect::<Vec<_>>())
}

/// The table of `flows`.
pub fn flow_table() -> Table {
    Table::new(&[
        "PROTOCOL",
        "CLIENT",
        "SERVER",
        "FROM",
        "TO",
        "REWRITTEN",
        "PACKETS",
        "BYTES",
        "STATE",
        "AGE",
        "HOPS",
    ])
}

/// A row of [`flow_table`].
pub fn flow(row: &FlowRow) -> Vec<String> {
    let rewritten = match row.delivered_to == row.to {
        true => "-",
        false => &row.delivered_to,
    };
    vec![
        row.protocol.clone(),
        row.client.clone(),
        row.server.clone(),
        row.from.clone(),
        row.to.clone(),
        rewritten.to_owned(),
        format!("{}/{}", row.packets, row.reply_packets),
        format!("{}/{}", row.bytes, row.reply_bytes),
        row.state.clone(),
        format!("{}.{:01} s", row.age_ms / 1000, row.age_ms % 1000 / 100),
        row.hops.to_string(),
    ]
}

/// Renders `drops`: counts by the reason's name.
pub fn drops(counts: &BTreeMap<String, u64>) -> String {
    let cells = counts.iter().map(|(name, count)| {
        vec![
            name.clone(),
            count.to_string(),
            explanation(name).to_owned(),
        ]
    });
    let heading = ["REASON", "PACKETS", "EXPLANATION"];
    table(&heading, &cells.collect::<Vec<_>>())
}

/// What a drop reason of this name means; a daemon of another version may have others.
fn explanation(name: &str) -> &'static str {
    let reasons = DropReason::ALL.iter();
    let reasons = reasons.map(|reason| (reason.name(), reason.explanation()));
    let of_links = LinkDrop::ALL.iter();
    let of_links = of_links.map(|reason| (reason.name(), reason.explanation()));
    let known = reasons.chain(of_links).find(|(known, _)| *known == name);
    known.map_or("-", |(_, explanation)| explanation)
}

/// Renders a JSON object as `name value` lines.
pub fn object(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return scalar(value) + "\n";
    };
    let rows: Vec<Vec<String>> = fields
        .iter()
        .map(|(name, value)| vec![name.clone(), scalar(value)])
        .collect();
    let width = rows.iter().map(|row| row[0].len()).max().unwrap_or(0);
    rows.iter()
        .map(|row| format!("{:<width$}  {}\n", row[0], row[1]))
        .collect()
}

/// Renders a JSON array of objects as a table of their fields.
pub fn objects(value: &Value) -> String {
    let Value::Array(items) = value else {
        return object(value);
    };
    let Some(Value::Object(first)) = items.first() else {
        return "none\n".to_owned();
    };
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let heading: Vec<String> = names.iter().map(|name| name.to_uppercase()).collect();
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let cells = items
        .iter()
        .map(|item| names.iter().map(|name| scalar(&item[*name])).collect());
    table(&heading, &cells.collect::<Vec<_>>())
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let rows = [
            vec!["1.web".into(), "x".into()],
            vec!["10.store".into(), String::new()],
        ];
        assert_eq!(
            table(&["A", "B"], &rows),
            "A         B\n1.web     x\n10.store\n"
        );
    }

    #[test]
    fn later_page_has_no_heading_and_keeps_the_columns() {
        let row = |name: &str| vec![name.to_owned(), "x".to_owned()];
        let mut table = Table::new(&["A", "B"]);
        assert_eq!(table.page(&[row("10.store")]), "A         B\n10.store  x\n");
        assert_eq!(table.page(&[row("1.web")]), "1.web     x\n");
        assert_eq!(table.page(&[]), "");
    }

    #[test]
    fn each_drop_is_explained_and_one_of_another_version_at_least_counted() {
        let counts = [("fragment", 12), ("of_tomorrow", 3)];
        let counts = counts.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(
            drops(&BTreeMap::from(counts)),
            "REASON       PACKETS  EXPLANATION\n\
             fragment     12       A later fragment whose first one, which names the ports, did not come before it.\n\
             of_tomorrow  3        -\n"
        );
    }
}
