//! What runs on other hosts, how this one came to know of it, and what is sought.

use super::walk::{Walk, plural};
use crate::drop_reason::DropReason;
use crate::explanation::Step;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::peer::{Known, RemoteInstance};
use crate::router::Router;

/// Instances of other hosts that are told of one by one; a search finds no more.
const INSTANCES_SHOWN: usize = 8;

impl Router {
    /// The instances of a service on other hosts, nearest first, a step for each.
    pub(super) fn elsewhere(&self, service: &AutomatonName) -> Vec<Step> {
        let mut remotes: Vec<&RemoteInstance> = self
            .peers
            .instances_of(service)
            .map(|remote| &**remote)
            .collect();
        remotes.sort_by_key(|remote| (remote.distance, remote.name.ordinal, remote.instance));
        let shown = remotes.iter().take(INSTANCES_SHOWN);
        let mut steps: Vec<Step> = shown
            .map(|remote| self.instance_elsewhere(remote))
            .collect();
        if let Some(more) = remotes
            .len()
            .checked_sub(INSTANCES_SHOWN)
            .filter(|it| *it > 0)
        {
            let text = format!("{more} more instances on other hosts");
            steps.push(Step::passed("elsewhere", text));
        }
        steps
    }

    fn instance_elsewhere(&self, remote: &RemoteInstance) -> Step {
        let asked = self.peers.asked_for(remote);
        let is_taking = self.peers.taking_flows(remote.instance).is_some();
        let standing = match asked {
            _ if !remote.ready => "it is not ready".to_owned(),
            Some(router) if is_taking && router == remote.host => "takes flows".to_owned(),
            Some(router) if is_taking => {
                format!("takes flows, first packets by way of {}", router.short())
            }
            _ => "no router that leads there is up".to_owned(),
        };
        let text = format!(
            "{} on host {}, site distance {}; {}; {standing}",
            remote.name,
            remote.host.short(),
            remote.distance.0,
            how_known(remote),
        );
        match is_taking {
            true => Step::passed("elsewhere", text),
            false => Step::refused("elsewhere", text),
        }
    }

    /// What is sought, where a search is possible.
    pub(super) fn search_step(&self, service: &AutomatonName, now: Moment) -> Option<Step> {
        self.config.host.as_ref()?;
        let declared = self.services.find(service)?;
        if !self.balancer(declared).candidates().is_empty() {
            return None;
        }
        let search = self.search(service, now);
        let last = search.and_then(|search| search.last).map(|(ago, found)| {
            let found = match u32::try_from(found).unwrap_or(u32::MAX) {
                0 => "no instance that takes flows".to_owned(),
                found => plural(found, "instance"),
            };
            format!(
                "the last search, {:.1} s ago, found {found}",
                ago.as_secs_f64()
            )
        });
        let state = match search {
            Some(search) if search.under_way => "it is sought beyond the site now",
            _ if self.may_be_sought(service) => "it is sought beyond the site once it is asked for",
            _ => "it is not sought again so soon",
        };
        let text = match last {
            Some(last) => format!("{state}; {last}"),
            None => state.to_owned(),
        };
        Some(Step::passed("search", text))
    }
}

impl Walk<'_> {
    /// Tells of the search for what nobody serves, unless it was told of with the name.
    pub(super) fn search(&mut self, reason: DropReason, now: Moment) {
        let is_told = self.steps.iter().any(|step| step.name == "search");
        if is_told || reason != DropReason::NoInstance {
            return;
        }
        let service = self.service.map(|service| &service.name);
        let step = service.and_then(|service| self.router.search_step(service, now));
        self.steps.extend(step);
    }
}

/// The routers between the hosts of an open flow, if there were any.
pub(super) fn passed_on(hops: u8) -> Option<Step> {
    let routers = plural(hops.into(), "router");
    let text = format!("passed on by {routers} between the hosts; the rest goes direct");
    (hops > 0).then(|| Step::passed("first packet", text))
}

fn how_known(remote: &RemoteInstance) -> String {
    let way = match remote.known {
        Known::Flooded => return "flooded in the site's catalog".to_owned(),
        Known::Called => return "it called here".to_owned(),
        Known::Summarised => "summarised: a gateway's summary led there",
        Known::LookedUp => "looked up: Kademlia led there",
    };
    match remote.via {
        Some(via) => format!("{way}, via {}", via.short()),
        None => way.to_owned(),
    }
}
