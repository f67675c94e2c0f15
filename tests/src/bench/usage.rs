//! What a process has used so far, by /proc.

use anyhow::{Context as _, Result};
use std::fs;
use std::time::{Duration, Instant};

/// Bytes of a kilobyte, as /proc counts.
const KB: f64 = 1024.0;

/// What a process had used at one moment.
pub struct Usage {
    at: Instant,
    processor: Duration,
    /// Megabytes (of 1,000,000 bytes), pages that others share counted by their share.
    pub pss_mb: f64,
    /// Megabytes (of 1,000,000 bytes), pages that others share counted whole.
    pub rss_mb: f64,
}

impl Usage {
    /// Reads what `process_id` has used until now.
    pub fn of(process_id: u32) -> Result<Usage> {
        let mut processor = Duration::ZERO;
        let tasks = format!("/proc/{process_id}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))? {
            // A thread may end between the listing and the reading.
            let statistics = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let nanos = statistics.split(' ').next().and_then(|it| it.parse().ok());
            processor += Duration::from_nanos(nanos.unwrap_or(0));
        }
        let path = format!("/proc/{process_id}/smaps_rollup");
        let memory = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Ok(Usage {
            at: Instant::now(),
            processor,
            pss_mb: megabytes(&memory, "Pss:").with_context(|| format!("read {path}"))?,
            rss_mb: megabytes(&memory, "Rss:").with_context(|| format!("read {path}"))?,
        })
    }

    /// The share of one core, in percent, that was used between this moment and `later`.
    pub fn core_percent(&self, later: &Usage) -> f64 {
        let used = later.processor.saturating_sub(self.processor);
        100.0 * used.as_secs_f64() / (later.at - self.at).as_secs_f64()
    }
}

fn megabytes(memory: &str, label: &str) -> Option<f64> {
    let line = memory.lines().find_map(|line| line.strip_prefix(label))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * KB / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_work_uses_the_processor() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while before.at.elapsed() < Duration::from_millis(50) {
            sum = std::hint::black_box(sum + 1);
        }
        let after = Usage::of(std::process::id()).unwrap();
        assert!(before.core_percent(&after) > 0.0);
        assert!(after.rss_mb >= after.pss_mb && after.pss_mb > 0.1);
    }
}
