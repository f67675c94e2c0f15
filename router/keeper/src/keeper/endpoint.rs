//! The keeper's socket, and the lock that makes it the only one there.

use crate::wire;
use nix::errno::Errno;
use nix::sys::socket::{Backlog, UnixAddr, bind, listen};
use nix::sys::stat::{Mode, umask};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Clients that wait to be accepted; the loop accepts one each round.
const BACKLOG: i32 = 64;

/// Why a keeper cannot listen.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// Another keeper serves this path.
    #[error("another keeper (process {holder}) serves `{}`; use that one, or shut it down", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// The other's process id, where it is known.
        holder: String,
    },
    /// Something else than a socket is there.
    #[error("`{}` is there and is no socket; move it away or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path cannot be used.
    #[error("cannot {step} `{}`: {source}; is its directory there and writable?", path.display())]
    Unusable {
        /// What failed.
        step: &'static str,
        /// The socket or its lock.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A listening socket that no other keeper has.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) path: PathBuf,
    pub(super) socket: OwnedFd,
    pub(super) lock: OwnedFd,
}

impl Endpoint {
    /// Listens at `path`, replacing the socket of a keeper that died.
    pub(super) fn bind(path: &Path) -> Result<Endpoint, EndpointError> {
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(EndpointError::NotASocket { path: path.into() });
            }
            // We hold the lock, so nobody serves it any more.
            Ok(_) => fs::remove_file(path).map_err(unusable("replace", path))?,
            Err(_) => {}
        }
        let socket = listening(path).map_err(|error| unusable("bind", path)(error.into()))?;
        Ok(Endpoint {
            path: path.into(),
            socket,
            lock: lock.into(),
        })
    }

    /// The socket to accept clients from.
    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes the socket away, while the lock is still held.
    pub(super) fn unbind(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn unusable<'a>(
    step: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> EndpointError + use<'a> {
    move |source| EndpointError::Unusable {
        step,
        path: path.into(),
        source,
    }
}

fn listening(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = wire::new_socket()?;
    nix::fcntl::fcntl(
        &socket,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )?;
    // Nobody but its owner may even try; who connects is checked as well.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixAddr::new(path).and_then(|address| bind(socket.as_raw_fd(), &address));
    umask(before);
    bound?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// Locks the file beside the socket. The lock belongs to the open file, so that it survives an
/// upgrade and ends with the process, however that ends.
fn lock(socket: &Path) -> Result<File, EndpointError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(unusable("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.is_empty() {
                "unknown".into()
            } else {
                holder
            };
            return Err(EndpointError::Taken {
                path: socket.into(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(unusable("lock", &path)(error)),
    }
    Ok(file)
}

impl Endpoint {
    /// Writes this process's id into the lock, for the message of a keeper that comes second.
    pub(super) fn sign(&mut self) -> std::io::Result<()> {
        let mut file = File::from(self.lock.try_clone()?);
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())
    }
}
