//! Speaks with other hosts: gossip, questions and Kademlia over libp2p.
//!
//! ```text
//!  core ─ commands ─▶┐            ┌─ gossip     gossipsub: what is published reaches all
//!                    │ one task ──┤─ questions  request and response, one protocol
//!  core ◀─ events ───┘     │      └─ Kademlia   who is one to ask about a key
//!                          │
//!                 the gate: admitted hosts only ── Noise, Yamux, TCP ── other hosts
//! ```
//!
//! [`Overlay`] is an adapter behind core's [`overlay`](margay_core::overlay) port: it carries bytes
//! and knows no site, no record and no summary. Whatever may be lost may be lost here, counted by a
//! named reason ([`Overlay::drops`]): every queue, table and message is bounded.
//!
//! A host is its Ed25519 key, here as everywhere, and the network is part of the handshake. Who was
//! not admitted is hung up on before any protocol begins. Hosts are called at the addresses by which
//! they were admitted and at no other, whatever anyone says.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a worldly crate: it reads the clock and owns sockets and a task"
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that panics has failed, as it should"
    )
)]

mod behaviour;
mod codec;
mod config;
mod connections;
mod drops;
mod floods;
mod gate;
mod gossip;
mod handle;
mod identity;
mod kademlia;
mod providers;
mod questions;
mod queue;
mod task;
#[cfg(test)]
mod tests;

pub use config::OverlayConfig;
pub use handle::{Overlay, OverlayError, OverlayEvents};
