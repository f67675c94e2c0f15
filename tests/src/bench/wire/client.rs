//! The client half of the measuring tool: it drives a job and times it.

use super::socket::{dial, reset_on_close};
use super::{COUNTED, DATAGRAM_BYTES, QUERY, RoundTrips, START, Sample, Tally};
use crate::bench::conditions::CongestionControl;
use crate::bench::metric::{Job, Metric};
use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

/// Bytes handed to TCP at a time.
const BULK_WRITE_BYTES: usize = 128 * 1024;

/// Datagrams handed to the kernel at a time.
const BATCH_DATAGRAMS: usize = 32;

/// New flows in one latency sample: enough for a 99th percentile.
pub const LATENCY_FLOWS: u16 = 400;

/// Round trips after a flow's first; the last of them is the later one.
const LATER_ROUND_TRIPS: usize = 4;

/// Payload of a latency datagram, in bytes.
const ECHO_BYTES: usize = 32;

/// Exchanges before timing starts, so that neighbours, routes and flow entries are there.
const WARM_UP_EXCHANGES: usize = 100;

/// How long the client waits for the answer to one query for a tally.
const QUERY_WAIT: Duration = Duration::from_millis(50);

/// Queries for a tally before the client gives up: the first may be lost to a full buffer.
const QUERIES_MAX: usize = 20;

/// What a client is told to do.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The conversation.
    pub job: Job,
    /// The server.
    pub to: SocketAddr,
    /// The congestion control of its TCP sockets.
    pub congestion_control: CongestionControl,
    /// How long to open connections before those that count, in the job of short ones.
    pub lead_in: Duration,
    /// How long to measure.
    pub time: Duration,
    /// The first source port of the latency job's flows; no earlier flow may have used them.
    pub first_source_port: u16,
}

/// Carries out an order and returns its figures.
pub fn run(order: Order) -> Result<Vec<Sample>> {
    match order.job {
        Job::Rr => exchange_over_one_connection(order),
        Job::Crr => exchange_over_many_connections(order),
        Job::Bulk => send_a_stream(order),
        Job::UdpPps => send_datagrams(order),
        Job::Latency => open_flows(order),
    }
}

fn exchange_over_one_connection(order: Order) -> Result<Vec<Sample>> {
    let mut stream = dial(order.to, order.congestion_control)?;
    for _ in 0..WARM_UP_EXCHANGES {
        exchange(&mut stream)?;
    }
    measure_exchanges(Metric::Rr, order.time, || exchange(&mut stream))
}

fn exchange_over_many_connections(order: Order) -> Result<Vec<Sample>> {
    let one_connection = || {
        let mut stream = dial(order.to, order.congestion_control)?;
        exchange(&mut stream)?;
        reset_on_close(&stream)
    };
    for _ in 0..WARM_UP_EXCHANGES {
        one_connection()?;
    }
    let begun = Instant::now();
    while begun.elapsed() < order.lead_in {
        one_connection()?;
    }
    measure_exchanges(Metric::Crr, order.time, one_connection)
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [0];
    stream.write_all(&byte).context("send a byte")?;
    stream.read_exact(&mut byte).context("receive a byte")
}

fn measure_exchanges(
    metric: Metric,
    time: Duration,
    mut exchange: impl FnMut() -> Result<()>,
) -> Result<Vec<Sample>> {
    let mut round_trips = RoundTrips::with_capacity(1 << 20);
    let start = Instant::now();
    let mut before = start;
    while before - start < time {
        exchange()?;
        let after = Instant::now();
        round_trips.push(after - before);
        before = after;
    }
    let value = round_trips.len() as f64 / (before - start).as_secs_f64();
    let (_, p99_us) = round_trips
        .median_and_p99_us()
        .context("no exchange was made")?;
    Ok(vec![Sample {
        metric,
        value,
        round_trip_p99_us: Some(p99_us),
    }])
}

fn send_a_stream(order: Order) -> Result<Vec<Sample>> {
    let mut stream = dial(order.to, order.congestion_control)?;
    let payload = vec![0; BULK_WRITE_BYTES];
    let start = Instant::now();
    while start.elapsed() < order.time {
        stream.write_all(&payload).context("send the stream")?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut tally = [0; Tally::BYTES];
    stream
        .read_exact(&mut tally)
        .context("receive the server's tally of the stream")?;
    let bytes_per_second = Tally::from_bytes(tally)
        .per_second()
        .context("an empty stream")?;
    Ok(vec![Sample {
        metric: Metric::Bulk,
        value: bytes_per_second * 8.0,
        round_trip_p99_us: None,
    }])
}

fn send_datagrams(order: Order) -> Result<Vec<Sample>> {
    let socket = connected_datagrams(order.to, 0)?;
    let mut payload = [START; DATAGRAM_BYTES];
    let mut echo = [0; DATAGRAM_BYTES];
    for _ in 0..WARM_UP_EXCHANGES {
        socket.send(&payload)?;
        socket
            .recv(&mut echo)
            .context("receive the echo before the flood")?;
    }

    payload[0] = COUNTED;
    let batch = [[IoSlice::new(&payload)]; BATCH_DATAGRAMS];
    let nowhere_else: [Option<SockaddrStorage>; BATCH_DATAGRAMS] = [None; BATCH_DATAGRAMS];
    let mut headers = MultiHeaders::preallocate(BATCH_DATAGRAMS, None);
    let start = Instant::now();
    while start.elapsed() < order.time {
        sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &batch,
            nowhere_else,
            [],
            MsgFlags::empty(),
        )
        .context("send datagrams")?;
    }
    let value = query_tally(&socket)?
        .per_second()
        .context("no datagram arrived")?;
    Ok(vec![Sample {
        metric: Metric::UdpPps,
        value,
        round_trip_p99_us: None,
    }])
}

fn query_tally(socket: &UdpSocket) -> Result<Tally> {
    socket.set_read_timeout(Some(QUERY_WAIT))?;
    let mut tally = [0; Tally::BYTES];
    for _ in 0..QUERIES_MAX {
        socket.send(&[QUERY])?;
        match socket.recv(&mut tally) {
            Ok(Tally::BYTES) => return Ok(Tally::from_bytes(tally)),
            Ok(length) => bail!("a tally of {length} bytes, expected {}", Tally::BYTES),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("receive the server's tally of datagrams"),
        }
    }
    bail!("the server did not answer {QUERIES_MAX} queries for its tally of datagrams")
}

fn open_flows(order: Order) -> Result<Vec<Sample>> {
    let mut first = RoundTrips::with_capacity(usize::from(LATENCY_FLOWS));
    let mut later = RoundTrips::with_capacity(usize::from(LATENCY_FLOWS));
    for flow in 0..LATENCY_FLOWS {
        let port = order
            .first_source_port
            .checked_add(flow)
            .context("source ports run out")?;
        let socket = connected_datagrams(order.to, port)?;
        first.push(time_echo(&socket)?);
        let mut last = Duration::ZERO;
        for _ in 0..LATER_ROUND_TRIPS {
            last = time_echo(&socket)?;
        }
        later.push(last);
    }
    let sample = |metric, round_trips: RoundTrips| {
        let (value, p99_us) = round_trips.median_and_p99_us()?;
        Some(Sample {
            metric,
            value,
            round_trip_p99_us: Some(p99_us),
        })
    };
    let both = [
        sample(Metric::FirstPacketUs, first),
        sample(Metric::LaterPacketUs, later),
    ];
    both.into_iter()
        .collect::<Option<Vec<Sample>>>()
        .context("no flow was opened")
}

fn time_echo(socket: &UdpSocket) -> Result<Duration> {
    let mut datagram = [0; ECHO_BYTES];
    let start = Instant::now();
    socket.send(&datagram).context("send a datagram")?;
    socket.recv(&mut datagram).context("receive its echo")?;
    Ok(start.elapsed())
}

fn connected_datagrams(to: SocketAddr, source_port: u16) -> Result<UdpSocket> {
    let from = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, source_port)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, source_port)),
    };
    let socket = UdpSocket::bind(from).with_context(|| format!("bind udp {from}"))?;
    socket
        .connect(to)
        .with_context(|| format!("connect udp to {to}"))?;
    Ok(socket)
}
