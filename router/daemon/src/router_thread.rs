//! The thread that owns the Router and the kernel's tables: first packets in, effects out.

use crate::decisions;
use crate::flow_watch::FlowEvents;
use crate::hosts::Hosts;
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use margay_core::id::EndpointIndex;
use margay_core::moment::Moment;
use margay_core::names::NamesSnapshot;
use margay_core::port::{FlowEntries, Input, Output, SpentFlow};
use margay_core::router::Router;
use margay_datapath::datapath::Datapath;
use margay_datapath::flow_maps::FlowError;
use margay_datapath::tap::{Sender, TAP_QUEUE_FRAMES, UpcallTap};
use margay_resolver::Searches;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands that wait for the thread; senders block beyond (the thread never waits for them).
const COMMANDS_MAX: usize = 1024;

/// First packets taken before commands and timers get their turn again.
const UPCALL_BATCH: usize = 64;

/// A wait that took no longer found something there already: first packets come in a burst.
const SLEEPLESS_WAIT_MAX: Duration = Duration::from_micros(2);

const TAP_EVENT: u64 = 0;
const COMMAND_EVENT: u64 = 1;
const LINK_EVENT: u64 = 2;

type Look = Box<dyn FnOnce(&Router, &mut Datapath) + Send>;

type Visit = Box<dyn FnOnce(Option<&mut Hosts>, &mut Datapath) + Send>;

enum Command {
    Input(Input),
    Look(Look),
    Visit(Visit),
    Stop,
}

/// Speaks with the router thread from anywhere.
#[derive(Clone)]
pub struct RouterHandle {
    commands: SyncSender<Command>,
    wake: Arc<EventFd>,
}

impl RouterHandle {
    /// Tells the Router something.
    pub fn input(&self, input: Input) {
        self.send(Command::Input(input));
    }

    /// Looks at the Router and the kernel's tables, on their own thread.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Router, &mut Datapath) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Look(Box::new(move |router, datapath| {
            // Whoever asked may have gone away meanwhile; the look itself is done all the same.
            let _ = answer.send(look(router, datapath));
        })));
        answered.await.context("the router thread has ended")
    }

    /// Does something with this host's links to others, on the thread that owns them.
    pub async fn hosts<T: Send + 'static>(
        &self,
        visit: impl FnOnce(&mut Hosts, &mut Datapath, Moment) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Visit(Box::new(move |hosts, datapath| {
            let visited = hosts.map(|hosts| {
                let visited = visit(hosts, datapath, now());
                hosts.settle(now());
                visited
            });
            // As with a look.
            let _ = answer.send(visited);
        })));
        let visited = answered.await.context("the router thread has ended")?;
        visited.context(
            "this host has no link to others: it belongs to no network (`margay network create`, \
             `margay join TOKEN`), or was started without `--underlay`",
        )
    }

    /// Tells this host's links something, if it has any.
    pub fn tell_hosts(&self, tell: impl FnOnce(&mut Hosts, Moment) + Send + 'static) {
        self.send(Command::Visit(Box::new(move |hosts, _| {
            if let Some(hosts) = hosts {
                tell(hosts, now());
                hosts.settle(now());
            }
        })));
    }

    /// Ends the thread; flows stay in the kernel.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("a command came after the router thread's end");
        }
        if let Err(errno) = self.wake.write(1) {
            tracing::error!(%errno, "cannot wake the router thread");
        }
    }
}

/// What the thread owns.
pub struct RouterThread {
    /// Decides.
    pub router: Router,
    /// Holds the kernel's tables.
    pub datapath: Datapath,
    /// Brings first packets.
    pub tap: UpcallTap,
    /// Links to other hosts, if this one belongs to a network.
    pub hosts: Option<Hosts>,
    /// Where DNS reads names.
    pub names: Arc<ArcSwap<NamesSnapshot>>,
    /// Where questions wait for names.
    pub searches: Searches,
    /// Where those who watch flows listen.
    pub flow_events: FlowEvents,
    /// Effects that take time, those of one step together. Unbounded as a type, bounded in fact: core
    /// has but a few outputs of this kind under way per instance, and the number of instances is
    /// bounded.
    pub slow: mpsc::UnboundedSender<Vec<Output>>,
}

impl RouterThread {
    /// Starts the thread with `first` as the Router's first input.
    pub fn spawn(
        self,
        first: Input,
    ) -> Result<(RouterHandle, std::thread::JoinHandle<Result<()>>)> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let wake = Arc::new(wake);
        let (commands, received) = sync_channel(COMMANDS_MAX);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&self.tap, EpollEvent::new(EpollFlags::EPOLLIN, TAP_EVENT))?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, COMMAND_EVENT))?;
        if let Some(hosts) = &self.hosts {
            epoll.add(hosts, EpollEvent::new(EpollFlags::EPOLLIN, LINK_EVENT))?;
        }
        let handle = RouterHandle {
            commands,
            wake: wake.clone(),
        };
        let mut running = Running {
            thread: self,
            received,
            wake,
            inputs: VecDeque::new(),
            slow: Vec::new(),
            upcalls_in_a_row: 0,
        };
        let join = std::thread::Builder::new()
            .name("router".into())
            .spawn(move || running.run(&epoll, first))?;
        Ok((handle, join))
    }
}

struct Running {
    thread: RouterThread,
    received: Receiver<Command>,
    wake: Arc<EventFd>,
    /// Answers to outputs that the thread itself carries out.
    inputs: VecDeque<Input>,
    /// Effects of this step that others carry out.
    slow: Vec<Output>,
    /// First packets taken since the TAP's queue was last seen empty.
    upcalls_in_a_row: usize,
}

impl Running {
    fn run(&mut self, epoll: &Epoll, first: Input) -> Result<()> {
        self.handle(first);
        self.take_what_waited()?;
        let mut events = [EpollEvent::empty(); 3];
        loop {
            let before = now();
            let count = match epoll.wait(&mut events, self.until_next_timeout(before)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno).context("cannot wait for first packets"),
            };
            let now = now();
            let slept = now.since(before) > SLEEPLESS_WAIT_MAX;
            for event in &events[..count] {
                match event.data() {
                    TAP_EVENT => self.take_upcalls(if slept { 1 } else { UPCALL_BATCH })?,
                    LINK_EVENT => self.take_datagrams(now)?,
                    _ if self.take_commands() => {}
                    _ => return Ok(()),
                }
            }
            self.take_timeouts(now);
        }
    }

    fn take_datagrams(&mut self, now: Moment) -> Result<()> {
        if let Some(hosts) = &mut self.thread.hosts {
            hosts.receive(now)?;
        }
        self.carry_out();
        Ok(())
    }

    fn take_timeouts(&mut self, now: Moment) {
        let RouterThread { router, hosts, .. } = &mut self.thread;
        let mut are_due = false;
        if router.poll_timeout().is_some_and(|due| due <= now) {
            router.handle_timeout(now);
            are_due = true;
        }
        if let Some(hosts) = hosts.as_mut().filter(|hosts| hosts.poll_timeout() <= now) {
            hosts.handle_timeout(now);
            are_due = true;
        }
        if are_due {
            self.carry_out();
        }
    }

    /// Carries commands out; says whether the thread goes on.
    fn take_commands(&mut self) -> bool {
        // Reset before the queue is drained, so that no command slips in between unnoticed.
        if let Err(errno) = self.wake.read() {
            tracing::debug!(%errno, "woken for nothing");
        }
        loop {
            match self.received.try_recv() {
                Ok(Command::Input(input)) => self.handle(input),
                Ok(Command::Look(look)) => {
                    self.handle(Input::FlowsWanted);
                    look(&self.thread.router, &mut self.thread.datapath);
                }
                Ok(Command::Visit(visit)) => {
                    visit(self.thread.hosts.as_mut(), &mut self.thread.datapath);
                    self.carry_out();
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Takes up to `batch` first packets. What is left makes the next wait return at once.
    ///
    /// After a sleep a first packet mostly comes alone: to ask for another would cost a system call
    /// that the next wait makes anyway.
    fn take_upcalls(&mut self, batch: usize) -> Result<()> {
        for _ in 0..batch {
            let read = self
                .thread
                .tap
                .read()
                .context("cannot read the upcall TAP")?;
            let Some((sender, frame)) = read else {
                self.return_lost_credits();
                return Ok(());
            };
            self.handle(sender.upcall(frame));
            match sender {
                Sender::Endpoint(endpoint) => self.thread.datapath.upcall_done(endpoint),
                Sender::Peer(_) => self.thread.datapath.peer_upcall_done(),
            }
            self.upcalls_in_a_row += 1;
        }
        Ok(())
    }

    /// Takes the first packets that came while there was no daemon. Those that the last one had
    /// taken and not decided are lost; their credits are returned.
    fn take_what_waited(&mut self) -> Result<()> {
        self.take_upcalls(TAP_QUEUE_FRAMES as usize)?;
        self.return_credits();
        Ok(())
    }

    /// Returns credits of first packets that the TAP's full queue dropped: an empty queue holds
    /// none, and only one that had filled up can have dropped any.
    fn return_lost_credits(&mut self) {
        if std::mem::take(&mut self.upcalls_in_a_row) >= UPCALL_BATCH {
            self.return_credits();
        }
    }

    fn return_credits(&self) {
        for (endpoint, ..) in self.thread.datapath.endpoints() {
            self.thread.datapath.upcalls_reset(endpoint);
        }
        self.thread.datapath.peer_upcalls_reset();
    }

    fn handle(&mut self, input: Input) {
        self.thread.router.handle_input(input, now());
        self.carry_out();
    }

    fn carry_out(&mut self) {
        loop {
            while let Some(output) = self.thread.router.poll_output() {
                self.carry_out_one(output);
            }
            let input = self.inputs.pop_front();
            let told = || self.thread.hosts.as_mut()?.poll_input();
            let Some(input) = input.or_else(told) else {
                break;
            };
            self.thread.router.handle_input(input, now());
        }
        self.hand_over();
    }

    /// Hands over what takes time: last, because whoever takes it is woken on a processor that names
    /// and flows may still need, and all at once, so that it is recorded at once.
    fn hand_over(&mut self) {
        if self.slow.is_empty() {
            return;
        }
        if self
            .thread
            .slow
            .send(std::mem::take(&mut self.slow))
            .is_err()
        {
            tracing::debug!("an effect came after the supervisor's end");
        }
    }

    fn carry_out_one(&mut self, output: Output) {
        let RouterThread {
            datapath,
            tap,
            flow_events,
            hosts,
            ..
        } = &mut self.thread;
        match output {
            Output::OpenFlow(entries) => {
                let opened = datapath.open_flow(&entries, now());
                self.refuse_unless(opened, &entries);
            }
            Output::LetIn(entries) => {
                let let_in = datapath.let_in(&entries, now());
                self.refuse_unless(let_in, &entries);
            }
            Output::CloseFlows(flows) => {
                if let Err(error) = datapath.close_flows(&flows) {
                    tracing::warn!(flows = flows.len(), %error, "not all flows closed");
                }
            }
            Output::CloseUnused(flows) => self.close_unused(&flows),
            Output::Forward(frame) => log_failure("forward a first packet", tap.forward(frame)),
            Output::Inject { endpoint, packet } => {
                log_failure("answer a refused packet", tap.inject(endpoint, &packet));
            }
            Output::SetLocation { location, way } => {
                if let Err(error) = datapath.set_location(location, way) {
                    tracing::error!(%location, %error, "location not set");
                }
            }
            Output::ReadFlows(flows) => {
                self.inputs
                    .push_back(Input::FlowsRead(datapath.read_flows(&flows)));
            }
            Output::SupplyPairs(pairs) => datapath.supply(&pairs),
            Output::LookAtSupply => {
                self.inputs.push_back(Input::PairsTaken(datapath.taken()));
            }
            Output::ReclaimSupply => {
                datapath.reclaim_supply();
                self.inputs.push_back(Input::PairsTaken(datapath.taken()));
            }
            Output::ReadTaken(pairs) => {
                let read = datapath.read_taken(&pairs);
                self.inputs.push_back(Input::TakenRead(read));
            }
            Output::OpenAggregate(_)
            | Output::CloseAggregates(_)
            | Output::OpenAdmission(_)
            | Output::CloseAdmissions(_)
            | Output::SetEpoch { .. } => decisions::carry_out(datapath, output),
            Output::DecideAgain { endpoint, packet } => self.decide_again(endpoint, &packet),
            Output::PublishNames(snapshot) => self.publish(snapshot),
            Output::Observed(event) => flow_events.tell(*event, datapath),
            // Whatever came before it was carried out by this very thread.
            Output::Withdraw { instance } => self.inputs.push_back(Input::Withdrawn { instance }),
            Output::Seek { .. }
            | Output::BusyWith { .. }
            | Output::SendFrame { .. }
            | Output::Instance(_)
            | Output::InstanceGone { .. }
            | Output::Told { .. } => tell_others(hosts.as_mut(), output),
            takes_time => self.slow.push(takes_time),
        }
    }

    fn publish(&self, names: Arc<NamesSnapshot>) {
        self.thread.names.store(names);
        self.thread.searches.names_published();
    }

    fn refuse_unless(&mut self, taken: Result<(), FlowError>, entries: &FlowEntries) {
        if let Err(error) = taken {
            let forward = entries.forward.key;
            tracing::warn!(flow = %forward, %error, "flow refused");
            self.inputs.push_back(Input::FlowRefused { forward });
        }
    }

    fn decide_again(&mut self, endpoint: EndpointIndex, packet: &[u8]) {
        match self.thread.tap.as_handed_up(endpoint, packet) {
            Ok(frame) => self.inputs.push_back(Input::Upcall { endpoint, frame }),
            Err(error) => tracing::warn!(%error, "cannot decide a first packet again"),
        }
    }

    fn close_unused(&mut self, flows: &[SpentFlow]) {
        let (reused, closed) = self.thread.datapath.close_unused(flows, now());
        if let Err(error) = closed {
            tracing::warn!(flows = flows.len(), %error, "not all flows closed");
        }
        if !reused.is_empty() {
            self.inputs.push_front(Input::FlowsReused(reused));
        }
    }

    fn until_next_timeout(&self, now: Moment) -> EpollTimeout {
        let router = self.thread.router.poll_timeout();
        let hosts = self.thread.hosts.as_ref().map(Hosts::poll_timeout);
        let Some(due) = router.into_iter().chain(hosts).min() else {
            return EpollTimeout::NONE;
        };
        // Rounded up: waking early would only mean to wait once more.
        let wait = due.since(now) + Duration::from_nanos(999_999);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }
}

/// Carries out what is for other hosts, or came of what they wanted; a host alone has none.
fn tell_others(hosts: Option<&mut Hosts>, output: Output) {
    let Some(hosts) = hosts else {
        return;
    };
    match output {
        Output::Seek { service } => hosts.seek(service, now()),
        Output::BusyWith { hosts: busy } => hosts.busy_with(busy, now()),
        Output::SendFrame { to, frame } => hosts.send_frame(to, frame, now()),
        Output::Instance(instance) => hosts.own_instance(instance, now()),
        Output::InstanceGone { instance } => hosts.own_instance_gone(instance, now()),
        Output::Told {
            composition,
            outcome,
        } => match outcome {
            Ok(said) => tracing::info!(%composition, "an operator of the site: {said}"),
            Err(error) => tracing::error!(%composition, "not as the site wants it: {error}"),
        },
        other => tracing::error!(?other, "this is not for other hosts"),
    }
}

fn log_failure(what: &str, outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "cannot {what}");
    }
}

/// The present, on the clock that the datapath stamps packets with.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default();
    Moment::ORIGIN + time
}
