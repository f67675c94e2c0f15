//! Deletes many keys of the kernel's flow table by one system call.

use crate::layout::RawKey;
use aya::maps::{Map, MapError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// `BPF_MAP_DELETE_BATCH` of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const DELETE_BATCH: libc::c_int = 27;

/// The member `batch` of `union bpf_attr` (include/uapi/linux/bpf.h).
#[derive(Default)]
#[repr(C, align(8))]
struct BatchRequest {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    /// How many keys there are; then how many were deleted.
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

const _: () = assert!(size_of::<BatchRequest>() == 56);

/// Another handle on the map of keys, for what aya has no call for.
#[derive(Debug)]
pub(crate) struct Deletions {
    map: OwnedFd,
}

impl Deletions {
    /// Deletes from a hash whose keys are [`RawKey`]s.
    pub(crate) fn from(hash: &Map) -> Result<Self, MapError> {
        let Map::HashMap(hash) = hash else {
            unreachable!("flows are declared as a hash, found {hash:?}");
        };
        let map = hash.fd().as_fd().try_clone_to_owned()?;
        Ok(Deletions { map })
    }

    /// Deletes `keys` in their order; one that is not there is success.
    ///
    /// The kernel stops at the first key that it cannot delete: it is passed over. Answers the
    /// first failure and the index of its key.
    pub(crate) fn delete(&self, keys: &[RawKey]) -> Result<(), (usize, io::Error)> {
        let mut outcome = Ok(());
        let mut done = 0;
        while done < keys.len() {
            let (deleted, stopped) = self.delete_until_failure(&keys[done..]);
            done += deleted;
            if let Err(error) = stopped {
                if error.raw_os_error() != Some(libc::ENOENT) {
                    outcome = outcome.and(Err((done, error)));
                }
                done += 1;
            }
        }
        outcome
    }

    /// Answers how many keys were deleted before the failure, if there was one.
    fn delete_until_failure(&self, keys: &[RawKey]) -> (usize, io::Result<()>) {
        let mut request = BatchRequest {
            keys: keys.as_ptr() as u64,
            count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
            map_fd: self.map.as_raw_fd() as u32,
            ..BatchRequest::default()
        };
        // SAFETY: the kernel reads `count` keys, which `keys` holds, and writes only `count`.
        let status = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                DELETE_BATCH,
                &raw mut request,
                size_of::<BatchRequest>(),
            )
        };
        if status == 0 {
            (request.count as usize, Ok(()))
        } else {
            let error = io::Error::last_os_error();
            // A request that the kernel refused as a whole keeps its count.
            let deleted = if request.count as usize == keys.len() {
                0
            } else {
                request.count
            };
            (deleted as usize, Err(error))
        }
    }
}
