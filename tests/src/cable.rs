//! The wire of a link: a process between two ports that delays, loses, doubles and reorders frames.
//!
//! ```text
//!   node               the lab's own network namespace
//!  ┌──────┐ veth  ┌───────┐            ┌────────┐ veth  ┌───────┐
//!  │ eth0 ├───────┤ port3 │◀─ cable ──▶│ cable3 ├───────┤ wire3 ├─ switch
//!  └──────┘       └───────┘            └────────┘       └───────┘
//! ```
//! It reads and writes whole frames: whatever sends into it must not leave checksums and
//! segmentation to the next device ([`device::finish_frames`]).
pub mod carrier;
pub mod device;
mod line;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a wire treats frames, the same both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Impairment {
    /// What it takes each way.
    pub latency: Duration,
    /// The part of the frames that is lost, from 0 to 1.
    pub drop: f64,
    /// The part of the others that comes twice.
    pub duplicate: f64,
    /// The part of the others that is overtaken by later ones.
    pub reorder: f64,
}

/// What became of frames in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames that came in.
    pub taken: u64,
    /// Frames that went out, with those that were doubled.
    pub carried: u64,
    /// Frames that were lost as `drop` asks.
    pub dropped: u64,
    /// Frames that were doubled.
    pub duplicated: u64,
    /// Frames that were held back so that others overtake them.
    pub reordered: u64,
    /// Frames that were lost because too many were under way, or because a port took no more.
    pub overflowed: u64,
}

/// What became of frames both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// From the node to its segment.
    pub outwards: Counters,
    /// From the segment to the node.
    pub inwards: Counters,
}
