//! Fuzz target: any bytes as a datagram of another host's membership.
#![no_main]

#[allow(dead_code, reason = "shared with the other target and with a test")]
#[path = "../site_check.rs"]
mod site_check;

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    site_check::check_membership(datagram);
});
