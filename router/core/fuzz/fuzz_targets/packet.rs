//! Fuzz target: any bytes as an upcalled IP packet.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    check::check(packet);
});
