//! Answers the host's own programs and DNS servers: hickory's server over the same reply function.

use crate::reply::{Disposition, Transport, reply_or_seek};
use crate::searches::{HELD_FOR, Searches};
use crate::under_way::UnderWay;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use hickory_proto::op::{Header, HeaderCounts, Message, Metadata, ResponseCode};
use hickory_server::Server;
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use margay_core::id::InstanceId;
use margay_core::name::AutomatonName;
use margay_core::names::NamesSnapshot;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout_at;

/// How long a TCP connection may stay without a whole query, as inside instances.
const IDLE: Duration = Duration::from_secs(10);

/// Replies of one TCP connection that may wait for their reader.
const REPLIES_WAITING_MAX: usize = 32;

/// Answers what arrives on the two sockets from `names`, whichever snapshot is the latest, as asked by
/// the host itself. Ends only on an error.
pub async fn serve_host(
    names: Arc<ArcSwap<NamesSnapshot>>,
    searches: Searches,
    udp: UdpSocket,
    tcp: TcpListener,
) -> Result<(), NetError> {
    let draw = AtomicU64::new(0);
    let mut server = Server::new(Host {
        names,
        searches,
        held: UnderWay::default(),
        draw,
    });
    server.register_socket(udp);
    server.register_listener(tcp, IDLE, REPLIES_WAITING_MAX);
    server.block_until_done().await
}

/// The host as a caller.
struct Host {
    names: Arc<ArcSwap<NamesSnapshot>>,
    searches: Searches,
    /// Questions that wait for searches.
    held: UnderWay,
    /// Raised for each query; core mixes it before it orders ties by it.
    draw: AtomicU64,
}

impl Host {
    /// The reply to a request, if one is owed, once what it is for was sought.
    async fn reply(&self, request: &Request) -> Option<Message> {
        let (at_once, sought) = self.reply_or_seek(request);
        let place = sought.and_then(|service| Some((self.held.enter(InstanceId::HOST)?, service)));
        let Some((_place, service)) = place else {
            return at_once;
        };
        let until = Instant::now() + HELD_FOR;
        if !self.searches.want(&service, Instant::now()) {
            return at_once;
        }
        loop {
            // Begun before the names are looked at, so that none are missed.
            let mut publication = pin!(self.searches.publication());
            publication.as_mut().enable();
            let (reply, sought) = self.reply_or_seek(request);
            if sought.is_none() || timeout_at(until.into(), publication).await.is_err() {
                return reply;
            }
        }
    }

    /// What is replied at once, and which service is worth waiting for, if any is.
    fn reply_or_seek(&self, request: &Request) -> (Option<Message>, Option<AutomatonName>) {
        let transport = match request.protocol() {
            Protocol::Tcp => Transport::Tcp,
            _ => Transport::Udp,
        };
        let draw = self.draw.fetch_add(1, Ordering::Relaxed);
        let (query, names) = (request.as_slice(), self.names.load());
        let mut bytes = Vec::new();
        let (disposition, sought) =
            reply_or_seek(&names, InstanceId::HOST, query, transport, draw, &mut bytes);
        let reply = match disposition {
            Disposition::Replied { .. } => Message::from_vec(&bytes).ok(),
            Disposition::Elsewhere | Disposition::Silent(_) => None,
        };
        (reply, sought)
    }
}

#[async_trait]
impl RequestHandler for Host {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut responses: R,
    ) -> ResponseInfo {
        let Some(reply) = self.reply(request).await else {
            return failed(request);
        };
        let builder = MessageResponseBuilder::new(&request.queries, reply.edns.as_ref());
        let response = builder.build(
            reply.metadata,
            &reply.answers,
            &reply.authorities,
            [],
            &reply.additionals,
        );
        match responses.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, to = %request.src(), "a reply to the host was not sent");
                failed(request)
            }
        }
    }
}

/// What hickory's log is told of a request that got no reply.
fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = ResponseCode::ServFail;
    let counts = HeaderCounts::default();
    ResponseInfo::from(Header { metadata, counts })
}
