//! The time of day, as people and certificates count it; never what orders events.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Seconds since the beginning of 1970, UTC. Hosts' clocks differ, and jump.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WallTime(u64);

impl WallTime {
    /// Takes `seconds` since the beginning of 1970.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        WallTime(seconds)
    }

    /// Seconds since the beginning of 1970.
    pub const fn as_unix_seconds(self) -> u64 {
        self.0
    }

    /// The time that passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: WallTime) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for WallTime {
    type Output = WallTime;
    fn add(self, duration: Duration) -> WallTime {
        WallTime(self.0.saturating_add(duration.as_secs()))
    }
}

impl Sub<Duration> for WallTime {
    type Output = WallTime;
    fn sub(self, duration: Duration) -> WallTime {
        WallTime(self.0.saturating_sub(duration.as_secs()))
    }
}

impl fmt::Display for WallTime {
    /// As RFC 3339 writes it: `2026-11-28T03:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECONDS_A_DAY: u64 = 86_400;
        let (days, second) = (self.0 / SECONDS_A_DAY, self.0 % SECONDS_A_DAY);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Year, month and day of a number of days since the beginning of 1970, in the Gregorian calendar.
///
/// Counted from the first of March, so that a leap day ends its year; 400 years have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    let shifted = days + DAYS_TO_1970;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_as_the_calendar_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(WallTime::from_unix_seconds(seconds).to_string(), text);
        }
    }

    #[test]
    fn time_before_an_earlier_one_is_none() {
        let (early, late) = (WallTime(5), WallTime(8));
        assert_eq!(late.since(early), Duration::from_secs(3));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early - Duration::from_secs(9), WallTime(0));
    }
}
