//! Fuzz target: any bytes as datagrams of a host of the same site, one after the other.
#![no_main]

#[path = "../neighbourhood_check.rs"]
mod neighbourhood_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    neighbourhood_check::check_neighbourhood(bytes);
});
