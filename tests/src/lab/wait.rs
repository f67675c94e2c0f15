//! Waiting for a condition, with a deadline.

use anyhow::{Result, bail};
use std::thread;
use std::time::{Duration, Instant};

/// The pause between two looks; short beside anything that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `condition` yields a value; fails with what was waited for when `limit` has passed.
///
/// An error of the condition ends the wait at once.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain until {what}", limit.as_secs());
        }
        thread::sleep(LOOK_EVERY);
    }
}
