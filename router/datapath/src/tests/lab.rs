//! A host in namespaces of its own: devices, a bpffs, a data path.

use crate::datapath::{Datapath, EndpointError};
use crate::endpoints::EndpointConfig;
use crate::object::{DatapathConfig, FROM_INSTANCE, FROM_ROUTER};
use aya::programs::{TestRun, TestRunOptions};
use margay_core::address::{InstanceAddresses, VirtualIp};
use margay_core::drop_reason::DropReason;
use margay_core::flow_key::FlowKey;
use margay_core::id::{EndpointIndex, InstanceId, LocationIndex, SlotIndex};
use margay_core::moment::Moment;
use margay_core::port::{DirectionEntry, FlowEntries, FlowReading, FlowSlots};
use margay_core::way::{Ingress, Way};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::path::PathBuf;
use std::process::Command;

/// `TC_ACT_SHOT`.
const SHOT: u32 = 2;
/// `TC_ACT_OK`.
const PASS: u32 = 0;
/// `TC_ACT_REDIRECT`.
const REDIRECT: u32 = 7;

pub(super) const TAP_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xee];
pub(super) const OPENED: Moment = Moment::from_nanos(77);
pub(super) const CLIENT: EndpointIndex = EndpointIndex(0x0000_0003);
pub(super) const SERVER: EndpointIndex = EndpointIndex(0x0000_0102);
pub(super) const QUOTA: u32 = 4;
/// Flow directions that the tables hold: few, so that they can be filled.
const FLOWS_MAX: u32 = 16;

/// What a program did with a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Dropped,
    Redirected(Vec<u8>),
    /// To the host's own stack.
    Passed(Vec<u8>),
}

/// Runs `test` on a thread in network and mount namespaces of its own, with a bpffs.
pub(super) fn in_own_namespaces(test: impl FnOnce() + Send + 'static) {
    let done = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("tests of the data path need root");
        let nothing: Option<&str> = None;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/", nothing, private, nothing).unwrap();
        mount(
            Some("bpf"),
            "/sys/fs/bpf",
            Some("bpf"),
            MsFlags::empty(),
            nothing,
        )
        .unwrap();
        test();
    })
    .join();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` with arguments split at spaces, in the calling thread's network namespace.
pub(super) fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

pub(super) fn ifindex(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).unwrap()
}

pub(super) fn config() -> DatapathConfig {
    DatapathConfig {
        pin_dir: PathBuf::from("/sys/fs/bpf/margay"),
        flows_max: FLOWS_MAX,
        endpoints_max: 0x200,
        tap_ifindex: ifindex("tap-stand-in"),
        tap_mac: TAP_MAC,
        network: None,
    }
}

/// The addresses of instance `n`: called and caller, each in both families.
pub(super) fn addresses(n: u8) -> InstanceAddresses {
    InstanceAddresses {
        called: VirtualIp {
            v4: [100, 96, 0, n].into(),
            v6: [0xfd00, 0, 0, 0x8000, 0, 0, 0, u16::from(n)].into(),
        },
        caller: VirtualIp {
            v4: [100, 64, 0, n].into(),
            v6: [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)].into(),
        },
    }
}

/// Two instances' devices and a data path over them, fed with made-up packets.
///
/// ```text
///   client (endpoint 3)          server (endpoint 0x102)      stranger
///        |                            |                           |
///   veth-client                  veth-server                 veth-stranger      tap-stand-in
///        +------ from_instance -------+---------------------------+     from_router --+
/// ```
pub(super) struct Lab {
    pub(super) datapath: Datapath,
    pub(super) client_ifindex: u32,
    pub(super) server_ifindex: u32,
    pub(super) stranger_ifindex: u32,
}

impl Lab {
    /// Both instances are attached and have locations 1 (client) and 2 (server).
    pub(super) fn new() -> Self {
        Lab::with_room_for(FLOWS_MAX)
    }

    /// The same, over tables that hold so many flow directions.
    pub(super) fn with_room_for(flows_max: u32) -> Self {
        Lab::with(|config| DatapathConfig {
            flows_max,
            ..config
        })
    }

    /// The same, configured otherwise.
    pub(super) fn with(change: impl FnOnce(DatapathConfig) -> DatapathConfig) -> Self {
        ip("link add veth-client type veth peer name inside-client");
        ip("link add veth-server type veth peer name inside-server");
        ip("link add veth-stranger type veth peer name elsewhere");
        ip("link add tap-stand-in type veth peer name tap-end");
        let mut lab = Lab {
            datapath: Datapath::open(&change(config())).unwrap(),
            client_ifindex: ifindex("veth-client"),
            server_ifindex: ifindex("veth-server"),
            stranger_ifindex: ifindex("veth-stranger"),
        };
        lab.attach_both();
        lab
    }

    /// Attaches client and server to their devices.
    pub(super) fn attach_both(&mut self) {
        for (n, endpoint, ifindex) in [
            (1, CLIENT, self.client_ifindex),
            (2, SERVER, self.server_ifindex),
        ] {
            let config = EndpointConfig {
                instance: InstanceId(u64::from(n)),
                ifindex,
                addresses: addresses(n),
                netns_id: None,
                upcall_quota: QUOTA,
                leaves: None,
            };
            self.datapath.attach_endpoint(endpoint, &config).unwrap();
            self.datapath
                .set_location(LocationIndex(u32::from(n)), Way::Device(ifindex))
                .unwrap();
        }
    }

    /// A flow in slots 5 and 6 whose packets are delivered as they are.
    pub(super) fn entries(&self, key: FlowKey) -> FlowEntries {
        self.rewritten_entries(key, key)
    }

    /// A flow in slots 5 and 6 that the client writes as `key` and the server sees as `delivered`.
    pub(super) fn rewritten_entries(&self, key: FlowKey, delivered: FlowKey) -> FlowEntries {
        FlowEntries {
            client: InstanceId(1),
            server: InstanceId(2),
            forward: DirectionEntry {
                key,
                delivered,
                slot: SlotIndex(5),
                ingress: Ingress::Device(self.client_ifindex),
                location: LocationIndex(2),
            },
            reverse: DirectionEntry {
                key: delivered.reversed(),
                delivered: key.reversed(),
                slot: SlotIndex(6),
                ingress: Ingress::Device(self.server_ifindex),
                location: LocationIndex(1),
            },
        }
    }

    /// Opens [`Lab::entries`].
    pub(super) fn open(&mut self, key: FlowKey) -> FlowEntries {
        let entries = self.entries(key);
        self.datapath.open_flow(&entries, OPENED).unwrap();
        entries
    }

    /// Opens [`Lab::entries`] in other slots: `forward` and the next.
    pub(super) fn open_in(&mut self, key: FlowKey, forward: SlotIndex) -> FlowEntries {
        let mut entries = self.entries(key);
        entries.forward.slot = forward;
        entries.reverse.slot = SlotIndex(forward.0 + 1);
        self.datapath.open_flow(&entries, OPENED).unwrap();
        entries
    }

    pub(super) fn close(&mut self, entries: &FlowEntries) {
        self.datapath.close_flows(&[entries.keys()]).unwrap();
    }

    /// Hands `frame` to the program on the host side of a veth.
    pub(super) fn instance_sends(&mut self, ifindex: u32, frame: &[u8]) -> Verdict {
        self.run(FROM_INSTANCE, ifindex, frame)
    }

    /// Hands `frame` to the program on the TAP.
    pub(super) fn router_sends(&mut self, frame: &[u8]) -> Verdict {
        self.run(FROM_ROUTER, ifindex("tap-stand-in"), frame)
    }

    pub(super) fn reading(&self, entries: &FlowEntries) -> FlowReading {
        self.datapath.read_flows(&[FlowSlots {
            forward_key: entries.forward.key,
            forward: entries.forward.slot,
            reverse: entries.reverse.slot,
        }])[0]
    }

    /// Asserts that the packets dropped so far are exactly these.
    #[track_caller]
    pub(super) fn assert_drops(&self, expected: &[(DropReason, u64)]) {
        let counted: Vec<_> = self
            .datapath
            .drop_counts()
            .unwrap()
            .into_iter()
            .filter(|(_, count)| *count != 0)
            .collect();
        assert_eq!(counted, expected);
    }

    /// Runs a program on a frame that came by a device.
    pub(super) fn run(&mut self, program: &str, ifindex: u32, frame: &[u8]) -> Verdict {
        // struct __sk_buff, of which the kernel takes only the device.
        let mut context = [0; 192];
        context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
        let mut out = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = self.datapath.program(program).test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        match result.return_value {
            SHOT => Verdict::Dropped,
            REDIRECT => Verdict::Redirected(out),
            PASS => Verdict::Passed(out),
            other => panic!("neither dropped, redirected nor passed: {other}"),
        }
    }
}

impl Datapath {
    /// Puts the program on a device and lets its instance speak.
    pub(super) fn attach_endpoint(
        &mut self,
        endpoint: EndpointIndex,
        config: &EndpointConfig,
    ) -> Result<(), EndpointError> {
        let links = self.instance_links().unwrap();
        links.attach(config.ifindex).unwrap();
        self.insert_endpoint(endpoint, config)
    }
}
