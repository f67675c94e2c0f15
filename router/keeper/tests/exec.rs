//! Commands join a running instance and are confined like its program.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod common;

use common::{Lab, until};
use margay_keeper::{ExecError, InstanceTarget, ProcessSpec, exec_in_instance};
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitCode, Stdio};

fn target(spec: &ProcessSpec, init_pid: i32) -> InstanceTarget {
    InstanceTarget {
        instance: spec.instance,
        init_pid,
        cgroup: spec.cgroup.clone(),
        user: spec.user.clone(),
        environment: spec.environment.clone(),
    }
}

fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

/// Starts an instance that waits, and is ready to be joined.
fn waiting(lab: &Lab) -> InstanceTarget {
    let spec = lab.spec(1, &["sh", "-c", "echo up; exec sleep infinity"]);
    let (init_pid, mut log) = lab.start(&spec);
    log.read_until("up");
    target(&spec, init_pid)
}

#[test]
fn the_exit_code_of_a_command_is_its_callers() {
    let lab = Lab::new();
    let target = waiting(&lab);

    assert_eq!(
        exec_in_instance(&target, &shell("exit 0")).unwrap(),
        ExitCode::SUCCESS
    );
    assert_eq!(
        exec_in_instance(&target, &shell("exit 42")).unwrap(),
        ExitCode::from(42)
    );
    assert_eq!(
        exec_in_instance(&target, &shell("kill -TERM $$")).unwrap(),
        ExitCode::from(143)
    );
}

#[test]
fn a_command_sees_what_the_program_sees() {
    let lab = Lab::new();
    let target = waiting(&lab);
    let see = "for kind in mnt net pid ipc uts cgroup; do readlink /proc/self/ns/$kind; done; \
               grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs)' /proc/self/status; \
               cat /proc/self/cgroup; pwd; hostname; cat /etc/resolv.conf; echo $COLOUR";

    let inside = format!("({see}) > /run/state/command; ps -e | grep -q sleep");
    assert_eq!(
        exec_in_instance(&target, &shell(&inside)).unwrap(),
        ExitCode::SUCCESS
    );

    let state = lab.directory.path().join("state-1");
    let command = std::fs::read_to_string(state.join("command")).unwrap();

    let uid = 1_900_000_000 + target.instance.0;
    for expected in [
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
        "CapBnd:\t0000000000000000\n".into(),
        "NoNewPrivs:\t1\n".into(),
        "0::/\n/run/state\n1.test\nnameserver 169.254.53.53\ngreen\n".into(),
    ] {
        assert!(command.contains(&expected), "{command}");
    }
    let namespaces = format!("/proc/{}/ns", target.init_pid);
    for kind in ["mnt", "net", "pid", "ipc", "uts", "cgroup"] {
        let link = std::fs::read_link(format!("{namespaces}/{kind}")).unwrap();
        assert!(
            command.contains(link.to_str().unwrap()),
            "{kind}: {command}"
        );
    }
}

#[test]
fn a_command_is_a_member_of_the_instances_cgroup() {
    let lab = Lab::new();
    let target = waiting(&lab);

    std::thread::scope(|scope| {
        let command = scope.spawn(|| exec_in_instance(&target, &shell("exec sleep 60")));
        until("the command to join", || {
            (lab.members(1).len() == 3).then_some(())
        });

        lab.client.stop(target.instance, 0).unwrap();

        assert_eq!(command.join().unwrap().unwrap(), ExitCode::from(137));
    });
}

#[test]
fn a_command_that_does_not_exist_is_an_error() {
    let lab = Lab::new();
    let target = waiting(&lab);

    let error = exec_in_instance(&target, &["no-such-command".into()]).unwrap_err();

    assert!(
        error
            .to_string()
            .contains("cannot run `no-such-command`: No such file"),
        "{error}"
    );
}

#[test]
fn an_instance_that_does_not_run_cannot_be_joined() {
    let lab = Lab::new();
    let mut target = waiting(&lab);

    // The process is there, but is not the instance's.
    target.init_pid = std::process::id().cast_signed();

    let error = exec_in_instance(&target, &shell("true")).unwrap_err();
    assert!(matches!(error, ExecError::NotRunning(instance) if instance == target.instance));
}

/// Not a test by itself: the caller of a command, as a process that a test can look at.
#[test]
fn helper_that_runs_a_command() {
    let Ok(script) = std::env::var("HELPER_SCRIPT") else {
        return;
    };
    let variable = |name: &str| std::env::var(name).unwrap();
    let target = InstanceTarget {
        instance: margay_core::id::InstanceId(variable("HELPER_INSTANCE").parse().unwrap()),
        init_pid: variable("HELPER_INIT").parse().unwrap(),
        cgroup: variable("HELPER_CGROUP").into(),
        user: None,
        environment: std::collections::BTreeMap::new(),
    };
    exec_in_instance(&target, &shell(&script)).unwrap();
}

/// Starts a process that runs `script` in the instance; its stderr is a pipe.
fn caller(target: &InstanceTarget, script: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_runs_a_command", "--nocapture"])
        .env("HELPER_SCRIPT", script)
        .env("HELPER_INSTANCE", target.instance.to_string())
        .env("HELPER_INIT", target.init_pid.to_string())
        .env("HELPER_CGROUP", &target.cgroup)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_command_can_open_its_stdio_by_name_and_the_caller_gets_it_back() {
    let lab = Lab::new();
    let target = waiting(&lab);

    let mut caller = caller(&target, "echo said > /dev/stderr; ls -l /proc/self/fd >&2");
    let mut stderr = caller.stderr.take().unwrap();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();

    assert!(caller.wait().unwrap().success());
    assert!(said.starts_with("said\n"), "{said}");
    // Its stdio, and the directory that ls reads: nothing else is inherited.
    assert_eq!(said.matches(" -> ").count(), 4, "{said}");
    assert_eq!(nix::sys::stat::fstat(stderr.as_fd()).unwrap().st_uid, 0);
}

#[test]
fn what_a_command_started_ends_with_its_caller_too() {
    let lab = Lab::new();
    let target = waiting(&lab);
    let mut caller = caller(&target, "echo up >&2; sleep 600; echo never");
    let mut stderr = caller.stderr.take().unwrap();
    stderr.read_exact(&mut [0; 3]).unwrap();

    caller.kill().unwrap();

    caller.wait().unwrap();
    until("shell and sleep to end", || {
        (lab.members(1).len() == 2).then_some(())
    });
}

#[test]
fn a_command_ends_with_its_caller() {
    let lab = Lab::new();
    let target = waiting(&lab);
    let script = "trap 'echo told >&2; exit' TERM; echo up >&2; while :; do sleep 0.01; done";
    let mut caller = caller(&target, script);
    let mut stderr = caller.stderr.take().unwrap();
    stderr.read_exact(&mut [0; 3]).unwrap();

    // Not SIGINT, which the caller leaves to the command.
    let pid = nix::unistd::Pid::from_raw(caller.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();

    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    // Beside what the shell says of its `sleep`, which is told too.
    assert!(said.lines().any(|line| line == "told"), "{said}");
    caller.wait().unwrap();
    until("the command to end", || {
        (lab.members(1).len() == 2).then_some(())
    });
}
