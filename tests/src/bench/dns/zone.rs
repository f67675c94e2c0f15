//! The names that are asked for, in each server's own words.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How many names there are.
const NAMES: u32 = 10_000;

/// Names follow each other at this distance, which shares no factor with their number: every name
/// is asked, and none is near the one before.
const STRIDE: u32 = 7_919;

/// The zone of all names.
pub(super) const ZONE: &str = "matrix";

/// A name with its two addresses.
pub(super) struct Named {
    /// Below the zone.
    pub(super) name: String,
    /// What A answers.
    pub(super) v4: Ipv4Addr,
    /// What AAAA answers.
    pub(super) v6: Ipv6Addr,
}

/// Every name.
pub(super) fn names() -> impl Iterator<Item = Named> {
    (0..NAMES).map(|number| Named {
        name: format!("service-{number}"),
        v4: Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + number),
        v6: Ipv6Addr::from_bits((0xfd << 120) + u128::from(number)),
    })
}

/// Both questions for each name, in the format of dnsperf.
pub(super) fn questions() -> String {
    let mut text = String::new();
    for step in 0..NAMES {
        let number = step * STRIDE % NAMES;
        for kind in ["A", "AAAA"] {
            let _ = writeln!(text, "service-{number}.{ZONE} {kind}");
        }
    }
    text
}

/// The zone as a master file (RFC 1035 section 5).
pub(super) fn master_file() -> String {
    let mut text = format!(
        "$ORIGIN {ZONE}.\n$TTL 1\n@ SOA ns.{ZONE}. host.{ZONE}. 1 3600 600 86400 1\n@ NS ns\n\
         ns A 169.254.53.53\n"
    );
    for named in names() {
        let _ = writeln!(
            text,
            "{0} A {1}\n{0} AAAA {2}",
            named.name, named.v4, named.v6
        );
    }
    text
}

/// The zone as local data of unbound.
pub(super) fn local_data() -> String {
    let mut text = String::new();
    for named in names() {
        let _ = writeln!(
            text,
            "local-data: \"{0}.{ZONE}. 1 IN A {1}\"\nlocal-data: \"{0}.{ZONE}. 1 IN AAAA {2}\"",
            named.name, named.v4, named.v6
        );
    }
    text
}

/// The zone as a hosts file.
pub(super) fn hosts() -> String {
    let mut text = String::new();
    for named in names() {
        let _ = writeln!(
            text,
            "{1} {0}.{ZONE}\n{2} {0}.{ZONE}",
            named.name, named.v4, named.v6
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_asked_for_both_families() {
        let text = questions();
        let different: BTreeSet<&str> = text.lines().collect();
        assert_eq!(different.len(), 2 * NAMES as usize);
    }
}
