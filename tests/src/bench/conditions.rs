//! The conditions that are equal in every config, and stated with every figure.

use crate::bench::metric::Job;
use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::time::Duration;

/// The MTU of every interface in every config, in bytes: the one constant of a Margay network.
pub const MTU_BYTES: u32 = 1400;

/// Rounds below which figures are no claim.
pub const CLAIM_ROUNDS_MIN: usize = 9;

/// The port on which every server listens.
pub const SERVER_PORT: u16 = 7000;

/// The CPU of the client in every job, and of server and forwarder in one-CPU jobs.
const FIRST_CPU: usize = 0;

/// The CPU of the server in two-CPU jobs.
const SECOND_CPU: usize = 1;

/// The congestion control of every TCP socket of the wire tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CongestionControl {
    /// Not paced, so it shows the path.
    Cubic,
    /// Paced, as many machines now have it by default.
    Bbr,
}

impl CongestionControl {
    /// The kernel's name for it.
    pub fn name(self) -> &'static str {
        match self {
            CongestionControl::Cubic => "cubic",
            CongestionControl::Bbr => "bbr",
        }
    }
}

impl fmt::Display for CongestionControl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Where client, server and forwarder run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// All on one CPU: the sum of what each packet costs, free of wake-ups across CPUs.
    OneCpu,
    /// Client and server on a CPU each, forwarders free: what a stream can reach.
    TwoCpus,
}

impl Pinning {
    /// The pinning under which `job` is measured.
    pub fn of(job: Job) -> Pinning {
        match job {
            Job::Rr | Job::Crr | Job::Latency => Pinning::OneCpu,
            Job::Bulk | Job::UdpPps => Pinning::TwoCpus,
        }
    }

    /// The client's CPU.
    pub fn client(self) -> usize {
        FIRST_CPU
    }

    /// The server's CPU.
    pub fn server(self) -> usize {
        match self {
            Pinning::OneCpu => FIRST_CPU,
            Pinning::TwoCpus => SECOND_CPU,
        }
    }

    /// Places a forwarding process, with all its threads, as this pinning says.
    pub fn place_forwarder(self, process_id: u32) -> Result<()> {
        let mut cpus = CpuSet::new();
        cpus.set(FIRST_CPU)?;
        if self == Pinning::TwoCpus {
            cpus.set(SECOND_CPU)?;
        }
        let tasks = format!("/proc/{process_id}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("forwarder: read {tasks}"))? {
            let name = task?.file_name();
            let thread_id: i32 = name
                .to_string_lossy()
                .parse()
                .context("parse a thread id")?;
            match sched_setaffinity(Pid::from_raw(thread_id), &cpus) {
                // A thread may end between the listing and the call.
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => bail!("pin thread {thread_id} of the forwarder: {error}"),
            }
        }
        Ok(())
    }

    /// States the pinning in words.
    pub fn statement(self) -> &'static str {
        match self {
            Pinning::OneCpu => "client, server and forwarder on cpu 0",
            Pinning::TwoCpus => "client on cpu 0, server on cpu 1, forwarder free",
        }
    }
}

/// Pins the calling thread, and what it spawns, to `cpu`.
pub fn pin_this_thread(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("pin to cpu {cpu}"))
}

/// Fails unless both CPUs may be used.
pub fn require_two_cpus() -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("read the allowed CPUs")?;
    for cpu in [FIRST_CPU, SECOND_CPU] {
        if !allowed.is_set(cpu)? {
            bail!("the benchmark pins to cpu 0 and cpu 1, but cpu {cpu} may not be used here");
        }
    }
    Ok(())
}

/// What a run is asked to hold equal and how long it may measure.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The congestion control of every TCP socket.
    pub congestion_control: CongestionControl,
    /// How long one sample lasts.
    pub sample: Duration,
}
