//! Reads how much of the processor instances have used, from their control groups.

use crate::worker::cgroup_of;
use crate::world::World;
use margay_core::id::InstanceId;
use margay_core::port::Input;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Reads the processor times of `instances` and tells core; one that cannot be read is left out.
pub fn read(world: &Arc<World>, instances: Vec<InstanceId>) {
    let world = Arc::clone(world);
    tokio::task::spawn_blocking(move || {
        let used = instances.into_iter().filter_map(|instance| {
            let used = processor_time(&cgroup_of(&world, instance))?;
            Some((instance, used))
        });
        let used = used.collect();
        world.router.input(Input::ProcessorsRead(used));
    });
}

/// What a control group has used of the processor since it was made (Linux,
/// Documentation/admin-guide/cgroup-v2.rst, `cpu.stat`).
fn processor_time(cgroup: &Path) -> Option<Duration> {
    let statistics = std::fs::read_to_string(cgroup.join("cpu.stat")).ok()?;
    let mut lines = statistics.lines();
    let used = lines.find_map(|line| line.strip_prefix("usage_usec "))?;
    used.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_group_tells_its_processor_time() {
        let cgroup = tempfile::tempdir().unwrap();
        assert_eq!(processor_time(cgroup.path()), None);
        let text = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n";
        std::fs::write(cgroup.path().join("cpu.stat"), text).unwrap();
        let used = Duration::from_millis(2_500);
        assert_eq!(processor_time(cgroup.path()), Some(used));
    }
}
