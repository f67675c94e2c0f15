//! The daemon's side: blocking calls to the keeper, and the stream of its events.

use crate::launch::{self, KeeperLaunch};
use crate::message::{
    Event, InstanceStatus, KeeperInfo, Notice, ProcessSpec, Reply, Request, Started, log_name,
};
use crate::wire::{self, Packet, WireError};
use margay_core::echo::EchoSecret;
use margay_core::id::InstanceId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, UnixAddr, connect, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The longest that one call may take: far more than any call needs on a busy host, so that only a
/// keeper that hangs reaches it.
const CALL_SECONDS_MAX: i64 = 30;

/// The longest that [`KeeperClient::shutdown`] waits for the last instance to end.
const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(30);

/// Why a call to the keeper failed.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// No keeper answers at this path.
    #[error(
        "cannot reach the keeper at `{}`: {source}; start it with `margay-keeper --socket {}`",
        path.display(),
        path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The keeper's binary did not start.
    #[error("cannot start the keeper `{}`: {reason}", binary.display())]
    NotStarted {
        /// The binary.
        binary: PathBuf,
        /// Why, in its own words where it had some.
        reason: String,
    },
    /// The keeper understood and refused; its reason says what to do.
    #[error("the keeper refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The keeper closed the connection or is gone.
    #[error("the keeper is gone; connect again (and start it if nothing answers)")]
    Gone,
    /// The keeper dropped this subscription.
    #[error("the keeper dropped this subscription ({reason}); subscribe again, then list()")]
    Dropped {
        /// Why.
        reason: String,
    },
    /// The keeper did not answer in time, or with something else than this version understands.
    #[error("the keeper at the other end cannot be understood: {reason}; compare its hello()")]
    Protocol {
        /// What went wrong.
        reason: String,
    },
}

impl From<WireError> for KeeperError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Closed => KeeperError::Gone,
            other => KeeperError::Protocol {
                reason: other.to_string(),
            },
        }
    }
}

/// A connection to the keeper; calls from several threads take turns.
#[derive(Debug)]
pub struct KeeperClient {
    path: PathBuf,
    socket: Mutex<OwnedFd>,
}

impl KeeperClient {
    /// Connects to the keeper that listens at `path`.
    pub fn connect(path: &Path) -> Result<KeeperClient, KeeperError> {
        let socket = dial(path).map_err(|source| KeeperError::Unreachable {
            path: path.into(),
            source,
        })?;
        Ok(KeeperClient {
            path: path.into(),
            socket: Mutex::new(socket),
        })
    }

    /// Connects to the keeper that listens at `path`, after starting one if none does.
    pub fn connect_or_start(
        path: &Path,
        launch: &KeeperLaunch,
    ) -> Result<KeeperClient, KeeperError> {
        if let Ok(client) = KeeperClient::connect(path) {
            return Ok(client);
        }
        launch::launch(path, launch)?;
        KeeperClient::connect(path)
    }

    /// Asks for the keeper's version and process id.
    pub fn hello(&self) -> Result<KeeperInfo, KeeperError> {
        match self.call(&Request::Hello {}, &[])?.0 {
            Reply::Info(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the keeper hold copies of `fds` as `name`, in place of what it held under that name.
    pub fn hold(&self, name: &str, fds: &[BorrowedFd<'_>]) -> Result<(), KeeperError> {
        self.done(&Request::Hold { name: name.into() }, fds)
    }

    /// Fetches copies of what is held as `name`; the keeper goes on holding it.
    pub fn fetch(&self, name: &str) -> Result<Option<Vec<OwnedFd>>, KeeperError> {
        match self.call(&Request::Fetch { name: name.into() }, &[])? {
            (Reply::Done {}, descriptors) => Ok(Some(descriptors)),
            (Reply::Missing {}, _) => Ok(None),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Has the keeper let go of what it holds as `name`, if anything.
    pub fn release(&self, name: &str) -> Result<(), KeeperError> {
        self.done(&Request::Release { name: name.into() }, &[])
    }

    /// Lists the names of all that is held, in order.
    pub fn held(&self) -> Result<Vec<String>, KeeperError> {
        let mut all: Vec<String> = Vec::new();
        loop {
            match self
                .call(
                    &Request::Held {
                        after: all.last().cloned(),
                    },
                    &[],
                )?
                .0
            {
                Reply::Names { names } if names.is_empty() => return Ok(all),
                Reply::Names { names } => all.extend(names),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Makes a network namespace for `instance`, held as `netns/ID`; answers the one already held
    /// if there is one, so that a daemon that died in between may simply ask again.
    ///
    /// Programs in it may bind every port and send ICMP echo without a capability.
    pub fn create_namespace(&self, instance: InstanceId) -> Result<OwnedFd, KeeperError> {
        let (reply, mut descriptors) = self.call(&Request::CreateNamespace { instance }, &[])?;
        descriptors.pop().ok_or_else(|| unexpected(&reply))
    }

    /// Starts a program. That it cannot be run is told by [`Event::Exited`].
    pub fn start(&self, spec: &ProcessSpec) -> Result<Started, KeeperError> {
        match self.call(&Request::Start(spec.clone()), &[])? {
            (Reply::Started { init_pid }, mut descriptors) => match descriptors.pop() {
                Some(log) => Ok(Started { init_pid, log }),
                None => Err(KeeperError::Protocol {
                    reason: "no log pipe came".into(),
                }),
            },
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Ends an instance: SIGTERM, then after `grace_ms` SIGKILL to all of it. Returns at once;
    /// [`Event::Stopped`] follows.
    pub fn stop(&self, instance: InstanceId, grace_ms: u64) -> Result<(), KeeperError> {
        self.done(&Request::Stop { instance, grace_ms }, &[])
    }

    /// Kills all of an instance's processes at once. It counts as a program that ended by itself:
    /// [`Event::Exited`] follows, and it is started again if it shall be.
    pub fn kill(&self, instance: InstanceId) -> Result<(), KeeperError> {
        self.done(&Request::Kill { instance }, &[])
    }

    /// Forgets an instance, killing it if it still runs, and releases its namespace, log pipe and
    /// cgroup. Returns at once; what is unknown is already removed.
    pub fn remove(&self, instance: InstanceId) -> Result<(), KeeperError> {
        self.done(&Request::Remove { instance }, &[])
    }

    /// Lists all instances in order.
    pub fn list(&self) -> Result<Vec<InstanceStatus>, KeeperError> {
        let mut all: Vec<InstanceStatus> = Vec::new();
        loop {
            let after = all.last().map(|last| last.instance);
            match self.call(&Request::List { after }, &[])?.0 {
                Reply::Instances { instances } if instances.is_empty() => return Ok(all),
                Reply::Instances { instances } => all.extend(instances),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Fetches the read end of an instance's log pipe again.
    pub fn log(&self, instance: InstanceId) -> Result<Option<OwnedFd>, KeeperError> {
        Ok(self
            .fetch(&log_name(instance))?
            .and_then(|mut descriptors| descriptors.pop()))
    }

    /// Replaces the running keeper by `binary`, which inherits instances, descriptors, connections
    /// and subscriptions. A binary that does not understand them is refused beforehand.
    pub fn upgrade(&self, binary: &Path) -> Result<(), KeeperError> {
        self.done(
            &Request::Upgrade {
                binary: binary.into(),
            },
            &[],
        )
    }

    /// Has the keeper answer echoes on `socket`, which is bound to `port`, as long as it lives, unless it
    /// does so on that port already. The secret is that of all the tickets of its life.
    pub fn answer_echoes(
        &self,
        port: u16,
        socket: BorrowedFd<'_>,
    ) -> Result<EchoSecret, KeeperError> {
        match self.call(&Request::AnswerEchoes { port }, &[socket])?.0 {
            Reply::Echoes { secret } => Ok(secret),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends every instance, then the keeper; returns when it is gone.
    pub fn shutdown(&self) -> Result<(), KeeperError> {
        self.done(&Request::Shutdown {}, &[])?;
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        wait_readable(socket.as_fd(), Some(SHUTDOWN_WAIT_MAX))?;
        match wire::receive(socket.as_fd(), MsgFlags::MSG_DONTWAIT) {
            Err(WireError::Closed) => Ok(()),
            Ok(_) => Err(KeeperError::Protocol {
                reason: "an answer without question".into(),
            }),
            Err(other) => Err(other.into()),
        }
    }

    /// Opens a stream of events on a connection of its own.
    ///
    /// Events before this call are not repeated: subscribe first, then [`KeeperClient::list`].
    pub fn subscribe(&self) -> Result<EventStream, KeeperError> {
        let own = KeeperClient::connect(&self.path)?;
        own.done(&Request::Subscribe {}, &[])?;
        Ok(EventStream {
            socket: own
                .socket
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn done(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), KeeperError> {
        match self.call(request, fds)?.0 {
            Reply::Done {} => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn call(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), KeeperError> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let exchanged =
            retry_interrupted(|| wire::send(socket.as_fd(), request, fds, MsgFlags::empty()))
                .and_then(|()| {
                    retry_interrupted(|| wire::receive(socket.as_fd(), MsgFlags::empty()))
                });
        let packet = exchanged.inspect_err(|_| {
            // A late answer must never be taken for that of the next call.
            let _ =
                nix::sys::socket::shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        })?;
        answer(packet)
    }
}

/// The keeper's events, in order.
#[derive(Debug)]
pub struct EventStream {
    socket: OwnedFd,
}

impl EventStream {
    /// Waits for the next event; `None` when `timeout` passed without one.
    pub fn recv(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, KeeperError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if !wait_readable(self.socket.as_fd(), left)? {
                return Ok(None);
            }
            let packet = match wire::receive(self.socket.as_fd(), MsgFlags::MSG_DONTWAIT) {
                Ok(packet) => packet,
                Err(WireError::NotNow) => continue,
                Err(error) => return Err(error.into()),
            };
            match packet.parse::<Notice>() {
                Ok(Notice::Event(event)) => return Ok(Some(event)),
                Ok(Notice::Dropped { reason }) => return Err(KeeperError::Dropped { reason }),
                // A newer keeper may tell of things that this version has no use for.
                Err(_) => {}
            }
        }
    }
}

impl AsFd for EventStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn dial(path: &Path) -> std::io::Result<OwnedFd> {
    let socket = wire::new_socket()?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let deadline = TimeVal::seconds(CALL_SECONDS_MAX);
    setsockopt(&socket, sockopt::ReceiveTimeout, &deadline)?;
    setsockopt(&socket, sockopt::SendTimeout, &deadline)?;
    Ok(socket)
}

fn answer(packet: Packet) -> Result<(Reply, Vec<OwnedFd>), KeeperError> {
    match packet.parse::<Reply>()? {
        Reply::Refused { reason } => Err(KeeperError::Refused { reason }),
        reply => Ok((reply, packet.descriptors)),
    }
}

fn unexpected(reply: &Reply) -> KeeperError {
    KeeperError::Protocol {
        reason: format!("an answer that does not fit: {reply:?}"),
    }
}

fn retry_interrupted<T>(mut call: impl FnMut() -> Result<T, WireError>) -> Result<T, WireError> {
    loop {
        match call() {
            Err(WireError::Socket(nix::errno::Errno::EINTR)) => {}
            outcome => return outcome,
        }
    }
}

/// Waits until `fd` is readable or closed; false when `timeout` passed first.
pub(crate) fn wait_readable(
    fd: BorrowedFd<'_>,
    timeout: Option<Duration>,
) -> Result<bool, KeeperError> {
    // Rounded up, so that the wait does not end just before its time.
    let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
        let ms = timeout.as_micros().div_ceil(1000);
        PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(true),
        Err(error) => Err(KeeperError::Protocol {
            reason: format!("poll failed: {error}"),
        }),
    }
}
