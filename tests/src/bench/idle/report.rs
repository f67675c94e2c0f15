//! The figures of a run, as lines of JSON or as a table.

use super::{AllSeries, Config, IdleMetric};
use crate::bench::line::Line;
use crate::bench::report::Series;
use crate::bench::targets::{Verdict, write_verdicts};
use anyhow::Result;
use std::io::Write;

/// Where everything ran.
const PINNED: &str = "daemon on cpu 0, instances free";

/// At most this much, for the host whose hundred instances wait. Memory is PSS: what would be free
/// without the process.
const MOST: [(IdleMetric, f64); 3] = [
    (IdleMetric::DaemonCpu, 0.2),
    (IdleMetric::DaemonPss, 25.0),
    (IdleMetric::KeeperPss, 5.0),
];

/// Writes one JSON object a line, of the same shape as every other bench's.
pub fn write_json(all: &AllSeries, output: &mut impl Write) -> Result<()> {
    for line in lines(all) {
        serde_json::to_writer(&mut *output, &line)?;
        writeln!(output)?;
    }
    Ok(())
}

/// Writes a table a config, then the targets.
pub fn write_table(all: &AllSeries, output: &mut impl Write) -> Result<()> {
    writeln!(
        output,
        "medians [20th to 80th percentile]; mb are 1,000,000 bytes; {PINNED}"
    )?;
    let lines = lines(all);
    for config in Config::ALL {
        for line in lines.iter().filter(|line| line.config == config.name()) {
            write!(output, "  {:<11} {:<15}", line.metric, line.unit)?;
            line.write_row(output)?;
        }
    }
    write_verdicts(&judge(all), output)?;
    Ok(())
}

fn lines(all: &AllSeries) -> Vec<Line> {
    let mut lines = Vec::new();
    for config in Config::ALL {
        for metric in IdleMetric::ALL {
            if let Some(series) = all.get(&(config, metric)) {
                let key = ("idle", config.name(), metric.name());
                let line = Line::new(key, metric.unit(), series);
                lines.extend(line.map(|line| Line {
                    pinned: PINNED,
                    ..line
                }));
            }
        }
    }
    lines
}

fn judge(all: &AllSeries) -> Vec<Verdict> {
    let measured = |metric| all.get(&(Config::Hundred, metric)).and_then(Series::median);
    let judged = MOST.into_iter().filter_map(|(metric, most)| {
        let value = measured(metric)?;
        Some(Verdict {
            target: format!(
                "{} {metric} at most {most} {}",
                Config::Hundred,
                metric.unit()
            ),
            measured: format!("{value:.3}"),
            reached: value <= most,
        })
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_above_its_bound_is_missed() {
        let series = |value| Series {
            values: vec![value],
            ..Series::default()
        };
        let all = AllSeries::from([
            ((Config::Hundred, IdleMetric::DaemonCpu), series(0.2)),
            ((Config::Hundred, IdleMetric::KeeperPss), series(5.01)),
            ((Config::Thousand, IdleMetric::KeeperPss), series(9.0)),
        ]);
        let reached: Vec<bool> = judge(&all).iter().map(|verdict| verdict.reached).collect();
        assert_eq!(reached, [true, false]);
    }
}
