//! Metrics over HTTP/1.1 at an address of the host: `GET /metrics`, one answer a connection.

use crate::world::World;
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// What a scraper is told that it gets.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Scrapers answered at once; more wait in the socket's backlog. A few ask, some seconds apart.
const SCRAPERS_MAX: usize = 8;

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The most headers of a request.
const HEADERS_MAX: usize = 64;

/// How long one scraper may take from connecting to the last byte.
const SCRAPE_MAX: Duration = Duration::from_secs(10);

/// How long to wait after a failed accept: mostly for descriptors to be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at `address`, if there is one.
pub async fn bind_if_wanted(address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    match address {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot serve metrics at {address}; choose another --metrics"))
}

/// Answers scrapers for ever.
pub async fn serve(world: Arc<World>, listener: TcpListener) -> Result<()> {
    let places = Arc::new(Semaphore::new(SCRAPERS_MAX));
    loop {
        let place = places.clone().acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a scraper");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let world = world.clone();
        tokio::spawn(async move {
            match timeout(SCRAPE_MAX, converse(&world, stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("a scraper was not answered: {error:#}"),
                Err(_) => tracing::debug!("a scraper was too slow"),
            }
            drop(place);
        });
    }
}

async fn converse(world: &World, mut stream: TcpStream) -> Result<()> {
    let (status, body) = match read_request(&mut stream).await? {
        Asked::Metrics => ("200 OK", super::text(world).await?),
        Asked::Elsewhere => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        Asked::Otherwise => ("405 Method Not Allowed", "ask by GET\n".to_owned()),
        Asked::Nonsense => ("400 Bad Request", "this is no HTTP request\n".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

/// What a scraper asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Metrics,
    Elsewhere,
    Otherwise,
    Nonsense,
}

async fn read_request(stream: &mut TcpStream) -> Result<Asked> {
    let mut head = Vec::new();
    loop {
        if let Some(asked) = asked(&head) {
            return Ok(asked);
        }
        let read = stream.read_buf(&mut head).await?;
        if read == 0 {
            bail!("it hung up within its request");
        }
    }
}

/// What the head asks for; `None` while it is not whole.
fn asked(head: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) | Err(_) => return Some(Asked::Nonsense),
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Some(match (request.method, path) {
        (Some("GET"), "/metrics") => Asked::Metrics,
        (Some("GET"), _) => Asked::Elsewhere,
        _ => Asked::Otherwise,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let cases = [
            (
                "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                Some(Asked::Metrics),
            ),
            ("GET /metrics?name=x HTTP/1.0\r\n\r\n", Some(Asked::Metrics)),
            ("GET / HTTP/1.1\r\n\r\n", Some(Asked::Elsewhere)),
            ("POST /metrics HTTP/1.1\r\n\r\n", Some(Asked::Otherwise)),
            ("GET /metrics HTTP/1.1\r\nHost", None),
            ("", None),
            ("\u{1}\u{2}nonsense\r\n\r\n", Some(Asked::Nonsense)),
        ];
        for (head, expected) in cases {
            assert_eq!(asked(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn endless_head_is_refused() {
        let head = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(asked(head.as_bytes()), Some(Asked::Nonsense));
    }
}
