//! Refusals: why a host is not let in, in words for both sides.

use crate::address::Ipv4Block;
use crate::admission::network::NetworkId;
use crate::host::HostId;
use crate::name::HostName;
use crate::wall_time::WallTime;
use std::fmt;
use std::time::Duration;

/// A clock that is wrong by less is a likelier cause than a certificate that nobody renewed: a time
/// zone or a date is off by a day at most.
const CLOCK_SUSPECTED: Duration = Duration::from_secs(86_400 + 3_600);

/// The longest advice, in bytes: what a refusing host link has room for.
pub const ADVICE_BYTES_MAX: usize = 200;

/// Declares the reasons with their wire numbers, names and what the refused host is told.
macro_rules! reasons {
    ($($variant:ident = $number:literal, $name:literal, $advice:literal;)*) => {
        /// Why a host was refused: all that the refused side learns. It knows itself which
        /// certificate it showed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $(#[doc = $advice] $variant = $number,)*
        }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The name in counters, logs and the CLI.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// What happened and what to do next, told at the host that was refused.
            pub const fn advice(self) -> &'static str {
                match self { $(Reason::$variant => $advice,)* }
            }
        }
    };
}

reasons! {
    NotAMember = 1, "not_a_member", "This host showed no certificate of the network; run `margay invite` on an issuer and `margay join TOKEN` here.";
    Expired = 2, "expired", "This host's certificate has expired, as the other host's clock has it; compare both clocks with `date -u`, and if they agree, join again with a new token.";
    NotYetValid = 3, "not_yet_valid", "This host's certificate is not yet valid, as the other host's clock has it; compare both clocks with `date -u`.";
    OtherNetwork = 4, "other_network", "The other host belongs to another network; check the address, or the token.";
    Forged = 5, "forged", "A signature of what this host showed is not its alleged signer's; join again with a new token.";
    Revoked = 6, "revoked", "This host was taken out of the network; if that was a mistake, join again with a new token.";
    BlockOutsideRange = 7, "block_outside_range", "This host's certificate names addresses that its issuer may not grant; join again with a new token.";
    BlockTaken = 8, "block_taken", "This host's certificate names addresses that another host holds; revoke one of the two and join again with a new token.";
    NameTaken = 9, "name_taken", "Another host has this host's name; join again with `margay join --name OTHER TOKEN`, or revoke the other host first.";
    Unreadable = 10, "unreadable", "The other host could not read what this host sent; check that both run a version of Margay not far apart.";
    UnknownVersion = 11, "unknown_version", "The other host runs an older version of Margay, which does not understand this one; upgrade it.";
    IssuerExpired = 12, "issuer_expired", "The certificate of the issuer that admitted this host is not valid now, as the other host's clock has it; compare both clocks, then renew the issuer with the root key.";
    IssuerRevoked = 13, "issuer_revoked", "The issuer that admitted this host was revoked, and so were all that it admitted; join again with a token of another issuer.";
    OtherLinkKey = 14, "other_link_key", "What this host showed belongs to another host link than the one that it came by; do not copy a host's state directory to another machine: join there with a new token.";
    Full = 15, "full", "The other host knows as many members as it can; split the network into more sites.";
    TokenUnknown = 16, "token_unknown", "The issuer knows no such token; ask for a new one.";
    TokenExpired = 17, "token_expired", "The token has expired; ask for a new one.";
    TokenUsedUp = 18, "token_used_up", "The token was used as often as it may be; ask for a new one, or for one of more uses.";
    NotAnIssuer = 19, "not_an_issuer", "The other host admits nobody; ask for a token of an issuer.";
    NoBlockLeft = 20, "no_block_left", "The issuer has no block of addresses left; revoke hosts that are gone, or give it a larger range with the root key.";
    NotGranted = 21, "not_granted", "The issuer does not renew this host, for it has taken it out or never admitted it; join again with a new token.";
}

impl Reason {
    /// The number that travels.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The reason of a number; `None` for one of a newer version.
    pub fn from_number(number: u32) -> Option<Reason> {
        Reason::ALL
            .iter()
            .copied()
            .find(|reason| reason.number() == number)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice())
    }
}

/// Why a host is refused, as the refusing side tells it; [`Refusal::reason`] is what the other learns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No certificate at all.
    #[error("it showed no certificate; if it should belong here, invite it with `margay invite`")]
    NotAMember,
    /// Valid no longer.
    #[error("its certificate ended at {ended}, and here it is {now}; {}", clocks(*.ended, *.now))]
    Expired {
        /// When.
        ended: WallTime,
        /// This host's clock.
        now: WallTime,
    },
    /// Valid later.
    #[error("its certificate begins at {begins}, and here it is {now}; {}", clocks(*.begins, *.now))]
    NotYetValid {
        /// When.
        begins: WallTime,
        /// This host's clock.
        now: WallTime,
    },
    /// Of another root.
    #[error("it belongs to network {}, which is not this one; remove its address here", .0.short())]
    OtherNetwork(NetworkId),
    /// Not signed by whom it must be.
    #[error("the signature of its {0} is not its alleged signer's; it must join again")]
    Forged(&'static str),
    /// Taken out.
    #[error("host {} was revoked at {at}; to let it in again, invite it anew", .host.short())]
    Revoked {
        /// Who.
        host: HostId,
        /// When.
        at: WallTime,
    },
    /// A block that is not its issuer's to grant.
    #[error(
        "its certificate names {block}, and its issuer {} may grant from {range} only; it must join \
         again", .issuer.short()
    )]
    BlockOutsideRange {
        /// What it names.
        block: Ipv4Block,
        /// What its issuer has.
        range: Ipv4Block,
        /// Who.
        issuer: HostId,
    },
    /// A block that another host holds.
    #[error(
        "its certificate names {block}, which overlaps {held} of host {holder}; `margay revoke` one \
         of the two"
    )]
    BlockTaken {
        /// What it names.
        block: Ipv4Block,
        /// What it overlaps.
        held: Ipv4Block,
        /// Whose that is.
        holder: HostName,
    },
    /// A name that another host has.
    #[error("host {} has the name `{name}` already; revoke it, or choose another name", .holder.short())]
    NameTaken {
        /// The name.
        name: HostName,
        /// Who has it.
        holder: HostId,
    },
    /// Not to be read.
    #[error("what it sent cannot be read: {0}")]
    Unreadable(&'static str),
    /// Of a newer version.
    #[error(
        "it speaks version {0} of admission, and this host version {VERSION}; upgrade this host"
    )]
    UnknownVersion(u32),
    /// Its issuer may not issue now.
    #[error(
        "its issuer's certificate counts from {begins} to {ends}, and here it is {now}; compare the \
         clocks, then renew the issuer with the root key"
    )]
    IssuerExpired {
        /// From when.
        begins: WallTime,
        /// Until when.
        ends: WallTime,
        /// This host's clock.
        now: WallTime,
    },
    /// Its issuer may issue no more.
    #[error("its issuer {} was revoked at {at}; it must join again by another issuer", .issuer.short())]
    IssuerRevoked {
        /// Who.
        issuer: HostId,
        /// When.
        at: WallTime,
    },
    /// It came by a host link of another key than the one that its record names.
    #[error("it came by another host link than its own: it shows what another host said")]
    OtherLinkKey,
    /// No room for another member.
    #[error("{0} members are known, which is the most; split the network into more sites")]
    Full(usize),
    /// No such invitation, or not its secret.
    #[error("it knows no token of this issuer; make one with `margay invite`")]
    TokenUnknown,
    /// The invitation is over.
    #[error("its token expired at {0}; make a new one with `margay invite`")]
    TokenExpired(WallTime),
    /// As many hosts came by it as may.
    #[error("its token is used up; make a new one with `margay invite`")]
    TokenUsedUp,
    /// This host admits nobody.
    #[error("it wants to join, and this host is no issuer; make the token on an issuer")]
    NotAnIssuer,
    /// Nothing left to grant.
    #[error(
        "no block of addresses is left in {0}; revoke hosts that are gone, or give the issuer a \
         larger range with the root key"
    )]
    NoBlockLeft(Ipv4Block),
    /// Not admitted by this issuer, or taken out by it.
    #[error("this issuer has not admitted host {}, or has taken it out; it must join again", .0.short())]
    NotGranted(HostId),
}

/// The version of admission's messages that this one writes and the newest that it reads.
pub const VERSION: u32 = 1;

impl Refusal {
    /// What the refused side learns.
    pub fn reason(&self) -> Reason {
        match self {
            Refusal::NotAMember => Reason::NotAMember,
            Refusal::Expired { .. } => Reason::Expired,
            Refusal::NotYetValid { .. } => Reason::NotYetValid,
            Refusal::OtherNetwork(_) => Reason::OtherNetwork,
            Refusal::Forged(_) => Reason::Forged,
            Refusal::Revoked { .. } => Reason::Revoked,
            Refusal::BlockOutsideRange { .. } => Reason::BlockOutsideRange,
            Refusal::BlockTaken { .. } => Reason::BlockTaken,
            Refusal::NameTaken { .. } => Reason::NameTaken,
            Refusal::Unreadable(_) => Reason::Unreadable,
            Refusal::UnknownVersion(_) => Reason::UnknownVersion,
            Refusal::IssuerExpired { .. } => Reason::IssuerExpired,
            Refusal::IssuerRevoked { .. } => Reason::IssuerRevoked,
            Refusal::OtherLinkKey => Reason::OtherLinkKey,
            Refusal::Full(_) => Reason::Full,
            Refusal::TokenUnknown => Reason::TokenUnknown,
            Refusal::TokenExpired(_) => Reason::TokenExpired,
            Refusal::TokenUsedUp => Reason::TokenUsedUp,
            Refusal::NotAnIssuer => Reason::NotAnIssuer,
            Refusal::NoBlockLeft(_) => Reason::NoBlockLeft,
            Refusal::NotGranted(_) => Reason::NotGranted,
        }
    }
}

/// Refuses a version that this one does not read.
pub(super) fn check_version(version: u32) -> Result<(), Refusal> {
    match version {
        VERSION => Ok(()),
        0 => Err(Refusal::Unreadable("a message without a version")),
        newer => Err(Refusal::UnknownVersion(newer)),
    }
}

/// What to do about a certificate that is `now` on the wrong side of its `limit`.
fn clocks(limit: WallTime, now: WallTime) -> String {
    let apart = limit.since(now).max(now.since(limit));
    if apart <= CLOCK_SUSPECTED {
        let minutes = apart.as_secs() / 60;
        format!("that is {minutes} minutes apart: compare the clocks of both hosts with `date -u`")
    } else if now > limit {
        "it must join again with a new token, unless the clock of this host is wrong".to_owned()
    } else {
        "set the clock of this host right, or that of its issuer".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reasons_have_numbers_names_and_advice_of_their_own() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        let advice: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.advice()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert_eq!(advice.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.advice().len() <= ADVICE_BYTES_MAX, "{reason}");
            assert_eq!(Reason::from_number(reason.number()), Some(*reason));
        }
        assert_eq!(Reason::from_number(0), None);
        assert_eq!(Reason::from_number(9_999), None);
    }

    #[test]
    fn refusal_near_its_date_suggests_the_clocks_and_a_far_one_what_to_do() {
        let day = Duration::from_secs(86_400);
        let ended = WallTime::from_unix_seconds(1_800_000_000);
        let after = |time| {
            let now = ended + time;
            Refusal::Expired { ended, now }.to_string()
        };
        let near = after(day / 8);
        assert!(
            near.contains("180 minutes apart") && near.contains("date -u"),
            "{near}"
        );
        assert!(near.contains("2027-01-15T08:00:00Z"), "{near}");
        assert!(after(day * 9).contains("join again"));
        let begins = ended + day * 9;
        let early = Refusal::NotYetValid { begins, now: ended }.to_string();
        assert!(early.contains("set the clock"), "{early}");
    }
}
