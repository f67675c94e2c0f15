//! Asks the host's own DNS servers for names of other zones, by hickory's resolver: with a cache, over
//! TCP where a datagram is too small, with random ids, ports and letters (draft-vixie-dnsext-dns0x20).

use crate::encode::Verdict;
use crate::encode::{Found, encode};
use crate::reply::{Transport, bytes_max, read};
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::Record;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::system_conf::parse_resolv_conf;
use margay_core::names::ExtendedError;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long one server may take; a slow one's answer still comes in time for its asker's next try, which
/// finds it in the cache.
const SERVER_MAX: Duration = Duration::from_secs(4);

/// Tries after the first that failed.
const RETRIES: usize = 1;

/// How long a question may take in all: glibc gives up after ten seconds.
const QUESTION_MAX: Duration = Duration::from_secs(9);

/// Answers that are remembered, each a few hundred bytes.
const CACHED_MAX: u64 = 4096;

/// How long an answer is remembered, whatever its server says: long enough for a burst.
const CACHED_SECONDS_MAX: Duration = Duration::from_secs(3600);

/// How long it is remembered that a name does not exist.
const DENIAL_CACHED_MAX: Duration = Duration::from_secs(30);

/// How often the host's configuration is looked at, if at all.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Too many questions are under way ("Other Error").
pub(crate) const BUSY: ExtendedError = ExtendedError {
    code: 0,
    text: "too many questions for names outside .matrix are under way; ask again soon",
};

/// The host names no server that is not ourselves ("No Reachable Authority").
const NO_SERVER: ExtendedError = ExtendedError {
    code: 22,
    text: "the host's resolv.conf names no other DNS server",
};

/// No server answered well ("No Reachable Authority").
const UNREACHABLE: ExtendedError = ExtendedError {
    code: 22,
    text: "none of the host's DNS servers answered in time",
};

/// A server says that it failed ("Network Error" does not fit; "Other Error").
const UPSTREAM_FAILED: ExtendedError = ExtendedError {
    code: 0,
    text: "the host's DNS server says that it failed",
};

/// The host's own servers.
pub(crate) struct Upstream {
    resolv_conf: PathBuf,
    /// Where we answer ourselves: never asked, lest a question go round.
    ours: Vec<IpAddr>,
    current: Mutex<Current>,
}

/// The servers as they were when last looked at.
#[derive(Default)]
struct Current {
    looked: Option<Instant>,
    modified: Option<SystemTime>,
    resolver: Option<TokioResolver>,
}

impl Upstream {
    /// The servers that `resolv_conf` names, whenever it changes, without `ours`.
    pub(crate) fn new(resolv_conf: PathBuf, ours: Vec<IpAddr>) -> Upstream {
        Upstream {
            resolv_conf,
            ours,
            current: Mutex::default(),
        }
    }

    /// The reply to a query, as bytes; empty if the query is none.
    pub(crate) async fn reply(&self, query: &[u8], transport: Transport) -> Vec<u8> {
        let question = match read(query) {
            Ok((asked, None)) => asked.question,
            _ => None,
        };
        let found = match question {
            Some(question) => self.find(question).await,
            None => failed(UPSTREAM_FAILED),
        };
        let mut out = Vec::new();
        if !write_reply(query, transport, found, &mut out) {
            out.clear();
        }
        out
    }

    async fn find(&self, question: Query) -> Found {
        let Some(resolver) = self.resolver() else {
            return failed(NO_SERVER);
        };
        let mut name = question.name;
        name.set_fqdn(true);
        let asked = resolver.lookup(name, question.query_type);
        match tokio::time::timeout(QUESTION_MAX, asked).await {
            Ok(Ok(lookup)) => Found {
                code: ResponseCode::NoError,
                answers: lookup.answers().to_vec(),
                authorities: Vec::new(),
                error: None,
            },
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => Found {
                code: none.response_code,
                answers: Vec::new(),
                authorities: none
                    .soa
                    .into_iter()
                    .map(|soa| (*soa).into_record_of_rdata())
                    .collect(),
                error: None,
            },
            Ok(Err(NetError::Dns(_))) => failed(UPSTREAM_FAILED),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no server of the host answered");
                failed(UNREACHABLE)
            }
            Err(_) => failed(UNREACHABLE),
        }
    }

    /// Asks by the host's configuration of now.
    fn resolver(&self) -> Option<TokioResolver> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |looked: Instant| looked.elapsed() < LOOK_AGAIN;
        if !current.looked.is_some_and(fresh) {
            current.looked = Some(Instant::now());
            let metadata = std::fs::metadata(&self.resolv_conf);
            let modified = metadata.and_then(|metadata| metadata.modified()).ok();
            if modified != current.modified || current.resolver.is_none() {
                current.modified = modified;
                current.resolver = self.read();
            }
        }
        current.resolver.clone()
    }

    fn read(&self) -> Option<TokioResolver> {
        let text = std::fs::read(&self.resolv_conf).ok()?;
        let (mut config, _) = match parse_resolv_conf(&text) {
            Ok(parsed) => parsed,
            Err(error) => {
                let file = self.resolv_conf.display();
                tracing::warn!(%error, "cannot read the host's DNS servers from {file}");
                return None;
            }
        };
        config
            .name_servers
            .retain(|server| !self.ours.contains(&server.ip));
        if config.name_servers.is_empty() {
            return None;
        }
        config.domain = None;
        config.search.clear();
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.with_options(options()).build().ok()
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = SERVER_MAX;
    options.attempts = RETRIES;
    options.cache_size = CACHED_MAX;
    options.positive_max_ttl = Some(CACHED_SECONDS_MAX);
    options.negative_max_ttl = Some(DENIAL_CACHED_MAX);
    options.use_hosts_file = ResolveHosts::Never;
    options.case_randomization = true;
    options.preserve_intermediates = true;
    options.edns0 = true;
    options
}

/// No answer, and why.
pub(crate) fn failed(error: ExtendedError) -> Found {
    Found {
        code: ResponseCode::ServFail,
        answers: Vec::<Record>::new(),
        authorities: Vec::new(),
        error: Some(error),
    }
}

/// Writes what was found into `out`, in place of what it held; returns whether there is a reply.
pub(crate) fn write_reply(
    query: &[u8],
    transport: Transport,
    found: Found,
    out: &mut Vec<u8>,
) -> bool {
    let Ok((asked, _)) = read(query) else {
        return false;
    };
    encode(
        &asked,
        &Verdict::Found(found),
        bytes_max(&asked, transport),
        out,
    )
    .is_ok()
}
