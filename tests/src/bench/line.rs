//! A line of a report: the shape that every bench shares.

use crate::bench::report::{Series, rounded};
use crate::bench::statistics::Spread;
use serde::Serialize;
use std::io::{self, Write};

/// A metric of a config over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The benchmark.
    pub bench: &'static str,
    /// The config.
    pub config: &'static str,
    /// The metric.
    pub metric: &'static str,
    /// Median over the rounds.
    pub value: f64,
    /// The unit of `value`, `p20` and `p80`.
    pub unit: &'static str,
    /// Median over the rounds of the figure over the reference's of the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// How many rounds were measured.
    pub rounds: usize,
    /// 20th percentile of the ratio over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_p20: Option<f64>,
    /// 80th percentile of the ratio over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_p80: Option<f64>,
    /// 20th percentile over the rounds.
    pub p20: f64,
    /// 80th percentile over the rounds.
    pub p80: f64,
    /// Congestion control of every TCP socket, where packets are measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<&'static str>,
    /// MTU of the interfaces in bytes, where packets are measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Where everything ran.
    pub pinned: &'static str,
    /// What was measured, where that is another's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarder: Option<String>,
}

impl Line {
    /// Summarizes a series of (bench, config, metric); `None` for an empty one.
    pub fn new(
        (bench, config, metric): (&'static str, &'static str, &'static str),
        unit: &'static str,
        series: &Series,
    ) -> Option<Line> {
        let spread = Spread::of(&series.values)?;
        Some(Line {
            bench,
            config,
            metric,
            value: rounded(spread.median),
            unit,
            ratio: None,
            rounds: series.values.len(),
            ratio_p20: None,
            ratio_p80: None,
            p20: rounded(spread.p20),
            p80: rounded(spread.p80),
            congestion_control: None,
            mtu: None,
            pinned: "free",
            forwarder: None,
        })
    }

    /// Adds the ratio to the reference of the same rounds.
    pub fn over(self, series: &Series, reference: &Series) -> Line {
        let rounds = series.values.iter().zip(&reference.values);
        let ratios: Vec<f64> = rounds.map(|(ours, theirs)| ours / theirs).collect();
        let ratio = Spread::of(&ratios);
        Line {
            ratio: ratio.map(|ratio| rounded(ratio.median)),
            ratio_p20: ratio.map(|ratio| rounded(ratio.p20)),
            ratio_p80: ratio.map(|ratio| rounded(ratio.p80)),
            ..self
        }
    }

    /// Writes it as a row of a table.
    pub fn write_row(&self, output: &mut impl Write) -> io::Result<()> {
        let spread = format!("[{:.2} to {:.2}]", self.p20, self.p80);
        write!(
            output,
            "  {:<15} {:>12.2}  {spread:<26}",
            self.config, self.value
        )?;
        match (self.ratio, self.ratio_p20, self.ratio_p80) {
            (Some(ratio), Some(p20), Some(p80)) => {
                writeln!(output, "  ({ratio:.2} [{p20:.2} to {p80:.2}])")
            }
            _ => writeln!(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_fields_of_every_bench() {
        let series = |values: &[f64]| Series {
            values: values.to_vec(),
            ..Series::default()
        };
        let (ours, theirs) = (series(&[2.0, 4.0, 6.0]), series(&[4.0, 8.0, 12.0]));
        let line = Line::new(("dns", "margay", "udp_qps"), "per_s", &ours).unwrap();
        let line = serde_json::to_string(&line.over(&ours, &theirs)).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"bench":"dns","config":"margay","metric":"udp_qps","value":4.0,"#,
                r#""unit":"per_s","ratio":0.5,"rounds":3,"ratio_p20":0.5,"ratio_p80":0.5,"#,
                r#""p20":2.0,"p80":6.0,"pinned":"free"}"#
            )
        );
    }
}
