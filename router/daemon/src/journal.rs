//! What must survive the daemon, in one redb file: each commit is durable or did not happen.

pub mod membership;
pub mod tables;

pub use membership::{Entry, MembershipRecord, RecordedMembership, Sponsor};
pub use tables::Recorded;

use crate::reserve::Reserve;
use crate::schema;
use anyhow::{Context, Result};
use margay_core::composition::Composition;
use margay_core::host::OriginEpoch;
use margay_core::port::Record;
use redb::{Database, ReadableDatabase, WriteTransaction};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a change takes beside its records, in bytes: some pages of each table.
const CHANGE_BYTES: u64 = 64 << 10;
/// What the record of an instance takes beside its automaton's declaration, in bytes: its names and
/// addresses.
const INSTANCE_BYTES: u64 = 1 << 10;
/// The most room that is set aside, in bytes: what is larger has more instances than a host can hold,
/// or more to say than memory should be spent on.
const ROOM_BYTES_MAX: u64 = 64 << 20;
/// redb writes pages anew beside the old ones, and never fills one to its end.
const COPIES: u64 = 2;

/// The journal of one state directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Absent after a failed write: redb wants a fresh start then.
    database: Option<Database>,
    /// Room for changes that are accepted but not recorded yet.
    reserve: Reserve,
}

impl Journal {
    /// Opens the journal at `path`, making it on the first start.
    pub fn open(path: &Path) -> Result<(Journal, Recorded)> {
        let mut journal = Journal {
            path: path.to_owned(),
            database: None,
            reserve: Reserve::open(&path.with_extension("reserve"))
                .with_context(|| format!("no access to {}", path.display()))?,
        };
        journal.write(|transaction| {
            schema::bring_up_to_date(transaction)?;
            tables::make(transaction)
        })?;
        let recorded = journal.read()?;
        Ok((journal, recorded))
    }

    /// Makes `records` durable, all or none, in the room that was set aside for them.
    pub fn commit(&mut self, records: &[Record]) -> Result<()> {
        self.release_room()?;
        self.write(|transaction| {
            records
                .iter()
                .try_for_each(|record| tables::apply(transaction, record))
        })
    }

    /// Makes changes of this host's membership durable, all or none.
    pub fn commit_membership(&mut self, records: &[MembershipRecord]) -> Result<()> {
        self.write(|transaction| {
            records
                .iter()
                .try_for_each(|record| membership::apply(transaction, record))
        })
    }

    /// Begins another life of this host: what it says in it is told from what it said before.
    pub fn raise_epoch(&mut self) -> Result<OriginEpoch> {
        let mut epoch = OriginEpoch::default();
        let draw = u16::from_be_bytes(random()?);
        self.write(|transaction| {
            epoch = membership::raise_epoch(transaction, draw)?;
            Ok(())
        })?;
        Ok(epoch)
    }

    /// Sets room aside for `composition` and its instances, before it is applied.
    pub fn hold_room_for(&self, composition: &Composition) -> Result<()> {
        let mut bytes = serde_json::to_vec(composition)?.len() as u64;
        for automaton in composition.automatons.values() {
            let instance = serde_json::to_vec(automaton)?.len() as u64 + INSTANCE_BYTES;
            bytes = bytes.saturating_add(instance.saturating_mul(automaton.replicas.into()));
        }
        self.hold_room(bytes)
    }

    /// Sets room aside for `bytes` of records, none for a deletion.
    pub fn hold_room(&self, bytes: u64) -> Result<()> {
        let room = bytes.min(ROOM_BYTES_MAX) * COPIES + CHANGE_BYTES;
        self.reserve
            .hold(room)
            .with_context(|| format!("no room in {}", self.path.display()))
    }

    /// Gives back room that was not used.
    pub fn release_room(&self) -> Result<()> {
        self.reserve
            .release()
            .with_context(|| format!("no access to {}", self.path.display()))
    }

    fn write(&mut self, change: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
        let outcome = self.try_write(change);
        if outcome.is_err() {
            self.database = None;
        }
        outcome.with_context(|| format!("cannot record in {}", self.path.display()))
    }

    fn try_write(&mut self, change: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::create(&self.path)?,
        };
        let transaction = database.begin_write()?;
        change(&transaction)?;
        transaction.commit()?;
        self.database = Some(database);
        Ok(())
    }

    fn read(&self) -> Result<Recorded> {
        let database = self.database.as_ref().context("the journal is not open")?;
        tables::read(&database.begin_read()?)
    }
}

/// Draws `N` bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::tables::decode;
    use super::*;
    use margay_core::address::{InstanceAddresses, VirtualIp};
    use margay_core::id::{InstanceId, Version};
    use margay_core::name::AutomatonName;
    use margay_core::port::InstancePlan;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn plan(instance: u64) -> InstancePlan {
        let vip = |n| VirtualIp {
            v4: [100, 64, 0, n].into(),
            v6: [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
        };
        InstancePlan {
            instance: InstanceId(instance),
            name: "1.web".parse().unwrap(),
            composition: "shop".parse().unwrap(),
            version: Version(1),
            addresses: InstanceAddresses {
                called: vip(1),
                caller: vip(2),
            },
            command: vec!["true".into()],
            environment: BTreeMap::new(),
            user: None,
            egress: Default::default(),
        }
    }

    fn drained(instance: u64, drained: bool) -> Record {
        let instance = InstanceId(instance);
        Record::Drained { instance, drained }
    }

    fn composition(version: u64) -> Composition {
        Composition {
            name: "shop".parse().unwrap(),
            version: Version(version),
            automatons: BTreeMap::new(),
            host_needs: Default::default(),
        }
    }

    #[test]
    fn recorded_state_survives_a_new_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, first) = Journal::open(&path).unwrap();
        let records = [
            Record::Composition(composition(1)),
            Record::Instance(plan(7)),
            Record::Instance(plan(3)),
            drained(3, true),
            drained(7, true),
            Record::InstanceRemoved {
                instance: InstanceId(3),
            },
        ];
        journal.commit(&records).unwrap();
        drop(journal);

        let (_, second) = Journal::open(&path).unwrap();
        assert_eq!(second.network_key, first.network_key);
        assert_eq!(second.host_tag, first.host_tag);
        assert_eq!(second.compositions, [composition(1)]);
        assert_eq!(second.instances, [plan(7)]);
        assert_eq!(second.drained, [InstanceId(7)]);
        assert_eq!(second.next_instance, 8, "a number is never used twice");
        assert_eq!(second.quarantined.len(), 1);
    }

    #[test]
    fn composition_of_an_older_version_is_read() {
        let mut newer = composition(1);
        let web = "web".parse().unwrap();
        newer.automatons.insert(web, sample_automaton());
        let mut older = serde_json::to_value(&newer).unwrap();
        let web = &mut older["automatons"]["web"];
        for younger in ["alive", "drain", "weights", "slow_start"] {
            let removed = web.as_object_mut().unwrap().remove(younger);
            assert!(removed.is_some(), "{younger}");
        }
        let read: Composition = decode(older.to_string().as_bytes()).unwrap();
        assert_eq!(read, newer);
    }

    #[test]
    fn undone_drain_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(&dir.path().join("j")).unwrap();
        journal
            .commit(&[Record::Instance(plan(7)), drained(7, true)])
            .unwrap();
        journal.commit(&[drained(7, false)]).unwrap();
        assert_eq!(journal.read().unwrap().drained, []);
    }

    #[test]
    fn virtual_ip_of_a_service_is_remembered_while_held_and_for_its_quarantine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, _) = Journal::open(&path).unwrap();
        let service = |name: &str| name.parse::<AutomatonName>().unwrap();
        let vip = |name: &str, last: u8| Record::ServiceVip {
            service: service(name),
            v4: [100, 64, 0, last].into(),
        };
        let freed = |name: &str| Record::ServiceVipFreed {
            service: service(name),
        };
        journal.commit(&[vip("web", 1), vip("store", 2)]).unwrap();
        journal.commit(&[freed("store"), freed("unknown")]).unwrap();
        drop(journal);

        let (_, recorded) = Journal::open(&path).unwrap();
        let [store, web] = recorded.service_vips.as_slice() else {
            panic!("{:?}", recorded.service_vips)
        };
        assert_eq!((web.v4, web.free_for), ([100, 64, 0, 1].into(), None));
        assert_eq!(store.v4, Ipv4Addr::from([100, 64, 0, 2]));
        assert!(store.free_for.is_some());
    }

    #[test]
    fn composition_of_an_older_version_reads_with_defaults() {
        let mut row = serde_json::to_value(sample_automaton()).unwrap();
        for newer in ["answer", "egress"] {
            row.as_object_mut().unwrap().remove(newer).unwrap();
        }
        let bytes = serde_json::to_vec(&row).unwrap();
        assert_eq!(
            decode::<margay_core::composition::Automaton>(&bytes).unwrap(),
            sample_automaton()
        );
    }

    #[test]
    fn full_disk_is_an_error_and_changes_nothing() {
        // A tmpfs of one megabyte in a mount namespace of this thread's own stands for the disk.
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| fill_and_commit(dir.path()));
        });
    }

    fn fill_and_commit(dir: &Path) {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(
            Some("tmpfs"),
            dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=4m"),
        )
        .unwrap();
        let path = dir.join("j");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal
            .commit(&[Record::Composition(composition(1))])
            .unwrap();

        let ballast = dir.join("ballast");
        std::fs::write(&ballast, vec![0; 8 << 20]).unwrap_err();
        let mut large = composition(2);
        large.name = "large".parse().unwrap();
        let mut automaton = sample_automaton();
        automaton.command.push("x".repeat(3 << 20));
        large.automatons.insert("web".parse().unwrap(), automaton);
        let error = journal.hold_room_for(&large).unwrap_err();
        assert!(format!("{error:#}").contains("No space left"), "{error:#}");

        std::fs::remove_file(&ballast).unwrap();
        accepted_changes_are_recorded_on_a_nearly_full_disk(dir, &mut journal);
        journal.commit(&[Record::Instance(plan(1))]).unwrap();
        drop(journal);
        let (_, recorded) = Journal::open(&path).unwrap();
        assert_eq!(recorded.compositions, [composition(1)]);
        assert_eq!(recorded.instances, [plan(1)]);
    }

    /// Whatever little room is left: a change is refused, or it can be recorded.
    fn accepted_changes_are_recorded_on_a_nearly_full_disk(dir: &Path, journal: &mut Journal) {
        let ballast = dir.join("ballast");
        let mut accepted = 0;
        for kib in (0..3500).step_by(250) {
            std::fs::write(&ballast, vec![0; kib << 10]).unwrap_or_default();
            let mut large = composition(2);
            large.name = "large".parse().unwrap();
            let mut automaton = sample_automaton();
            automaton.command.push("x".repeat(512 << 10));
            large.automatons.insert("web".parse().unwrap(), automaton);
            if journal.hold_room_for(&large).is_ok() {
                accepted += 1;
                journal.commit(&[Record::Composition(large)]).unwrap();
                journal
                    .commit(&[Record::CompositionDeleted("large".parse().unwrap())])
                    .unwrap();
            }
        }
        assert!(
            (1..14).contains(&accepted),
            "{accepted} of 14 were accepted"
        );
        std::fs::remove_file(&ballast).unwrap();
    }

    fn sample_automaton() -> margay_core::composition::Automaton {
        margay_core::composition::Automaton {
            command: vec!["true".into()],
            environment: BTreeMap::new(),
            user: None,
            replicas: 1,
            ports: BTreeMap::new(),
            needs: Default::default(),
            ready: None,
            affinity: Default::default(),
            balance: Default::default(),
            answer: Default::default(),
            alive: None,
            egress: Default::default(),
            drain: margay_core::composition::DRAIN,
            weights: Vec::new(),
            slow_start: Duration::ZERO,
            on: Vec::new(),
        }
    }
}
