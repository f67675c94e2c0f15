//! Bounded logs: what instances write goes from their pipes to files without passing through us.

use margay_core::id::InstanceId;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// A log file is set aside at this size, and one set-aside file is kept: twice this bounds what an
/// instance can fill.
const LOG_FILE_BYTES_MAX: i64 = 1 << 20;

/// The most bytes moved by one call.
const SPLICE_BYTES_MAX: usize = 256 << 10;

/// Moves what comes out of `pipe` to the file at `path` until the pipe ends.
///
/// `splice` moves pages from pipe to file inside the kernel: a line is in one or the other even if
/// this process is killed in between.
pub async fn pump(instance: InstanceId, pipe: OwnedFd, path: PathBuf) {
    if let Err(error) = try_pump(pipe, &path).await {
        tracing::error!(%instance, path = %path.display(), %error, "the log is no longer written");
    }
}

async fn try_pump(pipe: OwnedFd, path: &Path) -> io::Result<()> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // SAFETY: the descriptor is owned by what is registered, which neither changes nor shares it.
    let pipe = unsafe { AsyncFd::register(pipe)? };
    let mut log = LogFile::open(path)?;
    loop {
        let mut ready = pipe.readable().await?;
        match log.take_from(pipe.get_ref()) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::ENOSPC) => {
                // A full disk costs log lines, never the instance: its pipe must not fill up.
                tracing::warn!(path = %path.display(), "the disk is full: log lines are lost");
                discard(pipe.get_ref())?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn discard(pipe: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; 64 << 10];
    match nix::unistd::read(pipe, &mut buffer) {
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The file that grows, and how far it has grown.
struct LogFile {
    path: PathBuf,
    file: File,
    end: i64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        let end = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        Ok(LogFile {
            path: path.to_owned(),
            file,
            end,
        })
    }

    fn take_from(&mut self, pipe: &OwnedFd) -> nix::Result<usize> {
        if self.end >= LOG_FILE_BYTES_MAX {
            self.set_aside()
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
        }
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let file = self.file.as_fd();
        splice(
            pipe,
            None,
            file,
            Some(&mut self.end),
            SPLICE_BYTES_MAX,
            flags,
        )
    }

    fn set_aside(&mut self) -> io::Result<()> {
        fs::rename(&self.path, set_aside_path(&self.path))?;
        *self = LogFile::open(&self.path)?;
        Ok(())
    }
}

/// Where the older half of the log at `path` is.
pub fn set_aside_path(path: &Path) -> PathBuf {
    path.with_extension("old")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn run(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work);
    }

    #[test]
    fn lines_reach_the_file_and_an_earlier_run_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        File::from(writer).write_all(b"after\n").unwrap();
        run(pump(InstanceId(1), reader, path.clone()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn instance_that_writes_without_end_fills_only_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let writer = std::thread::spawn(move || {
            let mut writer = File::from(writer);
            for n in 0..200_000 {
                writeln!(writer, "line {n} of an instance that has much to say").unwrap();
            }
        });
        run(pump(InstanceId(1), reader, path.clone()));
        writer.join().unwrap();
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        let bound = (LOG_FILE_BYTES_MAX as u64) + SPLICE_BYTES_MAX as u64;
        assert!(size(&path) <= bound && size(&set_aside_path(&path)) <= bound);
        let newest = fs::read_to_string(&path).unwrap();
        assert!(newest.ends_with("line 199999 of an instance that has much to say\n"));
    }
}
