//! Why a packet was dropped or refused: one list for the kernel, core, metrics and the CLI.

/// Declares the reasons with their wire numbers, names and explanations.
macro_rules! reasons {
    ($($variant:ident = $number:literal, $name:literal, $doc:literal;)*) => {
        /// Why a packet was dropped or refused.
        ///
        /// The numbers are an interface: the eBPF programs count by them (`bpf/drop_reason.h`,
        /// compared with this list by a test).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum DropReason {
            $(#[doc = $doc] $variant = $number,)*
        }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The name in metrics, the flow log and the CLI.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// The reason of this number, if there is one.
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(DropReason::$variant),)* _ => None }
            }

            /// What happened, in one sentence.
            pub fn explanation(self) -> &'static str {
                match self { $(DropReason::$variant => $doc,)* }
            }
        }
    };
}

reasons! {
    // Decided in the kernel.
    ForgedSource = 0, "forged_source", "The source address is not the sending instance's own.";
    UnknownEndpoint = 1, "unknown_endpoint", "The packet came from a device that belongs to no instance.";
    Truncated = 2, "truncated", "The packet ends inside a header.";
    UnknownProtocol = 3, "unknown_protocol", "Neither TCP, UDP, ICMP echo nor an ICMP error over IPv4 or IPv6.";
    LocalControl = 4, "local_control", "Link-local chatter (ARP, neighbour discovery, multicast) that no one here answers.";
    Fragment = 5, "fragment", "A later fragment whose first one, which names the ports, did not come before it.";
    UpcallQuota = 6, "upcall_quota", "The instance has too many first packets waiting for a decision.";
    NoLocation = 7, "no_location", "The flow's destination has no location at the moment.";
    RewriteFailed = 8, "rewrite_failed", "The kernel could not rewrite the packet.";
    UpcallMiss = 9, "upcall_miss", "A packet came back from the router without a flow table entry for it.";
    ExtensionHeaders = 10, "extension_headers", "IPv6 extension headers that are too many, or that route the packet by way of others.";
    NoAdmission = 11, "no_admission", "A packet of another host belongs to no flow that this host has accepted.";
    ForgedPeer = 12, "forged_peer", "A packet of a flow came from another host, or another way, than the flow's.";
    // Decided in core.
    NotPermitted = 32, "not_permitted", "No composition lets the caller reach the destination on this port.";
    NoSuchAddress = 33, "no_such_address", "No identity holds the destination address.";
    NoInstance = 34, "no_instance", "No instance of the service is ready, or affinity is strict and this one is not.";
    NotAFirstPacket = 35, "not_a_first_packet", "TCP without SYN and without a flow: only a SYN opens a flow.";
    FlowTableFull = 36, "flow_table_full", "The host's flow table is full.";
    FlowLimitInstance = 37, "flow_limit_instance", "The calling instance holds as many flows as one instance may.";
    NoPortLeft = 38, "no_port_left", "Every source port towards the chosen instance is taken.";
    KernelRefused = 39, "kernel_refused", "The kernel's flow table did not take the entry.";
    NotUnderstood = 40, "not_understood", "Core could not parse the packet that the kernel handed up.";
    ServiceDropped = 41, "service_dropped", "A DROP rule of the service table covers the service ID.";
    ErrorWithoutFlow = 42, "error_without_flow", "An ICMP error about a packet of no open flow.";
    NoEgress = 43, "no_egress", "The destination lies outside, where the caller's `egress` does not lead.";
    // Between hosts.
    NoAnswer = 44, "no_answer", "The host that should serve the flow did not answer.";
    HeldPackets = 45, "held_packets", "Too many packets wait for another host's answer.";
    PolicyUnknown = 46, "policy_unknown", "The serving host does not know the caller's composition in this version yet.";
    UnknownCaller = 47, "unknown_caller", "The serving host does not know the calling instance.";
    TooManyHops = 48, "too_many_hops", "The first packet was passed on by too many routers.";
    RefusedElsewhere = 49, "refused_elsewhere", "Another host refused the flow for a reason that this one does not know.";
    NotUnderstoodFrame = 50, "not_understood_frame", "A service frame of another host could not be read, or is about no flow under way.";
    NotCarried = 51, "not_carried", "A first packet between hosts that is longer than a service frame carries.";
    NoLink = 52, "no_link", "The serving host took the flow, but no link to it came up in time.";
}
