//! Readiness and liveness: asks an instance, from inside its own network, whether it can serve.

use margay_core::composition::{Probe, Readiness};
use margay_core::id::InstanceId;
use margay_datapath::namespace::connect_tcp_in;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The longest head of an HTTP answer that a probe reads.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The longest body of an HTTP answer that a probe reads to its end.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The most headers of an answer that a probe reads.
const HEADERS_MAX: usize = 64;

/// Whom a probe asks.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The instance; by its number, for while one version replaces another two bear one name.
    pub instance: InstanceId,
    /// Its network namespace.
    pub namespace: Arc<OwnedFd>,
    /// The address that others call.
    pub address: IpAddr,
    /// The daemon's run directory, for `margay exec`.
    pub run: PathBuf,
}

/// What a probe found: nothing, or why the instance cannot serve.
pub type Verdict = Result<(), String>;

/// Probes for ever and tells `found` each verdict.
pub async fn ask_on(subject: Subject, asked: Readiness, mut found: impl FnMut(Verdict)) {
    let mut ticks = interval(asked.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let verdict = match timeout(asked.timeout, ask(&subject, &asked.probe)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{}: {error}", asked.probe)),
            Err(_) => Err(format!(
                "{}: no answer in {} ms",
                asked.probe,
                asked.timeout.as_millis()
            )),
        };
        found(verdict);
    }
}

/// Tells `found` the first verdict on `instance` and each that differs from the last.
///
/// Nothing is taken for granted: the instance may count as ready from an earlier run.
pub fn changes(instance: InstanceId, found: impl Fn(Verdict)) -> impl FnMut(Verdict) {
    let mut last = None;
    move |verdict| {
        if last.as_ref() != Some(&verdict) {
            tracing::debug!(%instance, ?verdict, "readiness");
            found(verdict.clone());
            last = Some(verdict);
        }
    }
}

async fn ask(subject: &Subject, probe: &Probe) -> io::Result<()> {
    match probe {
        Probe::Tcp { port } => connect(subject, *port).await.map(drop),
        Probe::Http { port, path } => {
            let stream = connect(subject, *port).await?;
            http_is_well(stream, &SocketAddr::new(subject.address, *port), path).await
        }
        Probe::Command(command) => command_succeeds(subject, command).await,
    }
}

async fn connect(subject: &Subject, port: u16) -> io::Result<TcpStream> {
    let namespace = subject.namespace.clone();
    let address = SocketAddr::new(subject.address, port);
    let opening =
        tokio::task::spawn_blocking(move || connect_tcp_in(namespace.as_fd(), address)).await??;
    let stream = TcpStream::from_std(opening)?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

async fn http_is_well(mut stream: TcpStream, host: &SocketAddr, path: &str) -> io::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(&head).map_err(io::Error::other)?;
        if let Some(code) = response.code {
            finish(stream).await?;
            return match code {
                200..400 => Ok(()),
                _ => Err(io::Error::other(format!("answered {code}"))),
            };
        }
        if head.len() >= HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::other("answered without a status"));
        }
    }
}

/// Reads the rest of an answer, so that the server does not see its connection reset; what is
/// longer than a health page should be is cut off all the same.
async fn finish(mut stream: TcpStream) -> io::Result<()> {
    let mut rest = Vec::new();
    while rest.len() < BODY_BYTES_MAX && stream.read_buf(&mut rest).await? > 0 {}
    Ok(())
}

async fn command_succeeds(subject: &Subject, command: &[String]) -> io::Result<()> {
    let status = tokio::process::Command::new("/proc/self/exe")
        .arg("--run")
        .arg(&subject.run)
        .args(["exec", &subject.instance.to_string(), "--"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(status.to_string()))
    }
}
