//! Waiting for eBPF programs that are running.

use std::thread;
use std::time::Duration;

/// How long a program may take where the kernel cannot say that all have ended: it takes
/// microseconds, and nothing preempts it but interrupts.
const RUN_MAX: Duration = Duration::from_millis(10);

/// Returns when every eBPF program that runs now has ended.
///
/// They run in read-side sections of RCU, and the global memory barrier is one grace period of it
/// (`membarrier(2)`, `MEMBARRIER_CMD_GLOBAL`). Kernels with adaptive-tick CPUs refuse it.
pub(crate) fn wait_for_running() {
    let command = libc::MEMBARRIER_CMD_GLOBAL;
    // SAFETY: this command takes no pointers and changes no memory.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if done != 0 {
        thread::sleep(RUN_MAX);
    }
}
