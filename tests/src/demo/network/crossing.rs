//! Step: a first packet goes from router to router into another site; all later ones go direct.

use super::super::{Report, chapter, tell};
use super::travel::{CLIENT, FOUNDER, GATEWAYS, SERVER, SHOPPER, Travel};
use crate::lab::{Flow, Host, PLACE, Status};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// All hosts, in the order of the way that a first packet should take.
const WAY: [&str; 5] = [CLIENT, GATEWAYS[0], FOUNDER, GATEWAYS[1], SERVER];

/// Requests over one connection.
const REQUESTS: u64 = 200;

/// Opens a connection to the other site, and reads from every host's counters what it carried.
pub(super) fn show(travel: &Travel, report: &mut Report) -> Result<()> {
    chapter("A first packet from router to router, later ones direct");
    let before = statuses(travel)?;
    let client = travel.client()?;
    let program = format!("{PLACE}/ping.py");
    let count = REQUESTS.to_string();
    let words = ["/usr/bin/python3", &program, "store.matrix", &count];
    let mut command = client.exec(SHOPPER, &words);
    let mut pinging = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = pinging.stdout.take().context("its output is a pipe")?;
    let mut port = String::new();
    BufReader::new(output).read_line(&mut port)?;
    let port: u16 = port.trim().parse().context("no connection was opened")?;
    let after = statuses(travel)?;

    let mut between = 0;
    for name in WAY {
        let grown = |count: fn(&Status) -> u64| count(&after[name]) - count(&before[name]);
        let asked = grown(|it| it.requests_sent);
        let passed_on = grown(|it| it.requests_passed_on);
        let accepted = grown(|it| it.requests_accepted);
        tell(format!(
            "first packet: {name} asked {asked}, passed on {passed_on}, accepted {accepted}"
        ));
        between += u32::from(passed_on > 0);
    }
    report.first_packet_hops = between;
    let mut direct = 0;
    for name in WAY {
        let packets = carried(travel.lab.find_host(name)?, port)?;
        tell(format!("later packets: {name} carried {packets}"));
        match name {
            CLIENT | SERVER => direct += u32::from(packets >= 2 * REQUESTS),
            _ => report.later_packet_hops += u32::from(packets > 0),
        }
    }
    drop(pinging.stdin.take());
    ensure!(pinging.wait()?.success(), "the client failed");
    ensure!(direct == 2, "an end of the flow did not carry its packets");
    Ok(())
}

fn statuses(travel: &Travel) -> Result<BTreeMap<&'static str, Status>> {
    let statuses = WAY.map(|name| Ok((name, travel.lab.find_host(name)?.status()?)));
    statuses.into_iter().collect()
}

/// The packets, both ways, of the flow from a port, as the kernel of a host counted them.
fn carried(host: &Host, port: u16) -> Result<u64> {
    let flows = host.flows()?;
    let ours = |flow: &&Flow| flow.protocol == "tcp" && flow.from.port() == port;
    let ours = flows.iter().filter(ours);
    Ok(ours.map(|flow| flow.packets + flow.reply_packets).sum())
}
