//! The process that carries a link's frames, as the lab holds it.

use crate::cable::{Impairment, Tally};
use crate::lab::namespaces::Namespaces;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A `cable` that runs; it ends with this value, with the lab, or with this process.
pub(super) struct Wire {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Wire {
    /// Starts one between two devices, and waits until it carries.
    pub(super) fn start(
        namespaces: &Namespaces,
        cable: &Path,
        (near, far): (&str, &str),
        seed: u64,
    ) -> Result<Wire> {
        let mut command = namespaces.command(cable);
        command.args(["carry", near, far, &seed.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a cable")?;
        let orders = child.stdin.take();
        let stdout = child.stdout.take().context("its output is a pipe")?;
        let mut wire = Wire {
            child,
            orders,
            answers: BufReader::new(stdout),
        };
        wire.answer().with_context(|| {
            format!("no cable; build it: cargo build -p margay-tests ({cable:?})")
        })?;
        Ok(wire)
    }

    /// Treats frames as `impairment` says from now on, if there is one; says what became of the
    /// frames so far.
    pub(super) fn order(&mut self, impairment: Option<Impairment>) -> Result<Tally> {
        let orders = self.orders.as_mut().context("the cable has ended")?;
        let mut line = serde_json::to_vec(&impairment)?;
        line.push(b'\n');
        orders.write_all(&line).context("the cable has ended")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Tally> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the cable said `{line}`"))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.orders.take();
        self.child.wait().ok();
    }
}
