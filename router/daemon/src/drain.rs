//! Has an instance take no new flow on an operator's behalf, and tells how that goes.

use crate::control::change;
use crate::journal::Journal;
use crate::protocol::DrainRow;
use crate::world::World;
use anyhow::{Context, Result};
use margay_core::id::InstanceId;
use margay_core::port::Input;
use margay_core::router::Router;
use serde_json::Value;

/// Drains `instance`, or undoes that; asked again it tells how far it is.
pub async fn drain(world: &World, instance: &str, cancel: bool) -> Result<Value> {
    let id = world.instances.find(instance)?.plan.instance;
    let drained = !cancel;
    let before = world.router.look(move |router, _| row(router, id)).await?;
    if before.is_none_or(|row| row.drained != drained) {
        let room = |journal: &Journal| journal.hold_room(0);
        let asked = |request| Input::Drain {
            request,
            instance: id,
            drained,
        };
        change(world, room, asked).await?;
    }
    let row = world.router.look(move |router, _| row(router, id)).await?;
    let row = row.with_context(|| format!("{instance} ended meanwhile; `margay ps` tells more"))?;
    Ok(serde_json::to_value(row)?)
}

fn row(router: &Router, id: InstanceId) -> Option<DrainRow> {
    let view = router.instances().into_iter().find(|view| view.id == id)?;
    let callers = router.callers_of(id).into_iter();
    let callers = callers.map(|(name, count)| (name.to_string(), count));
    Some(DrainRow {
        name: view.name.to_string(),
        instance: id.0,
        drained: view.drained,
        flows: view.flows,
        callers: callers.collect(),
    })
}
