//! Where maps and links are pinned, so that flows outlive the process.

use crate::layout::LAYOUT_VERSION;
use aya::maps::{Array, Map, MapData};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the directory of pins cannot be used.
#[derive(Debug, Error)]
pub enum PinError {
    /// The directory cannot be made or read.
    #[error("cannot use {path} for pins")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The directory is on another file system.
    #[error("{path} is not on a BPF file system: mount one there with `mount -t bpf bpf {path}`")]
    NotBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// What is pinned was made by another version or with other sizes.
    #[error(
        "the flow table pinned in {path} does not fit: {difference}; start the version that made it, \
         or run `margay down` (live flows end) and start again"
    )]
    LayoutDiffers {
        /// The directory.
        path: PathBuf,
        /// What was found and what was expected.
        difference: String,
    },
}

/// How a pinned map must look to be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapShape {
    pub(crate) name: &'static str,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) entries: u32,
    /// Whether a later layout may add fields at the end of its rows; it is an array then that can be
    /// mapped.
    pub(crate) rows_may_grow: bool,
}

/// How the name of a successor begins.
const SUCCESSOR_PREFIX: &str = "new-";

/// The map that says which version made the others.
pub(crate) const VERSION_MAP: &str = "layout_version";

/// A directory on bpffs: maps directly in it, links in `links`.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    dir: PathBuf,
}

impl Pins {
    /// Makes the directories, which must come to lie on a bpffs.
    pub(crate) fn new(dir: &Path) -> Result<Self, PinError> {
        let pins = Pins {
            dir: dir.to_owned(),
        };
        fs::create_dir_all(dir).map_err(|source| pins.unusable(source))?;
        let on_bpffs = statfs(dir).map(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
        if !on_bpffs.map_err(|errno| pins.unusable(errno.into()))? {
            return Err(PinError::NotBpffs {
                path: dir.to_owned(),
            });
        }
        fs::create_dir_all(pins.links_dir()).map_err(|source| pins.unusable(source))?;
        Ok(pins)
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.links_dir().join(name)
    }

    /// The names of all pinned links.
    pub(crate) fn links(&self) -> Result<Vec<String>, PinError> {
        let entries = fs::read_dir(self.links_dir()).map_err(|source| self.unusable(source))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| self.unusable(source))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Makes sure that the pinned maps, if any, are of these shapes, or of an older layout that can be
    /// taken over; answers the maps whose rows have grown since. The version is written last of all:
    /// pins without one are of a run that died before it carried a packet, and are removed.
    pub(crate) fn check(&self, shapes: &[MapShape]) -> Result<Vec<&'static str>, PinError> {
        let older = match self.version()? {
            None | Some(0) => {
                self.remove_maps(shapes)?;
                return Ok(Vec::new());
            }
            Some(LAYOUT_VERSION) => false,
            Some(older) if older < LAYOUT_VERSION => {
                tracing::info!(
                    older,
                    LAYOUT_VERSION,
                    "taking over the maps of an older version"
                );
                true
            }
            Some(newer) => {
                return Err(self.differs(format!(
                    "layout version {newer}, and this version knows {LAYOUT_VERSION} at most"
                )));
            }
        };
        let mut grown = Vec::new();
        for shape in shapes {
            if older && !self.map(shape.name).exists() {
                // What this version has added is made anew.
                continue;
            }
            let map = MapData::from_pin(self.map(shape.name))
                .map_err(|error| self.differs(format!("map {} is missing: {error}", shape.name)))?;
            let info = map
                .info()
                .map_err(|error| self.differs(error.to_string()))?;
            let found = (info.key_size(), info.value_size(), info.max_entries());
            let wanted = (
                shape.key_bytes as u32,
                shape.value_bytes as u32,
                shape.entries,
            );
            let may_grow = older && shape.rows_may_grow;
            if may_grow && (found.0, found.2) == (wanted.0, wanted.2) && found.1 < wanted.1 {
                grown.push(shape.name);
            } else if found != wanted {
                return Err(self.differs(format!(
                    "map {} has (key bytes, value bytes, entries) {found:?} instead of {wanted:?}",
                    shape.name
                )));
            }
        }
        Ok(grown)
    }

    /// Where the successor of a map whose rows have grown is pinned until it takes its place.
    pub(crate) fn successor(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{SUCCESSOR_PREFIX}{name}"))
    }

    /// Removes successors that a run left which died before they took their places.
    pub(crate) fn remove_successors(&self, shapes: &[MapShape]) -> Result<(), PinError> {
        for shape in shapes {
            remove_file(&self.successor(shape.name)).map_err(|source| self.unusable(source))?;
        }
        Ok(())
    }

    /// Puts a successor in its place: in one step, so that a map is always there.
    pub(crate) fn succeed(&self, name: &str) -> Result<(), PinError> {
        fs::rename(self.successor(name), self.map(name)).map_err(|source| self.unusable(source))
    }

    fn version(&self) -> Result<Option<u32>, PinError> {
        if !self.map(VERSION_MAP).exists() {
            return Ok(None);
        }
        let unreadable = |error| self.differs(format!("its version is unreadable: {error}"));
        let data = MapData::from_pin(self.map(VERSION_MAP)).map_err(unreadable)?;
        let map = Map::from_map_data(data).map_err(unreadable)?;
        let versions: Array<_, u32> = Array::try_from(map).map_err(unreadable)?;
        versions.get(&0, 0).map(Some).map_err(unreadable)
    }

    fn remove_maps(&self, shapes: &[MapShape]) -> Result<(), PinError> {
        for name in shapes.iter().map(|shape| shape.name).chain([VERSION_MAP]) {
            remove_file(&self.map(name)).map_err(|source| self.unusable(source))?;
        }
        Ok(())
    }

    fn links_dir(&self) -> PathBuf {
        self.dir.join("links")
    }

    fn unusable(&self, source: io::Error) -> PinError {
        PinError::Directory {
            path: self.dir.clone(),
            source,
        }
    }

    fn differs(&self, difference: String) -> PinError {
        PinError::LayoutDiffers {
            path: self.dir.clone(),
            difference,
        }
    }
}

/// Removes one file; one that is not there is success.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Removes every pin below `dir`, links before maps, and `dir` itself: no packet passes after.
pub(crate) fn remove_all(dir: &Path) -> io::Result<()> {
    for dir in [dir.join("links"), dir.to_owned()] {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // Names with a dot are the kernel's own (`maps.debug`); nobody else can make them.
            let ours = !entry.file_name().to_string_lossy().contains('.');
            if ours && !entry.file_type()?.is_dir() {
                remove_file(&entry.path())?;
            }
        }
        match fs::remove_dir(&dir) {
            // A mount point, or one with strangers' files in it, is left to its owner.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
                ) => {}
            done => done?,
        }
    }
    Ok(())
}
