//! Service frames: first packets on their way between service routers, and what comes back.
//!
//! The client's router asks (`Request`), the server's accepts or rejects; once the client's has its
//! entries it acknowledges, and from then on packets go direct. All frames of one flow repeat the
//! attempt that the client's router drew. docs/protocol/service-frames.md has the whole exchange.

use crate::aggregate::Epoch;
use crate::composition::CompositionName;
use crate::drop_reason::DropReason;
use crate::host::HostId;
use crate::id::{InstanceId, Version};
use crate::name::AutomatonName;
use crate::wire::margay::service_frame as wire;
use crate::wire::margay::service_frame::service_frame::Kind as WireKind;
use prost::Message;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The schema that this router speaks.
const SCHEMA: u32 = 1;

/// How many routers may pass a request on: client, three tiers of gateways up and down, server, and
/// one that has moved its instance away.
pub const HOPS_MAX: usize = 9;

/// The longest packet that a frame carries: the network's MTU is 1400.
pub const PACKET_BYTES_MAX: usize = 1_500;

/// The longest frame: a packet and less than as much about it.
pub const FRAME_BYTES_MAX: usize = 2_600;

/// A frame as it means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFrame {
    /// Of which attempt to open a flow.
    pub attempt: Attempt,
    /// What it says.
    pub kind: FrameKind,
}

/// One attempt of a client's router to open one flow, however often it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Who serves this flow?
    Request(Request),
    /// I do.
    Accept(Accept),
    /// The client's entries stand.
    Acknowledge,
    /// Nobody does.
    Reject {
        /// Why.
        reason: DropReason,
        /// The routers that passed the request on.
        hops: Vec<HostId>,
    },
    /// An ICMP error about a packet of the flow.
    Problem {
        /// The error's IP packet.
        packet: Vec<u8>,
    },
    /// Your kernel sent this first packet, and nothing admits it: ask for its flow.
    Unadmitted {
        /// The IP packet, as it came.
        packet: Vec<u8>,
        /// The present epoch of the sender's policy: what it admitted in others is over.
        policy_epoch: Epoch,
    },
}

/// How much a server's router accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This flow.
    Flow,
    /// All flows of the client to this port of the server, until further notice.
    Aggregate {
        /// In which epoch of the server's policy.
        policy_epoch: Epoch,
    },
}

/// A first packet that looks for its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who calls.
    pub client: InstanceId,
    /// An instance of what.
    pub caller: AutomatonName,
    /// What is called.
    pub service: AutomatonName,
    /// Whose address was called; `None`: the service's own.
    pub called: Option<InstanceId>,
    /// By which composition the client's router permits it.
    pub composition: CompositionName,
    /// Of which version.
    pub version: Version,
    /// The routers that passed it on, the client's first.
    pub hops: Vec<HostId>,
    /// The packet, addressed to whom the last router had in mind.
    pub packet: Vec<u8>,
}

/// The answer of a server's router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Who serves.
    pub server: InstanceId,
    /// Its called address, in the flow's family.
    pub address: IpAddr,
    /// Where it is.
    pub host: HostId,
    /// The routers that passed the request on.
    pub hops: Vec<HostId>,
    /// What the server has answered, if it has.
    pub reply: Option<Vec<u8>>,
    /// How much is accepted.
    pub scope: Scope,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No protobuf of this schema.
    #[error("the frame cannot be read")]
    Unreadable,
    /// Of a later schema.
    #[error("the frame is of schema {0}, this host reads up to {SCHEMA}; upgrade this host")]
    Newer(u32),
    /// A field holds what it may not.
    #[error("the frame's {0} is wrong")]
    Field(&'static str),
}

impl ServiceFrame {
    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match &self.kind {
            FrameKind::Request(request) => WireKind::Request(request.to_wire()),
            FrameKind::Accept(accept) => WireKind::Accept(accept.to_wire()),
            FrameKind::Acknowledge => WireKind::Acknowledge(wire::Acknowledge {}),
            FrameKind::Reject { reason, hops } => WireKind::Reject(wire::Reject {
                reason: *reason as u32,
                hops: hops_to_wire(hops),
            }),
            FrameKind::Problem { packet } => WireKind::Problem(wire::Problem {
                packet: packet.clone(),
            }),
            FrameKind::Unadmitted {
                packet,
                policy_epoch,
            } => WireKind::Unadmitted(wire::Unadmitted {
                packet: packet.clone(),
                policy_epoch: policy_epoch.0,
            }),
        };
        let frame = wire::ServiceFrame {
            version: SCHEMA,
            attempt: self.attempt.0,
            kind: Some(kind),
        };
        frame.encode_to_vec()
    }

    /// Reads what another host sent.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(FrameError::Field("length"));
        }
        let frame = wire::ServiceFrame::decode(bytes).map_err(|_| FrameError::Unreadable)?;
        match frame.version {
            0 => return Err(FrameError::Field("version")),
            1..=SCHEMA => {}
            newer => return Err(FrameError::Newer(newer)),
        }
        let kind = match frame.kind.ok_or(FrameError::Field("kind"))? {
            WireKind::Request(request) => FrameKind::Request(Request::from_wire(request)?),
            WireKind::Accept(accept) => FrameKind::Accept(Accept::from_wire(accept)?),
            WireKind::Acknowledge(wire::Acknowledge {}) => FrameKind::Acknowledge,
            WireKind::Reject(reject) => {
                let reason = u8::try_from(reject.reason).ok();
                let reason = reason.and_then(DropReason::from_number);
                // A newer router may have reasons that this one does not know.
                FrameKind::Reject {
                    reason: reason.unwrap_or(DropReason::RefusedElsewhere),
                    hops: hops_from_wire(&reject.hops)?,
                }
            }
            WireKind::Problem(problem) => FrameKind::Problem {
                packet: packet(problem.packet)?,
            },
            WireKind::Unadmitted(unadmitted) => FrameKind::Unadmitted {
                packet: packet(unadmitted.packet)?,
                policy_epoch: Epoch(unadmitted.policy_epoch),
            },
        };
        Ok(ServiceFrame {
            attempt: Attempt(frame.attempt),
            kind,
        })
    }
}

impl Request {
    fn to_wire(&self) -> wire::Request {
        wire::Request {
            client: self.client.0,
            caller: self.caller.to_string(),
            service: self.service.to_string(),
            called: self.called.map_or(0, |called| called.0),
            composition: self.composition.to_string(),
            composition_version: self.version.0,
            hops: hops_to_wire(&self.hops),
            packet: self.packet.clone(),
        }
    }

    fn from_wire(request: wire::Request) -> Result<Self, FrameError> {
        let wrong = |field| move |_| FrameError::Field(field);
        let hops = hops_from_wire(&request.hops)?;
        if hops.is_empty() {
            return Err(FrameError::Field("hops"));
        }
        Ok(Request {
            client: identity(request.client).ok_or(FrameError::Field("client"))?,
            caller: request.caller.parse().map_err(wrong("caller"))?,
            service: request.service.parse().map_err(wrong("service"))?,
            called: identity(request.called),
            composition: request.composition.parse().map_err(wrong("composition"))?,
            version: Version(request.composition_version),
            hops,
            packet: packet(request.packet)?,
        })
    }
}

impl Accept {
    fn to_wire(&self) -> wire::Accept {
        let address = match self.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        wire::Accept {
            server: self.server.0,
            address,
            host: self.host.as_bytes().to_vec(),
            hops: hops_to_wire(&self.hops),
            reply: self.reply.clone().unwrap_or_default(),
            admitted_in: match self.scope {
                Scope::Flow => 0,
                Scope::Aggregate { policy_epoch } => policy_epoch.0,
            },
        }
    }

    fn from_wire(accept: wire::Accept) -> Result<Self, FrameError> {
        let reply = match accept.reply.is_empty() {
            true => None,
            false => Some(packet(accept.reply)?),
        };
        Ok(Accept {
            server: identity(accept.server).ok_or(FrameError::Field("server"))?,
            address: address(&accept.address).ok_or(FrameError::Field("address"))?,
            host: host(&accept.host).ok_or(FrameError::Field("host"))?,
            hops: hops_from_wire(&accept.hops)?,
            reply,
            // A router of a time before this field accepts one flow at a time.
            scope: match accept.admitted_in {
                0 => Scope::Flow,
                epoch => Scope::Aggregate {
                    policy_epoch: Epoch(epoch),
                },
            },
        })
    }
}

fn identity(number: u64) -> Option<InstanceId> {
    (number != 0).then_some(InstanceId(number))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = |bytes| Ipv4Addr::from_octets(bytes).into();
    let v6 = |bytes| Ipv6Addr::from_octets(bytes).into();
    let four = <[u8; 4]>::try_from(bytes).map(v4);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(v6)).ok()
}

fn host(bytes: &[u8]) -> Option<HostId> {
    bytes.try_into().map(HostId::from_bytes).ok()
}

fn hops_to_wire(hops: &[HostId]) -> Vec<Vec<u8>> {
    hops.iter().map(|hop| hop.as_bytes().to_vec()).collect()
}

fn hops_from_wire(hops: &[Vec<u8>]) -> Result<Vec<HostId>, FrameError> {
    if hops.len() > HOPS_MAX {
        return Err(FrameError::Field("hops"));
    }
    let hops: Option<Vec<HostId>> = hops.iter().map(|hop| host(hop)).collect();
    hops.ok_or(FrameError::Field("hops"))
}

fn packet(bytes: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    let fits = (1..=PACKET_BYTES_MAX).contains(&bytes.len());
    fits.then_some(bytes).ok_or(FrameError::Field("packet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_packet() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 1..=PACKET_BYTES_MAX)
    }

    fn any_hops(least: usize) -> impl Strategy<Value = Vec<HostId>> {
        vec(
            any::<[u8; 32]>().prop_map(HostId::from_bytes),
            least..=HOPS_MAX,
        )
    }

    fn any_identity() -> impl Strategy<Value = InstanceId> {
        (1..=u64::MAX).prop_map(InstanceId)
    }

    fn any_request() -> impl Strategy<Value = FrameKind> {
        (
            (any_identity(), proptest::option::of(any_identity())),
            ("[a-z]{1,63}", "[a-z]{1,63}", "[a-z]{1,63}", any::<u64>()),
            (any_hops(1), any_packet()),
        )
            .prop_map(
                |((client, called), (caller, service, composition, version), (hops, packet))| {
                    FrameKind::Request(Request {
                        client,
                        caller: caller.parse().unwrap(),
                        service: service.parse().unwrap(),
                        called,
                        composition: composition.parse().unwrap(),
                        version: Version(version),
                        hops,
                        packet,
                    })
                },
            )
    }

    fn any_accept() -> impl Strategy<Value = FrameKind> {
        let reply = proptest::option::of(any_packet());
        (
            any_identity(),
            any::<IpAddr>(),
            any::<[u8; 32]>(),
            any_hops(0),
            reply,
            any::<u32>(),
        )
            .prop_map(|(server, address, host, hops, reply, epoch)| {
                FrameKind::Accept(Accept {
                    server,
                    address,
                    host: HostId::from_bytes(host),
                    hops,
                    reply,
                    scope: match epoch {
                        0 => Scope::Flow,
                        epoch => Scope::Aggregate {
                            policy_epoch: Epoch(epoch),
                        },
                    },
                })
            })
    }

    fn any_frame() -> impl Strategy<Value = ServiceFrame> {
        let kind = prop_oneof![
            any_request(),
            any_accept(),
            Just(FrameKind::Acknowledge),
            any_packet().prop_map(|packet| FrameKind::Problem { packet }),
            (any_packet(), any::<u32>()).prop_map(|(packet, epoch)| FrameKind::Unadmitted {
                packet,
                policy_epoch: Epoch(epoch),
            }),
            (proptest::sample::select(DropReason::ALL), any_hops(0))
                .prop_map(|(reason, hops)| FrameKind::Reject { reason, hops }),
        ];
        (any::<u64>(), kind).prop_map(|(attempt, kind)| ServiceFrame {
            attempt: Attempt(attempt),
            kind,
        })
    }

    fn wire_of(kind: WireKind) -> Result<ServiceFrame, FrameError> {
        let frame = wire::ServiceFrame {
            version: SCHEMA,
            attempt: 1,
            kind: Some(kind),
        };
        ServiceFrame::decode(&frame.encode_to_vec())
    }

    #[test]
    fn newer_schemas_are_refused_in_words() {
        let newer = wire::ServiceFrame {
            version: SCHEMA + 1,
            ..wire::ServiceFrame::default()
        };
        let error = ServiceFrame::decode(&newer.encode_to_vec()).unwrap_err();
        assert_eq!(error, FrameError::Newer(SCHEMA + 1));
        assert!(error.to_string().contains("upgrade this host"));
    }

    #[test]
    fn fields_that_hold_what_they_may_not_are_named() {
        let wrong = |kind| match wire_of(kind) {
            Err(FrameError::Field(field)) => field,
            other => panic!("{other:?}"),
        };
        let hop = vec![7; 32];
        let request = wire::Request {
            client: 1,
            caller: "shopper".into(),
            service: "web".into(),
            composition: "shop".into(),
            hops: vec![hop.clone()],
            packet: vec![0x45],
            ..wire::Request::default()
        };
        let changed = |change: fn(&mut wire::Request)| {
            let mut request = request.clone();
            change(&mut request);
            wrong(WireKind::Request(request))
        };
        assert!(wire_of(WireKind::Request(request.clone())).is_ok());
        assert_eq!(changed(|it| it.client = 0), "client");
        assert_eq!(changed(|it| it.caller.clear()), "caller");
        assert_eq!(changed(|it| it.service = "A b".into()), "service");
        assert_eq!(changed(|it| it.hops.clear()), "hops");
        assert_eq!(changed(|it| it.hops[0].truncate(31)), "hops");
        assert_eq!(
            changed(|it| it.hops = vec![vec![7; 32]; HOPS_MAX + 1]),
            "hops"
        );
        assert_eq!(changed(|it| it.packet.clear()), "packet");
        assert_eq!(
            changed(|it| it.packet = vec![0; PACKET_BYTES_MAX + 1]),
            "packet"
        );
        assert_eq!(wrong(WireKind::Accept(wire::Accept::default())), "server");
        let five = wire::Accept {
            server: 1,
            address: vec![0; 5],
            host: hop,
            ..wire::Accept::default()
        };
        assert_eq!(wrong(WireKind::Accept(five)), "address");
    }

    #[test]
    fn reasons_of_newer_routers_are_still_refusals() {
        let unknown = wire::Reject {
            reason: 60_000,
            hops: Vec::new(),
        };
        let reason = DropReason::RefusedElsewhere;
        let hops = Vec::new();
        let frame = wire_of(WireKind::Reject(unknown)).unwrap();
        assert_eq!(frame.kind, FrameKind::Reject { reason, hops });
    }

    /// As a router of the time before scopes wrote it, byte for byte.
    #[test]
    fn an_acceptance_without_scope_is_of_one_flow() {
        let flow = FrameKind::Accept(Accept {
            server: InstanceId(7),
            address: [100, 96, 0, 1].into(),
            host: HostId::from_bytes([2; 32]),
            hops: Vec::new(),
            reply: None,
            scope: Scope::Flow,
        });
        let flow = ServiceFrame {
            attempt: Attempt(9),
            kind: flow,
        };
        let mut bytes = vec![8, 1, 0x11, 9, 0, 0, 0, 0, 0, 0, 0, 0x22, 49];
        bytes.extend([9, 7, 0, 0, 0, 0, 0, 0, 0, 0x12, 4, 100, 96, 0, 1, 0x1a, 32]);
        bytes.extend([2; 32]);
        assert_eq!(ServiceFrame::decode(&bytes).as_ref(), Ok(&flow));
        assert_eq!(flow.encode(), bytes);
    }

    /// So that routers of a time before a kind count it, and do nothing.
    #[test]
    fn kinds_of_newer_routers_are_no_frames() {
        let kind_200 = [8, 1, 0xc2, 0x0c, 0];
        let error = ServiceFrame::decode(&kind_200);
        assert_eq!(error, Err(FrameError::Field("kind")));
    }

    #[test]
    fn the_longest_frame_fits() {
        let label: AutomatonName = "w".repeat(63).parse().unwrap();
        let longest = ServiceFrame {
            attempt: Attempt(u64::MAX),
            kind: FrameKind::Request(Request {
                client: InstanceId(u64::MAX),
                caller: label.clone(),
                service: label,
                called: Some(InstanceId(u64::MAX)),
                composition: "c".repeat(63).parse().unwrap(),
                version: Version(u64::MAX),
                hops: vec![HostId::from_bytes([7; 32]); HOPS_MAX],
                packet: vec![0; PACKET_BYTES_MAX],
            }),
        };
        assert!(longest.encode().len() <= FRAME_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn frames_read_back(frame in any_frame()) {
            prop_assert_eq!(ServiceFrame::decode(&frame.encode()), Ok(frame));
        }

        #[test]
        fn no_bytes_crash_the_reader(
            frame in any_frame(), cut in any::<proptest::sample::Index>(), flip in any::<u8>(),
        ) {
            let mut bytes = frame.encode();
            let place = cut.index(bytes.len());
            bytes[place] ^= flip;
            let _ = ServiceFrame::decode(&bytes);
            let _ = ServiceFrame::decode(&bytes[..place]);
        }
    }
}
