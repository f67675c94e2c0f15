//! The figures of a run, as lines of JSON or as a table.

use super::{AllSeries, Config, METRICS};
use crate::bench::conditions::{Conditions, MTU_BYTES, Pinning};
use crate::bench::line::Line;
use crate::bench::metric::Metric;
use crate::bench::report::Series;
use crate::bench::targets::{Verdict, write_verdicts};
use anyhow::Result;
use std::io::Write;

/// At least this share of what plain routing reaches in the same run.
const RATIO_MIN: f64 = 0.95;

/// In which metrics Margay has targets; `crr` and `bulk` are told beside them.
const JUDGED: [Metric; 2] = [Metric::Rr, Metric::UdpPps];

/// What is equal in all configs, in words.
const CONDITIONS: &str = "two hosts on one switch, MTU 1500 there; MTU 1400 for the programs";

/// Writes one JSON object a line, of the same shape as every other bench's.
pub fn write_json(all: &AllSeries, conditions: Conditions, output: &mut impl Write) -> Result<()> {
    for line in lines(all, conditions) {
        serde_json::to_writer(&mut *output, &line)?;
        writeln!(output)?;
    }
    Ok(())
}

/// Writes a table a metric, then the targets.
pub fn write_table(all: &AllSeries, conditions: Conditions, output: &mut impl Write) -> Result<()> {
    let lines = lines(all, conditions);
    if let Some(line) = lines.first() {
        writeln!(
            output,
            "medians of {} interleaved rounds [20th to 80th percentile]\n\
             (ratio to routed in the same round: median [20th to 80th percentile])\n\
             congestion control {}; {CONDITIONS}",
            line.rounds, conditions.congestion_control
        )?;
    }
    for metric in METRICS {
        let (unit, scale) = match metric {
            Metric::Bulk => ("Gbit/s", 1e9),
            _ => ("per second", 1.0),
        };
        let pinned = Pinning::of(metric.job()).statement();
        writeln!(output, "\n{metric}, {unit}; {pinned}")?;
        let name = metric.to_string();
        for line in lines.iter().filter(|line| line.metric == name) {
            let shown = Line {
                value: line.value / scale,
                p20: line.p20 / scale,
                p80: line.p80 / scale,
                ..line.clone()
            };
            shown.write_row(output)?;
        }
    }
    write_verdicts(&judge(&lines), output)?;
    Ok(())
}

fn lines(all: &AllSeries, conditions: Conditions) -> Vec<Line> {
    let mut lines = Vec::new();
    for metric in METRICS {
        for config in Config::ALL {
            let series = |config| all.get(&(config, metric));
            if let (Some(ours), Some(routed)) = (series(config), series(Config::Routed)) {
                lines.extend(line((config, metric), ours, routed, conditions));
            }
        }
    }
    lines
}

fn line(
    (config, metric): (Config, Metric),
    ours: &Series,
    routed: &Series,
    conditions: Conditions,
) -> Option<Line> {
    let key = ("inter-host", config.name(), metric.name());
    let line = Line::new(key, metric.unit(), ours)?;
    Some(Line {
        congestion_control: Some(conditions.congestion_control.name()),
        mtu: Some(MTU_BYTES),
        pinned: Pinning::of(metric.job()).statement(),
        ..line.over(ours, routed)
    })
}

fn judge(lines: &[Line]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for metric in JUDGED {
        let ratio = |config: Config| {
            let is = |it: &&Line| it.config == config.name() && it.metric == metric.name();
            lines.iter().find(is)?.ratio
        };
        let Some(ours) = ratio(Config::Margay) else {
            continue;
        };
        verdicts.push(Verdict {
            target: format!("margay {metric} at least {RATIO_MIN:.2} of routed"),
            measured: format!("{ours:.3}"),
            reached: ours >= RATIO_MIN,
        });
        if let Some(theirs) = ratio(Config::Vxlan) {
            verdicts.push(Verdict {
                target: format!("margay {metric} ahead of vxlan"),
                measured: format!("{ours:.3} against {theirs:.3}"),
                reached: ours > theirs,
            });
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::conditions::CongestionControl;
    use std::time::Duration;

    const CONDITIONS: Conditions = Conditions {
        congestion_control: CongestionControl::Cubic,
        sample: Duration::from_millis(200),
    };

    fn measured(margay: f64, vxlan: f64) -> AllSeries {
        let series = |value| Series {
            values: vec![value],
            ..Series::default()
        };
        AllSeries::from([
            ((Config::Routed, Metric::Rr), series(100.0)),
            ((Config::Vxlan, Metric::Rr), series(vxlan)),
            ((Config::Margay, Metric::Rr), series(margay)),
        ])
    }

    #[test]
    fn what_is_below_its_share_of_routing_or_not_ahead_of_vxlan_is_missed() {
        let reached = |margay, vxlan| -> Vec<bool> {
            let verdicts = judge(&lines(&measured(margay, vxlan), CONDITIONS));
            verdicts.iter().map(|verdict| verdict.reached).collect()
        };
        assert_eq!(reached(95.0, 94.0), [true, true]);
        assert_eq!(reached(94.9, 94.9), [false, false]);
    }

    #[test]
    fn a_json_line_carries_the_figure_and_its_conditions() {
        let mut output = Vec::new();
        write_json(&measured(95.0, 80.0), CONDITIONS, &mut output).unwrap();
        let last = String::from_utf8(output).unwrap();
        let expected = concat!(
            r#"{"bench":"inter-host","config":"margay","metric":"rr","value":95.0,"#,
            r#""unit":"per_s","ratio":0.95,"rounds":1,"ratio_p20":0.95,"ratio_p80":0.95,"#,
            r#""p20":95.0,"p80":95.0,"congestion_control":"cubic","mtu":1400,"#,
            r#""pinned":"client, server and forwarder on cpu 0"}"#
        );
        assert_eq!(last.lines().last().unwrap(), expected);
    }
}
