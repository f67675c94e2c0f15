//! What the start or the end of an instance left behind when the daemon died in the middle of it.

use crate::directories::Directories;
use crate::journal::Recorded;
use anyhow::{Context, Result};
use margay_core::id::{EndpointIndex, InstanceId};
use margay_datapath::attach::InstanceLinks;
use margay_datapath::datapath::Datapath;
use margay_datapath::network::remove_device;
use margay_keeper::{InstanceStatus, KeeperClient};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to let go of killed processes: it is done within milliseconds.
const EMPTY_AFTER: Duration = Duration::from_secs(5);

/// How often that is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What the keeper holds of an instance begins so; the instance's number follows.
const HELD_OF_INSTANCES: [&str; 2] = ["dns/", "netns/"];

/// Takes away networks and sockets of instances that the keeper has no program of: nothing was ever
/// reached by them, and both are made anew if the instance is still wanted. So it does with those of
/// instances that are not recorded, whose programs are about to end.
pub async fn clear(
    keeper: &KeeperClient,
    (datapath, links): (&mut Datapath, &InstanceLinks),
    recorded: &Recorded,
    statuses: &[InstanceStatus],
    networks: &mut BTreeMap<InstanceId, (EndpointIndex, u32)>,
) -> Result<()> {
    let known = instances_of(recorded);
    let whole = statuses.iter().map(|status| status.instance);
    let whole: BTreeSet<InstanceId> = whole.filter(|id| known.contains(id)).collect();
    let (kept, half_made) = std::mem::take(networks)
        .into_iter()
        .partition(|(instance, _)| whole.contains(instance));
    *networks = kept;
    for (instance, (endpoint, ifindex)) in half_made {
        tracing::info!(%instance, "taking away the network of an instance that is not whole");
        remove_device(ifindex).await?;
        datapath.remove_endpoint(endpoint)?;
        links.detach(ifindex)?;
    }
    let used: BTreeSet<u32> = networks.values().map(|(_, ifindex)| *ifindex).collect();
    for ifindex in links.attached()? {
        if !used.contains(&ifindex) {
            // Made ahead by the last daemon, whose end ends it soon anyway.
            remove_device(ifindex).await?;
            links.detach(ifindex)?;
        }
    }
    let held = keeper
        .held()
        .context("cannot ask the keeper what it holds")?;
    for name in held {
        if instance_of(&name).is_some_and(|instance| !whole.contains(&instance)) {
            keeper.release(&name)?;
        }
    }
    Ok(())
}

/// Ends and removes the control groups below `cgroup` of instances that the keeper has no program of:
/// another keeper had, and died.
pub async fn clear_cgroups(cgroup: &Path, statuses: &[InstanceStatus]) -> Result<()> {
    let whole: BTreeSet<InstanceId> = statuses.iter().map(|status| status.instance).collect();
    for (instance, path) in numbered(cgroup)? {
        if !whole.contains(&instance) {
            tracing::info!(%instance, "taking away the control group of a program that is gone");
            end_cgroup(&path).await?;
        }
    }
    Ok(())
}

/// Kills whoever is in a control group, and removes it as soon as the kernel has let go of them.
async fn end_cgroup(path: &Path) -> Result<()> {
    std::fs::write(path.join("cgroup.kill"), "1")
        .with_context(|| format!("cannot end what runs in {}", path.display()))?;
    let deadline = Instant::now() + EMPTY_AFTER;
    loop {
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
        }
    }
}

/// Deletes the files of instances that are recorded no more: the daemon died between the two.
pub fn clear_files(directories: &Directories, recorded: &Recorded) -> Result<()> {
    let known = instances_of(recorded);
    for (instance, path) in numbered(&directories.instances())? {
        if !known.contains(&instance) {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// What lies in `directory` under instances' numbers; a directory that is not there holds nothing.
fn numbered(directory: &Path) -> Result<Vec<(InstanceId, PathBuf)>> {
    let cannot = || format!("cannot read {}", directory.display());
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(cannot),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(cannot)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(number) = name.and_then(|name| name.parse().ok()) {
            found.push((InstanceId(number), path));
        }
    }
    Ok(found)
}

fn instances_of(recorded: &Recorded) -> BTreeSet<InstanceId> {
    let plans = recorded.instances.iter();
    plans.map(|plan| plan.instance).collect()
}

/// Whose network something is that the keeper holds as `name`.
fn instance_of(name: &str) -> Option<InstanceId> {
    let number = HELD_OF_INSTANCES
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    number.parse().ok().map(InstanceId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::create_dir_all;

    #[test]
    fn files_of_instances_that_nobody_recorded_go() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories {
            state: dir.path().to_owned(),
            run: dir.path().join("run"),
        };
        let (_, recorded) = crate::journal::Journal::open(&directories.journal()).unwrap();
        clear_files(&directories, &recorded).unwrap();
        let gone = directories.instance_state(InstanceId(7));
        let not_ours = directories.instances().join("notes");
        create_dir_all(&gone).unwrap();
        create_dir_all(&not_ours).unwrap();

        clear_files(&directories, &recorded).unwrap();

        assert!(!directories.instance(InstanceId(7)).exists());
        assert!(not_ours.exists());
    }

    #[test]
    fn only_numbered_entries_belong_to_instances() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["3", "12", "notes", "-1", "3x"] {
            create_dir_all(dir.path().join(name)).unwrap();
        }
        let mut found = numbered(dir.path()).unwrap();
        found.sort();
        let expected = [3, 12].map(|id| (InstanceId(id), dir.path().join(id.to_string())));
        assert_eq!(found, expected);
        assert_eq!(numbered(&dir.path().join("nothing")).unwrap(), []);
    }

    #[test]
    fn networks_of_instances_are_told_from_what_else_is_held() {
        assert_eq!(instance_of("dns/7"), Some(InstanceId(7)));
        assert_eq!(instance_of("netns/12"), Some(InstanceId(12)));
        for other in ["tap", "log/7", "dns/", "dns/x", "netns"] {
            assert_eq!(instance_of(other), None, "{other}");
        }
    }
}
