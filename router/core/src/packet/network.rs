//! The network headers of a packet, whole or cut off as in an ICMP error.

use crate::drop_reason::DropReason;
use etherparse::err::{LenError, ipv4, ipv6};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};
use etherparse::{Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};
use std::net::IpAddr;

/// IPv6 extension headers walked before a packet is given up: as many as the kernel's half walks
/// (`bpf/extension.h`).
const EXTENSIONS_MAX: usize = 9;

/// What stands before the transport header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// What the payload is of.
    pub(super) protocol: IpNumber,
    pub(super) payload: &'a [u8],
    /// Offset of the payload in the packet.
    pub(super) payload_start: usize,
    /// The payload is a fragment.
    pub(super) is_fragment: bool,
    /// The payload is a fragment, and not the first: there is no transport header.
    pub(super) is_later_fragment: bool,
}

impl<'a> Network<'a> {
    /// Reads an IP packet; the error is the reason to drop it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DropReason> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Network::read_ipv4(bytes),
            Some(6) => Network::read_ipv6(bytes),
            Some(_) => Err(DropReason::NotUnderstood),
            None => Err(DropReason::Truncated),
        }
    }

    fn read_ipv4(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| match error {
            ipv4::HeaderSliceError::Len(_) => DropReason::Truncated,
            ipv4::HeaderSliceError::Content(_) => DropReason::NotUnderstood,
        })?;
        let payload_start = header.slice().len();
        // The rest, where the length says that there is more or that there is not even a header.
        let end = usize::from(header.total_len());
        let payload = bytes.get(payload_start..end);
        Ok(Network {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            protocol: header.protocol(),
            payload: payload.unwrap_or_else(|| &bytes[payload_start..]),
            payload_start,
            is_fragment: header.more_fragments() || header.fragments_offset().value() != 0,
            is_later_fragment: header.fragments_offset().value() != 0,
        })
    }

    fn read_ipv6(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| match error {
            ipv6::HeaderSliceError::Len(_) => DropReason::Truncated,
            ipv6::HeaderSliceError::Content(_) => DropReason::NotUnderstood,
        })?;
        let payload_start = header.slice().len();
        let end = payload_start + usize::from(header.payload_length());
        let payload = bytes.get(payload_start..end);
        let mut network = Network {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            protocol: header.next_header(),
            payload: payload
                .filter(|payload| !payload.is_empty())
                .unwrap_or_else(|| &bytes[payload_start..]),
            payload_start,
            is_fragment: false,
            is_later_fragment: false,
        };
        for _ in 0..=EXTENSIONS_MAX {
            if network.is_later_fragment || !network.enter_extension()? {
                return Ok(network);
            }
        }
        Err(DropReason::ExtensionHeaders)
    }

    /// Passes over one extension header (RFC 8200 section 4); tells whether there was one.
    ///
    /// One by one and each checked: the library's iterator trusts what an earlier pass has checked,
    /// which a pass over a packet that is cut off has not.
    fn enter_extension(&mut self) -> Result<bool, DropReason> {
        let truncated = |_: LenError| DropReason::Truncated;
        let (next, len) = match self.protocol {
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => {
                let header = Ipv6RawExtHeaderSlice::from_slice(self.payload).map_err(truncated)?;
                (header.next_header(), header.slice().len())
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let header =
                    Ipv6FragmentHeaderSlice::from_slice(self.payload).map_err(truncated)?;
                self.is_later_fragment = header.fragment_offset().value() != 0;
                self.is_fragment = self.is_later_fragment || header.more_fragments();
                (header.next_header(), header.slice().len())
            }
            _ => return Ok(false),
        };
        self.protocol = next;
        self.payload = self.payload.get(len..).unwrap_or_default();
        self.payload_start += len;
        Ok(true)
    }

    /// Whether the payload is of ICMP, of the version that belongs to the addresses.
    pub(super) fn is_icmp(&self) -> bool {
        self.protocol
            == match self.source {
                IpAddr::V4(_) => IpNumber::ICMP,
                IpAddr::V6(_) => IpNumber::IPV6_ICMP,
            }
    }
}
