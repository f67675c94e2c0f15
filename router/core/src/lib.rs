//! Decides: every choice Margay makes, as plain values with time, randomness and bytes coming in.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that panics has failed, as it should"
    )
)]

pub mod address;
pub mod admission;
pub mod aggregate;
pub mod balance;
pub mod catalog;
pub mod choice;
pub mod composition;
pub mod drop_reason;
pub mod echo;
pub mod explanation;
pub mod flow_event;
pub mod flow_key;
pub mod flow_table;
mod grouped;
mod hexadecimal;
pub mod host;
pub mod id;
pub mod lease;
pub mod lifecycle;
pub mod membership;
pub mod moment;
pub mod name;
pub mod names;
pub mod neighbourhood;
pub mod overlay;
pub mod packet;
pub mod peer;
pub mod permission;
pub mod port;
pub mod reading;
pub mod router;
mod seeded;
pub mod service_frame;
pub mod service_id;
pub mod service_table;
pub mod signature;
pub mod sites;
pub mod wall_time;
pub mod way;
pub mod wire;
