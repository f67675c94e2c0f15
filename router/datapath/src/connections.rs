//! Whether TCP connections live, by their sockets: a question that one program answers when run.

use crate::object::{CONNECTIONS, program_of};
use aya::Ebpf;
use aya::programs::{TestRun, TestRunOptions};
use margay_core::id::SlotIndex;
use margay_core::port::SlotReading;

/// `ASKED_MAX` of `bpf/connection.h`.
const ASKED_MAX: usize = 512;

/// The program is run on a frame; its slots begin behind the Ethernet header.
const FRAME_HEADER_BYTES: usize = 14;

/// Takes back the RSTs whose receivers did not take them: their sockets are there as before.
///
/// Costs one system call for up to 512 slots of which an RST is noted, else none. By the time of a
/// look the receiver has long had the RST: a flow is closed only after it was silent for a while.
pub(crate) fn forgive_refused_resets<'a>(
    ebpf: &Ebpf,
    readings: impl Iterator<Item = (SlotIndex, &'a mut SlotReading)>,
) {
    let mut reset: Vec<_> = readings.filter(|(_, reading)| reading.rst_seen).collect();
    for asked in reset.chunks_mut(ASKED_MAX) {
        let slots: Vec<SlotIndex> = asked.iter().map(|(slot, _)| *slot).collect();
        let Some(live) = receivers_live(ebpf, &slots) else {
            return;
        };
        for ((_, reading), lives) in asked.iter_mut().zip(live) {
            reading.rst_seen = !lives;
        }
    }
}

/// Whether the socket that each slot's packets are for has a connection; `None` if the kernel does
/// not say.
fn receivers_live(ebpf: &Ebpf, slots: &[SlotIndex]) -> Option<Vec<bool>> {
    let mut asked = vec![0; FRAME_HEADER_BYTES];
    asked.extend(slots.iter().flat_map(|slot| slot.0.to_ne_bytes()));
    let mut answered = vec![0; asked.len()];
    let options = TestRunOptions {
        data_in: Some(&asked),
        data_out: Some(&mut answered),
        ..TestRunOptions::default()
    };
    if let Err(error) = program_of(ebpf, CONNECTIONS).test_run(options) {
        tracing::debug!(%error, "every RST counts: the kernel does not look at connections");
        return None;
    }
    let answers = answered[FRAME_HEADER_BYTES..].chunks_exact(size_of::<u32>());
    Some(answers.map(|answer| answer == 1u32.to_ne_bytes()).collect())
}
