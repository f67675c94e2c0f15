//! How many flows there may be.

/// How many flows there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// In all. Each holds two slots of the kernel's array.
    pub flows_max: u32,
    /// Opened by one instance.
    pub flows_per_instance_max: u32,
}

impl FlowLimits {
    /// The part of the table that one instance may fill: a flooder leaves half to all others.
    const INSTANCE_FRACTION: u32 = 2;

    /// Limits for a slot array of `slots` rows.
    pub const fn for_slots(slots: u32) -> Self {
        FlowLimits {
            flows_max: slots / 2,
            flows_per_instance_max: slots / 2 / Self::INSTANCE_FRACTION,
        }
    }
}

impl Default for FlowLimits {
    /// 262,144 slots: 32 MiB of kernel memory, and room for 30,000 connections a second that last
    /// a second and rest for two.
    fn default() -> Self {
        FlowLimits::for_slots(262_144)
    }
}
