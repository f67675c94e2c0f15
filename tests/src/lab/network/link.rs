//! One link: what joins a node to its segment, and what can befall it.

use super::fabric::{Fabric, switch};
use super::wire::Wire;
use crate::cable::{Impairment, Tally};
use crate::lab::topology;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A veth pair between a node and its switch; with a wire in between once a verb asks for it.
pub struct Link {
    name: String,
    /// The node's address on the link layer: the same after it was dead.
    mac: String,
    fabric: Arc<Fabric>,
    cable: PathBuf,
    seed: u64,
    switch: String,
    /// The devices in the fabric: the node's other end, and the two ends beyond the wire.
    port: String,
    near_switch: String,
    far: String,
    state: Mutex<State>,
}

struct State {
    /// The first process of the node and its interface there; `None`: the node is dead.
    plugged: Option<(String, String)>,
    wire: Option<Wire>,
    impairment: Option<Impairment>,
}

/// The two ways of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Outwards,
    Inwards,
}

impl Way {
    const BOTH: [Way; 2] = [Way::Outwards, Way::Inwards];

    /// The set of the fabric's packet filter that loses it.
    fn cut(self) -> &'static str {
        match self {
            Way::Outwards => "outwards",
            Way::Inwards => "inwards",
        }
    }
}

impl Link {
    pub(super) fn new(
        fabric: Arc<Fabric>,
        cable: PathBuf,
        number: usize,
        seed: u64,
        plan: &topology::Link,
    ) -> Link {
        Link {
            name: plan.name.clone(),
            mac: mac(number),
            fabric,
            cable,
            seed,
            switch: switch(plan.segment),
            port: format!("port{number}"),
            near_switch: format!("wire{number}"),
            far: format!("cable{number}"),
            state: Mutex::new(State {
                plugged: None,
                wire: None,
                impairment: plan.wire,
            }),
        }
    }

    /// Carries nothing any more, neither way; both ends still think that they are joined.
    pub fn cut(&self) -> Result<()> {
        self.lose(&Way::BOTH)
    }

    /// Loses what the node sends; it still hears the others.
    pub fn cut_outwards(&self) -> Result<()> {
        self.lose(&[Way::Outwards])
    }

    /// Loses what others send to the node; they still hear it.
    pub fn cut_inwards(&self) -> Result<()> {
        self.lose(&[Way::Inwards])
    }

    /// Undoes every cut; what the wire does stays.
    pub fn heal(&self) -> Result<()> {
        // What is put in first can be taken out, whether or not it was there.
        let script: String = Way::BOTH
            .map(|way| self.elements("add", way) + &self.elements("delete", way))
            .concat();
        self.fabric.namespaces.nft(&script)
    }

    /// Lets each frame take `latency`, each way.
    pub fn slow(&self, latency: Duration) -> Result<()> {
        self.impair(|it| it.latency = latency)
    }

    /// Loses a part of the frames, from 0 to 1.
    pub fn drop(&self, part: f64) -> Result<()> {
        self.impair(|it| it.drop = part)
    }

    /// Lets a part of the frames, from 0 to 1, come twice.
    pub fn duplicate(&self, part: f64) -> Result<()> {
        self.impair(|it| it.duplicate = part)
    }

    /// Lets a part of the frames, from 0 to 1, be overtaken by those within 5 ms behind.
    pub fn reorder(&self, part: f64) -> Result<()> {
        self.impair(|it| it.reorder = part)
    }

    /// What the wire did so far; an error if no verb has asked for a wire yet.
    pub fn tally(&self) -> Result<Tally> {
        let mut state = self.state();
        let wire = state.wire.as_mut();
        wire.with_context(|| format!("link `{}` has no wire", self.name))?
            .order(None)
    }

    /// Changes how the wire treats frames, and puts one in if there is none.
    fn impair(&self, change: impl FnOnce(&mut Impairment)) -> Result<()> {
        let mut state = self.state();
        let mut impairment = state.impairment.unwrap_or_default();
        change(&mut impairment);
        for part in [impairment.drop, impairment.duplicate, impairment.reorder] {
            ensure!((0.0..=1.0).contains(&part), "{part} is no part from 0 to 1");
        }
        state.impairment = Some(impairment);
        self.apply(&mut state)
    }

    /// Brings the wire back that the link had, or that its topology asks for.
    pub(super) fn restore(&self) -> Result<()> {
        self.apply(&mut self.state())
    }

    fn apply(&self, state: &mut State) -> Result<()> {
        let (Some(impairment), Some(_)) = (state.impairment, &state.plugged) else {
            return Ok(());
        };
        if state.wire.is_none() {
            state.wire = Some(self.put_wire(state)?);
        }
        let wire = state.wire.as_mut().context("it was just put in")?;
        wire.order(Some(impairment))?;
        Ok(())
    }

    /// Takes the node's port off the switch and puts the wire between them.
    fn put_wire(&self, state: &State) -> Result<Wire> {
        let (port, far, near_switch) = (&self.port, &self.far, &self.near_switch);
        let namespaces = &self.fabric.namespaces;
        let add = format!("link add {far} type veth peer name {near_switch}");
        namespaces.ip(&[add, format!("link set {far} up")])?;
        self.finish_frames(state)?;
        let wire = Wire::start(namespaces, &self.cable, (port, far), self.seed)?;
        namespaces.ip(&[
            format!("link set {port} nomaster"),
            format!(
                "link set {near_switch} master {} up alias {}",
                self.switch, self.name
            ),
        ])?;
        Ok(wire)
    }

    /// Frames of both ends must be whole and no longer than the MTU when they enter the wire.
    fn finish_frames(&self, state: &State) -> Result<()> {
        let (node, interface) = state.plugged.as_ref().context("the node lives")?;
        let ends = [
            (self.fabric.namespaces.first_process(), &self.near_switch),
            (node, interface),
        ];
        for (process, device) in ends {
            let mut command = Command::new("nsenter");
            command.args(["--net", "--target", process, "--"]);
            command.arg(&self.cable).args(["finish-frames", device]);
            let output = command.output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "link `{}`: {said}", self.name);
        }
        Ok(())
    }

    /// The node's address on the link layer.
    pub(super) fn mac(&self) -> &str {
        &self.mac
    }

    /// What `ip` does in the fabric to join a node, whose first process and interface are told.
    pub(super) fn plug(&self, first_process: &str, interface: &str) -> [String; 2] {
        self.state().plugged = Some((first_process.to_owned(), interface.to_owned()));
        let Link {
            port,
            name,
            mac,
            switch,
            ..
        } = self;
        [
            format!(
                "link add {interface} address {mac} netns {first_process} type veth peer name {port}"
            ),
            format!("link set {port} master {switch} up alias {name}"),
        ]
    }

    /// Takes away what the link had in the fabric, for its node is dead.
    pub(super) fn unplug(&self) {
        let mut state = self.state();
        state.plugged = None;
        state.wire = None;
        for device in [&self.port, &self.far] {
            // The kernel may have been first: the other end died with the node.
            let line = format!("link del {device}");
            self.fabric.namespaces.ip(&[line]).ok();
        }
    }

    fn lose(&self, ways: &[Way]) -> Result<()> {
        let elements = ways.iter().map(|way| self.elements("add", *way));
        self.fabric.namespaces.nft(&elements.collect::<String>())
    }

    /// With a wire or without, one of the two devices is at the switch.
    fn elements(&self, verb: &str, way: Way) -> String {
        let Link {
            port, near_switch, ..
        } = self;
        let set = way.cut();
        format!("{verb} element bridge lab {set} {{ {port}, {near_switch} }}\n")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A locally administered address (IEEE 802, section 8.4) that no other link of the lab has.
fn mac(number: usize) -> String {
    let [high, low] = (number as u16).to_be_bytes();
    format!("02:00:00:00:{high:02x}:{low:02x}")
}
