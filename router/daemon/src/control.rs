//! The control socket: answers operators, after asking the kernel who they are.

use crate::explain::explain;
use crate::flow_line::FlowLine;
use crate::hosts::{commands, composing, founding, joining};
use crate::journal::Journal;
use crate::protocol::{
    FlowPage, FlowRow, InstanceRow, REQUEST_BYTES_MAX, Request, Response, ServiceRow, Status,
    Target,
};
use crate::resolve;
use crate::router_thread::now;
use crate::worker::cgroup_of;
use crate::world::{Facts, World, lock};
use crate::{down, drain, metrics};
use anyhow::{Context, Result, bail};
use margay_core::composition::{Composition, CompositionName};
use margay_core::flow_key::Protocol;
use margay_core::flow_table::{FlowState, READ_BATCH_MAX};
use margay_core::host::HostId;
use margay_core::id::{InstanceId, RequestId, SlotIndex};
use margay_core::moment::Moment;
use margay_core::name::{InstanceName, ZONE};
use margay_core::peer::RemoteInstance;
use margay_core::port::{FlowReading, FlowSlots, Input};
use margay_core::router::view::FlowView;
use margay_core::signature::PrivateKey;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};

/// Operators answered at once; more wait in the socket's backlog.
const OPERATORS_MAX: usize = 64;

/// How long to wait after a failed accept: mostly for descriptors to be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Flows of one answer: first packets wait no longer behind them than behind one reading.
const FLOWS_A_PAGE: usize = READ_BATCH_MAX;

/// How long a request may take to arrive: it is written at once, by a program on this host.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Binds the control socket, for root alone.
pub fn bind(path: &Path) -> Result<UnixListener> {
    // The directory is locked by us: a socket that is there was left by a daemon that is gone.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot replace {}", path.display()));
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers operators for ever; `down` is told when one asks for the end.
pub async fn serve(world: Arc<World>, listener: UnixListener, down: Arc<Notify>) -> Result<()> {
    let places = Arc::new(Semaphore::new(OPERATORS_MAX));
    loop {
        let place = places.clone().acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an operator");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (world, down) = (world.clone(), down.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(&world, stream, &down).await {
                tracing::debug!("an operator was not answered: {error:#}");
            }
            drop(place);
        });
    }
}

async fn converse(world: &World, mut stream: UnixStream, down: &Notify) -> Result<()> {
    let mut end = None;
    let outcome = match request_of(&mut stream).await {
        Ok(Request::Watch) => return watch(world, stream).await,
        Ok(request) => {
            end = match request {
                Request::Down => Some(down),
                Request::Found { .. } | Request::Join { .. } => Some(&world.start_again),
                _ => None,
            };
            respond(world, request).await
        }
        Err(error) => Err(error),
    };
    let end = end.filter(|_| outcome.is_ok());
    let written = answer(&mut stream, outcome).await;
    if let Some(end) = end {
        end.notify_one();
    }
    written
}

async fn answer(stream: &mut (impl AsyncWriteExt + Unpin), outcome: Result<Value>) -> Result<()> {
    let response = match outcome {
        Ok(value) => Response::Ok(value),
        Err(error) => Response::Error(format!("{error:#}")),
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    Ok(stream.write_all(&line).await?)
}

/// Tells what happens to flows until the operator hangs up. One who reads slowly misses events, and
/// is told how many.
async fn watch(world: &World, mut stream: UnixStream) -> Result<()> {
    let mut operator = match world.watchers.join() {
        Ok(operator) => operator,
        Err(error) => return answer(&mut stream, Err(error)).await,
    };
    let (mut reader, mut writer) = stream.split();
    loop {
        let mut hung_up = [0];
        tokio::select! {
            news = operator.watching.next() => match news {
                Some(news) => {
                    let line = serde_json::to_value(FlowLine::of(&news));
                    answer(&mut writer, Ok(line?)).await?;
                }
                None => return Ok(()),
            },
            _ = reader.read(&mut hung_up) => return Ok(()),
        }
    }
}

/// Reads the request even of whom it then refuses: who is cut off while speaking would not hear why.
async fn request_of(stream: &mut UnixStream) -> Result<Request> {
    let request = tokio::time::timeout(REQUEST_MAX, read_request(stream))
        .await
        .with_context(|| format!("no request came within {} s", REQUEST_MAX.as_secs()))?;
    permitted(stream)?;
    request
}

fn permitted(stream: &UnixStream) -> Result<()> {
    let peer = stream
        .peer_cred()
        .context("the kernel does not say who calls")?;
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid() != 0 && peer.uid() != own {
        bail!(
            "user {} may not speak to this daemon: only root may",
            peer.uid()
        );
    }
    Ok(())
}

async fn read_request(stream: &mut UnixStream) -> Result<Request> {
    let mut line = Vec::new();
    BufReader::new(stream)
        .take(REQUEST_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await?;
    if line.len() as u64 == REQUEST_BYTES_MAX {
        bail!("the request is longer than {REQUEST_BYTES_MAX} bytes");
    }
    serde_json::from_slice(&line).context(
        "this daemon does not understand the request; are daemon and command of one version?",
    )
}

async fn respond(world: &World, request: Request) -> Result<Value> {
    match request {
        Request::Apply { file, text } => apply(world, &file, &text).await,
        Request::Delete { composition } => delete(world, &composition).await,
        Request::Ps => Ok(serde_json::to_value(instances(world).await?)?),
        Request::PsAll => {
            let mut rows = instances(world).await?;
            rows.extend(instances_elsewhere(world).await?);
            Ok(serde_json::to_value(rows)?)
        }
        Request::Services => services(world).await,
        Request::Flows { behind } => flows(world, behind).await,
        Request::Drain { instance, cancel } => drain::drain(world, &instance, cancel).await,
        Request::Watch => bail!("what is watched has no single answer"),
        Request::Drops => drops(world).await,
        Request::Resolve { name, caller, kind } => {
            let caller = match caller.as_str() {
                resolve::HOST => (InstanceId::HOST, caller),
                _ => {
                    let plan = world.instances.find(&caller)?.plan;
                    (plan.instance, plan.name.to_string())
                }
            };
            Ok(resolve::answer(&world.names.load(), caller, &name, kind))
        }
        Request::Explain { target, caller } => explain(world, &target, caller.as_deref()).await,
        Request::Metrics => Ok(Value::String(metrics::text(world).await?)),
        Request::Status => status(world).await,
        Request::Target { instance } => target(world, &world.instances.find(&instance)?),
        Request::Found { root, name, site } => {
            let root = PrivateKey::from_bytes(&root);
            founding::create(world, root, name.parse()?, site.parse()?).await
        }
        Request::Invite(invitation) => commands::invite(world, invitation).await,
        Request::Join { token, name } => joining::join(world, token.parse()?, name.parse()?).await,
        Request::Revoke { host } => commands::revoke(world, host).await,
        Request::Members => commands::members(world).await,
        Request::Down => Ok(json!(down::end_host(world).await?)),
    }
}

async fn apply(world: &World, file: &str, text: &str) -> Result<Value> {
    let composition =
        Composition::parse(text).map_err(|errors| anyhow::Error::msg(errors.render(file, text)))?;
    composing::check(world, &composition).await?;
    let proposal = composition.clone();
    let room = move |journal: &Journal| journal.hold_room_for(&proposal);
    let told = composition.clone();
    let outcome = change(world, room, |request| Input::Apply {
        request,
        composition,
    });
    let outcome = outcome.await?;
    let absent = composing::absent_hosts(world, &told).await;
    composing::tell(world, told, text.to_owned()).await;
    Ok(match (outcome, absent) {
        (Value::String(said), Some(absent)) => Value::String(format!("{said}; {absent}")),
        (outcome, _) => outcome,
    })
}

async fn delete(world: &World, composition: &str) -> Result<Value> {
    let composition: CompositionName = composition.parse()?;
    composing::check_deletion(world).await?;
    let room = |journal: &Journal| journal.hold_room(0);
    let told = composition.clone();
    let outcome = change(world, room, |request| Input::Delete {
        request,
        composition,
    });
    let outcome = outcome.await?;
    composing::tell_deletion(world, told).await;
    Ok(outcome)
}

/// Asks core for a change that could be recorded; refuses one that could not.
pub async fn change(
    world: &World,
    room: impl FnOnce(&Journal) -> Result<()> + Send + 'static,
    input: impl FnOnce(RequestId) -> Input,
) -> Result<Value> {
    on_journal(world, room)
        .await
        .context("nothing was changed")?;
    let outcome = world.operators.ask(&world.router, input).await;
    on_journal(world, Journal::release_room).await?;
    Ok(json!(outcome?))
}

async fn on_journal(
    world: &World,
    work: impl FnOnce(&Journal) -> Result<()> + Send + 'static,
) -> Result<()> {
    let journal = world.journal.clone();
    tokio::task::spawn_blocking(move || work(&lock(&journal))).await?
}

async fn instances(world: &World) -> Result<Vec<InstanceRow>> {
    let views = world.router.look(|router, _| router.instances()).await?;
    let rows = views.into_iter().map(|view| {
        let facts = world.instances.facts(view.id);
        // Of a program that has ended, its end says more than its silence.
        let running = facts.as_ref().filter(|facts| facts.init_pid.is_some());
        let probe_failure = running.and_then(|facts| facts.probe_failure.clone());
        let problem = probe_failure.or(view.last_error);
        let undo = || format!("drained; `margay drain {} --cancel` undoes it", view.id);
        let problem = if view.drained { Some(undo()) } else { problem };
        let failed = || "its last connections were refused or not answered".to_owned();
        let problem = problem.or_else(|| view.ejected.then(failed));
        InstanceRow {
            name: view.name.to_string(),
            composition: view.composition.to_string(),
            version: view.version.0,
            state: match view.stage {
                "ready" if view.drained && view.flows > 0 => "draining".to_owned(),
                "ready" if view.drained => "drained".to_owned(),
                _ if view.ejected => "ejected".to_owned(),
                stage => stage.to_owned(),
            },
            ready: view.ready,
            pid: facts.as_ref().and_then(|facts| facts.init_pid),
            restarts: facts.map_or(0, |facts| facts.restarts),
            called_v4: view.addresses.called.v4.to_string(),
            called_v6: view.addresses.called.v6.to_string(),
            caller_v4: view.addresses.caller.v4.to_string(),
            caller_v6: view.addresses.caller.v6.to_string(),
            problem: problem.filter(|_| !view.ready || view.was_killed),
            host: None,
        }
    });
    Ok(rows.collect())
}

/// The instances of other hosts that are known here; their hosts know more about them.
async fn instances_elsewhere(world: &World) -> Result<Vec<InstanceRow>> {
    let remotes = world.router.look(|router, _| router.remote_instances());
    let remotes = remotes.await?;
    let hosts: Vec<HostId> = remotes.iter().map(|remote| remote.host).collect();
    let names = world.router.hosts(move |known, _, _| known.names(&hosts));
    let names = names.await.unwrap_or_default();
    let row = |(remote, host): (Arc<RemoteInstance>, String)| InstanceRow {
        name: remote.name.to_string(),
        composition: remote.composition.to_string(),
        version: remote.version.0,
        state: if remote.ready { "ready" } else { "not ready" }.to_owned(),
        ready: remote.ready,
        pid: None,
        restarts: 0,
        called_v4: remote.addresses.called.v4.to_string(),
        called_v6: remote.addresses.called.v6.to_string(),
        caller_v4: remote.addresses.caller.v4.to_string(),
        caller_v6: remote.addresses.caller.v6.to_string(),
        problem: None,
        host: Some(host),
    };
    Ok(remotes.into_iter().zip(names).map(row).collect())
}

async fn services(world: &World) -> Result<Value> {
    let views = world.router.look(|router, _| router.services()).await?;
    let rows = views.into_iter().map(|view| {
        let instances = view.instances.iter();
        let ready = instances.clone().filter(|instance| instance.ready).count();
        ServiceRow {
            name: format!("{}.{ZONE}", view.name),
            composition: view.composition.to_string(),
            ports: view
                .ports
                .iter()
                .map(|(name, port)| {
                    format!("{name}={}/{}", port.port, Protocol::from(port.protocol))
                })
                .collect(),
            vips: view
                .vip
                .map_or_else(Vec::new, |vip| vec![vip.v4.into(), vip.v6.into()]),
            instances: instances.len() + view.elsewhere,
            ready: ready + view.ready_elsewhere,
            flows: instances.map(|instance| instance.flows).sum(),
            first_packets: view.first_packets,
            service_id: view.id.to_string(),
        }
    });
    Ok(serde_json::to_value(rows.collect::<Vec<_>>())?)
}

async fn flows(world: &World, behind: Option<u32>) -> Result<Value> {
    let look = world.router.look(move |router, datapath| {
        let views = router.flow_page(behind.map(SlotIndex), FLOWS_A_PAGE);
        let slots: Vec<FlowSlots> = views.iter().map(|view| view.slots).collect();
        (views, datapath.read_flows(&slots), now())
    });
    let (views, readings, now) = look.await?;
    let whole = views.len() == FLOWS_A_PAGE;
    let last = views.last().map(|view| view.slots.forward.0);
    let rows = views.into_iter().zip(readings);
    let page = FlowPage {
        flows: rows
            .map(|(view, reading)| flow_row(view, reading, now))
            .collect(),
        next: last.filter(|_| whole),
    };
    Ok(serde_json::to_value(page)?)
}

fn flow_row(view: FlowView, reading: FlowReading, now: Moment) -> FlowRow {
    let name = |name: Option<InstanceName>| name.map_or("-".to_owned(), |name| name.to_string());
    FlowRow {
        protocol: view.key.protocol.to_string(),
        client: name(view.client),
        server: name(view.server),
        from: view.key.source.to_string(),
        to: view.key.destination.to_string(),
        delivered_to: view.delivered.destination.to_string(),
        packets: reading.forward.packets,
        bytes: reading.forward.bytes,
        reply_packets: reading.reverse.packets,
        reply_bytes: reading.reverse.bytes,
        state: FlowState::of(view.key.protocol, &reading.forward, &reading.reverse)
            .name()
            .to_owned(),
        age_ms: u64::try_from(now.since(view.opened).as_millis()).unwrap_or(u64::MAX),
        hops: view.hops,
    }
}

async fn drops(world: &World) -> Result<Value> {
    let counts = world.router.look(|router, datapath| {
        let kernel = datapath.drop_counts()?;
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (reason, count) in kernel.into_iter().chain(router.drops()) {
            *counts.entry(reason.name()).or_default() += count;
        }
        anyhow::Ok(counts)
    });
    let mut counts = counts.await??;
    for (_, reason, count) in drops_between_hosts(world).await {
        if count > 0 {
            *counts.entry(reason).or_default() += count;
        }
    }
    Ok(serde_json::to_value(counts)?)
}

/// What was dropped of what other hosts say: by whom, why and how often; nothing on a host alone.
pub async fn drops_between_hosts(world: &World) -> Vec<(&'static str, &'static str, u64)> {
    let drops = world.router.hosts(|hosts, _, _| hosts.drops()).await;
    drops.unwrap_or_default()
}

async fn status(world: &World) -> Result<Value> {
    let keeper = world.keeper.call(|keeper| keeper.hello()).await?;
    let dns = world.resolver.counts();
    let look = world.router.look(|router, datapath| {
        let instances = router.instances();
        let (sizes, requests) = (router.sizes(), router.requests());
        let endpoints = datapath.endpoints();
        let upcalls = endpoints
            .iter()
            .map(|(endpoint, ..)| datapath.upcalls_sent(*endpoint));
        Status {
            compositions: sizes.compositions as usize,
            not_applied: router.not_applied().map(|it| it.to_string()).collect(),
            instances: instances.len(),
            ready: instances.iter().filter(|instance| instance.ready).count(),
            flows: sizes.flows as usize,
            upcalls: upcalls.sum(),
            requests_sent: requests.requests_sent,
            requests_passed_on: requests.requests_passed_on,
            requests_accepted: requests.requests_accepted,
            requests_rejected: requests.requests_rejected,
            packets_returned: requests.packets_returned,
            ..Status::default()
        }
    });
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        keeper_pid: keeper.pid,
        keeper_version: keeper.version,
        dns_queries: dns.queries_udp + dns.queries_tcp,
        ..look.await?
    };
    Ok(serde_json::to_value(status)?)
}

fn target(world: &World, facts: &Facts) -> Result<Value> {
    let instance: InstanceId = facts.plan.instance;
    Ok(serde_json::to_value(Target {
        name: facts.plan.name.to_string(),
        instance: instance.0,
        pid: facts.init_pid,
        cgroup: cgroup_of(world, instance).display().to_string(),
        user: facts.plan.user.clone(),
        environment: facts.plan.environment.clone(),
        log: world.directories.log(instance).display().to_string(),
    })?)
}
