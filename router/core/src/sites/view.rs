//! What is to be seen of other sites: for operators, and for metrics.

use super::Sites;
use super::drops::SitesDrop;
use crate::host::HostId;
use crate::id::InstanceId;
use crate::name::AutomatonName;
use crate::peer::Known;

/// An instance of another site that is leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Of which service.
    pub service: AutomatonName,
    /// Which.
    pub instance: InstanceId,
    /// Where it is.
    pub host: HostId,
    /// How it came to be known.
    pub known: Known,
    /// Who passes first packets on to its host.
    pub via: Option<HostId>,
}

/// What a host knows beyond its site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitesView {
    /// The gateways of its site that act, as far as it sees; the own host may be one.
    pub gateways: Vec<HostId>,
    /// Whether it acts itself.
    pub acting: bool,
    /// Gateways of other sites to which overlay connections stand.
    pub far_gateways: Vec<HostId>,
    /// Summaries that it holds.
    pub summaries: usize,
    /// What they take.
    pub summary_bytes: usize,
    /// Instances of other sites.
    pub leases: Vec<LeaseView>,
    /// The hosts that links are wanted to.
    pub met: Vec<HostId>,
}

impl Sites {
    /// What is known beyond the site.
    pub fn view(&self) -> SitesView {
        let leases = self.leases.iter().map(|lease| LeaseView {
            service: lease.told.name.automaton.clone(),
            instance: lease.told.instance,
            host: lease.told.host,
            known: lease.told.known,
            via: lease.told.via,
        });
        SitesView {
            gateways: self.acting_gateways(),
            acting: self.is_acting(),
            far_gateways: self.members.connected_gateways().copied().collect(),
            summaries: self.summaries.len(),
            summary_bytes: self.summaries.bytes,
            leases: leases.collect(),
            met: self.met().iter().copied().collect(),
        }
    }

    /// How many instances of other sites are leased.
    pub fn leased(&self) -> usize {
        self.leases.len()
    }

    /// What was dropped, and how often.
    pub fn drops(&self) -> impl Iterator<Item = (SitesDrop, u64)> {
        self.drops.iter().map(|(reason, count)| (*reason, *count))
    }
}
