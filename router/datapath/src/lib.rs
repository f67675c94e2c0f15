//! Acts on the kernel: eBPF flow table, loader, namespaces, upcall TAP.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that panics has failed, as it should"
    )
)]

pub mod adopt;
pub mod aggregates;
pub mod attach;
pub mod bpffs;
pub mod datapath;
pub mod device;
pub mod device_watch;
pub mod endpoints;
pub mod flow_maps;
mod growth;
pub mod host_link;
pub mod locations;
pub mod namespace;
pub mod network;
pub mod object;
pub mod outside;
pub mod pins;
pub mod requirements;
pub mod tap;

mod admissions;
mod connections;
mod deletions;
mod drop_counters;
mod layout;
mod mapped_array;
mod peer_upcalls;
mod programs;
mod remote_targets;
mod resting_rows;
mod slots;
mod supply;
mod sysctl;

#[cfg(test)]
mod namespaced;
#[cfg(test)]
mod tests;
