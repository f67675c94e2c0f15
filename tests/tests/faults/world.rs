//! The small world that the tests of faults share: who runs in it, and conversations with them.

use margay_tests::lab::{Host, Instance, PLACE, until};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long a change may take to be seen, on a busy machine.
pub(crate) const SEEN_MAX: Duration = Duration::from_secs(30);

/// Networks that a host has ready for instances to come.
pub(crate) const SPARES: usize = 4;

/// How long a program may take to answer a line: its own patience is shorter.
const HEARD_MAX: Duration = Duration::from_secs(40);

/// How long a program may take to end with its input.
const ENDED_MAX: Duration = Duration::from_secs(5);

/// The port that the echo server declares.
pub(crate) const ECHO_PORT: u16 = 7777;

/// An echo server, its caller, and whatever follows.
pub(crate) fn composition(more: &str) -> String {
    format!(
        r#"
[composition]
name = "faults"
version = 1

[automaton.echo]
command = ["/usr/bin/python3", "{PLACE}/echo.py", "{ECHO_PORT}"]
ports = {{ echo = {{ port = {ECHO_PORT}, protocol = "tcp" }} }}
ready = {{ tcp = true, port = "echo", every_ms = 200 }}

[automaton.caller]
command = ["sleep", "infinity"]
needs = ["echo"]

{more}
"#
    )
}

/// Puts the programs of this world where instances can run them.
pub(crate) fn furnish(host: &Host) {
    for (name, text) in [
        ("client.py", include_str!("programs/client.py")),
        ("echo.py", include_str!("programs/echo.py")),
        ("escape.py", include_str!("programs/escape.py")),
        ("forge.py", include_str!("programs/forge.py")),
        ("mute.py", include_str!("programs/mute.py")),
    ] {
        host.write(name, text).unwrap();
    }
}

/// A host whose echo server and caller are ready, and everything in `more` is under way.
pub(crate) fn host_with(more: &str) -> Host {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon().unwrap();
    populate(&host, more);
    host
}

/// Applies the world's composition and waits until its echo server and caller are ready.
pub(crate) fn populate(host: &Host, more: &str) {
    host.apply(&composition(more)).unwrap();
    until_ready(host, &["1.echo", "1.caller"]);
}

/// Waits until each of the named instances is ready.
pub(crate) fn until_ready(host: &Host, names: &[&str]) {
    let ready = until(&format!("{names:?} are ready"), SEEN_MAX, || {
        let instances = host.instances()?;
        let ready = |name: &&str| instances.iter().any(|it| it.name == *name && it.ready);
        Ok(names.iter().all(ready).then_some(()))
    });
    if let Err(error) = ready {
        panic!("{error}: {:#?}\n{}", host.instances(), host.log_tail());
    }
}

/// The named instance, by `margay ps`.
pub(crate) fn instance(host: &Host, name: &str) -> Instance {
    let instances = host.instances().unwrap();
    let found = instances.iter().find(|it| it.name == name);
    found
        .unwrap_or_else(|| panic!("no {name} among {instances:#?}"))
        .clone()
}

/// How often `reason` was counted so far.
pub(crate) fn dropped(host: &Host, reason: &str) -> u64 {
    let drops = host.drops().unwrap();
    drops.get(reason).copied().unwrap_or_default()
}

/// What a command prints that runs in the host's namespaces and ends well.
pub(crate) fn said(host: &Host, words: &[&str]) -> String {
    let mut command = host.command(words[0]);
    let output = command.args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a shell prints that runs `script` in the host's namespaces.
pub(crate) fn shell(host: &Host, script: &str) -> String {
    said(host, &["sh", "-euc", script])
}

/// Runs a `margay` command to its end.
pub(crate) fn margay(host: &Host, words: &[&str]) -> Output {
    let mut command = host.margay(words);
    command.stdin(Stdio::null()).output().unwrap()
}

/// Everything that a program wrote.
pub(crate) fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(error)
    )
}

/// A program that is spoken to in lines; it ends with its owner.
pub(crate) struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    /// Starts a program.
    pub(crate) fn start(mut command: Command) -> Talk {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Talk {
            child,
            input,
            lines,
        }
    }

    /// Starts the client that does as it is told, inside an instance, and waits until it runs.
    pub(crate) fn client(host: &Host, instance: &str) -> Talk {
        let path = format!("{PLACE}/client.py");
        let mut client = Talk::start(host.exec(instance, &["/usr/bin/python3", &path]));
        assert_eq!(client.ask("names localhost"), "127.0.0.1 ::1");
        client
    }

    /// A client that has a connection to the echo server.
    pub(crate) fn connected(host: &Host, instance: &str) -> Talk {
        let mut client = Talk::client(host, instance);
        client.open_echo();
        client.echoes("hello");
        client
    }

    /// Opens a connection to the echo server.
    pub(crate) fn open_echo(&mut self) {
        let opened = self.ask(&format!("open echo.matrix {ECHO_PORT}"));
        assert!(!opened.starts_with("failed"), "{opened}");
    }

    /// Sends `word` over the open connection and gets it back.
    pub(crate) fn echoes(&mut self, word: &str) {
        assert_eq!(self.ask(&format!("say {word}")), word);
    }

    /// Says a line and returns the answer to it.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }

    /// Says a line.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line.
    pub(crate) fn hear(&mut self) -> String {
        match self.lines.recv_timeout(HEARD_MAX) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no answer in {} s", HEARD_MAX.as_secs()),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended: {:?}", self.child.wait()),
        }
    }

    /// Whether a line has come meanwhile.
    pub(crate) fn has_answered(&self) -> bool {
        // A line that is looked at is lost; whoever asks does not expect one.
        self.lines.try_recv().is_ok()
    }

    /// Ends a program that does not end with its input.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends its input and returns its last line.
    pub(crate) fn finish(mut self) -> String {
        drop(self.input.take());
        let last = self.hear();
        self.child.wait().unwrap();
        last
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.input.take());
        // Killed, what waits for it outside the host would leave it to others to reap.
        let ended = until("it ends with its input", ENDED_MAX, || {
            Ok(self.child.try_wait()?)
        });
        if ended.is_err() {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}
