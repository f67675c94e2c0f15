//! A kernel array map, mapped into this process: rows are read and written without a system call.

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// A row of a mapped array.
///
/// # Safety
///
/// Every field is an atomic integer, there is no padding, and the size is a multiple of 8 bytes: the
/// kernel reads and writes rows at any moment, and any bytes it writes must be a valid value.
pub(crate) unsafe trait Row: Sync {}

/// A mapping of an array made with `BPF_F_MMAPABLE`; it keeps the map alive.
#[derive(Debug)]
pub(crate) struct MappedArray<T: Row> {
    rows: NonNull<T>,
    len: usize,
    mapped_bytes: NonZeroUsize,
    _rows: PhantomData<T>,
}

// SAFETY: the mapping belongs to no thread, and `Row` makes sharing rows between threads sound.
unsafe impl<T: Row> Send for MappedArray<T> {}

impl<T: Row> MappedArray<T> {
    /// Maps the whole of `map`, whose values must have the size of `T`.
    pub(crate) fn new(map: &MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        if info.value_size() as usize != size_of::<T>() {
            return Err(io::Error::other(format!(
                "values of {} bytes where {} were expected",
                info.value_size(),
                size_of::<T>()
            )));
        }
        let len = info.max_entries() as usize;
        let mapped_bytes = NonZeroUsize::new(len * size_of::<T>())
            .ok_or_else(|| io::Error::other("an array without rows"))?;
        // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory of ours.
        let rows = unsafe {
            mmap(
                None,
                mapped_bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map.fd().as_fd(),
                0,
            )
        }?;
        Ok(MappedArray {
            rows: rows.cast(),
            len,
            mapped_bytes,
            _rows: PhantomData,
        })
    }

    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The row at `index`, if the array is that long.
    pub(crate) fn row(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        if index >= self.len {
            return None;
        }
        // SAFETY: `index` lies inside the mapping, which lives as long as `self`; the kernel lays
        // rows out with a stride of their size rounded up to 8; `Row` makes every content valid.
        Some(unsafe { self.rows.add(index).as_ref() })
    }

    /// All rows with their indices.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).map_while(|index| Some((index, self.row(index)?)))
    }
}

impl<T: Row> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.rows.cast(), self.mapped_bytes.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
