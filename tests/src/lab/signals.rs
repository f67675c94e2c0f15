//! Ctrl-C and its kin: what the lab made ends before the program does.

use super::Host;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::thread;
use tokio::signal::unix::{SignalKind, signal};

/// Ends `host`, then this program, when SIGINT, SIGTERM or SIGHUP comes.
pub fn end_on_signal(host: &Arc<Host>) -> Result<()> {
    let host = Arc::clone(host);
    on_signal(move |signal| {
        eprintln!("\n{signal}: ending the host");
        host.end_and_exit(128 + signal as i32);
    })
}

/// Calls `then` when SIGINT, SIGTERM or SIGHUP comes.
///
/// The signals are handled and not blocked: a mask would be inherited by every daemon of the lab,
/// handlers are not.
pub fn on_signal(then: impl FnOnce(Signal) + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot wait for signals")?;
    let inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    drop(inside);
    thread::spawn(move || {
        let came = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Signal::SIGINT,
                _ = terminate.recv() => Signal::SIGTERM,
                _ = hangup.recv() => Signal::SIGHUP,
            }
        });
        then(came);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn children_of_who_waits_for_signals_still_take_them() {
        on_signal(|_| ()).unwrap();
        let mut command = Command::new("grep");
        let command = command.args(["^SigBlk:\t0*$", "/proc/self/status"]);
        assert!(command.status().unwrap().success());
    }
}
