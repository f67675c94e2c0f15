//! One byte to each caller, and one caller who wants a byte from everybody.

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// How long one call may take, with all its first packets and retries.
const CALL_MAX: Duration = Duration::from_secs(5);

/// How long the names of all instances may take to be complete: a readiness probe that is late
/// leaves an instance out of an answer.
const COMPLETE_MAX: Duration = Duration::from_secs(30);

/// Sends one byte to each caller, until killed.
pub fn answer(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("listen")?;
    loop {
        // A caller that has gone away meanwhile wants no byte.
        let _ = listener
            .accept()
            .and_then(|(mut caller, _)| caller.write_all(b"!"));
    }
}

/// Looks up each of `names` and takes a byte from every address; each name must have `each`
/// addresses of both families.
pub fn call(port: u16, each: usize, names: &[String]) -> Result<()> {
    for name in names {
        let deadline = Instant::now() + COMPLETE_MAX;
        let addrs = loop {
            let looked_up = (name.as_str(), port).to_socket_addrs();
            let addrs: BTreeSet<SocketAddr> = looked_up
                .with_context(|| format!("look up {name}"))?
                .collect();
            if addrs.len() == 2 * each {
                break addrs;
            }
            if Instant::now() > deadline {
                bail!(
                    "{name} has {} addresses instead of {}",
                    addrs.len(),
                    2 * each
                );
            }
        };
        for addr in addrs {
            call_one(addr).with_context(|| format!("call {name} at {addr}"))?;
        }
    }
    Ok(())
}

fn call_one(addr: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&addr, CALL_MAX)?;
    stream.set_read_timeout(Some(CALL_MAX))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    ensure!(bytes == b"!", "it sent {bytes:?}");
    Ok(())
}
