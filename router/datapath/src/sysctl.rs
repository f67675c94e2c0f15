//! Writes kernel settings; those of the network are the calling thread's namespace's own.

use std::io;
use std::path::{Path, PathBuf};

/// A kernel setting that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{value}` to {}: {source}; /proc must be mounted writable and the daemon must be root", path.display())]
pub struct SysctlError {
    path: PathBuf,
    value: String,
    source: io::Error,
}

/// Reads the setting `key`.
pub(crate) fn read(key: &str) -> Result<String, SysctlError> {
    let path = Path::new("/proc/sys").join(key);
    let text = std::fs::read_to_string(&path).map_err(|source| SysctlError {
        path,
        value: "?".to_owned(),
        source,
    })?;
    Ok(text.trim_end().to_owned())
}

/// Writes `value` to the setting `key` (`net/ipv4/ip_forward`).
pub(crate) fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    let path = Path::new("/proc/sys").join(key);
    std::fs::write(&path, value).map_err(|source| SysctlError {
        path,
        value: value.to_owned(),
        source,
    })
}

/// Keeps the kernel's own IPv6 chatter (router solicitations, multicast reports) off a device.
pub(crate) fn disable_ipv6(device: &str) -> Result<(), SysctlError> {
    match write(&format!("net/ipv6/conf/{device}/disable_ipv6"), "1") {
        // A host without IPv6 has none to turn off.
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
