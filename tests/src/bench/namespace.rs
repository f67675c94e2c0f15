//! Network namespaces without names, and programs run inside them.

use crate::bench::conditions::{MTU_BYTES, pin_this_thread};
use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

/// A network namespace, alive as long as this value or a process inside is.
#[derive(Clone)]
pub struct Namespace {
    handle: Arc<File>,
}

impl Namespace {
    /// Makes an empty one whose `lo` is up.
    pub fn create() -> Result<Namespace> {
        let handle = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            File::open("/proc/thread-self/ns/net").context("open the new network namespace")
        })?;
        let namespace = Namespace {
            handle: Arc::new(handle),
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Opens the one that a process lives in.
    pub fn of_process(process_id: u32) -> Result<Namespace> {
        let path = format!("/proc/{process_id}/ns/net");
        let handle = File::open(&path).with_context(|| format!("open {path}"))?;
        Ok(Namespace {
            handle: Arc::new(handle),
        })
    }

    /// Does `work` inside, on a thread of its own; programs it spawns stay inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            setns(&*self.handle, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
            work()
        })
    }

    /// Runs a batch of `ip` commands, one a line.
    pub fn ip(&self, batch: &str) -> Result<()> {
        self.run(Command::new("ip").args(["-batch", "-"]), batch)
            .map(drop)
    }

    /// Sets a kernel parameter of the network, such as `ipv4/ip_forward`.
    pub fn set_parameter(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.enter(|| fs::write(&path, value).with_context(|| format!("write {value} to {path}")))
    }

    /// Links this namespace to `other` by a pair of devices of the common MTU, both up.
    pub fn link(&self, device: &str, other: &Namespace, other_device: &str) -> Result<()> {
        // `ip` is another process: it finds the descriptor through this one.
        let there = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            other.handle.as_raw_fd()
        );
        self.ip(&format!(
            "link add {device} type veth peer name {other_device} netns {there}\n\
             link set {device} mtu {MTU_BYTES} up"
        ))?;
        other.ip(&format!("link set {other_device} mtu {MTU_BYTES} up"))
    }

    /// Runs a program to its end with `input`; its standard error becomes the error.
    pub fn run(&self, command: &mut Command, input: &str) -> Result<Output> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let name = command.get_program().to_string_lossy().into_owned();
        let output = self.enter(|| {
            let mut child = command.spawn().with_context(|| format!("start {name}"))?;
            let mut pipe = child.stdin.take().context("a piped standard input")?;
            let sent = pipe.write_all(input.as_bytes());
            drop(pipe);
            let output = child.wait_with_output()?;
            // A program that ends early says why itself; only then may it leave input unread.
            if output.status.success() {
                sent.with_context(|| format!("write to {name}"))?;
            }
            Ok(output)
        })?;
        succeeded(&name, output)
    }

    /// Starts a program on one CPU and leaves it running.
    pub fn start(&self, command: &mut Command, cpu: usize) -> Result<Running> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = self.enter(|| {
            pin_this_thread(cpu)?;
            command.spawn().with_context(|| format!("start {name}"))
        })?;
        Ok(Running { name, child })
    }
}

/// Checks how a program ended; its standard error becomes the error.
pub fn succeeded(name: &str, output: Output) -> Result<Output> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, said.trim());
    }
    Ok(output)
}

/// A program that is killed when this value goes.
pub struct Running {
    name: String,
    /// The process.
    pub child: Child,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end and collects what it wrote to its pipes.
    pub fn finish(&mut self) -> Result<Output> {
        let name = &self.name;
        // Reads both pipes to their ends one after the other: enough for the little that is written.
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut stdout)
                .with_context(|| format!("read from {name}"))?;
        }
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_end(&mut stderr)
                .with_context(|| format!("read from {name}"))?;
        }
        Ok(Output {
            status: self.child.wait()?,
            stdout,
            stderr,
        })
    }

    /// Fails if it has ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status})", self.name),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does `work` on a thread that ends with it, so that no other work sees its namespace or CPU.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow!("a worker panicked"))?
}
