//! Carries out the effects that take time, in the order in which core asked for them.

use crate::processors;
use crate::worker::{self, Held, Task, Worker};
use crate::world::{World, lock};
use anyhow::{Context, Result};
use margay_core::id::InstanceId;
use margay_core::port::{InstancePlan, Output, Record};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Steps of core whose effects are taken together: what waited for one commit is recorded by the next.
const STEPS_MAX: usize = 1024;

/// How long to wait before a failed record is tried again.
const RECORD_RETRY: Duration = Duration::from_secs(1);

/// Carries out effects until the router thread ends.
pub struct Supervisor {
    world: Arc<World>,
    steps: mpsc::UnboundedReceiver<Vec<Output>>,
    workers: BTreeMap<InstanceId, mpsc::UnboundedSender<Task>>,
}

impl Supervisor {
    /// Makes a supervisor of the effects of `steps`.
    pub fn new(world: Arc<World>, steps: mpsc::UnboundedReceiver<Vec<Output>>) -> Self {
        Supervisor {
            world,
            steps,
            workers: BTreeMap::new(),
        }
    }

    /// Takes over an instance that outlived the last daemon.
    pub fn adopt(&mut self, plan: Arc<InstancePlan>, held: Held) {
        self.workers
            .insert(plan.instance, Worker::spawn(self.world.clone(), plan, held));
    }

    /// Carries out effects until the router thread ends: records first, all by one commit, for no
    /// effect may come before a record that it follows.
    pub async fn run(mut self) {
        let mut steps = Vec::new();
        while self.steps.recv_many(&mut steps, STEPS_MAX).await > 0 {
            let mut records = Vec::new();
            let mut effects = Vec::new();
            for output in steps.drain(..).flatten() {
                match output {
                    Output::Record(record) => records.push(record),
                    effect => effects.push(effect),
                }
            }
            self.make_durable(&mut records).await;
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    /// Writes records down, trying again for as long as it takes: later effects must wait, and live
    /// flows need neither.
    async fn make_durable(&mut self, records: &mut Vec<Record>) {
        while !records.is_empty() {
            match self.commit(records.clone()).await {
                Ok(()) => records.drain(..).for_each(|record| self.follow(&record)),
                Err(error) => {
                    tracing::error!("{error:#}; trying again in {} s", RECORD_RETRY.as_secs());
                    tokio::time::sleep(RECORD_RETRY).await;
                }
            }
        }
    }

    /// Does what only a durable record allows.
    fn follow(&self, record: &Record) {
        if let Record::InstanceRemoved { instance } = record {
            worker::forget(&self.world, *instance);
        }
    }

    async fn commit(&self, records: Vec<Record>) -> Result<()> {
        let journal = self.world.journal.clone();
        let commit = tokio::task::spawn_blocking(move || lock(&journal).commit(&records));
        commit.await.context("a commit was cut off")?
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::PrepareInstance(plan) => self.task(Arc::new(plan), Task::Prepare),
            Output::StartProcess(plan) => self.task(Arc::new(plan), Task::Start),
            Output::Probe {
                readiness, plan, ..
            } => self.task(plan, Task::Probe(readiness)),
            Output::Watch { liveness, plan, .. } => self.task(plan, Task::Watch(liveness)),
            Output::KillProcess { instance } => kill(&self.world, instance),
            Output::RemoveInstance { instance, grace } => self.remove(instance, grace),
            Output::ReadProcessors(instances) => processors::read(&self.world, instances),
            Output::Respond { request, outcome } => self.world.operators.answer(request, outcome),
            carried_out_by_the_router_thread => {
                tracing::error!(
                    ?carried_out_by_the_router_thread,
                    "an effect came to the wrong place"
                );
            }
        }
    }

    fn task(&mut self, plan: Arc<InstancePlan>, task: Task) {
        let world = &self.world;
        let worker = self.workers.entry(plan.instance).or_insert_with(|| {
            world.instances.insert(plan.clone(), None, 0);
            Worker::spawn(world.clone(), plan, Held::default())
        });
        if let Err(lost) = worker.send(task) {
            tracing::debug!(task = ?lost.0, "a task came after its instance's end");
        }
    }

    fn remove(&mut self, instance: InstanceId, grace: Duration) {
        match self.workers.remove(&instance) {
            Some(worker) => {
                if worker.send(Task::Remove(grace)).is_err() {
                    tracing::debug!(%instance, "removed twice");
                }
            }
            None => self
                .world
                .router
                .input(margay_core::port::Input::InstanceRemoved { instance }),
        }
    }
}

/// Kills an instance's program, past whatever its worker has under way.
fn kill(world: &Arc<World>, instance: InstanceId) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        tracing::info!(%instance, "the instance's program is not alive; killing it");
        let killed = world.keeper.call(move |keeper| keeper.kill(instance)).await;
        if let Err(error) = killed {
            tracing::warn!(%instance, "cannot kill: {error:#}");
        }
    });
}
