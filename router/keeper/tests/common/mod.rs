//! A keeper of its own for each test, in a directory and cgroup of its own.

#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(unreachable_pub, reason = "a module of each test binary")]

use margay_core::id::InstanceId;
use margay_keeper::{Event, EventStream, KeeperClient, ProcessSpec};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before it counts as failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The keeper's binary.
pub const KEEPER: &str = env!("CARGO_BIN_EXE_margay-keeper");

/// A keeper with all that it needs; ended when dropped.
pub struct Lab {
    pub client: KeeperClient,
    pub directory: tempfile::TempDir,
    pub keeper: Child,
    pub cgroup: PathBuf,
    base: u64,
}

impl Lab {
    /// Starts a keeper.
    pub fn new() -> Lab {
        Lab::on_host("true")
    }

    /// Starts a keeper in a mount namespace of its own, that the shell command `prepare` has
    /// changed; `$LAB` is a directory to use.
    pub fn on_host(prepare: &str) -> Lab {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        static LABS: AtomicU64 = AtomicU64::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        // Apart from other tests' instances, whose users would share their limits.
        let base = u64::from(std::process::id() % 1_000_000) * 100 + number * 10;
        let directory = tempfile::tempdir().unwrap();
        let cgroup = cgroup2().join(format!(
            "margay-keeper-test-{}-{number}",
            std::process::id()
        ));
        write_etc(&directory.path().join("etc"));
        let script = format!("{prepare} && exec {KEEPER} --socket $LAB/keeper.sock");
        let keeper = Command::new("unshare")
            .args(["--mount", "sh", "-ec", &script])
            .env("LAB", directory.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let socket = directory.path().join("keeper.sock");
        let client = until("a keeper", || KeeperClient::connect(&socket).ok());
        fs::create_dir(&cgroup).unwrap();
        Lab {
            client,
            directory,
            keeper,
            cgroup,
            base,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("keeper.sock")
    }

    pub fn instance(&self, number: u64) -> InstanceId {
        InstanceId(self.base + number)
    }

    /// A program of this test; it restarts.
    pub fn spec(&self, number: u64, command: &[&str]) -> ProcessSpec {
        let instance = self.instance(number);
        ProcessSpec {
            instance,
            name: format!("{number}.test"),
            command: command.iter().map(ToString::to_string).collect(),
            environment: BTreeMap::from([("COLOUR".into(), "green".into())]),
            user: None,
            etc_dir: self.directory.path().join("etc"),
            state_dir: self.directory.path().join(format!("state-{number}")),
            cgroup: self.cgroup.join(instance.to_string()),
            restart: true,
        }
    }

    /// A shell script of this test; it does not restart.
    pub fn script(&self, number: u64, script: &str) -> ProcessSpec {
        ProcessSpec {
            restart: false,
            ..self.spec(number, &["sh", "-c", script])
        }
    }

    /// Makes the namespace and starts `spec`; its init and its log.
    pub fn start(&self, spec: &ProcessSpec) -> (i32, Log) {
        self.client.create_namespace(spec.instance).unwrap();
        let started = self.client.start(spec).unwrap();
        (started.init_pid, Log::new(started.log))
    }

    /// Runs `script` in an instance to its end; what it said.
    pub fn run(&self, script: &str) -> String {
        let (_, mut log) = self.start(&self.script(1, script));
        let said = log.read_to_end();
        self.client.remove(self.instance(1)).unwrap();
        said
    }

    /// Processes in the cgroup of an instance.
    pub fn members(&self, number: u64) -> Vec<String> {
        let path = self
            .cgroup
            .join(self.instance(number).to_string())
            .join("cgroup.procs");
        let members = fs::read_to_string(path).unwrap_or_default();
        members.lines().map(str::to_owned).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        // Nothing is left, unless the keeper is broken.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let deadline = Instant::now() + DEADLINE;
        while remove_cgroup(&self.cgroup).is_err() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

fn remove_cgroup(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let _ = fs::remove_dir(entry.path());
        }
    }
    fs::remove_dir(cgroup)
}

fn write_etc(directory: &Path) {
    fs::create_dir(directory).unwrap();
    fs::write(directory.join("resolv.conf"), "nameserver 169.254.53.53\n").unwrap();
    fs::write(directory.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
    fs::write(directory.join("hosts"), "127.0.0.1 localhost\n").unwrap();
}

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    mount
        .expect("these tests need cgroup version 2")
        .split(' ')
        .nth(1)
        .unwrap()
        .into()
}

/// Waits until `condition` holds; its value.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits for the first event that `wanted` takes.
pub fn event<T>(events: &mut EventStream, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    let mut seen = Vec::new();
    while let Some(event) = events
        .recv(Some(deadline.saturating_duration_since(Instant::now())))
        .unwrap()
    {
        if let Some(value) = wanted(&event) {
            return value;
        }
        seen.push(event);
    }
    panic!("waited in vain for an event; these came: {seen:?}");
}

/// The status and restart of the next exit.
pub fn exited(events: &mut EventStream) -> (String, Option<u64>) {
    event(events, |event| match event {
        Event::Exited {
            status,
            restart_after_ms,
            ..
        } => Some((status.clone(), *restart_after_ms)),
        _ => None,
    })
}

/// Waits until `instance` is stopped.
pub fn stopped(events: &mut EventStream, stopping: InstanceId) {
    event(events, |event| match event {
        Event::Stopped { instance } if *instance == stopping => Some(()),
        _ => None,
    });
}

/// The read end of a log pipe.
pub struct Log {
    pipe: File,
    text: String,
}

impl Log {
    pub fn new(pipe: OwnedFd) -> Log {
        Log {
            pipe: pipe.into(),
            text: String::new(),
        }
    }

    /// Reads until `wanted` was said; all that was said.
    pub fn read_until(&mut self, wanted: &str) -> &str {
        let deadline = Instant::now() + DEADLINE;
        while !self.text.contains(wanted) {
            assert!(
                self.read(deadline),
                "the log ended without `{wanted}`: {}",
                self.text
            );
        }
        &self.text
    }

    /// Reads until nobody can write any more; all that was said.
    pub fn read_to_end(&mut self) -> String {
        let deadline = Instant::now() + DEADLINE;
        while self.read(deadline) {}
        std::mem::take(&mut self.text)
    }

    fn read(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap();
        let ready = poll(
            &mut [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)],
            timeout,
        );
        assert!(
            ready.unwrap() > 0,
            "the log fell silent after: {}",
            self.text
        );
        let mut part = [0; 65536];
        let length = self.pipe.read(&mut part).unwrap();
        self.text
            .push_str(&String::from_utf8_lossy(&part[..length]));
        length > 0
    }
}
