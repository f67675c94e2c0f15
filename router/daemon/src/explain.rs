//! `margay explain`: has core tell why a flow goes where it goes.

use crate::router_thread::now;
use crate::world::World;
use anyhow::Result;
use margay_core::explanation::Target;
use margay_core::port::{FlowReading, FlowSlots};
use serde_json::Value;

/// Explains `target` to an operator, as `caller` would meet it.
pub async fn explain(world: &World, target: &str, caller: Option<&str>) -> Result<Value> {
    let target: Target = target.parse()?;
    let caller = caller.map(|name| world.instances.find(name)).transpose()?;
    let caller = caller.map(|facts| facts.plan.instance);
    let names = world.names.load_full();
    let explanation = world.router.look(move |router, datapath| {
        let read = |slots: FlowSlots| match datapath.read_flows(&[slots])[..] {
            [reading] => reading,
            _ => FlowReading {
                forward_key: slots.forward_key,
                forward: Default::default(),
                reverse: Default::default(),
            },
        };
        router.explain(&target, caller, &names, read, now())
    });
    Ok(serde_json::to_value(explanation.await??)?)
}

#[cfg(test)]
mod document;
