//! Every kind of name, asked for inside instances of a whole host. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod egress;
mod host;
mod kinds;
mod vips;
mod world;
