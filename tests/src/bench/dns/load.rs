//! Asks one server with dnsperf and meters what that cost it.

use super::metric::DnsMetric;
use super::server::{ADDRESS, Running};
use crate::bench::namespace::succeeded;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// The processor of dnsperf.
const CLIENT_CPU: usize = 1;

/// How many sockets, or connections, dnsperf asks from.
const CLIENTS: &str = "8";

/// How many questions are under way at once: enough that no server ever waits for the next.
const OUTSTANDING: &str = "128";

/// How the questions travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// Both, in the order in which a round uses them.
    pub(super) const ALL: [Transport; 2] = [Transport::Udp, Transport::Tcp];

    fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }

    fn metrics(self) -> (DnsMetric, DnsMetric) {
        match self {
            Transport::Udp => (DnsMetric::UdpQps, DnsMetric::UdpCpuUs),
            Transport::Tcp => (DnsMetric::TcpQps, DnsMetric::TcpCpuUs),
        }
    }
}

/// What dnsperf reports of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outcome {
    answered: f64,
    per_second: f64,
}

/// Asks for `seconds` as fast as answers come; every answer must be a good one.
pub(super) fn ask(
    running: &mut Running,
    transport: Transport,
    questions: &Path,
    seconds: u32,
) -> Result<[(DnsMetric, f64); 2]> {
    running.check_alive()?;
    let mut command = Command::new("dnsperf");
    command.args(["-s", ADDRESS, "-m", transport.name(), "-T", "1"]);
    command.args(["-c", CLIENTS, "-q", OUTSTANDING]);
    command
        .args(["-l", &seconds.to_string(), "-d"])
        .arg(questions);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let before = running.metered.used()?;
    let mut dnsperf = running.namespace.start(&mut command, CLIENT_CPU)?;
    let output = succeeded("dnsperf", dnsperf.finish()?)?;
    let used = running.metered.used()? - before;
    let outcome = read(&String::from_utf8_lossy(&output.stdout))?;
    let micros_each = used.as_secs_f64() * 1e6 / outcome.answered;
    let (rate, cost) = transport.metrics();
    Ok([(rate, outcome.per_second), (cost, micros_each)])
}

fn read(report: &str) -> Result<Outcome> {
    let value = |label: &str| {
        let line = report
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim)
            .with_context(|| format!("dnsperf did not report `{label}`:\n{report}"))
    };
    let number = |label: &str| -> Result<f64> {
        let word = value(label)?.split_whitespace().next().unwrap_or_default();
        word.parse()
            .with_context(|| format!("read `{label} {word}`"))
    };
    let answered = number("Queries completed:")?;
    ensure!(answered > 0.0, "no question was answered:\n{report}");
    let codes = value("Response codes:")?;
    if !codes.starts_with("NOERROR") || codes.contains(',') {
        bail!("some answers were errors: {codes}");
    }
    Ok(Outcome {
        answered,
        per_second: number("Queries per second:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "
Statistics:

  Queries sent:         1000
  Queries completed:    998 (99.80%)
  Queries lost:         2 (0.20%)

  Response codes:       NOERROR 998 (100.00%)
  Average packet size:  request 37, response 53
  Run time (s):         1.000010
  Queries per second:   997.990020
";

    #[test]
    fn a_report_is_read() {
        let outcome = read(REPORT).unwrap();
        assert_eq!((outcome.answered, outcome.per_second), (998.0, 997.990_02));
    }

    #[test]
    fn wrong_answers_are_no_figure() {
        let wrong = REPORT.replace("NOERROR 998", "NOERROR 990 (99.20%), NXDOMAIN 8");
        let error = read(&wrong).unwrap_err().to_string();
        assert!(error.contains("NXDOMAIN 8"), "{error}");
    }
}
