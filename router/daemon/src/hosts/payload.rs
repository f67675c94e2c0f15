//! Payloads of the host link: one byte says what follows.

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A datagram of the site's membership.
    Membership = 1,
    /// A service frame.
    ServiceFrame = 2,
    /// A message of the catalog.
    Catalog = 3,
    /// How a member introduces itself, passed on.
    Introduction = 4,
    /// That a host was taken out, passed on.
    Revocation = 5,
    /// A member asks its issuer for its next certificate.
    RenewalRequest = 6,
    /// The issuer's answer.
    RenewalAnswer = 7,
    /// A service frame with what proves who calls.
    IntroducedFrame = 8,
    /// A ticket for the keeper's echo is wanted.
    TicketWanted = 9,
    /// Such a ticket.
    Ticket = 10,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Membership,
        Kind::ServiceFrame,
        Kind::Catalog,
        Kind::Introduction,
        Kind::Revocation,
        Kind::RenewalRequest,
        Kind::RenewalAnswer,
        Kind::IntroducedFrame,
        Kind::TicketWanted,
        Kind::Ticket,
    ];
}

/// Puts the kind before what is sent.
pub fn seal(kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + content.len());
    payload.push(kind as u8);
    payload.extend_from_slice(content);
    payload
}

/// Tells what came; `None` for what only a newer version knows.
pub fn open(payload: &[u8]) -> Option<(Kind, &[u8])> {
    let (number, content) = payload.split_first()?;
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == *number)?;
    Some((kind, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_apart_and_others_are_left_alone() {
        for kind in Kind::ALL {
            assert_eq!(open(&seal(kind, b"x")), Some((kind, &b"x"[..])));
        }
        assert_eq!(open(&[]), None);
        assert_eq!(open(&[0, 1]), None);
        assert_eq!(open(&[200]), None);
    }
}
