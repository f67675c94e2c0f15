//! Our resolver by itself: the thread that the daemon runs, over a snapshot of generated names.

use super::zone;
use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use margay_core::address::VirtualIp;
use margay_core::composition::Balance;
use margay_core::id::InstanceId;
use margay_core::names::{NamedInstance, NamedService, NamesSnapshot};
use margay_resolver::Resolver;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// The program that runs it.
pub(super) const PROGRAM: &str = "names";

/// Who asks.
const CALLER: InstanceId = InstanceId(1);

/// Answers at `addr` until killed.
pub fn serve(addr: SocketAddr) -> Result<()> {
    let mut services = Vec::new();
    for (named, number) in zone::names().zip(2..) {
        let instance = NamedInstance {
            instance: InstanceId(number),
            called: VirtualIp {
                v4: named.v4,
                v6: named.v6,
            },
            load: 0,
        };
        services.push(NamedService {
            name: named.name.parse()?,
            balance: Balance::RoundRobin,
            instances: vec![instance],
            callers: BTreeSet::from([CALLER]),
        });
    }
    let names = Arc::new(ArcSwap::from_pointee(NamesSnapshot::new(services)));
    let resolver = Resolver::spawn(names)?;
    let udp = UdpSocket::bind(addr).with_context(|| format!("listen at {addr}, UDP"))?;
    let tcp = TcpListener::bind(addr).with_context(|| format!("listen at {addr}, TCP"))?;
    resolver.add(CALLER, udp, tcp)?;
    loop {
        std::thread::park();
    }
}
