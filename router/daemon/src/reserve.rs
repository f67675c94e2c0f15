//! Room on disk that is set aside before a change is accepted, so that it can be recorded then.

use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::path::Path;

/// A file of nothing, beside what it keeps room for.
#[derive(Debug)]
pub struct Reserve(File);

impl Reserve {
    /// Opens the reserve at `path`, empty.
    pub fn open(path: &Path) -> io::Result<Reserve> {
        File::create(path).map(Reserve)
    }

    /// Sets `bytes` aside, or nothing: blocks of the disk, not mere length.
    pub fn hold(&self, bytes: u64) -> io::Result<()> {
        self.release()?;
        let length = i64::try_from(bytes).map_err(io::Error::other)?;
        let held = fallocate(&self.0, FallocateFlags::empty(), 0, length);
        if held.is_err() {
            self.release()?;
        }
        Ok(held?)
    }

    /// Gives the room to whoever writes next.
    pub fn release(&self) -> io::Result<()> {
        self.0.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn held_room_is_made_of_blocks_and_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let reserve = Reserve::open(&path).unwrap();
        let blocks = || std::fs::metadata(&path).unwrap().blocks() * 512;
        reserve.hold(1 << 20).unwrap();
        assert!(blocks() >= 1 << 20);
        reserve.hold(1 << 16).unwrap();
        assert!(blocks() < 1 << 20, "only what was asked for last");
        reserve.release().unwrap();
        assert_eq!(blocks(), 0);
    }
}
