//! Between whom a service's flows are balanced now, and with which parts and loads.

use super::Router;
use super::decision::Server;
use super::instances::Instance;
use super::services::Service;
use crate::balance::{Balancer, Candidate, Lookup, parts};
use crate::composition::{Balance, WEIGHT};
use crate::id::InstanceId;
use crate::peer::{Distance, RemoteInstance};
use std::num::NonZeroU32;
use std::sync::Arc;

impl Router {
    /// Balances between the instances of `service` that take flows now: of those the nearest.
    pub(super) fn balancer(&self, service: &Service) -> Balancer {
        let ids = service.instances.iter();
        let ready = ids.filter_map(|id| self.ready(*id));
        let trusted = ready.clone().filter(|instance| !instance.trust.is_out());
        let trusted: Vec<&Instance> = trusted.collect();
        let far = self.nearest_elsewhere(service);
        // Whom nobody trusts is still better than nobody.
        let taking = match (trusted.is_empty(), far) {
            (true, None | Some(Distance::NONE)) => ready.collect(),
            _ => trusted,
        };
        let nearest = match taking.is_empty() {
            true => far.unwrap_or_default(),
            false => Distance::NONE,
        };
        let candidate = |instance: &Instance| Candidate {
            instance: instance.plan.instance,
            weight: part(service, instance),
            flows: self.flows.load(instance.plan.instance),
            processor: instance.processor.permille(),
        };
        let here = taking.into_iter().map(candidate);
        let elsewhere = self.remote_candidates(service, nearest);
        let candidates: Vec<Candidate> = here.chain(elsewhere).collect();
        if service.balance != Balance::Maglev {
            return Balancer::new(service.balance, candidates);
        }
        let mut known = service.lookup.borrow_mut();
        let fits = known.take().filter(|it| it.is_for(parts(&candidates)));
        let lookup = fits.unwrap_or_else(|| {
            let parts = parts(&candidates).collect();
            Arc::new(Lookup::new(parts, service.replicas))
        });
        *known = Some(Arc::clone(&lookup));
        Balancer::consistent(candidates, lookup)
    }

    /// How far the nearest instance of another host is that takes flows, if any does.
    fn nearest_elsewhere(&self, service: &Service) -> Option<Distance> {
        let distances = self.taking_elsewhere(service).map(|remote| remote.distance);
        distances.min()
    }

    /// The instances of other hosts that take flows.
    fn taking_elsewhere(&self, service: &Service) -> impl Iterator<Item = &RemoteInstance> {
        let remotes = self.peers.instances_of(&service.name);
        remotes.filter_map(|remote| Some(&**self.peers.taking_flows(remote.instance)?))
    }

    /// Those of them that are no further than the nearest of all.
    fn remote_candidates(
        &self,
        service: &Service,
        nearest: Distance,
    ) -> impl Iterator<Item = Candidate> {
        let remotes = self.taking_elsewhere(service);
        let near = remotes.filter(move |remote| remote.distance == nearest);
        near.map(|remote| Candidate {
            instance: remote.instance,
            weight: remote.weight,
            // What it held when its host told of it, or what it holds of this host's alone.
            flows: remote.flows.max(self.flows.load(remote.instance)),
            processor: remote.processor,
        })
    }

    /// An instance, if it takes new flows.
    pub(super) fn taking_flows(&self, id: InstanceId) -> Option<Server<'_>> {
        let here = self.ready(id).filter(|instance| !instance.trust.is_out());
        if let Some(instance) = here {
            return Some(Server::Here(instance));
        }
        let remote = self.peers.taking_flows(id)?;
        let party = self.peers.party(id, &remote.host)?;
        Some(Server::There(remote, party))
    }

    fn ready(&self, id: InstanceId) -> Option<&Instance> {
        let instance = self.instances.get(&id)?;
        (instance.life.is_ready() && instance.network.is_some()).then_some(instance)
    }
}

/// An instance's part of its service's flows: what is declared, and of that as much as it is warm.
pub(super) fn part(service: &Service, instance: &Instance) -> NonZeroU32 {
    let place = instance.plan.name.ordinal as usize - 1;
    let weight = service.weights.get(place).copied().unwrap_or(WEIGHT);
    weight.saturating_mul(instance.warmth.steps())
}
