//! Names of addresses: the reverse zones of the IPv4 pool and of the network's IPv6 prefix.

use super::answer::{Answer, ExtendedError, Zone};
use super::{NamesSnapshot, QuestionKind};
use crate::address::{AddressPlan, V6_PREFIX};
use crate::id::InstanceId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the names of IPv4 addresses lie (RFC 1035 section 3.5).
const V4_SUFFIX: &str = ".in-addr.arpa";

/// Where the names of IPv6 addresses lie (RFC 3596 section 2.5).
const V6_SUFFIX: &str = ".ip6.arpa";

/// Labels of either suffix.
const SUFFIX_LABELS: u8 = 2;

/// The length of the network's IPv6 prefix in labels of four bits each.
const V6_ZONE_DIGITS: u8 = V6_PREFIX / 4;

/// The beginning of an address, as far as a name in a reverse zone gives it.
#[derive(Debug, PartialEq, Eq)]
struct Digits {
    /// The rest is zero.
    addr: IpAddr,
    /// How many labels were read.
    count: u8,
    /// How many a whole address has.
    count_max: u8,
    /// Whether there is more, which is no part of an address.
    more: bool,
}

/// The name under which the name of `addr` is found, without the root's dot.
pub fn reverse_name(addr: IpAddr) -> String {
    let (labels, suffix): (Vec<String>, _) = match addr {
        IpAddr::V4(addr) => {
            let bytes = addr.octets().into_iter().rev();
            (bytes.map(|byte| byte.to_string()).collect(), V4_SUFFIX)
        }
        IpAddr::V6(addr) => {
            let bits = addr.to_bits();
            let nibbles = (0..32).map(|place| bits >> (4 * place) & 0xf);
            (
                nibbles.map(|nibble| format!("{nibble:x}")).collect(),
                V6_SUFFIX,
            )
        }
    };
    labels.join(".") + suffix
}

/// Answers a name in a reverse zone of ours; `None` for every other name.
pub(super) fn answer(
    snapshot: &NamesSnapshot,
    caller: InstanceId,
    name: &str,
    kind: QuestionKind,
) -> Option<Answer> {
    let digits = Digits::of(name)?;
    let zone_digits = zone_digits(snapshot.plan.as_ref()?, digits.addr)?;
    if digits.count < zone_digits {
        return None;
    }
    let labels = zone_digits + SUFFIX_LABELS;
    let zone = Zone { labels };
    if digits.more {
        return Some(Answer::NameError(zone, ExtendedError::NO_HOLDER));
    }
    let whole = digits.count == digits.count_max;
    let apex = digits.count == zone_digits;
    let holder = whole
        .then(|| snapshot.name_of(digits.addr, caller))
        .flatten();
    Some(match (kind, holder) {
        (QuestionKind::Soa, _) if apex => Answer::Authority(zone),
        (QuestionKind::Ns, _) if apex => Answer::NameServer(None),
        (QuestionKind::Ptr, Some(name)) => Answer::Pointer(name),
        (_, None) if whole && !apex => Answer::NameError(zone, ExtendedError::NO_HOLDER),
        // What lies between the zone and its addresses exists, whoever holds which of them.
        _ => Answer::NoData(zone, None),
    })
}

/// How many labels name the zone that holds `addr` and is wholly ours, if there is one.
fn zone_digits(plan: &AddressPlan, addr: IpAddr) -> Option<u8> {
    match addr {
        IpAddr::V4(addr) => {
            let whole_bytes = plan.v4_block().prefix().div_ceil(8);
            plan.holds_v4(addr).then_some(whole_bytes)
        }
        IpAddr::V6(addr) => plan.holds_v6(addr).then_some(V6_ZONE_DIGITS),
    }
}

impl Digits {
    fn of(name: &str) -> Option<Digits> {
        if let Some(labels) = name.strip_suffix(V4_SUFFIX) {
            let mut bytes = [0; 4];
            let (count, more) = read(labels, byte, &mut bytes);
            let addr = Ipv4Addr::from(bytes).into();
            return Some(Digits {
                addr,
                count,
                count_max: 4,
                more,
            });
        }
        let labels = name.strip_suffix(V6_SUFFIX)?;
        let mut nibbles = [0; 32];
        let (count, more) = read(labels, nibble, &mut nibbles);
        let bits = nibbles
            .iter()
            .fold(0, |bits, nibble| bits << 4 | u128::from(*nibble));
        let addr = Ipv6Addr::from_bits(bits).into();
        Some(Digits {
            addr,
            count,
            count_max: 32,
            more,
        })
    }
}

/// Reads labels from the last to the first; answers how many were digits, and whether one was not.
fn read(labels: &str, digit: impl Fn(&str) -> Option<u8>, digits: &mut [u8]) -> (u8, bool) {
    let mut count = 0;
    for label in labels.rsplit('.') {
        match (digits.get_mut(usize::from(count)), digit(label)) {
            (Some(place), Some(value)) => *place = value,
            _ => return (count, true),
        }
        count += 1;
    }
    (count, false)
}

/// A byte as DNS writes it: without a sign, without leading zeros.
fn byte(label: &str) -> Option<u8> {
    let canonical = label == "0" || label.starts_with(|c: char| matches!(c, '1'..='9'));
    label.parse().ok().filter(|_| canonical)
}

fn nibble(label: &str) -> Option<u8> {
    let one_character = label.len() == 1;
    u8::from_str_radix(label, 16).ok().filter(|_| one_character)
}
