//! Fuzz target: any bytes as whatever admission reads from other hosts.
#![no_main]

#[path = "../admission_check.rs"]
mod admission_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    admission_check::check(bytes);
});
