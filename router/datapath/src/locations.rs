//! Where identities are: cells that name immutable rows, so that a move is one atomic store.

use crate::layout::{LOCATION_ENCAPSULATED, LOCATION_LOCAL, LOCATION_NEIGHBOUR, LOCATION_NOWHERE};
use crate::layout::{LocationCell, LocationRow};
use crate::mapped_array::MappedArray;
use margay_core::id::LocationIndex;
use margay_core::way::{Path, Way};
use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The row that leads nowhere; a new cell names it, and it is never handed out.
const NOWHERE: u32 = 0;

/// How long a row rests after its cell named another: a packet that read the cell before may still
/// be reading the row. A packet takes microseconds; a second is generous even to a stalled machine.
const ROW_QUARANTINE: Duration = Duration::from_secs(1);

/// Why an identity's location could not be set.
#[derive(Debug, Error)]
pub enum LocationError {
    /// There is no such cell.
    #[error("location {location} is beyond the {cells} cells: raise `endpoints_max`")]
    NoSuchLocation {
        /// The cell that was asked for.
        location: LocationIndex,
        /// How many cells there are.
        cells: usize,
    },
    /// Every row is in use or rests.
    #[error("no location row is free: too many moves within a second; try again after it")]
    NoRowFree,
}

/// The cells, their rows, and which rows may be written.
#[derive(Debug)]
pub(crate) struct Locations {
    cells: MappedArray<LocationCell>,
    rows: MappedArray<LocationRow>,
    free: Vec<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Locations {
    /// Takes over cells as they stand; rows that an earlier run used rest before they are reused.
    pub(crate) fn new(
        cells: MappedArray<LocationCell>,
        rows: MappedArray<LocationRow>,
        now: Instant,
    ) -> Self {
        let mut named = BTreeSet::from([NOWHERE]);
        cells.each(|_, cell| {
            named.insert(cell.row.load(Acquire));
        });
        let mut free = Vec::new();
        let mut resting = VecDeque::new();
        rows.each(|index, row| {
            if named.contains(&index) {
                return;
            }
            if row.kind.load(Relaxed) == LOCATION_NOWHERE {
                free.push(index);
            } else {
                resting.push_back((now, index));
            }
        });
        // The first ones are handed out first: what nobody uses need not be mapped.
        free.reverse();
        Locations {
            cells,
            rows,
            free,
            resting,
        }
    }

    /// Points a cell somewhere.
    pub(crate) fn set(
        &mut self,
        location: LocationIndex,
        way: Way,
        now: Instant,
    ) -> Result<(), LocationError> {
        let Some(cell) = self.cells.row(location.0) else {
            return Err(LocationError::NoSuchLocation {
                location,
                cells: self.cells.len(),
            });
        };
        let old = cell.row.load(Relaxed);
        if self.leads_to(old) == way {
            return Ok(());
        }
        let new = match way {
            Way::Nowhere => NOWHERE,
            somewhere => self.write_row(somewhere, now)?,
        };
        if let Some(cell) = self.cells.row(location.0) {
            cell.row.store(new, Release);
        }
        if old != NOWHERE {
            self.resting.push_back((now, old));
        }
        Ok(())
    }

    fn leads_to(&self, row: u32) -> Way {
        let Some(row) = self.rows.row(row) else {
            return Way::Nowhere;
        };
        let ifindex = row.ifindex.load(Relaxed);
        let (destination, source) = row.ends();
        match row.kind.load(Relaxed) {
            LOCATION_LOCAL => Way::Device(ifindex),
            kind @ (LOCATION_NEIGHBOUR | LOCATION_ENCAPSULATED) => Way::Peer(Path {
                ifindex,
                on_link: kind == LOCATION_NEIGHBOUR,
                source,
                destination,
            }),
            _ => Way::Nowhere,
        }
    }

    /// Fills a free row that no cell names.
    fn write_row(&mut self, way: Way, now: Instant) -> Result<u32, LocationError> {
        while let Some((since, row)) = self.resting.front()
            && now.duration_since(*since) >= ROW_QUARANTINE
        {
            self.free.push(*row);
            self.resting.pop_front();
        }
        let index = self.free.pop().ok_or(LocationError::NoRowFree)?;
        let row = self.rows.row(index).ok_or(LocationError::NoRowFree)?;
        fill(row, way);
        Ok(index)
    }
}

/// Describes a way to the kernel.
fn fill(row: &LocationRow, way: Way) {
    let nobody = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let (kind, ifindex, to, from) = match way {
        Way::Nowhere => (LOCATION_NOWHERE, 0, nobody, nobody),
        Way::Device(ifindex) => (LOCATION_LOCAL, ifindex, nobody, nobody),
        Way::Peer(path) => {
            let kind = match path.on_link {
                true => LOCATION_NEIGHBOUR,
                false => LOCATION_ENCAPSULATED,
            };
            (kind, path.ifindex, path.destination, path.source)
        }
    };
    row.ifindex.store(ifindex, Relaxed);
    row.set_ends(to, from);
    row.kind.store(kind, Relaxed);
}
