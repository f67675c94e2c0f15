//! Moves under a clock of the test's own: rows rest before reuse, and named rows are never reused.

use super::lab::{config, in_own_namespaces, ip};
use crate::datapath::Datapath;
use crate::locations::{LocationError, Locations};
use crate::mapped_array::{MappedArray, Row};
use crate::object::DatapathConfig;
use aya::maps::MapData;
use margay_core::id::LocationIndex;
use margay_core::way::Way;
use std::time::{Duration, Instant};

const MOVED: LocationIndex = LocationIndex(0);
const SETTLED: LocationIndex = LocationIndex(1);
/// One endpoint has four cells, and eight rows besides the one that leads nowhere.
const ROWS: u32 = 8;
const SECOND: Duration = Duration::from_secs(1);

fn pinned<T: Row>(config: &DatapathConfig, name: &str) -> MappedArray<T> {
    MappedArray::new(&MapData::from_pin(config.pin_dir.join(name)).unwrap()).unwrap()
}

/// A process takes over the pinned cells and rows.
fn take_over(config: &DatapathConfig, now: Instant) -> Locations {
    Locations::new(
        pinned(config, "locations"),
        pinned(config, "location_rows"),
        now,
    )
}

/// Runs `test` over the cells and rows of one endpoint.
fn with_one_endpoint(test: impl FnOnce(&DatapathConfig) + Send + 'static) {
    in_own_namespaces(|| {
        ip("link add tap-stand-in type veth peer name tap-end");
        let config = DatapathConfig {
            endpoints_max: 1,
            ..config()
        };
        drop(Datapath::open(&config).unwrap());
        test(&config);
    });
}

fn is_refused(moved: Result<(), LocationError>) -> bool {
    matches!(moved, Err(LocationError::NoRowFree))
}

/// ```text
///   moves 1 to 8 use a row each; the 9th must wait until the row of the 1st has rested
/// ```
#[test]
fn a_row_rests_for_a_second_before_it_is_used_again() {
    with_one_endpoint(|config| {
        let now = Instant::now();
        let mut locations = take_over(config, now);
        for device in 1..=ROWS {
            locations.set(MOVED, Way::Device(device), now).unwrap();
        }
        let almost = now + SECOND - Duration::from_millis(1);
        assert!(is_refused(locations.set(MOVED, Way::Device(100), almost)));
        locations
            .set(MOVED, Way::Device(100), now + SECOND)
            .unwrap();
    });
}

/// ```text
///   before the restart: SETTLED -> row A      after it: MOVED moves until rows run out, never to A
/// ```
#[test]
fn a_restart_never_gives_away_the_row_of_a_settled_identity() {
    with_one_endpoint(|config| {
        let now = Instant::now();
        take_over(config, now)
            .set(SETTLED, Way::Device(7), now)
            .unwrap();

        let mut locations = take_over(config, now);
        let later = now + 2 * SECOND;
        for device in 1..ROWS {
            locations.set(MOVED, Way::Device(device), later).unwrap();
        }
        assert!(is_refused(locations.set(MOVED, Way::Device(100), later)));
    });
}

#[test]
fn a_cell_beyond_the_table_is_refused() {
    with_one_endpoint(|config| {
        let now = Instant::now();
        let refused = take_over(config, now).set(LocationIndex(4), Way::Device(1), now);
        let no_such = matches!(refused, Err(LocationError::NoSuchLocation { cells: 4, .. }));
        assert!(no_such);
    });
}
