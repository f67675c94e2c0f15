//! The resolver's front ends over loopback sockets: who is answered, who waits, who is cut off.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that panics has failed, as it should; tests use real sockets and time"
)]

mod elsewhere;
mod host;
mod lab;
mod names;
mod sought;
mod tcp;
mod udp;
