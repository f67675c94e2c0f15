//! Fuzz target: any bytes as a stream that should hold a question or an answer.
#![no_main]

#[path = "../../src/codec.rs"]
mod codec;

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::check(bytes);
});
