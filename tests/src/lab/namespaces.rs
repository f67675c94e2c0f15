//! Namespaces that end with their owner: a pid namespace whose first process waits on our pipe.

use super::cgroup::Cgroup;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Where the host's own tmpfs is mounted, seen only inside it.
///
/// Instances see it too: their root is the host's. `/mnt` is more likely to hold somebody's clone.
pub const PLACE: &str = "/media";

/// Makes the namespaces from the host's own cgroup, where the cgroup namespace then begins.
/// Arguments: cgroup, script of the first process, and its arguments.
const MAKE: &str = r#"
echo 0 >"$1/cgroup.procs"
script=$2
shift 2
exec unshare --net --uts --mount --propagation private --cgroup --pid --fork --kill-child -- \
    sh -c "$script" sh "$@"
"#;

/// Enters the namespaces, and the cgroup: with `nsdelegate` (systemd's way to mount cgroup2) nobody
/// may make a cgroup inside who is not in one inside. Arguments: cgroup, first process, command.
const ENTER: &str = r#"
echo 0 >"$1/cgroup.procs"
first=$2
shift 2
exec nsenter --net --uts --mount --cgroup --pid --target "$first" -- "$@"
"#;

/// The first process: it reports its pid as we see it, lays out the host, and waits on the pipe.
///
/// The kernel refuses one cgroup2 on another, hence the `umount`s, which nobody outside sees.
/// `cat` is not its last command, so that the shell stays and reaps orphans.
const FIRST_PROCESS: &str = r#"
set -eu
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 margay-lab "$1"
mount -t tmpfs -o mode=1777 margay-lab /dev/shm
mkdir "$1/state" "$1/run"
while umount "$2" 2>/dev/null; do :; done
mount -t cgroup2 cgroup2 "$2"
ip link set lo up
test -z "$3" || echo "$3" >/proc/sys/kernel/hostname
echo "$pid"
cat >/dev/null
exit 0
"#;

/// What `nsenter` needs to enter all of them.
const ENTER_WORDS: [&str; 6] = ["nsenter", "--net", "--uts", "--mount", "--cgroup", "--pid"];

/// Network, host name, mount, cgroup and pid namespaces of one node.
pub(super) struct Namespaces {
    first_process: String,
    cgroup_path: PathBuf,
    owner: Mutex<Option<Owner>>,
}

/// What holds the namespaces; dropping it ends every process in them.
struct Owner {
    unshare: Child,
    _cgroup: Cgroup,
}

impl Namespaces {
    /// Makes them; who enters finds `name` as the host's, or without one this machine's.
    pub(super) fn new(name: Option<&str>) -> Result<Namespaces> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a whole host needs root: it makes namespaces and loads eBPF"
        );
        let cgroup = Cgroup::new()?;
        let cgroup_path = cgroup.path.clone();
        let mut command = Command::new("sh");
        command.args(["-c", MAKE, "sh"]).arg(&cgroup.path);
        command.args([FIRST_PROCESS, PLACE]).arg(&cgroup.mount);
        command.arg(name.unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is ours to handle: a group of its own does not get it from the terminal.
        command.process_group(0);
        let mut unshare = command.spawn().context("cannot start a shell")?;
        let stdout = unshare.stdout.take().context("its output is a pipe")?;
        let owner = Mutex::new(Some(Owner {
            unshare,
            _cgroup: cgroup,
        }));
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let first_process = line.trim_end().to_owned();
        ensure!(!first_process.is_empty(), "cannot make a host's namespaces");
        Ok(Namespaces {
            first_process,
            cgroup_path,
            owner,
        })
    }

    /// A command that will run inside, in a process group of its own.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh"]).arg(&self.cgroup_path);
        command.arg(&self.first_process).arg(program.as_ref());
        command.process_group(0);
        command
    }

    /// A command that will run in the network namespace only, and otherwise outside.
    pub(super) fn network_command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.first_process, "--"]);
        command.arg(program.as_ref());
        command.process_group(0);
        command
    }

    /// Lets every process inside stand still, or go on (cgroup v2: `cgroup.freeze`).
    pub(super) fn freeze(&self, still: bool) -> Result<()> {
        let file = self.cgroup_path.join("cgroup.freeze");
        let digit = if still { "1" } else { "0" };
        fs::write(&file, digit).with_context(|| format!("cannot write {}", file.display()))
    }

    /// The first process, as we see it.
    pub(super) fn first_process(&self) -> &str {
        &self.first_process
    }

    /// What a person types to enter.
    pub(super) fn enter_words(&self) -> Vec<String> {
        let words = ENTER_WORDS.into_iter();
        words
            .chain(["--target", &self.first_process])
            .map(str::to_owned)
            .collect()
    }

    /// A process inside that is numbered `pid` there, as we number it.
    pub(super) fn process(&self, pid: u32) -> Result<u32> {
        let levels = numbers(&self.first_process)?.len();
        let ours = self
            .cgroup_path
            .file_name()
            .context("a cgroup has a name")?;
        let is_ours = |process: &str| {
            let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
            let mut places = cgroups.lines().flat_map(|line| line.split('/'));
            places.any(|place| place == ours)
        };
        for entry in fs::read_dir("/proc").context("cannot list the processes")? {
            let entry = entry?.file_name();
            let Some(process) = entry.to_str().filter(|it| it.parse::<u32>().is_ok()) else {
                continue;
            };
            // A process may end between the listing and the reading.
            let numbers = numbers(process).unwrap_or_default();
            if numbers.get(levels - 1) == Some(&pid) && is_ours(process) {
                return process.parse().context("a process has a number");
            }
        }
        bail!("there is no process {pid} inside")
    }

    /// A path inside, as we see it from outside.
    pub(super) fn outside(&self, path: &Path) -> PathBuf {
        let root = Path::new("/proc").join(&self.first_process).join("root");
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Writes a file that everyone inside can read, and run.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = Path::new(PLACE).join(name);
        let script = r#"mkdir -p "${1%/*}" && cat >"$1" && chmod 755 "$1""#;
        let mut command = self.command("sh");
        command
            .args(["-c", script, "sh"])
            .arg(&path)
            .stdin(Stdio::piped());
        let mut child = command.spawn().context("cannot start a shell inside")?;
        child
            .stdin
            .take()
            .context("its input is a pipe")?
            .write_all(bytes)?;
        ensure!(
            child.wait()?.success(),
            "cannot write {} inside",
            path.display()
        );
        Ok(path)
    }

    /// The path by which we reach what lies inside at `path`.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.first_process));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether they still stand.
    pub(super) fn living(&self) -> bool {
        self.owner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Ends every process inside. May be called twice.
    pub(super) fn end(&self) {
        drop(
            self.owner
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

/// How the pid namespaces that a process is in number it, ours first.
fn numbers(process: &str) -> Result<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = line.context("the kernel tells no pid namespaces")?;
    let numbers = numbers.split_whitespace().map(str::parse);
    numbers.collect::<Result<_, _>>().context("a number")
}

impl Drop for Owner {
    fn drop(&mut self) {
        // The first process reads the end of this pipe and exits; the kernel kills all the others,
        // and `unshare` returns once they are gone.
        drop(self.unshare.stdin.take());
        self.unshare.wait().ok();
    }
}
