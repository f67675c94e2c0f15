//! Step: what the composition does not permit does not exist, by name or by address.

use super::shop::{NAMES, STRANGER, Shop};
use super::{Report, chapter, tell};
use crate::lab::programs::Libc;
use anyhow::Result;
use std::process::Stdio;

/// The drop reason that denials are counted under.
const REASON: &str = "not_permitted";

/// Exit status of curl when the connection is refused.
const CURL_REFUSED: i32 = 7;

/// Lets the stranger try every name, and every replica by its addresses.
pub(super) fn show(shop: &Shop, report: &mut Report) -> Result<()> {
    chapter("A stranger: a program of another composition");
    let before = refusals(shop)?;
    let mut denied = true;
    for libc in Libc::ALL {
        for name in NAMES {
            let output = shop
                .host
                .exec(STRANGER, &[&Shop::fetch(libc), name])
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            tell(format!("{:<6} {}", libc.name(), said.trim()));
            denied &= !output.status.success() && output.stdout.is_empty();
        }
    }
    let mut refused = 0;
    for it in &shop.web {
        for host in [it.called_v4.to_string(), format!("[{}]", it.called_v6)] {
            let url = format!("http://{host}/");
            let mut curl = shop
                .host
                .exec(STRANGER, &["curl", "-sS", "--max-time", "5", &url]);
            let output = curl.stdin(Stdio::null()).output()?;
            denied &= output.status.code() == Some(CURL_REFUSED) && output.stdout.is_empty();
            refused += u64::from(output.status.code() == Some(CURL_REFUSED));
        }
    }
    let counted = refusals(shop)? - before;
    tell(format!(
        "by address: {refused} connections refused, {counted} counted as {REASON}"
    ));
    report.denied = denied && counted >= refused && refused > 0;
    Ok(())
}

fn refusals(shop: &Shop) -> Result<u64> {
    Ok(shop.host.drops()?.get(REASON).copied().unwrap_or_default())
}
