//! Fuzz target: any bytes as a datagram of the host link, and as what is sealed in one.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::check(bytes);
});
