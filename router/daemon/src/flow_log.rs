//! The flow log: a JSON line for each flow that ended and each packet that was refused.

use crate::flow_line::{FlowLine, FlowLineEvent};
use crate::flow_watch::{News, Watching};
use crate::logs::set_aside_path;
use anyhow::{Context, Result};
use clap::ValueEnum;
use margay_core::flow_event::Interest;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// The file is set aside before it grows beyond this size, and one set-aside file is kept: twice this
/// bounds the log, at some 350 bytes a line about a hundred thousand lines.
const FLOW_LOG_BYTES_MAX: u64 = 16 << 20;

/// Lines written by one call.
const LINES_MAX: usize = 512;

/// What the flow log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlowLogLevel {
    /// Nothing.
    Off,
    /// Packets that were refused, at most a hundred a second; the others as a number.
    Refused,
    /// Those, and every flow as it ends.
    All,
}

impl FlowLogLevel {
    /// What core must tell for it.
    pub fn interest(self) -> Interest {
        Interest {
            flows: self == FlowLogLevel::All,
            refusals: self != FlowLogLevel::Off,
        }
    }

    /// Whether a line belongs into the log: operators who watch have core tell more.
    fn holds(self, line: &FlowLine) -> bool {
        match line.event {
            FlowLineEvent::Closed(_) => self.interest().flows,
            FlowLineEvent::Opened(_) | FlowLineEvent::Changed(_) => false,
            FlowLineEvent::Refused(_)
            | FlowLineEvent::Suppressed { .. }
            | FlowLineEvent::Missed { .. } => self.interest().refusals,
        }
    }
}

/// Starts the thread that writes what comes to the file at `path`, until the router thread ends: a disk
/// that makes it wait makes nobody else wait.
pub fn spawn(watching: Watching, path: PathBuf, level: FlowLogLevel) -> Result<JoinHandle<()>> {
    let log = thread::Builder::new().name("flow-log".into());
    log.spawn(move || write(watching, path, level))
        .context("cannot start the flow log")
}

fn write(mut watching: Watching, path: PathBuf, level: FlowLogLevel) {
    if level == FlowLogLevel::Off {
        return;
    }
    let mut log = FlowLog {
        path,
        file: None,
        failing: false,
    };
    let mut lines = Vec::new();
    while let Some(first) = watching.wait_for_next() {
        add(&mut lines, &first, level);
        for _ in 1..LINES_MAX {
            match watching.next_ready() {
                Some(news) => add(&mut lines, &news, level),
                None => break,
            }
        }
        log.append(&lines);
        lines.clear();
    }
}

fn add(lines: &mut Vec<u8>, news: &News, level: FlowLogLevel) {
    let line = FlowLine::of(news);
    if level.holds(&line) {
        line.write_to(lines);
    }
}

struct FlowLog {
    path: PathBuf,
    /// The file and its size, once it is open.
    file: Option<(File, u64)>,
    /// Whether the last lines were lost; said once.
    failing: bool,
}

impl FlowLog {
    /// Writes whole lines; what cannot be written is lost, for nobody may wait for a disk.
    fn append(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let written = self.try_append(lines);
        if let Err(error) = &written
            && !self.failing
        {
            tracing::warn!(path = %self.path.display(), %error, "flow log lines are lost");
        }
        self.failing = written.is_err();
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut open_file = match self.file.take() {
            Some(open_file) => open_file,
            None => open(&self.path)?,
        };
        let bytes = lines.len() as u64;
        let size = open_file.1;
        if size > 0 && size + bytes > FLOW_LOG_BYTES_MAX {
            fs::rename(&self.path, set_aside_path(&self.path))?;
            open_file = open(&self.path)?;
        }
        let (file, size) = &mut open_file;
        file.write_all(lines)?;
        *size += bytes;
        // After an error it is opened anew, and its size with it.
        self.file = Some(open_file);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_watch::FlowEvents;
    use std::iter;

    fn log(dir: &Path) -> FlowLog {
        FlowLog {
            path: dir.join("flows.log"),
            file: None,
            failing: false,
        }
    }

    fn missed(count: u64) -> FlowLine {
        FlowLine::of(&News::Missed(count))
    }

    #[test]
    fn an_earlier_runs_lines_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path()).append(b"one\n");
        log(dir.path()).append(b"two\n");
        let text = fs::read_to_string(dir.path().join("flows.log")).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn log_fills_only_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path());
        let lines: Vec<u8> = iter::repeat_n(b"x".repeat(999), 1_000)
            .flat_map(|line| [line, b"\n".to_vec()].concat())
            .collect();
        for _ in 0..50 {
            log.append(&lines);
        }
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(size(&log.path) <= FLOW_LOG_BYTES_MAX);
        assert!(size(&set_aside_path(&log.path)) <= FLOW_LOG_BYTES_MAX);
    }

    #[test]
    fn disk_that_hangs_holds_up_nobody_who_works_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        // To open a pipe is to wait for its reader.
        let path = dir.path().join("flows.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let events = FlowEvents::new();
        let watching = events.subscribe();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let writer = { runtime }.build().unwrap().block_on(async {
            let writer = spawn(watching, path.clone(), FlowLogLevel::Refused).unwrap();
            events.tell_suppressed(3);
            tokio::task::yield_now().await;
            writer
        });

        let reader = File::open(&path).unwrap();

        drop(events);
        writer.join().unwrap();
        assert!(io::read_to_string(reader).unwrap().contains("suppressed"));
    }

    #[test]
    fn lost_lines_are_no_failure_and_later_ones_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir.path().join("later"));
        log.append(b"lost\n");
        assert!(log.failing);
        fs::create_dir(dir.path().join("later")).unwrap();
        log.append(b"kept\n");
        assert_eq!(fs::read_to_string(&log.path).unwrap(), "kept\n");
    }

    #[test]
    fn lines_are_json_and_say_what_was_missed() {
        let mut buffer = Vec::new();
        missed(7).write_to(&mut buffer);
        let line: FlowLine = serde_json::from_slice(&buffer).unwrap();
        assert_eq!(line.event, FlowLineEvent::Missed { count: 7 });
        assert!(line.to_string().contains("7 events"));
        assert!(FlowLogLevel::Refused.holds(&line) && !FlowLogLevel::Off.holds(&line));
    }
}
