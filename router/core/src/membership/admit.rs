//! What of a datagram is let in: only its sender's own word, and only about hosts of this site.

use super::member::{Member, WireCodec};
use super::{DATAGRAM_BYTES_MAX, MembershipDrop};
use crate::host::HostId;
use foca::Codec;
use prost::bytes::{Buf, BufMut};

/// Checks a datagram, tells in which life its sender says it is, and takes out of it what does not count.
/// The rest stays of use, above all that its sender lives.
pub(super) fn admit(
    from: &HostId,
    bytes: &[u8],
    counts: impl Fn(&Member) -> bool,
) -> Result<(Member, Vec<u8>), MembershipDrop> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return Err(MembershipDrop::TooLong);
    }
    let unreadable = |_| MembershipDrop::Unreadable;
    let mut rest = bytes;
    let header = WireCodec.decode_header(&mut rest).map_err(unreadable)?;
    if header.src.host != *from {
        return Err(MembershipDrop::Impersonated);
    }
    let mut admitted = bytes[..bytes.len() - rest.len()].to_vec();
    if rest.is_empty() {
        return Ok((header.src, admitted));
    }
    let count = rest.try_get_u16().map_err(|_| MembershipDrop::Unreadable)?;
    let mut updates: Vec<foca::Member<Member>> = Vec::new();
    for _ in 0..count {
        updates.push(WireCodec.decode_member(&mut rest).map_err(unreadable)?);
    }
    if !rest.is_empty() {
        return Err(MembershipDrop::Unreadable);
    }
    updates.retain(|update| counts(update.id()));
    admitted.put_u16(u16::try_from(updates.len()).map_err(|_| MembershipDrop::Unreadable)?);
    for update in &updates {
        WireCodec
            .encode_member(update, &mut admitted)
            .map_err(unreadable)?;
    }
    Ok((header.src, admitted))
}
