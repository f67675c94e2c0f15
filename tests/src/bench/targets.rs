//! The targets that Margay must reach, and whether the figures do.

use crate::bench::config::Config;
use crate::bench::metric::Metric;
use crate::bench::report::Figure;
use crate::bench::same_host::Applies;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// At least this share of what the direct veth pair reaches in the same run.
const RATIOS_MIN: [(Metric, f64); 4] = [
    (Metric::Rr, 0.94),
    (Metric::Bulk, 0.97),
    (Metric::Crr, 0.93),
    (Metric::UdpPps, 0.85),
];

/// A first packet that core decides about may take this much longer than a later one.
const DECIDED_EXTRA_MAX_US: f64 = 12.0;

/// A first packet whose flow the kernel opens may take this much longer than a later one.
const AGGREGATE_EXTRA_MAX_US: f64 = 3.0;

/// The name of a service that is applied beside 30,000 must be found within this time: from then on DNS
/// answers as its composition says, though no instance runs yet. How soon one does is the kernel's
/// and its program's affair too; that time is reported beside it.
const APPLY_MAX_MS: f64 = 10.0;

/// What Margay must be ahead of, and in which metrics.
const AHEAD_OF: [(Config, &[Metric]); 5] = [
    (Config::Bridge, &IN_ALL),
    (Config::Nft10000, &IN_ALL),
    (Config::Iptables1, &IN_ALL),
    (Config::Iptables10000, &IN_ALL),
    (Config::Haproxy, &[Metric::Rr, Metric::Bulk, Metric::Crr]),
];

const IN_ALL: [Metric; 4] = [Metric::Rr, Metric::Bulk, Metric::UdpPps, Metric::Crr];

/// A target and what was measured for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The target in words.
    pub target: String,
    /// What was measured, in words.
    pub measured: String,
    /// Whether the target is reached.
    pub reached: bool,
}

/// Writes what is reached and what is missed.
pub fn write_verdicts(verdicts: &[Verdict], output: &mut impl Write) -> io::Result<()> {
    if !verdicts.is_empty() {
        writeln!(output, "\ntargets")?;
    }
    for verdict in verdicts {
        let word = if verdict.reached { "pass" } else { "FAIL" };
        writeln!(output, "  {word}  {}: {}", verdict.target, verdict.measured)?;
    }
    Ok(())
}

/// Judges the figures of each config of Margay that was measured.
pub fn judge(figures: &[Figure]) -> Vec<Verdict> {
    Config::ALL
        .into_iter()
        .filter(|config| config.is_margay())
        .flat_map(|config| judge_config(figures, config))
        .chain(judge_many(figures))
        .collect()
}

/// Judges how soon applied services were found.
pub fn judge_applies(applies: &BTreeMap<Config, Applies>) -> Vec<Verdict> {
    let judged = applies.iter().filter_map(|(config, applies)| {
        let median_ms = applies.name_ms.median()?;
        let address_ms = applies.address_ms.median()?;
        Some(Verdict {
            target: format!("{config} the name of a service is found within {APPLY_MAX_MS} ms"),
            measured: format!("{median_ms:.2} ms; its first address within {address_ms:.2} ms"),
            reached: median_ms < APPLY_MAX_MS,
        })
    });
    judged.collect()
}

/// Judges whether 30,000 services cost anything: no more than the run's own spread.
fn judge_many(figures: &[Figure]) -> Vec<Verdict> {
    let judged = Metric::ALL.into_iter().filter_map(|metric| {
        let few = find(figures, Config::Margay, metric)?;
        let many = find(figures, Config::Margay30000, metric)?;
        let spread = |figure: &Figure| figure.ratio_p80 - figure.ratio_p20;
        let change = (few.ratio - many.ratio).abs();
        Some(Verdict {
            target: format!("{metric} beside 30,000 services within the run's own spread"),
            measured: format!("{:.3} against {:.3}", many.ratio, few.ratio),
            reached: change <= spread(few).max(spread(many)),
        })
    });
    judged.collect()
}

fn judge_config(figures: &[Figure], config: Config) -> Vec<Verdict> {
    let first_packet = judge_first_packet(figures, config);
    // What each decision costs is told, and asked of no figure but its own.
    if config == Config::MargayUpcall {
        return first_packet.into_iter().collect();
    }
    let mut verdicts: Vec<Verdict> = first_packet.into_iter().collect();
    for (metric, ratio_min) in RATIOS_MIN {
        if let Some(figure) = find(figures, config, metric) {
            verdicts.push(Verdict {
                target: format!("{config} {metric} at least {ratio_min:.2} of direct-veth"),
                measured: format!("{:.3}", figure.ratio),
                reached: figure.ratio >= ratio_min,
            });
        }
    }
    for (other, metrics) in AHEAD_OF {
        for &metric in metrics {
            let ours = find(figures, config, metric);
            if let (Some(ours), Some(theirs)) = (ours, find(figures, other, metric)) {
                verdicts.push(Verdict {
                    target: format!("{config} {metric} ahead of {other}"),
                    measured: format!("{:.3} against {:.3}", ours.ratio, theirs.ratio),
                    reached: ours.ratio > theirs.ratio,
                });
            }
        }
    }
    verdicts
}

fn judge_first_packet(figures: &[Figure], config: Config) -> Option<Verdict> {
    let first = find(figures, config, Metric::FirstPacketUs)?;
    let later = find(figures, config, Metric::LaterPacketUs)?;
    let extra_max_us = match config {
        Config::MargayUpcall => DECIDED_EXTRA_MAX_US,
        _ => AGGREGATE_EXTRA_MAX_US,
    };
    let extra_us = first.value - later.value;
    Some(Verdict {
        target: format!("{config} first packet at most {extra_max_us} us extra"),
        measured: format!("{extra_us:.1} us"),
        reached: extra_us <= extra_max_us,
    })
}

fn find(figures: &[Figure], config: Config, metric: Metric) -> Option<&Figure> {
    figures
        .iter()
        .find(|figure| figure.config == config && figure.metric == metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Series;
    use crate::bench::report::tests::figure;

    fn missed(figures: &[Figure]) -> Vec<String> {
        let missed = judge(figures)
            .into_iter()
            .filter(|verdict| !verdict.reached);
        missed.map(|verdict| verdict.target).collect()
    }

    #[test]
    fn a_ratio_below_its_target_is_missed() {
        let reached = figure(Config::Margay, Metric::Rr, 94.0, 0.94);
        let short = figure(Config::Margay, Metric::Rr, 93.9, 0.939);
        assert!(missed(&[reached]).is_empty());
        assert_eq!(missed(&[short]), ["margay rr at least 0.94 of direct-veth"]);
    }

    #[test]
    fn an_equal_figure_is_not_ahead() {
        let ours = figure(Config::Margay, Metric::Bulk, 50.0, 0.99);
        let theirs = figure(Config::Bridge, Metric::Bulk, 50.0, 0.99);
        assert_eq!(missed(&[ours, theirs]), ["margay bulk ahead of bridge"]);
    }

    #[test]
    fn a_first_packet_may_take_a_little_longer_only() {
        for (config, extra_us) in [(Config::MargayV6, 3.0), (Config::MargayUpcall, 12.0)] {
            let later = figure(config, Metric::LaterPacketUs, 6.0, 1.1);
            let late = figure(config, Metric::FirstPacketUs, 6.1 + extra_us, 5.0);
            let target = format!("{config} first packet at most {extra_us} us extra");
            assert_eq!(missed(&[late, later.clone()]), [target]);
            let in_time = figure(config, Metric::FirstPacketUs, 5.9 + extra_us, 5.0);
            assert!(missed(&[in_time, later]).is_empty());
        }
    }

    #[test]
    fn thirty_thousand_services_may_cost_no_more_than_the_spread() {
        let few = figure(Config::Margay, Metric::Rr, 97.0, 0.97);
        let mut many = figure(Config::Margay30000, Metric::Rr, 96.0, 0.96);
        (many.ratio_p20, many.ratio_p80) = (0.95, 0.97);
        assert!(missed(&[few.clone(), many.clone()]).is_empty());
        (many.ratio_p20, many.ratio_p80) = (0.948, 0.952);
        (many.ratio, many.value) = (0.95, 95.0);
        let missed = missed(&[few, many]);
        assert_eq!(
            missed,
            ["rr beside 30,000 services within the run's own spread"]
        );
    }

    #[test]
    fn a_service_that_is_found_late_is_told() {
        let series = |value| Applies {
            name_ms: Series {
                values: vec![value],
                ..Series::default()
            },
            address_ms: Series {
                values: vec![value],
                ..Series::default()
            },
        };
        let applies = BTreeMap::from([
            (Config::Margay, series(9.9)),
            (Config::Margay30000, series(10.0)),
        ]);
        let reached: Vec<bool> = judge_applies(&applies)
            .iter()
            .map(|it| it.reached)
            .collect();
        assert_eq!(reached, [true, false]);
    }

    #[test]
    fn others_are_not_judged() {
        assert!(judge(&[figure(Config::Routed, Metric::Rr, 1.0, 0.1)]).is_empty());
    }
}
