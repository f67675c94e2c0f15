//! Answers DNS inside every instance from the latest snapshot of names.
//!
//! ```text
//!   instance A: 169.254.53.53 ─ UDP ┐                        ┌ NamesSnapshot (from core)
//!                             ─ TCP ┤   one thread           │
//!   instance B: 169.254.53.53 ─ UDP ┼─▶ ready queue ─▶ reply(snapshot, caller, bytes) ─▶ bytes
//!                             ─ TCP ┘   (equal turns)
//! ```
//!
//! The host's own programs ask at another address, which hickory's server serves: [`serve_host`].
//!
//! Names of other zones are asked of the host's own servers, for instances that may reach the outside:
//! the thread hands such a question to a task of the daemon's runtime, and sends the reply when it comes.
//!
//! A question for a service of which nobody is known here waits while that is sought beyond the site
//! ([`Searches`]): whoever publishes names wakes the thread, while it holds any.
//!
//! [`reply`] is pure and total: bytes in, bytes out, whatever the bytes; what nearly all queries are it
//! reads and writes by hand, the rest by hickory's codec. [`Resolver`] holds the
//! sockets. Who asks is known by the socket, which was opened inside the asker's namespace.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a worldly crate: it reads the clock and owns sockets and a thread"
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that panics has failed, as it should"
    )
)]

mod connection;
mod counts;
mod datagram;
mod encode;
mod forward;
mod handle;
mod held;
mod host;
mod limits;
mod plain;
mod reply;
mod responder;
#[cfg(test)]
mod sample;
mod searches;
mod sources;
mod under_way;
mod upstream;
mod worker;

pub use counts::ResolverCounts;
pub use forward::Outside;
pub use handle::{Resolver, ResolverError, ResolverHandle};
pub use host::serve_host;
pub use limits::Limits;
pub use reply::{Disposition, Outcome, Silence, Transport, reply};
pub use searches::Searches;
