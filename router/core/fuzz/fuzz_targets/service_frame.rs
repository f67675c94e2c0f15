//! Fuzz target: any bytes as a service frame of another host.
#![no_main]

#[path = "../frame_check.rs"]
mod frame_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    frame_check::check_frame(bytes);
});
