//! What goes wrong on a host, and what must not follow from it. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod aggregates;
mod crashes;
mod devices;
mod disk;
mod down;
mod drains;
mod escape;
mod explaining;
mod extinction;
mod floods;
mod kills;
mod leftovers;
mod limits;
mod loads;
mod metrics;
mod multitude;
mod operators;
mod outage;
mod possessions;
mod programs;
mod resolvers;
mod start;
mod upgrades;
mod watching;
mod world;
