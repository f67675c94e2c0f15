//! Everything that comes into the neighbourhood, and everything that goes out.

use crate::address::Ipv4Block;
use crate::composition::{Composition, CompositionName};
use crate::host::{HostId, OriginEpoch};
use crate::id::InstanceId;
use crate::name::{AutomatonName, SitePath};
use crate::overlay::{OverlayCommand, OverlayEvent};
use crate::peer::{PeerInput, RemoteInstance};
use crate::way::Path;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// Another host of the network, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Which.
    pub host: HostId,
    /// Where it belongs.
    pub site: SitePath,
    /// Whether it may speak for its site.
    pub may_be_gateway: bool,
    /// Where it listens; the overlay by TCP, under the port of the host link.
    pub addresses: Vec<SocketAddr>,
    /// The addresses that it gives to its identities.
    pub blocks: Vec<Ipv4Block>,
    /// Whether what is applied there is applied everywhere.
    pub is_operator: bool,
}

/// What a datagram carries; the number stands before it on the host link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatagramKind {
    /// A message of membership.
    Membership = 1,
    /// A service frame.
    ServiceFrame = 2,
    /// A message of the catalog, or a part of one.
    Catalog = 3,
    /// A service frame with what proves who calls, for a host of another site than the caller's.
    IntroducedFrame = 8,
}

impl DatagramKind {
    /// All kinds.
    pub const ALL: &'static [DatagramKind] = &[
        DatagramKind::Membership,
        DatagramKind::ServiceFrame,
        DatagramKind::Catalog,
        DatagramKind::IntroducedFrame,
    ];

    /// The kind with a number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        DatagramKind::ALL
            .iter()
            .copied()
            .find(|kind| *kind as u8 == number)
    }
}

/// What happens in the neighbourhood.
#[derive(Clone, Debug)]
pub enum NeighbourhoodInput {
    /// A host belongs to the network, by a certificate that holds.
    Known(Neighbour),
    /// Its certificate holds no more.
    Unknown {
        /// Whose.
        host: HostId,
    },
    /// The host link to a host stands.
    LinkUp {
        /// To which.
        host: HostId,
        /// By which packets of flows go there.
        path: Path,
    },
    /// The host link to a host is gone.
    LinkDown {
        /// To which.
        host: HostId,
    },
    /// The host link brought a datagram, and vouches for its sender.
    Datagram {
        /// Who sent it.
        from: HostId,
        /// What it carries.
        kind: DatagramKind,
        /// At most [`DATAGRAM_BYTES_MAX`](super::DATAGRAM_BYTES_MAX).
        bytes: Vec<u8>,
    },
    /// A host's keeper answered [`NeighbourhoodOutput::Echo`].
    Echoed {
        /// Whose.
        host: HostId,
    },
    /// What the Router says of an instance that runs here.
    Own(Arc<RemoteInstance>),
    /// An instance that ran here is no more.
    OwnGone {
        /// Which.
        instance: InstanceId,
    },
    /// An operator applied a composition here.
    Composed {
        /// As it was read.
        composition: Composition,
        /// What it was read from.
        text: String,
    },
    /// An operator deleted a composition here.
    Deleted {
        /// Which.
        composition: CompositionName,
    },
    /// What an earlier run was asked to keep: comes once for each, at the start.
    Kept {
        /// As it was handed out.
        bytes: Vec<u8>,
    },
    /// The Router wants a service frame sent.
    SendFrame {
        /// To whom.
        to: HostId,
        /// As it is.
        frame: Vec<u8>,
    },
    /// The Router wants instances of a service found beyond the site.
    Seek {
        /// Which service.
        service: AutomatonName,
    },
    /// With these hosts flows of this one are open, as the Router answers
    /// [`PeerInput::BusyWanted`]: instances of other sites stay known so long.
    Busy {
        /// Which.
        hosts: BTreeSet<HostId>,
    },
    /// What the overlay brought.
    Overlay(OverlayEvent),
    /// The own epoch was raised, after [`NeighbourhoodOutput::Outlived`].
    Epoch(OriginEpoch),
    /// This host goes away on purpose, and nothing runs on it any more.
    Leave,
}

/// What the neighbourhood wants done.
#[derive(Clone, Debug)]
pub enum NeighbourhoodOutput {
    /// Send a datagram over the host link; it may be lost.
    Datagram {
        /// To whom.
        to: HostId,
        /// What it carries.
        kind: DatagramKind,
        /// At most [`DATAGRAM_BYTES_MAX`](super::DATAGRAM_BYTES_MAX).
        bytes: Vec<u8>,
    },
    /// Have a host link to this host, until [`NeighbourhoodOutput::Part`].
    Meet {
        /// With whom.
        host: HostId,
    },
    /// The host link to this host is not needed any more.
    Part {
        /// With whom.
        host: HostId,
    },
    /// Have the overlay do something.
    Overlay(OverlayCommand),
    /// Ask a host's keeper for an echo: its daemon does not answer.
    Echo {
        /// Whose.
        to: HostId,
    },
    /// Tell the Router.
    Peer(PeerInput),
    /// Have the Router apply what an operator applied, here or elsewhere.
    Apply(Arc<Composition>),
    /// Have the Router delete what an operator deleted, here or elsewhere.
    Forget(CompositionName),
    /// Keep this over a restart, in place of what was kept of the composition before.
    Keep {
        /// Of which.
        composition: CompositionName,
        /// For [`NeighbourhoodInput::Kept`].
        bytes: Vec<u8>,
    },
    /// The others have been told that this host leaves: its links may end.
    Left,
    /// An older state of this host was restored: raise its epoch above this one, durably, and say
    /// [`NeighbourhoodInput::Epoch`].
    Outlived(OriginEpoch),
}
