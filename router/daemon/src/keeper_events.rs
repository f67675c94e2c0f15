//! Tells core and the workers what the keeper says of the instances' processes.

use crate::world::World;
use margay_core::port::Input;
use margay_keeper::{Event, EventStream};
use std::sync::Arc;
use std::time::Duration;

/// Starts the thread that listens to the keeper; `lost` is called when the keeper falls silent.
pub fn listen(
    world: Arc<World>,
    mut events: EventStream,
    lost: impl FnOnce(String) + Send + 'static,
) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("keeper-events".into())
        .spawn(move || {
            loop {
                match events.recv(None) {
                    Ok(Some(event)) => tell(&world, event),
                    Ok(None) => {}
                    Err(error) => return lost(error.to_string()),
                }
            }
        })?;
    Ok(())
}

fn tell(world: &World, event: Event) {
    match event {
        Event::Started { instance, init_pid } => {
            world.instances.update(instance, |facts| {
                facts.init_pid = Some(init_pid);
                // Whoever waits for the end from now on waits for that of this run.
                facts.stopped = Arc::default();
            });
            world.router.input(Input::ProcessStarted { instance });
        }
        Event::Exited {
            instance,
            status,
            restart_after_ms,
        } => {
            tracing::info!(%instance, status, ?restart_after_ms, "the instance's program ended");
            world.instances.update(instance, |facts| {
                facts.init_pid = None;
                facts.restarts += u32::from(restart_after_ms.is_some());
            });
            let restart_after = restart_after_ms.map(Duration::from_millis);
            world.router.input(Input::ProcessExited {
                instance,
                status,
                restart_after,
            });
        }
        Event::Stopped { instance } => {
            // No news to core, unless it was the last daemon that asked for the end.
            world.router.input(Input::ProcessExited {
                instance,
                status: "was ended".to_owned(),
                restart_after: None,
            });
            world.instances.update(instance, |facts| {
                facts.init_pid = None;
                facts.stopped.notify_one();
            });
        }
    }
}
