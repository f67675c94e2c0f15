//! Fuzz target: any bytes as a query.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|query: &[u8]| {
    check::check(query);
});
