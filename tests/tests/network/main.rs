//! Hosts that become a network: daemons, their links, and what goes between them. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod admission;
mod aggregates;
mod changes;
mod clocks;
mod echoes;
mod flows;
mod gateways;
mod hostile;
mod leaving;
mod rogue;
mod site;
mod sites;
