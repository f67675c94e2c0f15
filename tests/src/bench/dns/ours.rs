//! Our resolver by itself: the thread that the daemon runs, over a snapshot of generated names.

use super::zone;
use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use margay_core::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use margay_core::balance::{Balancer, Candidate};
use margay_core::composition::Balance;
use margay_core::id::{InstanceId, Version};
use margay_core::names::{Declaration, NamedInstance, NamedService, NamesSnapshot};
use margay_resolver::Resolver;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// The program that runs it.
pub(super) const PROGRAM: &str = "names";

/// Who asks.
const CALLER: InstanceId = InstanceId(1);

/// Answers at `addr` until killed.
pub fn serve(addr: SocketAddr) -> Result<()> {
    let plan = AddressPlan::new(&[0; 32], Ipv4Block::DEFAULT);
    let declaration = Arc::new(Declaration {
        composition: "bench".parse()?,
        version: Version(1),
        ports: BTreeMap::new(),
    });
    let mut services = Vec::new();
    for (named, number) in zone::names().zip(2..) {
        let called = VirtualIp {
            v4: named.v4,
            v6: named.v6,
        };
        let instance = NamedInstance {
            instance: InstanceId(number),
            ordinal: 1,
            version: Version(1),
            // Nobody asks for the address that it calls from.
            addresses: InstanceAddresses {
                called,
                caller: called,
            },
            ready: true,
        };
        let candidate = Candidate::idle(instance.instance);
        services.push(NamedService {
            name: named.name.parse()?,
            balancer: Balancer::new(Balance::RoundRobin, vec![candidate]),
            declaration: Arc::clone(&declaration),
            vip: None,
            instances: vec![instance],
            callers: BTreeSet::from([CALLER]),
        });
    }
    let names = NamesSnapshot::new(plan, services);
    let names = Arc::new(ArcSwap::from_pointee(names));
    let resolver = Resolver::spawn(names)?;
    let udp = UdpSocket::bind(addr).with_context(|| format!("listen at {addr}, UDP"))?;
    let tcp = TcpListener::bind(addr).with_context(|| format!("listen at {addr}, TCP"))?;
    resolver.add(CALLER, udp, tcp)?;
    loop {
        std::thread::park();
    }
}
