//! Rows of an older layout, copied into those of this one, which have more fields at their ends.

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr::NonNull;

/// The kernel lays rows out at multiples of this many bytes.
const ROW_ALIGNMENT: usize = 8;

/// Copies every row of the array pinned at `from` to the one at `to`, whose rows are longer; what is
/// beyond stays zero, which is what a field says that an older version did not know.
///
/// Programs may go on counting in the old rows meanwhile: what they count until they are replaced is
/// lost, and only that.
pub(crate) fn copy_rows(from: &Path, to: &Path) -> io::Result<()> {
    let (old, new) = (Mapped::open(from)?, Mapped::open(to)?);
    if old.len != new.len || old.row_bytes > new.row_bytes {
        return Err(io::Error::other("its rows have shrunk"));
    }
    for index in 0..old.len {
        let (old_row, new_row) = (old.row(index), new.row(index));
        // SAFETY: both rows lie inside their mappings, which do not overlap and live until the end of
        // this function; the new one is at least as long. Other writers of the old row make a torn
        // value at worst, and any bytes are a valid one.
        unsafe { std::ptr::copy_nonoverlapping(old_row, new_row, old.row_bytes) };
    }
    Ok(())
}

/// A whole array, mapped.
struct Mapped {
    start: NonNull<c_void>,
    len: usize,
    row_bytes: usize,
    bytes: NonZeroUsize,
}

impl Mapped {
    fn open(path: &Path) -> io::Result<Mapped> {
        let map = MapData::from_pin(path).map_err(io::Error::other)?;
        let info = map.info().map_err(io::Error::other)?;
        let len = info.max_entries() as usize;
        let row_bytes = (info.value_size() as usize).next_multiple_of(ROW_ALIGNMENT);
        let bytes = NonZeroUsize::new(len * row_bytes)
            .ok_or_else(|| io::Error::other("an array without rows"))?;
        // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map.fd().as_fd(),
                0,
            )
        }?;
        Ok(Mapped {
            start,
            len,
            row_bytes,
            bytes,
        })
    }

    fn row(&self, index: usize) -> *mut u8 {
        assert!(index < self.len, "a row of the mapping");
        // SAFETY: the row lies inside the mapping, by the assertion.
        unsafe { self.start.as_ptr().cast::<u8>().add(index * self.row_bytes) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no pointer into it outlives `self`.
        let unmapped = unsafe { munmap(self.start, self.bytes.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
