//! The benchmarks: one tool, equal conditions, interleaved rounds, medians with their spread.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod apply;
pub mod asker;
pub mod conditions;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dns;
pub mod haproxy;
pub mod hosts;

pub mod idle;
pub mod inter_host;
pub mod isolation;
pub mod line;
pub mod look_ups;
pub mod margay_host;
pub mod measurement;
pub mod metered;
pub mod metric;
pub mod namespace;
pub mod nat;
pub mod path;
pub mod report;
pub mod same_host;
pub mod statistics;
pub mod targets;
pub mod usage;
pub mod wire;
