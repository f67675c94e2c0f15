//! The figures of a run, as lines of JSON or as a table.

use crate::bench::conditions::{Conditions, MTU_BYTES, Pinning};
use crate::bench::config::Config;
use crate::bench::line::Line;
use crate::bench::metric::Metric;
use crate::bench::same_host::Outcome;
use crate::bench::statistics::Spread;
use crate::bench::targets::{judge, judge_applies, write_verdicts};
use serde::Serialize;
use std::io::{self, Write};

/// One line of the report: a metric of a config over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The benchmark.
    pub bench: &'static str,
    /// The config.
    pub config: Config,
    /// The metric.
    pub metric: Metric,
    /// Median over the rounds.
    pub value: f64,
    /// The unit of `value`, `p20` and `p80`.
    pub unit: &'static str,
    /// Median over the rounds of the figure over the direct veth pair's of the same round: what
    /// disturbs a machine lasts longer than a round, and so disturbs both.
    pub ratio: f64,
    /// How many rounds were measured.
    pub rounds: usize,
    /// 20th percentile of the ratio over the rounds.
    pub ratio_p20: f64,
    /// 80th percentile of the ratio over the rounds.
    pub ratio_p80: f64,
    /// 20th percentile over the rounds.
    pub p20: f64,
    /// 80th percentile over the rounds.
    pub p80: f64,
    /// Median over the rounds of the 99th percentile of single round trips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_p99_us: Option<f64>,
    /// Congestion control of every TCP socket of the measuring tool.
    pub congestion_control: &'static str,
    /// MTU of every interface in bytes.
    pub mtu: u32,
    /// Where client, server and forwarder ran.
    pub pinned: &'static str,
    /// What forwards, where that is another's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarder: Option<String>,
}

/// What the rounds of one config yielded for one metric.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The figure of each round.
    pub values: Vec<f64>,
    /// The 99th percentile of single round trips of each round, where measured.
    pub round_trip_p99_us: Vec<f64>,
}

impl Series {
    /// The largest of all rounds; `None` when there are none.
    pub fn largest(&self) -> Option<f64> {
        self.values.iter().copied().reduce(f64::max)
    }

    /// The median over the rounds; `None` when there are none.
    pub fn median(&self) -> Option<f64> {
        Spread::of(&self.values).map(|spread| spread.median)
    }
}

impl Figure {
    /// Summarizes a series; `direct` is the direct veth pair's. `None` for an empty series.
    pub fn new(
        (config, metric): (Config, Metric),
        series: &Series,
        direct: &Series,
        conditions: Conditions,
        forwarder: Option<String>,
    ) -> Option<Figure> {
        let spread = Spread::of(&series.values)?;
        let rounds = series.values.iter().zip(&direct.values);
        let ratios: Vec<f64> = rounds.map(|(ours, direct)| ours / direct).collect();
        let ratio = Spread::of(&ratios)?;
        Some(Figure {
            bench: "same-host",
            config,
            metric,
            value: rounded(spread.median),
            unit: metric.unit(),
            ratio: rounded(ratio.median),
            ratio_p20: rounded(ratio.p20),
            ratio_p80: rounded(ratio.p80),
            rounds: series.values.len(),
            p20: rounded(spread.p20),
            p80: rounded(spread.p80),
            round_trip_p99_us: Spread::of(&series.round_trip_p99_us)
                .map(|spread| rounded(spread.median)),
            congestion_control: conditions.congestion_control.name(),
            mtu: MTU_BYTES,
            pinned: Pinning::of(metric.job()).statement(),
            forwarder,
        })
    }
}

/// Cuts digits that no measurement has.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Writes one JSON object a line.
pub fn write_json(outcome: &Outcome, output: &mut impl Write) -> io::Result<()> {
    for figure in &outcome.figures {
        serde_json::to_writer(&mut *output, figure)?;
        writeln!(output)?;
    }
    for line in apply_lines(outcome) {
        serde_json::to_writer(&mut *output, &line)?;
        writeln!(output)?;
    }
    Ok(())
}

fn apply_lines(outcome: &Outcome) -> impl Iterator<Item = Line> {
    outcome.applies.iter().flat_map(|(config, applies)| {
        let metrics = [
            ("apply_ms", &applies.name_ms),
            ("apply_address_ms", &applies.address_ms),
        ];
        metrics.into_iter().filter_map(|(metric, series)| {
            let line = Line::new(("same-host", config.name(), metric), "ms", series)?;
            let pinned = Pinning::TwoCpus.statement();
            Some(Line { pinned, ..line })
        })
    })
}

/// Writes a table a metric, then the targets.
pub fn write_table(outcome: &Outcome, output: &mut impl Write) -> io::Result<()> {
    let figures = outcome.figures.as_slice();
    if let Some(figure) = figures.first() {
        writeln!(
            output,
            "medians of {} interleaved rounds [20th to 80th percentile]\n\
             (ratio to direct-veth in the same round: median [20th to 80th percentile])\n\
             congestion control {}, MTU {} everywhere",
            figure.rounds, figure.congestion_control, figure.mtu
        )?;
    }
    for metric in Metric::ALL {
        let mut rows = figures
            .iter()
            .filter(|figure| figure.metric == metric)
            .peekable();
        if let Some(figure) = rows.peek() {
            let unit = readable_unit(metric);
            writeln!(output, "\n{metric}, {unit}; {}", figure.pinned)?;
        }
        for figure in rows {
            write_row(figure, output)?;
        }
    }
    for (metric, what) in [
        ("apply_ms", "the first correct answer for its name"),
        ("apply_address_ms", "its first address; its program runs"),
    ] {
        let lines = apply_lines(outcome).filter(|line| line.metric == metric);
        for (index, line) in lines.enumerate() {
            if index == 0 {
                writeln!(output, "\n{metric}, from the control socket to {what}")?;
            }
            line.write_row(output)?;
        }
    }
    write_forwarders(figures, output)?;
    let mut verdicts = judge(figures);
    verdicts.extend(judge_applies(&outcome.applies));
    write_verdicts(&verdicts, output)
}

fn write_row(figure: &Figure, output: &mut impl Write) -> io::Result<()> {
    let shown = |value| readable(figure.metric, value);
    write!(
        output,
        "  {:<15} {:>9}  {:<20}  ({:.2} [{:.2} to {:.2}])",
        figure.config,
        shown(figure.value),
        format!("[{} to {}]", shown(figure.p20), shown(figure.p80)),
        figure.ratio,
        figure.ratio_p20,
        figure.ratio_p80,
    )?;
    match figure.round_trip_p99_us {
        Some(p99_us) => writeln!(output, "  p99 {p99_us:.1} us"),
        None => writeln!(output),
    }
}

fn write_forwarders(figures: &[Figure], output: &mut impl Write) -> io::Result<()> {
    writeln!(output)?;
    for config in Config::ALL {
        let mut of_config = figures.iter().filter(|figure| figure.config == config);
        if let Some(forwarder) = of_config.find_map(|figure| figure.forwarder.as_ref()) {
            writeln!(output, "{config}: {forwarder}")?;
        }
        if !config.carries_udp() && figures.iter().any(|figure| figure.config == config) {
            writeln!(
                output,
                "{config}: carries no UDP, so no udp_pps and no packet latency"
            )?;
        }
    }
    Ok(())
}

fn readable_unit(metric: Metric) -> &'static str {
    match metric {
        Metric::Bulk => "Gbit/s",
        Metric::Rr | Metric::Crr | Metric::UdpPps => "per second",
        Metric::FirstPacketUs | Metric::LaterPacketUs => "microseconds",
    }
}

fn readable(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Bulk => format!("{:.2}", value / 1e9),
        Metric::Rr | Metric::Crr | Metric::UdpPps => format!("{value:.0}"),
        Metric::FirstPacketUs | Metric::LaterPacketUs => format!("{value:.1}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::conditions::CongestionControl;
    use std::time::Duration;

    const CONDITIONS: Conditions = Conditions {
        congestion_control: CongestionControl::Cubic,
        sample: Duration::from_millis(250),
    };

    /// A figure for tests that only look at its value and ratio.
    pub(crate) fn figure(config: Config, metric: Metric, value: f64, ratio: f64) -> Figure {
        let series = Series {
            values: vec![value],
            round_trip_p99_us: Vec::new(),
        };
        let direct = Series {
            values: vec![value / ratio],
            ..Series::default()
        };
        Figure::new((config, metric), &series, &direct, CONDITIONS, None).unwrap()
    }

    /// A run that yielded only these figures.
    fn outcome(figures: &[Figure]) -> Outcome {
        Outcome {
            figures: figures.to_vec(),
            ..Outcome::default()
        }
    }

    #[test]
    fn a_json_line_carries_the_figure_and_its_conditions() {
        let series = Series {
            values: vec![90.0, 110.0, 100.0],
            ..Series::default()
        };
        let direct = Series {
            values: vec![200.0, 200.0, 200.0],
            ..Series::default()
        };
        let key = (Config::Margay, Metric::Rr);
        let figure = Figure::new(key, &series, &direct, CONDITIONS, None).unwrap();
        let mut line = Vec::new();
        write_json(&outcome(&[figure]), &mut line).unwrap();
        let expected = concat!(
            r#"{"bench":"same-host","config":"margay","metric":"rr","value":100.0,"#,
            r#""unit":"per_s","ratio":0.5,"rounds":3,"ratio_p20":0.45,"ratio_p80":0.55,"#,
            r#""p20":90.0,"p80":110.0,"congestion_control":"cubic","mtu":1400,"#,
            r#""pinned":"client, server and forwarder on cpu 0"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn a_disturbed_round_does_not_disturb_the_ratio() {
        let series = Series {
            values: vec![90.0, 45.0, 9.0],
            ..Series::default()
        };
        let direct = Series {
            values: vec![100.0, 50.0, 10.0],
            ..Series::default()
        };
        let key = (Config::Margay, Metric::Rr);
        let figure = Figure::new(key, &series, &direct, CONDITIONS, None).unwrap();
        assert_eq!(
            (figure.ratio_p20, figure.ratio, figure.ratio_p80),
            (0.9, 0.9, 0.9)
        );
    }

    #[test]
    fn the_table_says_which_targets_are_missed() {
        let figures = [
            figure(Config::DirectVeth, Metric::Bulk, 60e9, 1.0),
            figure(Config::Margay, Metric::Bulk, 30e9, 0.5),
        ];
        let mut table = Vec::new();
        write_table(&outcome(&figures), &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(
            table.contains("FAIL  margay bulk at least 0.97 of direct-veth: 0.500"),
            "{table}"
        );
        assert!(table.contains("30.00  [30.00 to 30.00]"), "{table}");
    }
}
