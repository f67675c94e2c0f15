//! The measuring tool: the same client and server run inside the namespaces of every config.

pub mod client;
pub mod crowd;
pub mod server;
mod socket;

use crate::bench::metric::Metric;
use crate::bench::statistics::percentile;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the server writes to its standard output once it can be reached.
pub const READY: &str = "ready";

/// Payload of the datagrams of the packet-rate job, in bytes: small, so that packets cost, not bytes.
const DATAGRAM_BYTES: usize = 64;

/// First byte of a datagram that resets the server's count and is echoed.
const START: u8 = b'S';

/// First byte of a datagram that is counted.
const COUNTED: u8 = b'C';

/// First byte of a datagram that asks for a tally.
const QUERY: u8 = b'Q';

/// One figure of one run of the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was measured.
    pub metric: Metric,
    /// The figure, in the metric's unit; for a time, the median.
    pub value: f64,
    /// The 99th percentile of the single round trips in microseconds, where they are measured.
    pub round_trip_p99_us: Option<f64>,
}

/// What a server received: `units` (bytes or datagrams) within `nanos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    units: u64,
    nanos: u64,
}

impl Tally {
    /// Length of its wire form: two 64-bit integers.
    const BYTES: usize = 16;

    fn to_bytes(self) -> [u8; Tally::BYTES] {
        let mut bytes = [0; Tally::BYTES];
        bytes[..8].copy_from_slice(&self.units.to_be_bytes());
        bytes[8..].copy_from_slice(&self.nanos.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; Tally::BYTES]) -> Tally {
        let both = u128::from_be_bytes(bytes);
        Tally {
            units: (both >> 64) as u64,
            nanos: both as u64,
        }
    }

    /// Units a second; `None` when nothing was received over any time.
    fn per_second(self) -> Option<f64> {
        (self.units > 0 && self.nanos > 0).then(|| self.units as f64 * 1e9 / self.nanos as f64)
    }
}

/// The single times of many round trips.
#[derive(Default)]
struct RoundTrips {
    nanos: Vec<u64>,
}

impl RoundTrips {
    fn with_capacity(capacity: usize) -> RoundTrips {
        RoundTrips {
            nanos: Vec::with_capacity(capacity),
        }
    }

    fn push(&mut self, time: Duration) {
        self.nanos
            .push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn len(&self) -> usize {
        self.nanos.len()
    }

    /// The median and the 99th percentile in microseconds; `None` when there were none.
    fn median_and_p99_us(mut self) -> Option<(f64, f64)> {
        self.nanos.sort_unstable();
        let us = |percent| percentile(&self.nanos, percent).map(|nanos| nanos as f64 / 1e3);
        Some((us(50)?, us(99)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_the_wire() {
        let tally = Tally {
            units: 0x0102_0304_0506_0708,
            nanos: 0x1112_1314_1516_1718,
        };
        assert_eq!(Tally::from_bytes(tally.to_bytes()), tally);
    }

    #[test]
    fn an_empty_tally_has_no_rate() {
        assert_eq!(Tally { units: 0, nanos: 5 }.per_second(), None);
        assert_eq!(Tally { units: 5, nanos: 0 }.per_second(), None);
        assert_eq!(
            Tally {
                units: 5,
                nanos: 500_000_000
            }
            .per_second(),
            Some(10.0)
        );
    }
}
