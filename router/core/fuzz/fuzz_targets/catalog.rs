//! Fuzz target: any bytes as what another host says to the catalog; the first says in what message.
#![no_main]

#[allow(dead_code, reason = "shared with the other target and with a test")]
#[path = "../site_check.rs"]
mod site_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    site_check::check_catalog(bytes);
});
