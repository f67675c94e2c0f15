//! The server half of the measuring tool: one thread, one job, until it is killed.

use super::socket::{datagrams_at, listen_at};
use super::{COUNTED, QUERY, READY, START, Tally};
use crate::bench::conditions::CongestionControl;
use crate::bench::metric::Job;
use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use std::io::{ErrorKind, IoSliceMut, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

/// Bytes taken from TCP at a time.
const BULK_READ_BYTES: usize = 256 * 1024;

/// Datagrams taken from the kernel at a time.
const BATCH_DATAGRAMS: usize = 64;

/// Room for one datagram; longer ones are cut, which no job sends.
const DATAGRAM_ROOM_BYTES: usize = 128;

/// Serves one job at an address until the process is killed or a socket fails.
pub fn serve(job: Job, at: SocketAddr, congestion: CongestionControl) -> Result<()> {
    match job {
        Job::Rr | Job::Crr => serve_connections(at, congestion, echo_bytes),
        Job::Bulk => serve_connections(at, congestion, sink),
        Job::UdpPps => count_datagrams(at),
        Job::Latency => echo_datagrams(at),
    }
}

/// Serves connections one after the other: no job has two open at once.
fn serve_connections(
    at: SocketAddr,
    congestion: CongestionControl,
    converse: fn(TcpStream) -> std::io::Result<()>,
) -> Result<()> {
    let listener = listen_at(at, congestion)?;
    announce()?;
    loop {
        let (stream, _) = listener.accept().context("accept a connection")?;
        match converse(stream) {
            Ok(()) => {}
            // A client ends a conversation by reset.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) => {}
            Err(error) => return Err(error).context("converse with the client"),
        }
    }
}

fn echo_bytes(mut stream: TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Receives a stream to its end and answers with its tally.
fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; BULK_READ_BYTES];
    // The clock starts with the first byte, so it is not counted.
    stream.read_exact(&mut buffer[..1])?;
    let start = Instant::now();
    let mut units = 0;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        units += length as u64;
    }
    let tally = Tally {
        units,
        nanos: nanos_since(start),
    };
    stream.write_all(&tally.to_bytes())
}

fn echo_datagrams(at: SocketAddr) -> Result<()> {
    let socket = datagrams_at(at)?;
    announce()?;
    let mut datagram = [0; DATAGRAM_ROOM_BYTES];
    loop {
        let (length, from) = socket
            .recv_from(&mut datagram)
            .context("receive a datagram")?;
        socket
            .send_to(&datagram[..length], from)
            .context("echo a datagram")?;
    }
}

/// What a counting server has seen since the last start.
#[derive(Default)]
struct Count {
    since: Option<Instant>,
    tally: Option<Tally>,
}

impl Count {
    fn add(&mut self, datagrams: u64) {
        // The clock starts with the first batch, so this one is not counted.
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return;
        };
        let units = self.tally.map_or(0, |tally| tally.units) + datagrams;
        self.tally = Some(Tally {
            units,
            nanos: nanos_since(since),
        });
    }
}

fn count_datagrams(at: SocketAddr) -> Result<()> {
    let socket = datagrams_at(at)?;
    announce()?;
    let mut room = vec![[0; DATAGRAM_ROOM_BYTES]; BATCH_DATAGRAMS];
    let mut headers = MultiHeaders::preallocate(BATCH_DATAGRAMS, None);
    let mut count = Count::default();
    loop {
        let (counted, others) = receive_batch(&socket, &mut headers, &mut room)?;
        if counted > 0 {
            count.add(counted);
        }
        for (kind, from) in others {
            match kind {
                START => {
                    count = Count::default();
                    socket.send_to(&[START], from).context("echo a start")?;
                }
                QUERY => {
                    let tally = count.tally.unwrap_or(Tally { units: 0, nanos: 0 });
                    socket
                        .send_to(&tally.to_bytes(), from)
                        .context("answer a query")?;
                }
                _ => {}
            }
        }
    }
}

/// Waits for datagrams; returns how many count, and the kind and sender of each other.
fn receive_batch(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    room: &mut [[u8; DATAGRAM_ROOM_BYTES]],
) -> Result<(u64, Vec<(u8, SocketAddr)>)> {
    let mut slices: Vec<_> = room
        .iter_mut()
        .map(|room| [IoSliceMut::new(room)])
        .collect();
    let batch = recvmmsg(
        socket.as_raw_fd(),
        headers,
        slices.iter_mut(),
        MsgFlags::MSG_WAITFORONE,
        None,
    );
    let batch = match batch {
        Ok(batch) => batch,
        Err(Errno::EINTR) => return Ok((0, Vec::new())),
        Err(error) => return Err(error).context("receive datagrams"),
    };
    let mut counted = 0;
    let mut others = Vec::new();
    for message in batch {
        let kind = message
            .iovs()
            .next()
            .and_then(|bytes| bytes.first().copied());
        match (kind, message.address.as_ref().and_then(address)) {
            (Some(COUNTED), _) => counted += 1,
            (Some(kind), Some(from)) => others.push((kind, from)),
            _ => {}
        }
    }
    Ok((counted, others))
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|addr| SocketAddr::V4((*addr).into()));
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|addr| SocketAddr::V6((*addr).into()))
    })
}

fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn announce() -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{READY}")
        .and_then(|()| output.flush())
        .context("announce readiness")
}
