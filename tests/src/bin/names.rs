//! `names`: our resolver over generated names, for `bench dns`.

use anyhow::Result;
use clap::Parser;
use std::net::SocketAddr;

/// Answers DNS for 10,000 generated names until killed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen, UDP and TCP.
    at: SocketAddr,
}

fn main() -> Result<()> {
    margay_tests::bench::dns::serve(Arguments::parse().at)
}
