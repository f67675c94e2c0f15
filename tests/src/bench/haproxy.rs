//! HAProxy as a TCP proxy between the two halves of a routed path.

use crate::bench::conditions::{CongestionControl, SERVER_PORT};
use crate::bench::namespace::{Namespace, Running};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a report says of it.
pub const STATEMENT: &str = "mode tcp, splice-auto, one thread";

/// How long HAProxy may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Starts it in `router`, listening at `front` and calling `server`.
pub fn start(
    router: &Namespace,
    front: Ipv4Addr,
    server: Ipv4Addr,
    scratch: &Path,
) -> Result<Running> {
    let file = scratch.join("haproxy.cfg");
    fs::write(&file, configuration(front, server)).context("write haproxy's configuration")?;
    let mut command = Command::new("haproxy");
    command
        .arg("-db")
        .arg("-q")
        .arg("-f")
        .arg(&file)
        .stdin(Stdio::null());
    let mut proxy = router.start(&mut command, 0)?;
    let deadline = Instant::now() + START_MAX;
    let front = SocketAddr::from((front, SERVER_PORT));
    while router.enter(|| Ok(TcpStream::connect(front)?)).is_err() {
        proxy.check_alive()?;
        if Instant::now() > deadline {
            bail!("haproxy did not listen at {front} within {START_MAX:?}");
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(proxy)
}

/// Gives the proxy's own sockets the congestion control of all others. HAProxy cannot choose one,
/// and a network namespace may not make every algorithm its default, but a route may carry it.
pub fn set_congestion_control(router: &Namespace, congestion: CongestionControl) -> Result<()> {
    router.ip(&format!(
        "route replace 10.0.1.0/24 dev client congctl {congestion}\n\
         route replace 10.0.2.0/24 dev server congctl {congestion}"
    ))
}

/// One thread, because one CPU is what the one-CPU jobs give; splicing, because it helps streams.
fn configuration(front: Ipv4Addr, server: Ipv4Addr) -> String {
    format!(
        "global\n\
         \x20   maxconn 4096\n\
         \x20   nbthread 1\n\
         defaults\n\
         \x20   mode tcp\n\
         \x20   option splice-auto\n\
         \x20   timeout connect 5s\n\
         \x20   timeout client 60s\n\
         \x20   timeout server 60s\n\
         listen bench\n\
         \x20   bind {front}:{SERVER_PORT}\n\
         \x20   server measured {server}:{SERVER_PORT}\n"
    )
}
