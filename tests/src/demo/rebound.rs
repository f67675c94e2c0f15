//! Step: a replica dies between DNS answer and connect, and a sibling takes the flow.

use super::shop::{SHOPPER, Shop, inside};
use super::{Report, chapter, tell};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// Kills the replica that a client is about to call.
pub(super) fn show(shop: &Shop, report: &mut Report) -> Result<()> {
    chapter("A replica killed between DNS answer and connect");
    let words = ["/usr/bin/python3", &inside("late.py"), "web.matrix"];
    let mut command = shop.host.exec(SHOPPER, &words);
    let mut client = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(client.stdout.take().context("its output is a pipe")?);
    let mut address = String::new();
    output.read_line(&mut address)?;
    let chosen = shop.replica(&address)?;

    let name = &shop.web[chosen].name;
    let now = shop.host.instances()?;
    let pid = now.iter().find(|it| it.name == *name).and_then(|it| it.pid);
    let killed = shop
        .host
        .kill(pid.with_context(|| format!("{name} has no process"))?)?;
    let mut input = client.stdin.take().context("its input is a pipe")?;
    writeln!(input)?;
    let mut answer = String::new();
    output.read_line(&mut answer)?;
    let elapsed = killed.elapsed();
    ensure!(
        client.wait()?.success(),
        "the client that connects late failed"
    );

    let (body, tries) = answer
        .trim()
        .split_once(' ')
        .context("an address and a count")?;
    let answered = shop.replica(body)?;
    report.rebound = answered != chosen;
    report.rebound_ms = (elapsed.as_secs_f64() * 10_000.0).round() / 10.0;
    tell(format!(
        "{name} ({}) was resolved and killed",
        address.trim()
    ));
    let sibling = &shop.web[answered].name;
    let took = report.rebound_ms;
    tell(format!(
        "{sibling} answered at that address {took} ms after the kill, at try {tries}"
    ));
    shop.until_ready()?;
    tell(format!("{name} runs again, under the same addresses"));
    Ok(())
}
