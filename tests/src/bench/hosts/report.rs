//! The figures of a run, as lines of JSON or as a table.

use super::{AllSeries, Config, HostsMetric};
use crate::bench::line::Line;
use crate::bench::report::Series;
use crate::bench::targets::{Verdict, write_verdicts};
use anyhow::Result;
use std::io::Write;

/// Where everything ran.
const PINNED: &str = "all hosts free on one machine";

/// What of a series is held against its bound.
type Judged = fn(&Series) -> Option<f64>;

/// At most this much, however many hosts there are: of each host and each death, and half the time of
/// news.
const MOST: [(HostsMetric, Judged, f64); 4] = [
    (HostsMetric::Rss, Series::largest, 30.0),
    (HostsMetric::IdleCpu, Series::largest, 0.3),
    (HostsMetric::Converge, Series::median, 300.0),
    (HostsMetric::Detect, Series::largest, 3_000.0),
];

/// Writes one JSON object a line, of the same shape as every other bench's.
pub fn write_json(all: &AllSeries, output: &mut impl Write) -> Result<()> {
    for line in lines(all) {
        serde_json::to_writer(&mut *output, &line)?;
        writeln!(output)?;
    }
    Ok(())
}

/// Writes a table a metric, then the targets.
pub fn write_table(all: &AllSeries, output: &mut impl Write) -> Result<()> {
    writeln!(
        output,
        "medians [20th to 80th percentile] over the hosts, of converge_ms and detect_ms over rounds;\n\
         mb are 1,000,000 bytes; one sleeping instance on each host; {PINNED}"
    )?;
    let lines = lines(all);
    for metric in HostsMetric::ALL {
        writeln!(output, "\n{metric}, {}", metric.unit())?;
        for line in lines.iter().filter(|line| line.metric == metric.name()) {
            line.write_row(output)?;
        }
    }
    write_verdicts(&judge(all), output)?;
    Ok(())
}

fn lines(all: &AllSeries) -> Vec<Line> {
    let mut lines = Vec::new();
    for config in Config::ALL {
        for metric in HostsMetric::ALL {
            if let Some(series) = all.get(&(config, metric)) {
                let key = ("hosts", config.name(), metric.name());
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
    let mut verdicts = Vec::new();
    for config in Config::ALL {
        for (metric, judged, most) in MOST {
            let Some(value) = all.get(&(config, metric)).and_then(judged) else {
                continue;
            };
            verdicts.push(Verdict {
                target: format!("{config} {metric} at most {most}"),
                measured: format!("{value:.3}"),
                reached: value <= most,
            });
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_above_its_bound_is_missed() {
        let series = |values: &[f64]| Series {
            values: values.to_vec(),
            ..Series::default()
        };
        let all = AllSeries::from([
            ((Config::Five, HostsMetric::Rss), series(&[30.0])),
            ((Config::Five, HostsMetric::IdleCpu), series(&[0.1, 0.4])),
            ((Config::Sixty, HostsMetric::Converge), series(&[300.1])),
        ]);
        let reached: Vec<bool> = judge(&all).iter().map(|verdict| verdict.reached).collect();
        assert_eq!(reached, [true, false, false]);
    }
}
