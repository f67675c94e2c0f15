//! Messages as they travel between hosts: generated from `proto/`, and without meaning of their own.
//!
//! Whatever comes from outside is read into one of our own types at once, which checks it.

#![allow(
    missing_docs,
    clippy::all,
    reason = "the schemas in proto/ say what each message is"
)]

include!(concat!(env!("OUT_DIR"), "/wire.rs"));
