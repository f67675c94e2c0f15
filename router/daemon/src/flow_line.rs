//! What happens to flows, a line each: for the flow log, for `margay flows --watch` and for people.

use crate::flow_watch::{News, Seen};
use margay_core::flow_event::FlowEvent;
use margay_core::flow_key::FlowKey;
use margay_core::flow_table::{Flow, FlowChange, FlowEnd, FlowState};
use margay_core::port::InstancePlan;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowLine {
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: FlowLineEvent,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum FlowLineEvent {
    /// A flow opened.
    Opened(AcceptedFlow),
    /// Its state changed.
    Changed(AcceptedFlow),
    /// It ended.
    Closed(AcceptedFlow),
    /// A packet was refused.
    Refused(RefusedPacket),
    /// More packets were refused than are told one by one.
    Suppressed { count: u64 },
    /// Events came faster than they were written.
    Missed { count: u64 },
}

/// A flow that was let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedFlow {
    /// Who opened it.
    pub client: String,
    /// Who serves it.
    pub server: String,
    /// `tcp`, `udp` or `echo`.
    pub protocol: String,
    /// The client's address and port.
    pub from: String,
    /// What the client called.
    pub to: String,
    /// What the server sees as its own.
    pub delivered_to: String,
    /// `accepted`.
    pub verdict: String,
    /// Why it has this server, as in `margay explain`.
    pub reason: String,
    /// `half-open`, `established` or `closed`.
    pub state: String,
    /// Why it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Client to server.
    pub packets: u64,
    /// Client to server.
    pub bytes: u64,
    /// Server to client.
    pub reply_packets: u64,
    /// Server to client.
    pub reply_bytes: u64,
    /// From its first packet to its last, in milliseconds.
    pub duration_ms: u64,
}

/// A packet that opened no flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedPacket {
    /// Who sent it.
    pub client: String,
    /// `tcp`, `udp` or `echo`; nothing if the packet could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `refused`.
    pub verdict: String,
    /// The drop reason's name.
    pub reason: String,
}

impl FlowLine {
    /// The line of what came.
    pub fn of(news: &News) -> FlowLine {
        match news {
            News::Seen(seen) => seen_line(seen),
            News::Missed(count) => FlowLine {
                time: rfc3339(SystemTime::now()),
                event: FlowLineEvent::Missed { count: *count },
            },
        }
    }

    /// Appends the line as JSON.
    pub fn write_to(&self, buffer: &mut Vec<u8>) {
        serde_json::to_writer(&mut *buffer, self).expect("a line of texts and numbers is JSON");
        buffer.push(b'\n');
    }
}

fn seen_line(seen: &Seen) -> FlowLine {
    let event = match &seen.event {
        FlowEvent::Flow {
            change,
            client,
            server,
        } => {
            let accepted = |flow, end| accepted(seen, flow, end, client, server);
            match change {
                FlowChange::Opened(flow) => FlowLineEvent::Opened(accepted(flow, None)),
                FlowChange::Changed(flow) => FlowLineEvent::Changed(accepted(flow, None)),
                FlowChange::Closed(flow, end) => FlowLineEvent::Closed(accepted(flow, Some(*end))),
            }
        }
        FlowEvent::Refused {
            client,
            key,
            reason,
        } => FlowLineEvent::Refused(RefusedPacket {
            client: name(client),
            protocol: key.map(|key| key.protocol.to_string()),
            from: key.map(|key| key.source.to_string()),
            to: key.map(|key| key.destination.to_string()),
            verdict: "refused".to_owned(),
            reason: reason.name().to_owned(),
        }),
        FlowEvent::Suppressed(count) => FlowLineEvent::Suppressed { count: *count },
    };
    FlowLine {
        time: rfc3339(seen.time),
        event,
    }
}

fn accepted(
    seen: &Seen,
    flow: &Flow,
    end: Option<FlowEnd>,
    client: &Option<Arc<InstancePlan>>,
    server: &Option<Arc<InstancePlan>>,
) -> AcceptedFlow {
    let (key, delivered): (FlowKey, FlowKey) =
        (flow.entries.forward.key, flow.entries.forward.delivered);
    let (forward, reverse) = &seen.counted;
    let last_seen = forward.last_seen.max(reverse.last_seen);
    let duration = last_seen.since(flow.opened);
    AcceptedFlow {
        client: name(client),
        server: name(server),
        protocol: key.protocol.to_string(),
        from: key.source.to_string(),
        to: key.destination.to_string(),
        delivered_to: delivered.destination.to_string(),
        verdict: "accepted".to_owned(),
        reason: flow.choice.name().to_owned(),
        state: FlowState::of(key.protocol, forward, reverse)
            .name()
            .to_owned(),
        end: end.map(|end| end.name().to_owned()),
        packets: forward.packets,
        bytes: forward.bytes,
        reply_packets: reverse.packets,
        reply_bytes: reverse.bytes,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    }
}

fn name(plan: &Option<Arc<InstancePlan>>) -> String {
    plan.as_ref()
        .map_or("-".to_owned(), |plan| plan.name.to_string())
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

impl fmt::Display for FlowLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  ", self.time)?;
        match &self.event {
            FlowLineEvent::Opened(flow) => write!(f, "opened      {flow}  ({})", flow.reason),
            FlowLineEvent::Changed(flow) => write!(f, "changed     {flow}  {}", flow.state),
            FlowLineEvent::Closed(flow) => write!(
                f,
                "closed      {flow}  {}  packets {}/{}  bytes {}/{}  {} ms",
                flow.end.as_deref().unwrap_or("-"),
                flow.packets,
                flow.reply_packets,
                flow.bytes,
                flow.reply_bytes,
                flow.duration_ms
            ),
            FlowLineEvent::Refused(packet) => {
                let part = |part: &Option<String>| part.clone().unwrap_or("-".to_owned());
                write!(
                    f,
                    "refused     {} {} {} -> {}  {}",
                    part(&packet.protocol),
                    packet.client,
                    part(&packet.from),
                    part(&packet.to),
                    packet.reason
                )
            }
            FlowLineEvent::Suppressed { count } => {
                write!(
                    f,
                    "suppressed  {count} more refusals; `margay drops` counts all"
                )
            }
            FlowLineEvent::Missed { count } => {
                write!(
                    f,
                    "missed      {count} events that came faster than they were written"
                )
            }
        }
    }
}

impl fmt::Display for AcceptedFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} -> {} {}",
            self.protocol, self.client, self.from, self.server, self.to
        )?;
        if self.delivered_to != self.to {
            write!(f, " (as {})", self.delivered_to)?;
        }
        Ok(())
    }
}
