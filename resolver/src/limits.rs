//! How much of the resolver one instance, and all together, may hold.

use std::time::Duration;

/// The longest query that is read, in bytes.
///
/// A question is at most 271 bytes; options (cookies, padding to 128-byte blocks) fit generously.
pub(crate) const QUERY_BYTES_MAX: usize = 4096;

/// The bounds of the TCP front end.
///
/// UDP needs none of its own: the kernel bounds each socket's queue, and every socket gets turns of
/// one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one instance at a time.
    pub connections_per_instance_max: usize,
    /// Connections of all instances together.
    pub connections_max: usize,
    /// How long a connection may stay without sending a whole query or reading its replies.
    pub idle: Duration,
    /// Replies that wait in user space for one connection's peer to read, in bytes; beyond it the
    /// connection's further queries stay in the kernel.
    pub waiting_bytes_max: usize,
}

impl Default for Limits {
    /// TCP is what a stub falls back to after a truncated answer: a few connections are plenty, and
    /// all of them full hold 1024 × (16 KiB + a query + a reply), about 21 MiB.
    fn default() -> Limits {
        Limits {
            connections_per_instance_max: 32,
            connections_max: 1024,
            idle: Duration::from_secs(10),
            waiting_bytes_max: 16 * 1024,
        }
    }
}
