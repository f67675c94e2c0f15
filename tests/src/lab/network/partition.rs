//! Two hosts without a way to each other, though both reach the others.

use super::Lab;
use anyhow::{Result, ensure};
use std::fmt::Write;
use std::net::IpAddr;

impl Lab {
    /// Loses what two hosts send to each other's addresses, wherever they stand.
    pub fn part(&self, one: &str, other: &str) -> Result<()> {
        let script = self.between("add", one, other)?;
        self.fabric.namespaces.nft(&script)
    }

    /// Undoes [`Lab::part`] for the addresses that the two have now.
    pub fn join(&self, one: &str, other: &str) -> Result<()> {
        // What is put in first can be taken out, whether or not it was there.
        let script = self.between("add", one, other)? + &self.between("delete", one, other)?;
        self.fabric.namespaces.nft(&script)
    }

    /// The packet filter's lines about the packets between two hosts.
    fn between(&self, verb: &str, one: &str, other: &str) -> Result<String> {
        let (one, other) = (self.node(one)?, self.node(other)?);
        let mut lines = String::new();
        for from in one.addresses() {
            for to in other.addresses() {
                let set = match (from, to) {
                    (IpAddr::V4(_), IpAddr::V4(_)) => "parted_v4",
                    (IpAddr::V6(_), IpAddr::V6(_)) => "parted_v6",
                    _ => continue,
                };
                let pairs = format!("{{ {from} . {to}, {to} . {from} }}");
                writeln!(lines, "{verb} element bridge lab {set} {pairs}")?;
            }
        }
        let (one, other) = (&one.name, &other.name);
        ensure!(
            !lines.is_empty(),
            "`{one}` and `{other}` have no family in common"
        );
        Ok(lines)
    }
}
