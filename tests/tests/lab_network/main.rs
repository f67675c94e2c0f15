//! Many hosts: what befalls links and hosts, shown on real packets. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod ends;
mod hosts;
mod links;
mod nat;
mod packets;
mod sites;
