//! The figures of a run, as lines of JSON or as a table.

use super::server::{Server, version};
use super::{AllSeries, DnsMetric};
use crate::bench::line::Line;
use crate::bench::report::Series;
use crate::bench::targets::{Verdict, write_verdicts};
use anyhow::Result;
use std::io::{self, Write};

/// Where everything ran.
const PINNED: &str = "server on cpu 0, dnsperf on cpu 1";

/// The path between dnsperf and the server.
const LOOPBACK_MTU: u32 = 65_536;

/// Writes one JSON object a line, of the same shape as every other bench's.
pub fn write_json(all: &AllSeries, output: &mut impl Write) -> Result<()> {
    for line in lines(all)? {
        serde_json::to_writer(&mut *output, &line)?;
        writeln!(output)?;
    }
    Ok(())
}

/// Writes a table a metric, then the targets.
pub fn write_table(all: &AllSeries, output: &mut impl Write) -> Result<()> {
    let lines = lines(all)?;
    if let Some(line) = lines.first() {
        writeln!(
            output,
            "medians of {} interleaved rounds [20th to 80th percentile]\n\
             (ratio to knot in the same round: median [20th to 80th percentile])\n{PINNED}",
            line.rounds
        )?;
    }
    for metric in DnsMetric::ALL {
        writeln!(output, "\n{metric}, {}", metric.unit())?;
        for line in lines.iter().filter(|line| line.metric == metric.name()) {
            line.write_row(output)?;
        }
    }
    writeln!(output)?;
    for server in Server::ALL {
        let of_server = |line: &&Line| line.config == server.name();
        if let Some(forwarder) = lines
            .iter()
            .find(of_server)
            .and_then(|it| it.forwarder.as_ref())
        {
            writeln!(output, "{server}: {forwarder}")?;
        }
    }
    write_targets(all, output)?;
    Ok(())
}

fn lines(all: &AllSeries) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for server in Server::ALL {
        let forwarder = version(server)?;
        for metric in DnsMetric::ALL {
            let series = |server| all.get(&(server, metric));
            if let (Some(ours), Some(knot)) = (series(server), series(Server::Knot)) {
                let line = Line::new(("dns", server.name(), metric.name()), metric.unit(), ours);
                lines.extend(line.map(|line| Line {
                    mtu: Some(LOOPBACK_MTU),
                    pinned: PINNED,
                    forwarder: forwarder.clone(),
                    ..line.over(ours, knot)
                }));
            }
        }
    }
    Ok(lines)
}

fn write_targets(all: &AllSeries, output: &mut impl Write) -> io::Result<()> {
    write_verdicts(&judge(all), output)
}

/// Judges Margay: no more processor time a question over UDP than knot, more questions over TCP
/// than anybody.
fn judge(all: &AllSeries) -> Vec<Verdict> {
    let median = |server, metric| all.get(&(server, metric)).and_then(Series::median);
    let mut verdicts = Vec::new();
    let cost = |server| median(server, DnsMetric::UdpCpuUs);
    if let (Some(ours), Some(theirs)) = (cost(Server::Margay), cost(Server::Knot)) {
        verdicts.push(Verdict {
            target: "margay udp_cpu_us no more than knot's".to_owned(),
            measured: format!("{ours:.2} us against {theirs:.2} us"),
            reached: ours <= theirs,
        });
    }
    for other in Server::ALL.into_iter().filter(|it| *it != Server::Margay) {
        let rate = |server| median(server, DnsMetric::TcpQps);
        if let (Some(ours), Some(theirs)) = (rate(Server::Margay), rate(other)) {
            verdicts.push(Verdict {
                target: format!("margay tcp_qps ahead of {other}"),
                measured: format!("{ours:.0} against {theirs:.0} per s"),
                reached: ours > theirs,
            });
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(entries: &[(Server, DnsMetric, f64)]) -> AllSeries {
        let series = |value| Series {
            values: vec![value],
            ..Series::default()
        };
        entries
            .iter()
            .map(|(server, metric, value)| ((*server, *metric), series(*value)))
            .collect()
    }

    #[test]
    fn the_dearer_and_the_slower_are_told() {
        let all = series(&[
            (Server::Margay, DnsMetric::UdpCpuUs, 3.1),
            (Server::Knot, DnsMetric::UdpCpuUs, 3.0),
            (Server::Margay, DnsMetric::TcpQps, 100.0),
            (Server::Nsd, DnsMetric::TcpQps, 100.0),
            (Server::Unbound, DnsMetric::TcpQps, 99.0),
        ]);
        let missed: Vec<_> = judge(&all)
            .into_iter()
            .filter(|verdict| !verdict.reached)
            .map(|verdict| verdict.target)
            .collect();
        assert_eq!(
            missed,
            [
                "margay udp_cpu_us no more than knot's",
                "margay tcp_qps ahead of nsd"
            ]
        );
    }
}
