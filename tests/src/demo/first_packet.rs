//! Step: the first packet of a flow is decided in user space, the later ones pass in the kernel.

use super::shop::{SHOPPER, Shop, inside};
use super::{Report, chapter, tell};
use crate::lab::Flow;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Requests over each connection.
const REQUESTS: &str = "200";

/// Sends many requests over one connection to each replica, and reads who carried the packets.
pub(super) fn count(shop: &Shop, report: &mut Report) -> Result<()> {
    chapter("First packets through core, later ones in the kernel");
    let called = shop.web.iter().map(|it| it.called_v4.to_string());
    let addresses: Vec<String> = called.collect();
    let program = inside("hold.py");
    let mut words = vec!["/usr/bin/python3", &program, REQUESTS];
    words.extend(addresses.iter().map(String::as_str));

    let upcalls = shop.host.status()?.upcalls;
    let mut command = shop.host.exec(SHOPPER, &words);
    let mut client = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = client.stdout.take().context("its output is a pipe")?;
    let mut ports = String::new();
    BufReader::new(output).read_line(&mut ports)?;
    report.first_packets_upcalled = shop.host.status()?.upcalls - upcalls;
    let flows = shop.host.flows()?;
    drop(client.stdin.take());
    ensure!(
        client.wait()?.success(),
        "the client that holds connections failed"
    );

    let ports: Vec<u16> = ports
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(
        ports.len() == addresses.len(),
        "not every connection opened: {ports:?}"
    );
    let mut delivered = 0;
    for port in ports {
        let flow = find(&flows, port)?;
        let (there, back) = (flow.packets, flow.reply_packets);
        tell(format!(
            "{} -> {}: {there} packets there, {back} back",
            flow.from, flow.server
        ));
        delivered += there + back;
    }
    // The first packet, once decided, passes the flow table too and is counted there.
    report.packets_direct = delivered.saturating_sub(report.first_packets_upcalled);
    tell(format!(
        "{} first packets went up to core, {} others met the kernel only",
        report.first_packets_upcalled, report.packets_direct
    ));
    Ok(())
}

fn find(flows: &[Flow], port: u16) -> Result<&Flow> {
    flows
        .iter()
        .find(|it| it.protocol == "tcp" && it.client == SHOPPER && it.from.port() == port)
        .with_context(|| format!("`margay flows` shows no flow from port {port}: {flows:?}"))
}
