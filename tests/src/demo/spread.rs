//! Step: many requests, counted by the replica that answered.

use super::shop::{SHOPPER, Shop};
use super::{Report, chapter, tell};
use anyhow::Result;

/// Requests for each family.
const REQUESTS: &str = "300";

/// Counts who answers, over IPv4 and over IPv6; each request is a curl of its own.
pub(super) fn measure(shop: &Shop, report: &mut Report) -> Result<()> {
    chapter("Spread: 300 curls over v4, 300 over v6");
    report.spread.v4 = family(shop, "-4")?;
    report.spread.v6 = family(shop, "-6")?;
    for (index, it) in shop.web.iter().enumerate() {
        let (v4, v6) = (report.spread.v4[index], report.spread.v6[index]);
        tell(format!("{} answered {v4} over v4, {v6} over v6", it.name));
    }
    Ok(())
}

fn family(shop: &Shop, option: &str) -> Result<Vec<u32>> {
    let script =
        r#"for i in $(seq "$1"); do curl -sS "$2" --max-time 10 http://web.matrix/ || exit; done"#;
    let bodies = shop
        .host
        .run(SHOPPER, &["sh", "-c", script, "sh", REQUESTS, option])?;
    let mut counts = vec![0; shop.web.len()];
    for body in bodies.lines() {
        counts[shop.replica(body)?] += 1;
    }
    Ok(counts)
}
