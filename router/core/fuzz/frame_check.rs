//! What must hold of any bytes that come as a service frame: shared by the fuzz target and by the test
//! that damages good frames.

use etherparse::PacketBuilder;
use margay_core::composition::Composition;
use margay_core::host::HostId;
use margay_core::id::{EndpointIndex, RequestId, Version};
use margay_core::moment::Moment;
use margay_core::peer::{PeerInput, RemoteInstance};
use margay_core::port::{Input, Output};
use margay_core::router::{OwnHost, Router, RouterConfig};
use margay_core::service_frame::{
    Attempt, FRAME_BYTES_MAX, FrameKind, HOPS_MAX, Request, ServiceFrame,
};
use margay_core::way::Path;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// A server here, a caller on the host that sends hostile bytes, and one on a good host.
const SHOP: &str = r#"
[composition]
name = "shop"
version = 1

[automaton.web]
command = ["nginx"]
ports = { http = { port = 80, protocol = "tcp" } }
on = ["here"]

[automaton.shopper]
command = ["sleep", "infinity"]
replicas = 2
needs = ["web"]
on = ["hostile", "good"]
"#;

/// The own host, and where its addresses come from.
const HERE: (&str, &str) = ("here", "100.64.0.0/20");
/// A host that sends hostile bytes.
pub(crate) const HOSTILE: (&str, &str) = ("hostile", "100.64.16.0/20");
/// A host that does not.
const GOOD: (&str, &str) = ("good", "100.64.32.0/20");

/// What runs on each of them, by its host: the same in every run.
static INSTANCES: LazyLock<BTreeMap<&str, Arc<RemoteInstance>>> = LazyLock::new(|| {
    let hosts = [HERE, HOSTILE, GOOD].into_iter();
    hosts
        .map(|host| (host.0, Host::new(host).tells.remove(0)))
        .collect()
});

static COMPOSITION: LazyLock<Composition> =
    LazyLock::new(|| Composition::parse(SHOP).expect("a composition"));

/// A Router, and what it tells of its instances.
struct Host {
    router: Router,
    tells: Vec<Arc<RemoteInstance>>,
    /// Frames that it sent since they were looked at.
    frames: Vec<(HostId, Vec<u8>)>,
    now: Moment,
    /// Flows that it let in or opened.
    opened: usize,
}

impl Host {
    fn new((name, block): (&str, &str)) -> Host {
        let block = block.parse().expect("a block");
        let now = Moment::from_nanos(1_000_000_000);
        let config = RouterConfig {
            host: Some(OwnHost {
                id: id(name),
                name: name.parse().expect("a name"),
            }),
            ..RouterConfig::new([7; 32], block)
        };
        let mut host = Host {
            router: Router::new(config, 1, now),
            tells: Vec::new(),
            frames: Vec::new(),
            now,
            opened: 0,
        };
        host.tell(Input::Apply {
            request: RequestId(1),
            composition: COMPOSITION.clone(),
        });
        host
    }

    fn tell(&mut self, input: Input) {
        self.router.handle_input(input, self.now);
        while let Some(output) = self.router.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let report = match output {
            Output::PrepareInstance(plan) => Input::InstancePrepared {
                instance: plan.instance,
                endpoint: EndpointIndex(1),
                ifindex: 11,
            },
            Output::StartProcess(plan) => Input::ProcessStarted {
                instance: plan.instance,
            },
            Output::Instance(instance) => return self.tells.push(instance),
            Output::SendFrame { to, frame } => {
                assert!(frame.len() <= FRAME_BYTES_MAX && to != id(HERE.0));
                return self.frames.push((to, frame));
            }
            Output::OpenFlow(_) | Output::LetIn(_) => return self.opened += 1,
            _ => return,
        };
        self.tell(report);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.router.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.router.handle_timeout(self.now);
            while let Some(output) = self.router.poll_output() {
                self.carry_out(output);
            }
        }
        self.now = end;
    }

    fn hears(&mut self, from: &str, frame: Vec<u8>) {
        let from = id(from);
        self.tell(Input::Peer(PeerInput::Frame { from, frame }));
    }
}

fn id(name: &str) -> HostId {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    HostId::from_bytes(bytes)
}

/// The server's host, which knows both callers.
fn here() -> Host {
    let mut here = Host::new(HERE);
    for other in [HOSTILE, GOOD] {
        let address = SocketAddr::from(([192, 0, 2, 1], 7_400));
        let path = Path {
            ifindex: 9,
            on_link: true,
            source: address,
            destination: address,
        };
        let host = id(other.0);
        here.tell(Input::Peer(PeerInput::Up { host, path }));
        let instance = Arc::clone(&INSTANCES[other.0]);
        here.tell(Input::Peer(PeerInput::Instance(instance)));
    }
    here
}

/// A caller's first packet in its frame, as the host of that caller sends it.
pub(crate) fn request(of: (&str, &str), attempt: u64) -> ServiceFrame {
    let (server, client) = (&INSTANCES[HERE.0], &INSTANCES[of.0]);
    let (from, to) = (client.addresses.caller.v4, server.addresses.called.v4);
    let packet = PacketBuilder::ipv4(from.octets(), to.octets(), 64).tcp(4_000, 80, 7, 1_000);
    let mut bytes = Vec::new();
    let written = packet.syn().write(&mut bytes, &[]);
    written.expect("vectors take what is written");
    ServiceFrame {
        attempt: Attempt(attempt),
        kind: FrameKind::Request(Request {
            client: client.instance,
            caller: "shopper".parse().expect("a name"),
            service: "web".parse().expect("a name"),
            called: Some(server.instance),
            composition: "shop".parse().expect("a name"),
            version: Version(1),
            hops: vec![id(of.0)],
            packet: bytes,
        }),
    }
}

/// Takes `bytes` as a frame of the hostile host; panics where a bound is broken, where what was read
/// means something else when it is written, or where the good host is not served any more. Returns as
/// what they were read.
pub(crate) fn check_frame(bytes: &[u8]) -> &'static str {
    let mut here = here();
    here.hears(HOSTILE.0, bytes.to_vec());
    here.pass(Duration::from_secs(10));
    here.frames.clear();
    let before = here.opened;
    here.hears(GOOD.0, request(GOOD, 1).encode());
    assert_eq!(here.opened, before + 1, "a good host is not served");
    let answered = here.frames.iter().any(|(to, _)| *to == id(GOOD.0));
    assert!(answered, "a good host is not answered");
    let Ok(frame) = ServiceFrame::decode(bytes) else {
        return "nothing";
    };
    assert_eq!(ServiceFrame::decode(&frame.encode()), Ok(frame.clone()));
    match frame.kind {
        FrameKind::Request(request) => {
            assert!((1..=HOPS_MAX).contains(&request.hops.len()));
            "request"
        }
        FrameKind::Accept(accept) => {
            assert!(matches!(accept.address, IpAddr::V4(_) | IpAddr::V6(_)));
            "accept"
        }
        FrameKind::Acknowledge => "acknowledge",
        FrameKind::Reject { .. } => "reject",
        FrameKind::Problem { .. } => "problem",
        FrameKind::Unadmitted { .. } => "unadmitted",
    }
}
