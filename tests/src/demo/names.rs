//! Step: plain gethostbyname, by two C libraries.

use super::shop::{NAMES, SHOPPER, Shop};
use super::{Report, chapter, tell};
use crate::lab::programs::Libc;
use anyhow::Result;
use std::net::IpAddr;

/// Resolves every name by both libcs and keeps those that led to the right instances.
pub(super) fn ask(shop: &Shop, report: &mut Report) -> Result<()> {
    chapter("Names, by gethostbyname of two C libraries");
    for libc in Libc::ALL {
        let mut right = Vec::new();
        for name in NAMES {
            let answer = shop.host.run(SHOPPER, &[&Shop::fetch(libc), name])?;
            let automaton = name.trim_end_matches(".matrix");
            let called = |text: &str| {
                text.parse()
                    .is_ok_and(|it: IpAddr| shop.calls(automaton, it))
            };
            tell(format!(
                "{:<6} {name:<13} {}",
                libc.name(),
                answer.trim().replace('\n', " ")
            ));
            if !answer.is_empty() && answer.lines().all(called) {
                right.push(name.to_owned());
            }
        }
        match libc {
            Libc::Glibc => report.names_glibc = right,
            Libc::Musl => report.names_musl = right,
        }
    }
    Ok(())
}
