//! Programs that hang: asked whether they are alive, and killed when they are not.

use super::Router;
use crate::composition::Liveness;
use crate::id::InstanceId;
use crate::lifecycle::Stage;
use crate::port::Output;
use std::sync::Arc;

/// What is known of a program's being alive.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// How it is asked now; `None`: it is not.
    asked: Option<Liveness>,
    /// Whether it was alive once since its start: before, it is starting and not hung.
    felt: bool,
    /// Failures since it was alive last.
    missed: u32,
    /// Why it is being killed.
    killed_for: Option<String>,
}

impl Pulse {
    /// Takes an answer, or why there was none; whether the program shall be killed.
    fn hear(&mut self, verdict: Result<(), String>) -> bool {
        // What is not asked any more gives no answers but late ones.
        let Some(asked) = &self.asked else {
            return false;
        };
        match verdict {
            Ok(()) => (self.felt, self.missed) = (true, 0),
            Err(why) if self.felt => {
                self.missed += 1;
                if self.missed >= asked.failures {
                    (self.felt, self.missed) = (false, 0);
                    self.killed_for = Some(format!("not alive ({why}), killed"));
                    return true;
                }
            }
            Err(_) => {}
        }
        false
    }

    /// Why the program that has just ended was killed, if it was for not being alive.
    pub(super) fn take_cause(&mut self) -> Option<String> {
        (self.felt, self.missed) = (false, 0);
        self.killed_for.take()
    }
}

impl Router {
    /// Takes what a liveness probe found.
    pub(super) fn pulse_felt(&mut self, id: InstanceId, verdict: Result<(), String>) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        if instance.pulse.hear(verdict) {
            let kill = Output::KillProcess { instance: id };
            self.outputs.push_back(kill);
        }
    }

    /// Has a program asked whether it is alive while it runs.
    pub(super) fn watch(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let runs = matches!(instance.life.stage(), Stage::Running | Stage::Ready);
        let wanted = instance.liveness.clone().filter(|_| runs);
        if wanted != instance.pulse.asked {
            instance.pulse.asked.clone_from(&wanted);
            self.outputs.push_back(Output::Watch {
                instance: id,
                liveness: wanted,
                plan: Arc::clone(&instance.plan),
            });
        }
    }
}
