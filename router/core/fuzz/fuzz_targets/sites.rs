//! Fuzz target: any bytes as what a gateway of another site says; the first says in what message.
#![no_main]

#[path = "../sites_check.rs"]
mod sites_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sites_check::check_sites(bytes);
});
