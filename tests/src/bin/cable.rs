//! `cable`: the process that the lab puts into a link when a verb asks for it.

use anyhow::Result;
use clap::Parser;
use margay_tests::cable::{carrier, device};

/// Carries frames between two devices, as its input orders.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Carries until the input ends.
    Carry {
        /// The device that faces the node.
        near: String,
        /// The device that faces the switch.
        far: String,
        /// Decides what is lost, doubled and reordered.
        seed: u64,
    },
    /// Makes the kernel finish frames before they leave a device.
    FinishFrames {
        /// The device.
        device: String,
    },
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Carry { near, far, seed } => carrier::carry(&near, &far, seed),
        Arguments::FinishFrames { device } => device::finish_frames(&device),
    }
}
