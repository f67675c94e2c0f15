//! Who holds an identity: generations only grow, and only the holder raises them.

use super::form::write_whole_identity;
use super::statement::{Binding, Generation, GivenBy, Identity};
use crate::host::HostId;
use crate::moment::Moment;
use crate::signature::{self, PrivateKey, Purpose};
use crate::wire::margay::catalog::Transfer;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the holder of an identity signs when it gives it away.
const TRANSFER: Purpose = Purpose("identity transfer");

/// The generation of an identity that never moved.
const BORN: Generation = Generation(1);

impl GivenBy {
    /// Signs with its holder's key that `to` holds `identity` from `generation` on.
    pub fn sign(
        key: &PrivateKey,
        identity: &Identity,
        generation: Generation,
        to: &HostId,
    ) -> Self {
        GivenBy {
            from: key.public(),
            transfer: key.sign(TRANSFER, &transfer(identity, generation, to)),
        }
    }
}

/// Who holds an identity, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The host.
    pub host: HostId,
    /// Since which generation.
    pub generation: Generation,
}

#[derive(Debug)]
struct Held {
    holder: Holder,
    /// How many records speak about the identity.
    claims: usize,
    /// Since when none does.
    unclaimed: Option<Moment>,
}

/// Every identity's latest holder. It is remembered longer than any record, so that an older one
/// cannot take its place.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    held: BTreeMap<Identity, Held>,
}

impl Bindings {
    pub(super) fn holder(&self, identity: &Identity) -> Option<Holder> {
        self.held.get(identity).map(|held| held.holder)
    }

    /// Takes `origin`'s word; false if it had no right to it.
    pub(super) fn claim(&mut self, origin: &HostId, binding: &Binding) -> bool {
        let known = self.holder(&binding.identity);
        if !may_hold(origin, binding, known) {
            return false;
        }
        let holder = Holder {
            host: *origin,
            generation: binding.generation,
        };
        let held = self.held.entry(binding.identity).or_insert(Held {
            holder,
            claims: 0,
            unclaimed: None,
        });
        held.claims += 1;
        held.unclaimed = None;
        if binding.generation > held.holder.generation {
            held.holder = holder;
        }
        true
    }

    /// A record that [`claim`](Self::claim) took is gone.
    pub(super) fn unclaim(&mut self, identity: &Identity, now: Moment) {
        if let Some(held) = self.held.get_mut(identity) {
            held.claims = held.claims.saturating_sub(1);
            held.unclaimed = (held.claims == 0).then_some(now);
        }
    }

    /// Forgets identities of which nobody has spoken for so long.
    pub(super) fn forget(&mut self, kept_for: Duration, now: Moment) {
        let over = |held: &Held| {
            held.unclaimed
                .is_some_and(|since| now.since(since) >= kept_for)
        };
        self.held.retain(|_, held| !over(held));
    }
}

/// Whether `origin` may hold the identity: it was born there, or its former holder says so.
fn may_hold(origin: &HostId, binding: &Binding, known: Option<Holder>) -> bool {
    let Some(given_by) = &binding.given_by else {
        return binding.generation == BORN && binding.identity.born_at == *origin;
    };
    let before = binding.generation.0.checked_sub(1).map(Generation);
    let contradicted =
        known.is_some_and(|known| Some(known.generation) == before && known.host != given_by.from);
    if binding.generation <= BORN || contradicted {
        return false;
    }
    let transfer = transfer(&binding.identity, binding.generation, origin);
    let said = signature::open::<Transfer>(TRANSFER, &given_by.from, &given_by.transfer);
    said == Ok(transfer)
}

fn transfer(identity: &Identity, generation: Generation, to: &HostId) -> Transfer {
    Transfer {
        identity: Some(write_whole_identity(identity)),
        generation: generation.0,
        to: to.as_bytes().to_vec(),
    }
}
