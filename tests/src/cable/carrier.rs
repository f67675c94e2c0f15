//! Carries frames between two ports until its input ends.

use super::line::Line;
use super::{Impairment, Tally, device};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeSpec;
use nix::unistd::read;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Frames that are read from one port before the other has its turn.
const TURN_FRAMES_MAX: usize = 64;

/// The longest frame: a super-packet of 64 KiB and its Ethernet header with a VLAN tag.
const FRAME_BYTES_MAX: usize = 65_535 + 18;

/// The longest line of an order; it holds one impairment.
const ORDER_BYTES_MAX: usize = 4096;

/// Carries frames between the devices `near`, which faces the node, and `far`.
///
/// It writes its [`Tally`] as a line of JSON when it begins and after each line that it reads: an
/// [`Impairment`] for the frames from then on, or `null` to change nothing.
pub fn carry(near: &str, far: &str, seed: u64) -> Result<()> {
    let calm = Impairment::default();
    let (near, far) = (device::open(near)?, device::open(far)?);
    let mut outwards = Line::new(calm, seed);
    let mut inwards = Line::new(calm, !seed);
    let mut orders = Orders::default();
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    report(&outwards, &inwards)?;
    loop {
        deliver(&mut outwards, &far);
        deliver(&mut inwards, &near);
        let timeouts = [outwards.poll_timeout(), inwards.poll_timeout()];
        let ordered = wait(&near, &far, timeouts.into_iter().flatten().min())?;
        accept(&mut outwards, &near, &mut buffer);
        accept(&mut inwards, &far, &mut buffer);
        if !ordered {
            continue;
        }
        let Some(lines) = orders.read()? else {
            return Ok(());
        };
        for line in lines {
            let order: Option<Impairment> = serde_json::from_str(&line)
                .with_context(|| format!("not an impairment: {line}"))?;
            if let Some(impairment) = order {
                outwards.set(impairment);
                inwards.set(impairment);
            }
            report(&outwards, &inwards)?;
        }
    }
}

/// Takes the frames that wait at a port.
fn accept(line: &mut Line, port: &OwnedFd, buffer: &mut [u8]) {
    for _ in 0..TURN_FRAMES_MAX {
        // Any error, such as a device that goes down, is like an empty queue.
        let Ok(bytes) = recv(port.as_raw_fd(), buffer, MsgFlags::empty()) else {
            return;
        };
        line.handle_frame(&buffer[..bytes], Instant::now());
    }
}

/// Sends the frames that are due.
fn deliver(line: &mut Line, port: &OwnedFd) {
    while let Some(frame) = line.poll_frame(Instant::now()) {
        if send(port.as_raw_fd(), &frame, MsgFlags::empty()).is_err() {
            line.refused();
        }
    }
}

/// Waits for a frame, an order or the time when a frame is due; says whether there is an order.
fn wait(near: &OwnedFd, far: &OwnedFd, due: Option<Instant>) -> Result<bool> {
    let stdin = std::io::stdin();
    let mut sources = [
        PollFd::new(near.as_fd(), PollFlags::POLLIN),
        PollFd::new(far.as_fd(), PollFlags::POLLIN),
        PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
    ];
    let pause = due.map(|due| due.saturating_duration_since(Instant::now()));
    let pause: Option<TimeSpec> = pause.map(|pause: Duration| pause.into());
    match ppoll(&mut sources, pause, None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error).context("cannot wait for frames"),
    }
    Ok(sources[2].any().unwrap_or(true))
}

fn report(outwards: &Line, inwards: &Line) -> Result<()> {
    let tally = Tally {
        outwards: outwards.counters(),
        inwards: inwards.counters(),
    };
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, &tally)?;
    writeln!(output)?;
    output.flush()?;
    Ok(())
}

/// Lines of the input, of which a part may have come.
#[derive(Default)]
struct Orders {
    part: Vec<u8>,
}

impl Orders {
    /// The lines that are whole now; `None`: the input has ended.
    fn read(&mut self) -> Result<Option<Vec<String>>> {
        // Not through the buffer of `stdin`, which would hide lines from the wait above.
        let mut bytes = [0; ORDER_BYTES_MAX];
        let count = read(std::io::stdin().as_fd(), &mut bytes)?;
        if count == 0 {
            return Ok(None);
        }
        self.part.extend_from_slice(&bytes[..count]);
        anyhow::ensure!(self.part.len() <= 2 * ORDER_BYTES_MAX, "an endless line");
        let mut lines = Vec::new();
        while let Some(end) = self.part.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.part.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        Ok(Some(lines))
    }
}
