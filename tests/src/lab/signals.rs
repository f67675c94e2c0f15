//! Ctrl-C and its kin: what the lab made ends before the program does.

use super::Host;
use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use std::sync::Arc;
use std::thread;

/// Ends `host`, then this program, when SIGINT, SIGTERM or SIGHUP comes.
///
/// Must be called before other threads start, as [`on_signal`].
pub fn end_on_signal(host: &Arc<Host>) -> Result<()> {
    let host = Arc::clone(host);
    on_signal(move |signal| {
        eprintln!("\n{signal}: ending the host");
        host.end_and_exit(128 + signal as i32);
    })
}

/// Calls `then` when SIGINT, SIGTERM or SIGHUP comes.
///
/// Must be called before other threads start: they inherit the mask that leaves these signals to
/// the one thread that waits for them. Child processes do not, `Command` clears it.
pub fn on_signal(then: impl FnOnce(Signal) + Send + 'static) -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().context("cannot block signals")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            then(signal);
        }
    });
    Ok(())
}
