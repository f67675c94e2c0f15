//! `margay logs`: prints an instance's bounded log, and goes on as it grows.

use crate::logs::set_aside_path;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{ErrorKind, Read, Write, stdout};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How often a followed log is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// Prints the log at `path`: all of it or its last `lines`; if `follow`, until the instance is gone.
pub fn print(path: &Path, lines: Option<usize>, follow: bool) -> Result<()> {
    let mut log = LogReader::new(path);
    let all = log.read_on()?;
    write_out(lines.map_or(all.as_slice(), |lines| last_lines(&all, lines)))?;
    if !follow {
        return Ok(());
    }
    // An instance's files are deleted with it; what it wrote last is read from the open file.
    while path.parent().is_some_and(Path::exists) {
        std::thread::sleep(FOLLOW_EVERY);
        write_out(&log.read_on()?)?;
    }
    eprintln!("margay: the instance is gone");
    Ok(())
}

/// Reads a log as it grows, also when its file was set aside in between.
struct LogReader<'a> {
    path: &'a Path,
    /// The file that was read last, up to where it was read.
    file: Option<File>,
}

impl<'a> LogReader<'a> {
    fn new(path: &'a Path) -> Self {
        LogReader { path, file: None }
    }

    /// Reads what was written since the last time, at first all that is kept.
    fn read_on(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // The newest first: once there is another, nothing more comes to the one before.
        let newest = open_if_there(self.path)?;
        let older = open_if_there(&set_aside_path(self.path))?;
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut bytes)?;
            // Between setting aside and beginning anew there is no newest.
            let Some(newest) = &newest else {
                return Ok(bytes);
            };
            if is_same(file, newest)? {
                return Ok(bytes);
            }
        }
        for mut file in [older, newest].into_iter().flatten() {
            let was_read = match &self.file {
                Some(last) => is_same(last, &file)?,
                None => false,
            };
            if !was_read {
                file.read_to_end(&mut bytes)?;
                self.file = Some(file);
            }
        }
        Ok(bytes)
    }
}

/// Whether both are one file, whatever it is called now; an open file's inode is not given to another.
fn is_same(one: &File, other: &File) -> Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn open_if_there(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_out(bytes: &[u8]) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

fn last_lines(bytes: &[u8], lines: usize) -> &[u8] {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let cut = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(lines.wrapping_sub(1));
    match (lines, cut) {
        (0, _) => &[],
        (_, Some((at, _))) => &bytes[at + 1..],
        (_, None) => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::path::PathBuf;

    /// A log in a directory of its own.
    struct Log {
        path: PathBuf,
        _dir: tempfile::TempDir,
    }

    impl Log {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Log {
                path: dir.path().join("log"),
                _dir: dir,
            }
        }

        fn write(&self, text: &str) {
            let mut options = OpenOptions::new();
            let file = options.create(true).append(true).open(&self.path);
            file.unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn set_aside(&self) {
            std::fs::rename(&self.path, set_aside_path(&self.path)).unwrap();
        }
    }

    fn read_on(reader: &mut LogReader) -> String {
        String::from_utf8(reader.read_on().unwrap()).unwrap()
    }

    #[test]
    fn log_is_read_from_its_oldest_line_and_then_as_it_grows() {
        let log = Log::new();
        let mut reader = LogReader::new(&log.path);
        assert_eq!(read_on(&mut reader), "");
        log.write("a\n");
        log.set_aside();
        log.write("b\n");
        assert_eq!(read_on(&mut reader), "a\nb\n");
        assert_eq!(read_on(&mut reader), "");
        log.write("c\n");
        assert_eq!(read_on(&mut reader), "c\n");
    }

    #[test]
    fn setting_aside_between_two_looks_loses_and_repeats_no_line() {
        let log = Log::new();
        log.write("a\n");
        let mut reader = LogReader::new(&log.path);
        assert_eq!(read_on(&mut reader), "a\n");
        log.write("b\n");
        log.set_aside();
        // The new file is longer than what was read of the one before.
        log.write("c\nd\ne\n");
        assert_eq!(read_on(&mut reader), "b\nc\nd\ne\n");
        log.set_aside();
        log.write("f\n");
        log.set_aside();
        log.write("g\n");
        assert_eq!(read_on(&mut reader), "f\ng\n");
        assert_eq!(read_on(&mut reader), "");
    }

    #[test]
    fn moment_without_a_newest_file_loses_and_repeats_no_line() {
        let log = Log::new();
        log.write("a\n");
        let mut reader = LogReader::new(&log.path);
        assert_eq!(read_on(&mut reader), "a\n");
        log.write("b\n");
        log.set_aside();
        assert_eq!(read_on(&mut reader), "b\n");
        assert_eq!(read_on(&mut LogReader::new(&log.path)), "a\nb\n");
        log.write("c\n");
        assert_eq!(read_on(&mut reader), "c\n");
    }

    #[test]
    fn last_lines_are_counted_from_the_end() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb", 1), b"b");
        assert_eq!(last_lines(b"a\n", 5), b"a\n");
        assert_eq!(last_lines(b"a\n", 0), b"");
        assert_eq!(last_lines(b"", 3), b"");
    }
}
