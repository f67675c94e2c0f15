//! Network namespaces of their own for tests: nothing of the machine's is touched.

use crate::network::{NetworkError, make_network};
use margay_core::address::InstanceAddresses;
use margay_core::composition::Egress;
use margay_core::id::EndpointIndex;
use nix::sched::{CloneFlags, unshare};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a test waits for what the kernel does in the background.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `body` on a thread whose network namespace is new and empty.
pub(crate) fn isolated<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            body()
        });
        thread.join()
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs `body` like [`isolated`], inside a runtime that never leaves the thread.
pub(crate) fn isolated_async<T: Send>(body: impl AsyncFnOnce() -> T + Send) -> T {
    isolated(|| runtime().block_on(body()))
}

/// A runtime on the calling thread, and so in its namespace.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A new network namespace that lives as long as its descriptor.
pub(crate) fn new_namespace() -> OwnedFd {
    crate::namespace::new_namespace().expect("a new network namespace")
}

/// What an instance's network is made from.
pub(crate) struct NetworkPlan {
    pub(crate) endpoint: EndpointIndex,
    pub(crate) addresses: InstanceAddresses,
    pub(crate) egress: Egress,
}

/// Makes an instance's network and gives it to the instance; the index of its host side.
pub(crate) async fn prepare_instance_network(
    netns: BorrowedFd<'_>,
    plan: &NetworkPlan,
) -> Result<u32, NetworkError> {
    let network = make_network(netns, plan.endpoint).await?;
    let ifindex = network.ifindex();
    network.settle(&plan.addresses, plan.egress).await?;
    Ok(ifindex)
}

/// Tries `attempt` until it answers; fails the test when it does not in time.
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
