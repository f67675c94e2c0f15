//! What the neighbourhood answers: to operators, and to metrics.

use super::Neighbourhood;
use super::drops::NeighbourhoodDrop;
use crate::catalog::Catalog;
use crate::composition::{Composition, CompositionName};
use crate::host::HostId;
use crate::id::Version;
use crate::sites::SitesView;
use crate::way::Path;

/// Why a composition cannot be applied to, or deleted from, the whole site here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotComposed {
    /// Nobody would believe it.
    #[error(
        "this host is no operator; apply and delete at one with the role `operator` or `issuer`, as \
         `margay members` shows them"
    )]
    NotAnOperator,
    /// The site knows better.
    #[error(
        "{name} version {known} is applied or deleted in the site already; raise `version` above \
         {known} and apply again"
    )]
    Outdated {
        /// Of which composition.
        name: CompositionName,
        /// What is known.
        known: Version,
    },
}

/// Another host of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourView {
    /// Which.
    pub host: HostId,
    /// By which path packets of flows go there, while a link stands.
    pub path: Option<Path>,
    /// Whether membership holds it for up.
    pub up: bool,
    /// Whether everything that it said is here and adds up.
    pub complete: bool,
}

impl Neighbourhood {
    /// Whether an operator may apply this here; ask before the Router is told.
    pub fn check(&self, composition: &Composition) -> Result<(), NotComposed> {
        self.check_operator()?;
        let known = self.catalog.composition_version(&composition.name);
        match known {
            Some((known, withdrawn))
                if composition.version < known || composition.version == known && withdrawn =>
            {
                let name = composition.name.clone();
                Err(NotComposed::Outdated { name, known })
            }
            _ => Ok(()),
        }
    }

    /// Whether a link to a host is wanted.
    pub fn is_met(&self, host: &HostId) -> bool {
        self.sites.met().contains(host)
    }

    /// Whether an operator may apply and delete here at all.
    pub fn check_operator(&self) -> Result<(), NotComposed> {
        let may = self.config.is_operator;
        may.then_some(()).ok_or(NotComposed::NotAnOperator)
    }

    /// The other hosts of the site.
    pub fn neighbours(&self) -> impl Iterator<Item = NeighbourView> {
        let origins = self.catalog.origins();
        let sound: Vec<HostId> = origins
            .filter(|(_, origin)| origin.sound)
            .map(|(host, _)| host)
            .collect();
        self.hosts
            .iter()
            .map(move |(host, standing)| NeighbourView {
                host: *host,
                path: standing.path,
                up: standing.up,
                complete: sound.contains(host),
            })
    }

    /// Whether membership holds another host of the site for up.
    pub fn is_up(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|standing| standing.up)
    }

    /// How many instances of other hosts the Router was told of.
    pub fn remote_instances(&self) -> usize {
        self.remotes.len()
    }

    /// The catalog, to be looked at.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What is known beyond the site.
    pub fn sites(&self) -> SitesView {
        self.sites.view()
    }

    /// What was dropped, and how often: in which part (`membership`, `catalog`, `neighbourhood`,
    /// `sites`), and why.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let membership = self.membership.drops();
        let catalog = self.catalog.drops();
        let unfinished = (NeighbourhoodDrop::Unfinished, self.assembly.given_up);
        let own = self.drops.iter().map(|(reason, count)| (*reason, *count));
        let own = own.chain([unfinished].into_iter().filter(|(_, count)| *count > 0));
        let membership = membership.map(|(it, count)| ("membership", it.name(), count));
        let catalog = catalog.map(|(it, count)| ("catalog", it.name(), count));
        let own = own.map(|(it, count)| ("neighbourhood", it.name(), count));
        let sites = self.sites.drops();
        let sites = sites.map(|(it, count)| ("sites", it.name(), count));
        membership.chain(catalog).chain(own).chain(sites)
    }
}
