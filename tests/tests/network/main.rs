//! Hosts that become a network: daemons, their links, and what goes between them. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod admission;
mod echoes;
mod flows;
mod leaving;
mod site;
mod sites;
