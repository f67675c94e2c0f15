//! The network headers of a packet, whole or cut off as in an ICMP error.

use crate::drop_reason::DropReason;
use etherparse::err::ip::LaxHeaderSliceError;
use etherparse::{IpNumber, Ipv6ExtensionSlice, LaxIpSlice};
use std::net::IpAddr;

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
    /// The payload is a fragment, and not the first: there is no transport header.
    pub(super) is_later_fragment: bool,
}

impl<'a> Network<'a> {
    /// Reads an IP packet; the error is the reason to drop it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let (slice, _) = LaxIpSlice::from_slice(bytes).map_err(|error| match error {
            LaxHeaderSliceError::Len(_) => DropReason::Truncated,
            LaxHeaderSliceError::Content(_) => DropReason::NotUnderstood,
        })?;
        let (payload_start, is_later_fragment) = match &slice {
            LaxIpSlice::Ipv4(net) => {
                let authentication = net.extensions().auth.map_or(0, |it| it.slice().len());
                let header = net.header();
                let is_later = header.fragments_offset().value() != 0;
                (header.slice().len() + authentication, is_later)
            }
            LaxIpSlice::Ipv6(net) => {
                let extensions = net.extensions();
                let is_later = extensions.clone().into_iter().any(|extension| {
                    matches!(extension, Ipv6ExtensionSlice::Fragment(fragment)
                        if fragment.fragment_offset().value() != 0)
                });
                (
                    net.header().slice().len() + extensions.slice().len(),
                    is_later,
                )
            }
        };
        Ok(Network {
            source: slice.source_addr(),
            destination: slice.destination_addr(),
            protocol: slice.payload_ip_number(),
            payload: slice.payload().payload,
            payload_start,
            is_later_fragment,
        })
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
