//! A kernel array map, mapped into this process: rows are read and written without a system call.

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::cell::OnceCell;
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

/// A row of a mapped array.
///
/// # Safety
///
/// Every field is an atomic integer, there is no padding, and the size is a multiple of 8 bytes: the
/// kernel reads and writes rows at any moment, and any bytes it writes must be a valid value.
pub(crate) unsafe trait Row: Sync {}

/// How many rows are mapped at a time. What is mapped counts as this process's memory, though the
/// kernel holds it either way: an idle host's few flows shall not look like a table full of them.
/// Rows of any size fill whole pages in this number.
pub(crate) const WINDOW_ROWS: usize = 4096;

/// A view of an array made with `BPF_F_MMAPABLE`, mapped window by window as rows are first used; it
/// keeps the map alive.
#[derive(Debug)]
pub(crate) struct MappedArray<T: Row> {
    map: OwnedFd,
    len: usize,
    windows: Box<[OnceCell<Window<T>>]>,
}

/// A mapping of some rows that follow each other.
#[derive(Debug)]
struct Window<T: Row> {
    rows: NonNull<T>,
    mapped_bytes: NonZeroUsize,
    _rows: PhantomData<T>,
}

// SAFETY: the mapping belongs to no thread, and `Row` makes sharing rows between threads sound.
unsafe impl<T: Row> Send for Window<T> {}

impl<T: Row> MappedArray<T> {
    /// Prepares a view of `map`, whose values must have the size of `T`; the first rows are mapped
    /// at once, so that a map that cannot be is found out here.
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
        let windows = (0..len.div_ceil(WINDOW_ROWS)).map(|_| OnceCell::new());
        let array = MappedArray {
            map: map.fd().as_fd().try_clone_to_owned()?,
            len,
            windows: windows.collect(),
        };
        let first = array.window(0)?;
        let cell = array.windows.first();
        let cell = cell.ok_or_else(|| io::Error::other("an array without rows"))?;
        cell.get_or_init(|| first);
        Ok(array)
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
        let (number, place) = (index / WINDOW_ROWS, index % WINDOW_ROWS);
        let cell = &self.windows[number];
        let window = match cell.get() {
            Some(window) => window,
            None => match self.window(number) {
                Ok(window) => cell.get_or_init(|| window),
                Err(error) => {
                    tracing::error!(%error, index, "cannot map a row of the kernel's table");
                    return None;
                }
            },
        };
        // SAFETY: `place` lies inside the window, which lives as long as `self`; the kernel lays
        // rows out with a stride of their size rounded up to 8; `Row` makes every content valid.
        Some(unsafe { window.rows.add(place).as_ref() })
    }

    /// How many windows are mapped.
    #[cfg(test)]
    pub(crate) fn mapped_windows(&self) -> usize {
        let windows = self.windows.iter();
        windows.filter(|it| it.get().is_some()).count()
    }

    /// Maps the rows of one window.
    fn window(&self, number: usize) -> io::Result<Window<T>> {
        let first = number * WINDOW_ROWS;
        let rows = self.len.saturating_sub(first).min(WINDOW_ROWS);
        let mapped_bytes = NonZeroUsize::new(rows * size_of::<T>())
            .ok_or_else(|| io::Error::other("an array without rows"))?;
        let offset = libc::off_t::try_from(first * size_of::<T>()).map_err(io::Error::other)?;
        // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory of ours.
        let rows = unsafe {
            mmap(
                None,
                mapped_bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                self.map.as_fd(),
                offset,
            )
        }?;
        Ok(Window {
            rows: rows.cast(),
            mapped_bytes,
            _rows: PhantomData,
        })
    }

    /// Calls `look` with each row and its index, in their order. Windows that nobody has used are
    /// mapped only for as long as it looks at them.
    pub(crate) fn each(&self, mut look: impl FnMut(u32, &T)) {
        for (number, cell) in self.windows.iter().enumerate() {
            let mapped;
            let window = match cell.get() {
                Some(window) => window,
                None => match self.window(number) {
                    Ok(window) => {
                        mapped = window;
                        &mapped
                    }
                    Err(error) => {
                        tracing::error!(%error, number, "cannot map rows of the kernel's table");
                        return;
                    }
                },
            };
            let first = number * WINDOW_ROWS;
            let places = 0..self.len.saturating_sub(first).min(WINDOW_ROWS);
            for place in places {
                // SAFETY: as in `row`; the window outlives the look.
                let row = unsafe { window.rows.add(place).as_ref() };
                look((first + place) as u32, row);
            }
        }
    }
}

impl<T: Row> Drop for Window<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.rows.cast(), self.mapped_bytes.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
