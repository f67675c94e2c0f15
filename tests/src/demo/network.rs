//! The second part: five hosts in two sites, from their first word to each other to a site cut off.

mod convergence;
mod crossing;
mod death;
mod partition;
mod travel;

use super::Report;
use anyhow::Result;
use travel::Travel;

/// Runs every step and adds what was read.
pub(super) fn run(report: &mut Report) -> Result<()> {
    let mut travel = Travel::open(report)?;
    crossing::show(&travel, report)?;
    convergence::measure(&travel, report)?;
    partition::survive(&travel, report)?;
    death::show(&mut travel, report)
}
