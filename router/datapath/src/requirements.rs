//! Checks what Margay needs of a host, and says what to do where something is missing.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// The oldest kernel that has TCX, on which the datapath is attached.
const KERNEL_VERSION_MIN: (u32, u32) = (6, 6);

/// The capabilities that the daemon uses, by number (include/uapi/linux/capability.h).
const CAPABILITIES: &[(u32, &str)] = &[
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (21, "CAP_SYS_ADMIN"),
];

/// Where to look; the default is this host.
#[derive(Clone, Debug)]
pub struct Requirements {
    /// The kernel's release.
    pub kernel_release: PathBuf,
    /// The kernel's type information.
    pub btf: PathBuf,
    /// The TUN driver.
    pub tun: PathBuf,
    /// What is mounted.
    pub mountinfo: PathBuf,
    /// The filesystems that the kernel has now.
    pub filesystems: PathBuf,
    /// The modules that the kernel can still load, one directory per release.
    pub modules: PathBuf,
    /// The state of this process.
    pub process_status: PathBuf,
    /// Tries the bpf system call.
    pub try_bpf: fn() -> io::Result<()>,
}

impl Default for Requirements {
    fn default() -> Self {
        Requirements {
            kernel_release: "/proc/sys/kernel/osrelease".into(),
            btf: "/sys/kernel/btf/vmlinux".into(),
            tun: "/dev/net/tun".into(),
            mountinfo: "/proc/self/mountinfo".into(),
            filesystems: "/proc/filesystems".into(),
            modules: "/lib/modules".into(),
            process_status: "/proc/thread-self/status".into(),
            try_bpf: make_a_map,
        }
    }
}

/// Something that Margay needs and this host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRequirement {
    /// What is missing.
    pub name: &'static str,
    /// What was found instead.
    pub found: String,
    /// What it is needed for.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for MissingRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingRequirement {
            name,
            found,
            why,
            remedy,
        } = self;
        write!(
            f,
            "{name} is missing ({found}). It is needed {why}. {remedy}."
        )
    }
}

/// One thing to check: its name, why it is needed, what to do, and how to find out.
struct Check {
    name: &'static str,
    why: &'static str,
    remedy: &'static str,
    /// Answers what was found instead.
    run: fn(&Requirements) -> Result<(), String>,
}

/// Everything that is checked, the cause before what follows from it.
const CHECKS: &[Check] = &[
    Check {
        name: "root",
        why: "to load eBPF programs and to make devices, namespaces and mounts",
        remedy: "Run the daemon as root with every capability",
        run: capabilities,
    },
    Check {
        name: "Linux 6.6",
        why: "because the datapath is attached by TCX",
        remedy: "Boot a kernel of version 6.6 or later",
        run: kernel_version,
    },
    Check {
        name: "BTF",
        why: "to load eBPF programs with their types",
        remedy: "Boot a kernel built with CONFIG_DEBUG_INFO_BTF and mount sysfs at /sys",
        run: |host| fs::metadata(&host.btf).map_or_else(unreadable(&host.btf), |_| Ok(())),
    },
    Check {
        name: "eBPF",
        why: "to route packets inside the kernel",
        remedy: "Boot a kernel built with CONFIG_BPF_SYSCALL and let no seccomp filter or \
                 lockdown forbid bpf()",
        run: |host| (host.try_bpf)().map_err(|error| format!("bpf(): {error}")),
    },
    Check {
        name: "TUN",
        why: "to take the first packet of each flow to the router",
        remedy: "Load the tun module: modprobe tun",
        run: |host| {
            let mut read_write = File::options();
            read_write.read(true).write(true);
            let opened = read_write.open(&host.tun);
            opened.map_or_else(unreadable(&host.tun), |_| Ok(()))
        },
    },
    Check {
        name: "cgroup2",
        why: "to bound and to end all processes of an instance",
        remedy: "Mount it: mount -t cgroup2 none /sys/fs/cgroup",
        run: |host| match cgroup2_mount(&host.mountinfo) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("no cgroup2 is mounted".to_owned()),
            Err(error) => unreadable(&host.mountinfo)(error),
        },
    },
    Check {
        name: "overlayfs",
        why: "to give each instance its own view of the root filesystem",
        remedy: "Load the overlay module: modprobe overlay",
        run: overlay,
    },
];

/// Answers everything that the host lacks, the cause before what follows from it.
pub fn check(host: &Requirements) -> Vec<MissingRequirement> {
    let missing = |check: &Check| {
        let found = (check.run)(host).err()?;
        Some(MissingRequirement {
            name: check.name,
            found,
            why: check.why,
            remedy: check.remedy,
        })
    };
    CHECKS.iter().filter_map(missing).collect()
}

/// Finds where cgroup2 is mounted (proc_pid_mountinfo(5)).
pub fn cgroup2_mount(mountinfo: &Path) -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string(mountinfo)?;
    let mount_point = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let is_cgroup2 = filesystem.split(' ').next() == Some("cgroup2");
        let path = mount.split(' ').nth(4)?;
        is_cgroup2.then(|| PathBuf::from(path.replace("\\040", " ")))
    };
    Ok(mounts.lines().find_map(mount_point))
}

fn capabilities(host: &Requirements) -> Result<(), String> {
    let status = read(&host.process_status)?;
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| format!("{} names no CapEff", host.process_status.display()))?;
    let lacking: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(number, _)| held & (1 << number) == 0)
        .map(|(_, name)| *name)
        .collect();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(format!("without {}", lacking.join(", ")))
    }
}

fn kernel_version(host: &Requirements) -> Result<(), String> {
    let release = read(&host.kernel_release)?;
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_VERSION_MIN {
        Ok(())
    } else {
        Err(format!("this is {}", release.trim()))
    }
}

/// The kernel has overlayfs, or would load it at the first mount.
fn overlay(host: &Requirements) -> Result<(), String> {
    let filesystems = read(&host.filesystems)?;
    let loaded = filesystems
        .split_whitespace()
        .any(|filesystem| filesystem == "overlay");
    let loadable = || {
        let release = fs::read_to_string(&host.kernel_release).unwrap_or_default();
        let index = host.modules.join(release.trim()).join("modules.dep");
        fs::read_to_string(index).is_ok_and(|modules| modules.contains("/overlay.ko"))
    };
    if loaded || loadable() {
        Ok(())
    } else {
        Err("the kernel has it neither built in nor as a module".to_owned())
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).or_else(unreadable(path))
}

/// Says that `path` could not be used.
fn unreadable<T>(path: &Path) -> impl FnOnce(io::Error) -> Result<T, String> {
    move |error| Err(format!("{}: {error}", path.display()))
}

/// Makes the smallest map there is and lets go of it.
fn make_a_map() -> io::Result<()> {
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    // Type, key size, value size, entries: the start of `union bpf_attr`.
    let attributes: [u32; 4] = [BPF_MAP_TYPE_ARRAY, 4, 4, 1];
    // SAFETY: the kernel reads as many bytes of `attributes` as it is told that there are.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: BPF_MAP_CREATE answers a new descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(answer as RawFd) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host on which everything is there, whatever this machine has.
    fn complete_host(name: &str) -> (tempfile::TempDir, Requirements) {
        let dir = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                      41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw shared:9 - cgroup2 cgroup2 rw\n";
        let host = Requirements {
            kernel_release: file("osrelease", "6.6.0-1-amd64\n"),
            btf: file("btf", ""),
            tun: file("tun", ""),
            mountinfo: file("mountinfo", mounts),
            filesystems: file("filesystems", "nodev\tsysfs\nnodev\toverlay\n\text4\n"),
            modules: dir.path().to_owned(),
            process_status: file("status", "Name:\tmargay\nCapEff:\t000001ffffffffff\n"),
            try_bpf: || Ok(()),
        };
        (dir, host)
    }

    fn missing(host: &Requirements) -> Vec<&'static str> {
        check(host).iter().map(|missing| missing.name).collect()
    }

    #[test]
    fn a_complete_host_lacks_nothing() {
        let (_dir, host) = complete_host("complete");

        assert_eq!(check(&host), []);
    }

    #[test]
    fn this_host_lacks_nothing() {
        assert_eq!(check(&Requirements::default()), []);
    }

    #[test]
    fn each_missing_thing_is_named_alone_with_what_to_do() {
        type Break = fn(&mut Requirements);
        let table: &[(&str, &str, Break)] = &[
            ("root", "CapEff", |host| {
                host.process_status = "/proc/version".into()
            }),
            ("root", "/none", |host| host.process_status = "/none".into()),
            ("Linux 6.6", "/none", |host| {
                host.kernel_release = "/none".into()
            }),
            ("BTF", "/none", |host| host.btf = "/none".into()),
            ("eBPF", "bpf(): ", |host| {
                host.try_bpf = || Err(io::ErrorKind::PermissionDenied.into());
            }),
            ("TUN", "/none", |host| host.tun = "/none".into()),
            ("cgroup2", "no cgroup2", |host| {
                host.mountinfo = "/dev/null".into()
            }),
            ("cgroup2", "/none", |host| host.mountinfo = "/none".into()),
            ("overlayfs", "neither", |host| {
                host.filesystems = "/dev/null".into()
            }),
        ];
        for (name, found, break_it) in table {
            let (_dir, mut host) = complete_host("broken");

            break_it(&mut host);

            let lacking = check(&host);
            let [only] = &lacking[..] else {
                panic!("{name}: {lacking:?}");
            };
            assert_eq!(only.name, *name);
            let text = only.to_string();
            for part in [found, only.why, only.remedy] {
                assert!(text.contains(part), "{text}");
            }
        }
    }

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, enough) in [
            ("6.6.0", true),
            ("6.18.44-fc", true),
            ("10.0", true),
            ("6.5.13", false),
            ("5.15.0-91-generic", false),
            ("", false),
        ] {
            let (_dir, host) = complete_host("kernel");
            fs::write(&host.kernel_release, release).unwrap();

            assert_eq!(missing(&host).is_empty(), enough, "{release}");
        }
    }

    #[test]
    fn a_lost_capability_is_named() {
        let (_dir, host) = complete_host("capabilities");
        let without_net_admin = !(1_u64 << 12);
        let status = format!("CapEff:\t{without_net_admin:016x}\n");
        fs::write(&host.process_status, status).unwrap();

        let lacking = check(&host);

        assert_eq!(lacking.len(), 1);
        assert_eq!(lacking[0].found, "without CAP_NET_ADMIN");
    }

    #[test]
    fn an_overlay_module_that_is_not_loaded_yet_is_enough() {
        let (dir, host) = complete_host("modules");
        fs::write(&host.filesystems, "nodev\tsysfs\n").unwrap();
        let modules = dir.path().join("6.6.0-1-amd64");
        fs::create_dir(&modules).unwrap();
        fs::write(
            modules.join("modules.dep"),
            "kernel/fs/overlayfs/overlay.ko.xz:\n",
        )
        .unwrap();

        assert_eq!(missing(&host), [""; 0]);
    }

    #[test]
    fn a_mount_point_with_a_space_is_found() {
        let (_dir, host) = complete_host("mounts");

        let found = cgroup2_mount(&host.mountinfo).unwrap();

        assert_eq!(found, Some("/sys/fs/cgroup/uni fied".into()));
    }
}
