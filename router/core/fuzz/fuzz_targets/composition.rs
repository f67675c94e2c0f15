//! Fuzz target: any bytes as the text of a composition, which operators write and hosts pass on.
#![no_main]

#[path = "../composition_check.rs"]
mod composition_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    composition_check::check_composition(bytes);
});
