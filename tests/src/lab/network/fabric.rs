//! The lab's own network namespace: a switch for each segment, and one end of every link.

use crate::lab::namespaces::Namespaces;
use crate::lab::topology::Topology;
use anyhow::Result;

/// What the switches lose: by device, frames that come from a node and frames towards it; by
/// address, packets between two hosts.
const CUTS: &str = "
table bridge lab {
    set outwards { type ifname; }
    set inwards { type ifname; }
    set parted_v4 { type ipv4_addr . ipv4_addr; }
    set parted_v6 { type ipv6_addr . ipv6_addr; }
    chain forward {
        type filter hook forward priority filter;
        iifname @outwards drop
        oifname @inwards drop
        ip saddr . ip daddr @parted_v4 drop
        ip6 saddr . ip6 daddr @parted_v6 drop
    }
}
";

/// Switches have no addresses of their own, and leave IP to hosts and routers: where the module
/// br_netfilter is loaded, it would have them look into packets.
const PLAIN_SWITCHES: &str = "
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
for call in /proc/sys/net/bridge/bridge-nf-call-*; do
    if test -e $call; then echo 0 >$call; fi
done
";

/// The namespace that holds the switches.
pub(super) struct Fabric {
    pub(super) namespaces: Namespaces,
}

impl Fabric {
    /// Makes it, with the switches and nothing at them.
    pub(super) fn new(topology: &Topology) -> Result<Fabric> {
        let namespaces = Namespaces::new(None)?;
        namespaces.shell(PLAIN_SWITCHES)?;
        namespaces.nft(CUTS)?;
        let switch = |(number, segment): (usize, &crate::lab::topology::Segment)| {
            let device = switch(number);
            // Snooping would hold back multicasts until somebody asks who listens.
            let options = "stp_state 0 forward_delay 0 mcast_snooping 0";
            let named = segment.name.clone();
            [
                format!("link add {device} type bridge {options}"),
                format!("link set {device} up alias {named}"),
            ]
        };
        let lines: Vec<String> = topology
            .segments
            .iter()
            .enumerate()
            .flat_map(switch)
            .collect();
        namespaces.ip(&lines)?;
        Ok(Fabric { namespaces })
    }
}

/// The device that joins a segment, by the segment's index.
pub(super) fn switch(segment: usize) -> String {
    format!("segment{segment}")
}
