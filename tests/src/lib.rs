//! The lab: whole hosts as namespaces on one machine, and what the whole-system tests share.

pub mod bench;
pub mod cable;
pub mod demo;
pub mod lab;
