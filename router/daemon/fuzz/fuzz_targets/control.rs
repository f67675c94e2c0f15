//! Fuzz target: any bytes as an operator's request on the control socket.
#![no_main]

#[allow(dead_code, reason = "requests alone are read from others")]
#[path = "../../src/protocol.rs"]
mod protocol;

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::check(bytes);
});
