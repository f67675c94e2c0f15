//! `./x demo`: one host from its first name to a killed daemon, then a network of five, told step by
//! step with the figures.

mod denial;
mod first_packet;
mod load;
mod names;
mod network;
mod outage;
mod rebound;
mod report;
mod rolling;
mod shop;
mod spread;

pub use report::Report;

use crate::lab::Host;
use anyhow::Result;
use shop::Shop;
use std::time::Instant;

/// Runs every step on `host`, which has no daemon yet, and returns what was read.
pub fn run(host: &Host) -> Result<Report> {
    let began = Instant::now();
    let shop = Shop::open(host)?;
    let mut report = Report::default();
    names::ask(&shop, &mut report)?;
    // Before anything else was called: later flows are opened by the kernel, as these are decided.
    first_packet::count(&shop, &mut report)?;
    spread::measure(&shop, &mut report)?;
    denial::show(&shop, &mut report)?;
    rebound::show(&shop, &mut report)?;
    outage::survive(&shop, &mut report)?;
    rolling::replace(&shop, &mut report)?;
    network::run(&mut report)?;
    report.seconds = began.elapsed().as_secs();
    Ok(report)
}

/// Says what comes next.
fn chapter(title: &str) {
    println!("\n== {title}");
}

/// Says what was seen.
fn tell(line: impl AsRef<str>) {
    println!("   {}", line.as_ref());
}
