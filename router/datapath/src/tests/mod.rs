//! The data path under test: every program with packets in and out, then with real sockets.
//!
//! All of it needs root, and fails without.

mod admissions;
mod adoption;
mod aggregates;
mod answer;
mod between_hosts;
mod closing;
mod extensions;
mod flow_table;
mod fragments;
mod frames;
mod growth;
mod hit;
mod icmp_errors;
mod idle;
mod lab;
mod leave;
mod live;
mod miss;
mod moves;
mod object_file;
mod opening;
mod refused;
mod resets;
mod rewrite;
mod router_frames;
