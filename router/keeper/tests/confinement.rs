//! An instance sees its own files, processes and devices, and can reach nothing of the host.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod common;

use common::{Lab, event};
use margay_keeper::Event;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

/// Runs `action` on a thread of its own in the network namespace of instance `number`.
fn in_namespace<T: Send>(lab: &Lab, number: u64, action: impl FnOnce() -> T + Send) -> T {
    let namespace = lab.client.create_namespace(lab.instance(number)).unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            action()
        });
        inside.join().unwrap()
    })
}

/// Brings the loopback device of the calling thread's namespace up.
fn bring_loopback_up() {
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.unwrap().success());
}

#[test]
fn it_sees_its_own_resolver_files_whatever_the_host_has() {
    // The host's resolv.conf is a link into /run, and its nsswitch.conf asks elsewhere.
    let lab = Lab::on_host(
        "cp -a /etc $LAB/host-etc && rm -f $LAB/host-etc/resolv.conf && \
         ln -s /run/systemd/resolve/stub-resolv.conf $LAB/host-etc/resolv.conf && \
         echo 'hosts: resolve' > $LAB/host-etc/nsswitch.conf && \
         mount --bind $LAB/host-etc /etc",
    );

    let said = lab.run("cat /etc/resolv.conf /etc/nsswitch.conf /etc/hosts; id -un 0");

    assert_eq!(
        said,
        "nameserver 169.254.53.53\nhosts: files dns\n127.0.0.1 localhost\nroot\n"
    );
}

#[test]
fn it_does_not_see_a_name_cache_of_the_host() {
    // A decoy nscd that would answer for the host, beside other control sockets.
    let lab = Lab::on_host(
        "mount -t tmpfs none /run && mkdir -p /run/nscd /run/systemd/resolve /var/cache/nscd && \
         mount -t tmpfs none /var/cache/nscd && touch /var/cache/nscd/hosts && \
         python3 -c 'import socket; [socket.socket(socket.AF_UNIX).bind(p) for p in \
         (\"/run/nscd/socket\", \"/run/systemd/resolve/io.systemd.Resolve\", \"/run/control\")]' \
         && test -S /var/run/nscd/socket",
    );

    let said = lab.run("ls /run /var/run/ /var/cache/nscd; getent hosts localhost");

    assert!(
        said.starts_with("/run:\nstate\n\n/var/cache/nscd:\n\n/var/run/:\nstate\n"),
        "{said}"
    );
    assert!(said.ends_with("localhost\n"), "{said}");
}

#[test]
fn it_does_not_see_control_sockets() {
    let lab = Lab::new();
    let _decoy = UnixListener::bind(lab.directory.path().join("decoy")).unwrap();
    let directory = lab.directory.path().display();

    let said = lab.run(&format!("ls {directory} 2>&1; find /run /tmp /dev -type s"));

    assert!(said.contains("No such file or directory"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn it_has_no_privileges() {
    let lab = Lab::new();
    let uid = 1_900_000_000 + lab.instance(1).0;

    let said = lab.run("grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs)' /proc/self/status; umask; \
         grep -E '^Cap(Prm|Eff|Inh|Bnd)' /proc/1/status | cut -f 2 | sort -u; cat /proc/self/oom_score_adj");

    let none = "0000000000000000";
    let expected = format!(
        "Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t \n\
         CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\n\
         NoNewPrivs:\t1\n0022\n{none}\n0\n"
    );
    assert_eq!(said, expected);
}

#[test]
fn it_runs_as_a_named_user_if_told_so() {
    let lab = Lab::new();
    let mut spec = lab.script(
        1,
        "id -un; id -G; touch /run/state/mine && stat -c %U /run/state/mine",
    );
    spec.user = Some("nobody".into());

    let (_, mut log) = lab.start(&spec);

    assert_eq!(log.read_to_end(), "nobody\n65534\nnobody\n");
}

#[test]
fn it_cannot_enter_other_namespaces_nor_mount() {
    let lab = Lab::new();

    let said = lab.run(
        "for kind in net mnt pid ipc uts cgroup; do \
           nsenter --$( [ $kind = mnt ] && echo mount || echo $kind )=/proc/1/ns/$kind true \
             2>/dev/null && echo entered $kind; \
         done; \
         mount -t tmpfs none /tmp 2>/dev/null && echo mounted; \
         mount -o remount,rw / 2>/dev/null && echo remounted; \
         umount /run 2>/dev/null && echo unmounted; \
         unshare --mount true 2>/dev/null && echo unshared; \
         chroot / true 2>/dev/null && echo chrooted; \
         hostname other 2>/dev/null && echo renamed; \
         unshare --user --map-root-user --mount umount -l /run 2>/dev/null && echo uncovered; \
         echo done",
    );

    assert_eq!(said, "done\n");
}

#[test]
fn it_shares_no_namespace_with_the_host_but_users_and_clocks() {
    let lab = Lab::new();
    let kinds = ["net", "mnt", "pid", "ipc", "uts", "cgroup"];

    let said = lab.run(&format!("cd /proc/self/ns && readlink {}", kinds.join(" ")));

    assert_eq!(said.lines().count(), kinds.len(), "{said}");
    for kind in kinds {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(
            !said.contains(host.to_str().unwrap()),
            "{kind} is the host's: {said}"
        );
    }
}

#[test]
fn it_sees_only_its_own_processes() {
    let lab = Lab::new();

    let said =
        lab.run("set -- /proc/[0-9]*; echo $#; ls /proc/1/root 2>&1; cat /proc/1/environ 2>&1");

    let mut lines = said.lines();
    // Its init and the shell, which looks by itself.
    assert_eq!(lines.next(), Some("2"));
    assert!(
        lines.all(|line| line.ends_with("Permission denied")),
        "{said}"
    );
}

#[test]
fn it_inherits_no_descriptor_and_no_signal_setting() {
    let lab = Lab::new();

    let said = lab.run(
        "exec python3 -c \"\
import os, signal\n\
print([fd for fd in range(3, 1000) if os.path.exists(f'/proc/self/fd/{fd}')])\n\
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n\
print([l for l in open('/proc/self/status') if l.startswith(('SigIgn', 'SigBlk'))])\n\
\"",
    );

    // Python itself ignores SIGPIPE (0x1000) and SIGXFSZ (0x1000000).
    assert_eq!(
        said,
        "[]\nset()\n['SigBlk:\\t0000000000000000\\n', 'SigIgn:\\t0000000001001000\\n']\n"
    );
}

#[test]
fn it_writes_only_where_it_may() {
    let lab = Lab::new();

    let said = lab.run(
        "for d in /run /tmp /var/tmp /dev/shm /run/state; do echo x > $d/file && echo $d; done; \
         for d in / /etc /usr /home /proc/sys/kernel /sys /dev /var/lib; do \
           (echo x > $d/file) 2>/dev/null && echo wrote $d; done; \
         awk '$2 == \"/\" {print $4}' /proc/mounts | tr , '\\n' | grep -E '^(ro|nosuid|nodev)$'",
    );

    assert_eq!(
        said,
        "/run\n/tmp\n/var/tmp\n/dev/shm\n/run/state\nro\nnosuid\nnodev\n"
    );
}

#[test]
fn it_has_harmless_devices_and_no_others() {
    let lab = Lab::new();

    let said = lab.run(
        "ls /dev; echo x > /dev/null; head -c 1 /dev/urandom | wc -c; cat /dev/fd/0; \
         find /dev -type b; python3 -c 'import pty; print(pty.openpty() != None)'; \
         ls -A /sys/fs/cgroup /sys/fs/bpf; ls /sys/class/net",
    );

    assert_eq!(
        said,
        "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n\
         1\nTrue\n/sys/fs/bpf:\n\n/sys/fs/cgroup:\nlo\n"
    );
}

#[test]
fn it_cannot_take_all_processes_of_the_host() {
    let lab = Lab::new();

    let said = lab.run("awk '/Max (processes|core)/ {print $(NF - 1)}' /proc/self/limits; [ $(ulimit -n) = $(ulimit -Hn) ] && echo same");

    assert_eq!(said, "0\n4096\nsame\n");
}

#[test]
fn its_state_stays_and_its_scratch_goes() {
    let lab = Lab::new();

    lab.run("echo kept > /run/state/file; echo lost > /tmp/file; echo lost > /run/file");
    let said = lab.run("cat /run/state/file; ls /tmp /run");

    assert_eq!(said, "kept\n/run:\nstate\n\n/tmp:\n");
}

#[test]
fn servers_run_unchanged_and_bind_low_ports() {
    let lab = Lab::new();
    let nginx = lab.directory.path().join("etc/nginx-test.conf");
    std::fs::write(
        &nginx,
        "daemon off; pid /run/nginx.pid; error_log stderr; events {}\n\
         http { access_log /dev/stdout; client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy;\n\
         fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;\n\
         server { listen 80; location / { return 200 hello; } } }\n",
    )
    .unwrap();
    for (number, port, command, question, answer) in [
        (
            1,
            80,
            "nginx -c /etc/nginx-test.conf",
            "GET / HTTP/1.0\r\n\r\n",
            "200 OK",
        ),
        (
            2,
            6379,
            "redis-server --save --protected-mode no",
            "PING\r\n",
            "+PONG",
        ),
        (
            3,
            81,
            "python3 -m http.server 81",
            "GET / HTTP/1.0\r\n\r\n",
            "200 OK",
        ),
    ] {
        in_namespace(&lab, number, bring_loopback_up);
        let command: Vec<&str> = match number {
            2 => vec!["redis-server", "--save", "", "--protected-mode", "no"],
            _ => command.split(' ').collect(),
        };
        let (_, mut log) = lab.start(&lab.spec(number, &command));

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let said = in_namespace(&lab, number, || {
            let mut stream =
                common::until(&format!("{command:?}"), || TcpStream::connect(address).ok());
            stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
            stream.write_all(question.as_bytes()).unwrap();
            let mut said = [0; 256];
            let length = stream.read(&mut said).unwrap();
            String::from_utf8_lossy(&said[..length]).into_owned()
        });

        assert!(said.contains(answer), "{said}");
        if number == 1 {
            log.read_until("GET / HTTP/1.0");
        }
    }
}

#[test]
fn it_may_send_icmp_echo_but_no_raw_packets() {
    let lab = Lab::new();

    let said = lab.run(
        "python3 -c 'from socket import *; socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)' && echo echo; \
         python3 -c 'from socket import *; socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)' 2>&1 | tail -1",
    );

    assert_eq!(
        said,
        "echo\nPermissionError: [Errno 1] Operation not permitted\n"
    );
}

#[test]
fn each_instance_has_a_network_of_its_own() {
    let lab = Lab::new();
    in_namespace(&lab, 1, bring_loopback_up);
    in_namespace(&lab, 2, bring_loopback_up);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let _one = in_namespace(&lab, 1, || TcpListener::bind(address).unwrap());

    assert!(in_namespace(&lab, 1, || TcpStream::connect(address)).is_ok());
    assert!(in_namespace(&lab, 2, || TcpStream::connect(address)).is_err());
}

#[test]
fn sleep_infinity_runs_and_can_be_stopped() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    lab.start(&lab.spec(1, &["sleep", "infinity"]));

    lab.client.stop(lab.instance(1), 60_000).unwrap();

    event(&mut events, |event| {
        matches!(event, Event::Stopped { .. }).then_some(())
    });
}
