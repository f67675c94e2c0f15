//! Secrets of 32 bytes in files that only root reads.

use crate::journal::random;
use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const BYTES: usize = 32;

/// Draws a secret and writes it into a new file, as hexadecimal digits; one that is there is left
/// alone, and the error says so.
pub fn make(path: &Path) -> Result<[u8; BYTES]> {
    let secret = random::<BYTES>()?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot make {}", path.display()))?;
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}")
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(secret)
}

/// Reads a secret, or draws it if there is none yet.
pub fn read_or_make(path: &Path) -> Result<[u8; BYTES]> {
    match fs::read_to_string(path) {
        Ok(digits) => read(digits.trim_end())
            .with_context(|| format!("{} does not hold 64 hexadecimal digits", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn read(digits: &str) -> Option<[u8; BYTES]> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != BYTES || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secret_is_drawn_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let drawn = read_or_make(&path).unwrap();
        assert_eq!(read_or_make(&path).unwrap(), drawn);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = format!("{:#}", make(&path).unwrap_err());
        assert!(error.contains("cannot make"), "{error}");
    }

    #[test]
    fn damaged_secret_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for text in ["", "00", &"g".repeat(64), &"0".repeat(65)] {
            fs::write(&path, text).unwrap();
            assert!(read_or_make(&path).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
