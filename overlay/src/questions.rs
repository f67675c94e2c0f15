//! Questions: one host asks another, which answers in time or not at all.

use crate::codec::{Codec, is_nonsense};
use crate::config::{OverlayConfig, Pace};
use crate::drops::{Drops, OverlayDrop};
use crate::identity::host_of;
use libp2p::request_response::{
    Behaviour, Config, Event, InboundFailure, InboundRequestId, Message, OutboundFailure,
    OutboundRequestId, ProtocolSupport, ResponseChannel,
};
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, StreamProtocol};
use margay_core::overlay::{AskedId, OVERLAY_BYTES_MAX, OverlayEvent, QuestionId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many questions of this host are under way.
const ASKING_MAX: usize = 1024;

/// How many questions of others wait for core's answer.
const ASKED_MAX: usize = 1024;

/// How many questions, of both sides, are under way on one connection.
const STREAMS_MAX: usize = 64;

pub(crate) type Asking = Behaviour<Codec>;

/// One protocol of request and response for all questions.
pub(crate) fn asking(config: &OverlayConfig, pace: &Pace) -> Result<Asking, String> {
    let protocol = StreamProtocol::try_from_owned(config.protocol("ask/1"))
        .map_err(|error| error.to_string())?;
    let settings = Config::default()
        .with_request_timeout(pace.answer_timeout)
        .with_max_concurrent_streams(STREAMS_MAX);
    Ok(Behaviour::new(
        [(protocol, ProtocolSupport::Full)],
        settings,
    ))
}

/// What to do about an event of the protocol.
#[derive(Debug)]
pub(crate) enum Upshot {
    /// Tell core.
    Tell(OverlayEvent),
    /// Hang up: the other side does not keep to the protocol. Tell core, if there is something.
    HangUp(ConnectionId, Option<OverlayEvent>),
    /// Nothing.
    Done,
}

/// The questions under way, both ways.
pub(crate) struct Questions {
    asking: BTreeMap<OutboundRequestId, (QuestionId, Instant)>,
    asked: BTreeMap<AskedId, (InboundRequestId, ResponseChannel<Vec<u8>>)>,
    asked_ids: BTreeMap<InboundRequestId, AskedId>,
    next: u64,
    answer_timeout: Duration,
    drops: Arc<Drops>,
}

impl Questions {
    /// None under way.
    pub(crate) fn new(pace: &Pace, drops: Arc<Drops>) -> Self {
        Questions {
            asking: BTreeMap::new(),
            asked: BTreeMap::new(),
            asked_ids: BTreeMap::new(),
            next: 0,
            answer_timeout: pace.answer_timeout,
            drops,
        }
    }

    /// Asks an admitted host, which is called if need be; tells core at once if that cannot be.
    pub(crate) fn ask(
        &mut self,
        protocol: &mut Asking,
        to: &PeerId,
        question: QuestionId,
        bytes: Vec<u8>,
        now: Instant,
    ) -> Option<OverlayEvent> {
        if bytes.len() > OVERLAY_BYTES_MAX {
            return Some(self.no_answer(question, OverlayDrop::TooLong));
        }
        if self.asking.len() >= ASKING_MAX {
            return Some(self.no_answer(question, OverlayDrop::TooManyQuestions));
        }
        let id = protocol.send_request(to, bytes);
        let until = now + self.answer_timeout;
        self.asking.insert(id, (question, until));
        None
    }

    /// Says that a question gets no answer, and counts why.
    pub(crate) fn no_answer(&self, question: QuestionId, why: OverlayDrop) -> OverlayEvent {
        self.drops.count(why);
        OverlayEvent::Answered {
            question,
            answer: None,
        }
    }

    /// Answers, unless it is too late, which was counted when it became so.
    pub(crate) fn answer(&mut self, protocol: &mut Asking, asked: AskedId, bytes: Vec<u8>) {
        // Dropping the channel tells the other side that there is no answer.
        let Some((id, channel)) = self.asked.remove(&asked) else {
            return;
        };
        if bytes.len() > OVERLAY_BYTES_MAX {
            self.asked_ids.remove(&id);
            self.drops.count(OverlayDrop::TooLong);
        } else if protocol.send_response(channel, bytes).is_err() {
            tracing::debug!(?asked, "answered too late");
        }
    }

    /// Takes in what the protocol says.
    pub(crate) fn handle_event(&mut self, event: Event<Vec<u8>, Vec<u8>>) -> Upshot {
        match event {
            Event::Message { peer, message, .. } => match message {
                Message::Request {
                    request_id,
                    request,
                    channel,
                } => self.handle_question(&peer, request_id, request, channel),
                Message::Response {
                    request_id,
                    response,
                } => self.handle_answer(&request_id, Some(response)),
            },
            Event::OutboundFailure {
                connection_id,
                request_id,
                error,
                ..
            } => self.handle_no_answer(&request_id, connection_id, &error),
            Event::InboundFailure {
                connection_id,
                request_id,
                error,
                ..
            } => self.handle_unanswered(&request_id, connection_id, &error),
            Event::ResponseSent { request_id, .. } => {
                self.asked_ids.remove(&request_id);
                Upshot::Done
            }
        }
    }

    /// Gives up on what was not answered in time, however far it came.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<OverlayEvent> {
        let late = self.asking.extract_if(.., |_, (_, until)| *until <= now);
        let late: Vec<_> = late.map(|(_, (question, _))| question).collect();
        late.into_iter()
            .map(|question| self.no_answer(question, OverlayDrop::NoAnswer))
            .collect()
    }

    fn handle_question(
        &mut self,
        peer: &PeerId,
        id: InboundRequestId,
        bytes: Vec<u8>,
        channel: ResponseChannel<Vec<u8>>,
    ) -> Upshot {
        let Some(from) = host_of(peer) else {
            return Upshot::Done;
        };
        if self.asked.len() >= ASKED_MAX {
            self.drops.count(OverlayDrop::TooManyQuestions);
            return Upshot::Done;
        }
        self.next += 1;
        let asked = AskedId(self.next);
        self.asked.insert(asked, (id, channel));
        self.asked_ids.insert(id, asked);
        Upshot::Tell(OverlayEvent::Asked { from, asked, bytes })
    }

    fn handle_answer(&mut self, id: &OutboundRequestId, answer: Option<Vec<u8>>) -> Upshot {
        match self.asking.remove(id) {
            Some((question, _)) => Upshot::Tell(OverlayEvent::Answered { question, answer }),
            None => Upshot::Done,
        }
    }

    fn handle_no_answer(
        &mut self,
        id: &OutboundRequestId,
        connection: ConnectionId,
        error: &OutboundFailure,
    ) -> Upshot {
        let waiting = self.asking.remove(id);
        let nonsense = matches!(error, OutboundFailure::Io(error) if is_nonsense(error));
        let why = if nonsense {
            OverlayDrop::Unreadable
        } else {
            OverlayDrop::NoAnswer
        };
        let told = waiting.map(|(question, _)| self.no_answer(question, why));
        match told {
            told if nonsense => Upshot::HangUp(connection, told),
            Some(told) => Upshot::Tell(told),
            None => Upshot::Done,
        }
    }

    fn handle_unanswered(
        &mut self,
        id: &InboundRequestId,
        connection: ConnectionId,
        error: &InboundFailure,
    ) -> Upshot {
        let asked = self.asked_ids.remove(id);
        if let Some(asked) = asked {
            self.asked.remove(&asked);
        }
        match error {
            InboundFailure::Io(error) if is_nonsense(error) => {
                self.drops.count(OverlayDrop::Unreadable);
                return Upshot::HangUp(connection, None);
            }
            InboundFailure::Timeout if asked.is_none() => self.drops.count(OverlayDrop::Stalled),
            _ if asked.is_some() => self.drops.count(OverlayDrop::Unanswered),
            _ => {}
        }
        Upshot::Done
    }
}
