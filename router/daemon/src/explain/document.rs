//! docs/explain.md, kept true: each command in it is run, and what it prints is compared.

use crate::cli::Cli;
use crate::protocol::Request;
use clap::Parser;
use etherparse::PacketBuilder;
use margay_core::address::Ipv4Block;
use margay_core::composition::Composition;
use margay_core::explanation::Target;
use margay_core::flow_table::FlowLimits;
use margay_core::id::{EndpointIndex, RequestId, SlotIndex};
use margay_core::moment::Moment;
use margay_core::names::NamesSnapshot;
use margay_core::port::{
    AdoptedFlow, FlowEntries, FlowReading, FlowSlots, Frame, Input, InstancePlan, Output,
    SlotReading, Supplied, TakenFlow, TakenPair,
};
use margay_core::router::{Router, RouterConfig};
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/explain.md");

/// Set to write what the commands print into the document.
const REWRITE: &str = "MARGAY_REWRITE_DOCUMENTS";

const SHOP: &str = r#"
[composition]
name = "shop"
version = 1

[automaton.shopper]
command = ["sleep", "infinity"]
needs = ["web"]

[automaton.crawler]
command = ["crawler"]
egress = "all"

[automaton.web]
command = ["nginx"]
replicas = 3
ports = { http = { port = 80, protocol = "tcp" }, quic = { port = 443, protocol = "udp" } }
ready = { tcp = true, port = "http" }
needs = ["store", "web"]

[automaton.store]
command = ["redis-server"]
replicas = 2
ports = { redis = { port = 6379, protocol = "tcp" } }
affinity = "strict"
"#;

/// The flows of the small host that the document speaks of.
const FLOWS_MAX: u32 = 64;

/// What happened before, and what is then asked.
type Scene = fn(&mut Host) -> String;

/// In the order of the document's commands.
const SCENES: &[Scene] = &[
    // Choices.
    |_| "web.matrix --as 1.shopper".to_owned(),
    |host| {
        host.ready("2.web", false);
        format!("{}:80 --as 1.shopper", host.called("2.web"))
    },
    |host| {
        host.take_out("2.web");
        format!("{}:80 --as 1.shopper", host.called("2.web"))
    },
    |host| {
        for port in 40_000..40_005 {
            host.flow("1.shopper", port, "2.web", 80);
        }
        host.pass(Duration::from_secs(1));
        format!("{}:80 --as 1.shopper", host.called("2.web"))
    },
    |host| {
        let address = host.called("3.web");
        host.apply(
            &SHOP
                .replace("version = 1", "version = 2")
                .replace("replicas = 3", "replicas = 2"),
        );
        host.pass(Duration::from_secs(20));
        host.flow("1.shopper", 40_000, "1.web", 80);
        format!("{address}:80 --as 1.shopper")
    },
    |host| {
        host.ready("2.web", false);
        host.ready("3.web", false);
        format!("{}:80 --as 1.web", host.called("2.web"))
    },
    |host| {
        host.apply(
            &SHOP
                .replace("version = 1", "version = 2")
                .replace("[automaton.web]", "[automaton.web]\nanswer = \"service\""),
        );
        host.take_out("2.web");
        "web.matrix --as 1.shopper".to_owned()
    },
    |_| "192.0.2.7:443 --as 1.crawler".to_owned(),
    |_| "www.example.com --as 1.crawler".to_owned(),
    |host| {
        host.flow("1.shopper", 40_000, "2.web", 80);
        format!(
            "tcp {}:40000 {}:80",
            host.caller("1.shopper"),
            host.called("2.web")
        )
    },
    |host| {
        host.flow("1.shopper", 40_000, "2.web", 80);
        host.kernel_flow(40_001);
        format!(
            "tcp {}:40001 {}:80",
            host.caller("1.shopper"),
            host.called("2.web")
        )
    },
    // Refusals.
    |_| "store.matrix --as 1.shopper".to_owned(),
    |_| "web.matrix:8080 --as 1.shopper".to_owned(),
    |host| {
        for name in ["1.web", "2.web", "3.web"] {
            host.ready(name, false);
        }
        "web.matrix --as 1.shopper".to_owned()
    },
    |host| {
        host.take_out("2.web");
        "2.web.matrix --as 1.shopper".to_owned()
    },
    |host| {
        host.exit("1.store");
        format!("{}:6379 --as 1.web", host.called("1.store"))
    },
    |_| "100.64.200.9:80 --as 1.shopper".to_owned(),
    |_| "192.0.2.7:443 --as 1.shopper".to_owned(),
    |_| "[2001:db8::7]:443 --as 1.crawler".to_owned(),
    |host| {
        format!(
            "tcp {}:40000 {}:80 --as 1.shopper",
            host.caller("1.web"),
            host.called("2.web")
        )
    },
    |host| {
        for port in 0..FLOWS_MAX / 2 {
            let port = 40_000 + u16::try_from(port).unwrap();
            host.flow("1.shopper", port, "2.web", 80);
        }
        "web.matrix --as 1.shopper".to_owned()
    },
    |_| "wep.matrix --as 1.shopper".to_owned(),
];

/// A host whose adapters do as they are told.
struct Host {
    router: Router,
    now: Moment,
    plans: BTreeMap<String, InstancePlan>,
    names: Arc<NamesSnapshot>,
    /// The flow that core opened last.
    opened: Option<FlowEntries>,
    /// What the kernel may open flows with.
    supply: Vec<SlotIndex>,
}

impl Host {
    fn new() -> Self {
        let mut config = RouterConfig::new([7; 32], Ipv4Block::DEFAULT);
        config.flow_limits = FlowLimits::for_slots(2 * FLOWS_MAX);
        let now = Moment::ORIGIN + Duration::from_secs(1);
        let mut host = Host {
            router: Router::new(config, 7, now),
            now,
            plans: BTreeMap::new(),
            names: Arc::default(),
            opened: None,
            supply: Vec::new(),
        };
        host.apply(SHOP);
        for name in ["1.web", "2.web", "3.web"] {
            host.ready(name, true);
        }
        host
    }

    fn apply(&mut self, text: &str) {
        let composition = Composition::parse(text).unwrap();
        let request = RequestId(0);
        self.tell(Input::Apply {
            request,
            composition,
        });
    }

    fn ready(&mut self, name: &str, ready: bool) {
        let instance = self.plans[name].instance;
        self.tell(Input::Readiness { instance, ready });
    }

    fn take_out(&mut self, name: &str) {
        let instance = self.plans[name].instance;
        self.tell(Input::Drain {
            request: RequestId(0),
            instance,
            drained: true,
        });
    }

    fn exit(&mut self, name: &str) {
        let instance = self.plans[name].instance;
        self.tell(Input::ProcessExited {
            instance,
            status: "exited with 1".to_owned(),
            restart_after: Some(Duration::from_secs(1)),
        });
    }

    /// Opens a TCP flow, which then lasts for a while.
    fn flow(&mut self, from: &str, port: u16, to: &str, to_port: u16) {
        let (source, destination) = (self.caller(from), self.called(to));
        let ip = PacketBuilder::ipv4(source.octets(), destination.octets(), 64);
        let mut buffer = Vec::new();
        let syn = ip.tcp(port, to_port, 1, 1).syn();
        syn.write(&mut buffer, &[]).unwrap();
        let endpoint = endpoint(&self.plans[from]);
        let frame = Frame {
            buffer,
            packet_start: 0,
        };
        self.tell(Input::Upcall { endpoint, frame });
        self.now = self.now + Duration::from_millis(1_500);
    }

    /// The kernel opens a flow like the last one, and is asked for it at once.
    fn kernel_flow(&mut self, port: u16) {
        let pair = self.supply.pop().unwrap();
        let mut entries = self.opened.clone().unwrap();
        let (forward, reverse) = (&mut entries.forward, &mut entries.reverse);
        (forward.slot, reverse.slot) = (pair, SlotIndex(pair.0 + 1));
        forward.key.source.set_port(port);
        forward.delivered.source.set_port(port);
        reverse.key.destination.set_port(port);
        reverse.delivered.destination.set_port(port);
        let (client, server) = (entries.client, entries.server);
        let supplied = Supplied::Opened { client, server };
        self.tell(Input::PairsTaken(vec![TakenPair { pair, supplied }]));
        let opened = self.now - Duration::from_millis(400);
        let reading = counted(
            FlowSlots {
                forward_key: entries.forward.key,
                forward: pair,
                reverse: entries.reverse.slot,
            },
            self.now,
        );
        let taken = TakenFlow {
            flow: AdoptedFlow { entries, opened },
            forward: reading.forward,
            reverse: reading.reverse,
        };
        self.tell(Input::TakenRead(vec![(pair, Some(taken))]));
    }

    fn called(&self, name: &str) -> Ipv4Addr {
        self.plans[name].addresses.called.v4
    }

    fn caller(&self, name: &str) -> Ipv4Addr {
        self.plans[name].addresses.caller.v4
    }

    fn tell(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.router.handle_input(input, self.now);
            inputs.extend(self.drain());
        }
    }

    /// Lets time pass, waking the router when it asks for it.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.router.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.router.handle_timeout(due);
            for input in self.drain() {
                self.tell(input);
            }
        }
        self.now = end;
    }

    fn drain(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        while let Some(output) = self.router.poll_output() {
            inputs.extend(self.carry_out(output));
        }
        inputs
    }

    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::PrepareInstance(plan) => {
                let prepared = Input::InstancePrepared {
                    instance: plan.instance,
                    endpoint: endpoint(&plan),
                    ifindex: endpoint(&plan).0,
                };
                self.plans.insert(plan.name.to_string(), plan);
                Some(prepared)
            }
            Output::StartProcess(plan) => Some(Input::ProcessStarted {
                instance: plan.instance,
            }),
            Output::RemoveInstance { instance, .. } => Some(Input::InstanceRemoved { instance }),
            Output::Withdraw { instance } => Some(Input::Withdrawn { instance }),
            Output::PublishNames(names) => {
                self.names = names;
                None
            }
            Output::OpenFlow(entries) => {
                self.opened = Some(entries);
                None
            }
            Output::SupplyPairs(pairs) => {
                self.supply = pairs;
                None
            }
            // Whatever is looked at while time passes was never answered.
            // The kernel took nothing since it was asked last.
            Output::LookAtSupply => Some(Input::PairsTaken(Vec::new())),
            Output::ReadFlows(flows) => Some(Input::FlowsRead(
                flows
                    .into_iter()
                    .map(|slots| unanswered(slots, self.now))
                    .collect(),
            )),
            _ => None,
        }
    }

    /// Runs a `margay explain` command; what it prints.
    fn run(&self, words: &str) -> String {
        let cli = Cli::try_parse_from(format!("margay explain {words}").split(' ')).unwrap();
        let request = crate::request(cli.command).unwrap();
        let Request::Explain { target, caller } = &request else {
            panic!("{request:?}");
        };
        let target: Target = target.parse().unwrap();
        let caller = caller.as_ref().map(|name| self.plans[name].instance);
        let read = |slots: FlowSlots| counted(slots, self.now);
        let explained = self
            .router
            .explain(&target, caller, &self.names, read, self.now);
        let answer = serde_json::to_value(explained.unwrap()).unwrap();
        crate::text(&request, answer).unwrap()
    }
}

fn endpoint(plan: &InstancePlan) -> EndpointIndex {
    EndpointIndex(u32::try_from(plan.instance.0).unwrap())
}

/// A short conversation, over for a third of a second.
fn counted(slots: FlowSlots, now: Moment) -> FlowReading {
    let last_seen = now - Duration::from_millis(300);
    let seen = |packets, bytes| SlotReading {
        packets,
        bytes,
        last_seen,
        ..SlotReading::default()
    };
    FlowReading {
        forward_key: slots.forward_key,
        forward: seen(6, 482),
        reverse: seen(5, 1_206),
    }
}

fn unanswered(slots: FlowSlots, now: Moment) -> FlowReading {
    FlowReading {
        reverse: SlotReading::default(),
        ..counted(slots, now)
    }
}

/// The document with every block's output replaced by what its command prints now.
fn rewritten(document: &str) -> String {
    let mut scenes = SCENES.iter();
    let mut text = String::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        text += &format!("{line}\n");
        if line != "```console" {
            continue;
        }
        let scene = scenes.next().expect("as many scenes as commands");
        let mut host = Host::new();
        let words = scene(&mut host);
        text += &format!("$ margay explain {words}\n{}```\n", host.run(&words));
        lines.by_ref().find(|line| *line == "```");
    }
    assert!(scenes.next().is_none(), "as many commands as scenes");
    text
}

#[test]
fn document_shows_what_the_commands_print() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let expected = rewritten(&document);
    if std::env::var_os(REWRITE).is_some() {
        return std::fs::write(DOCUMENT, &expected).unwrap();
    }
    assert!(
        document == expected,
        "docs/explain.md differs from what is printed; with {REWRITE}=1 this test rewrites it:\n{expected}"
    );
}

#[test]
fn document_shows_five_refusals_and_five_choices() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let mut reasons: Vec<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("verdict   refused: "))
        .filter_map(|line| line.split('.').next())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    let choices = document.matches("\nverdict   goes to ").count()
        + document.matches("\nverdict   open to ").count()
        + document.matches("\nverdict   leaves ").count();
    assert!(reasons.len() >= 5 && choices >= 5, "{reasons:?}, {choices}");
}
