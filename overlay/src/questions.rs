//! Questions: one host asks another, which answers in time or not at all.

use crate::codec::{Carried, Codec};
use crate::config::{OverlayConfig, Pace};
use crate::drops::{Drops, OverlayDrop};
use crate::identity::host_of;
use libp2p::request_response::{
    Behaviour, Config, Event, InboundRequestId, Message, OutboundRequestId, ProtocolSupport,
    ResponseChannel,
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
    let codec = Codec {
        // One that takes longer leaves no time to answer it.
        question_timeout: pace.answer_timeout / 2,
    };
    let protocols = [(protocol, ProtocolSupport::Full)];
    Ok(Behaviour::with_codec(codec, protocols, settings))
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
    asked: BTreeMap<AskedId, (InboundRequestId, ResponseChannel<Carried>)>,
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
        let id = protocol.send_request(to, Carried::Whole(bytes));
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
        } else if protocol
            .send_response(channel, Carried::Whole(bytes))
            .is_err()
        {
            tracing::debug!(?asked, "answered too late");
        }
    }

    /// Takes in what the protocol says.
    pub(crate) fn handle_event(&mut self, event: Event<Carried, Carried>) -> Upshot {
        match event {
            Event::Message {
                peer,
                connection_id,
                message,
            } => match message {
                Message::Request {
                    request_id,
                    request,
                    channel,
                } => match request {
                    Carried::Whole(bytes) => self.asked(&peer, request_id, bytes, channel),
                    wrong => self.wrong(&wrong, connection_id, None),
                },
                Message::Response {
                    request_id,
                    response,
                } => self.answered(&request_id, response, connection_id),
            },
            Event::OutboundFailure { request_id, .. } => {
                let asking = self.asking.remove(&request_id);
                asking.map_or(Upshot::Done, |(question, _)| {
                    Upshot::Tell(self.no_answer(question, OverlayDrop::NoAnswer))
                })
            }
            Event::InboundFailure { request_id, .. } => {
                if let Some(asked) = self.asked_ids.remove(&request_id) {
                    self.asked.remove(&asked);
                    self.drops.count(OverlayDrop::Unanswered);
                }
                Upshot::Done
            }
            Event::ResponseSent { request_id, .. } => {
                self.asked_ids.remove(&request_id);
                Upshot::Done
            }
        }
    }

    /// When a question's time is over next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.asking.values().map(|(_, until)| *until).min()
    }

    /// Gives up on what was not answered in time, however far it came.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<OverlayEvent> {
        let late = self.asking.extract_if(.., |_, (_, until)| *until <= now);
        let late: Vec<_> = late.map(|(_, (question, _))| question).collect();
        late.into_iter()
            .map(|question| self.no_answer(question, OverlayDrop::NoAnswer))
            .collect()
    }

    fn asked(
        &mut self,
        peer: &PeerId,
        id: InboundRequestId,
        bytes: Vec<u8>,
        channel: ResponseChannel<Carried>,
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

    fn answered(
        &mut self,
        id: &OutboundRequestId,
        answer: Carried,
        connection: ConnectionId,
    ) -> Upshot {
        let Some((question, _)) = self.asking.remove(id) else {
            return Upshot::Done;
        };
        let answered = |answer| OverlayEvent::Answered { question, answer };
        match answer {
            Carried::Whole(bytes) => Upshot::Tell(answered(Some(bytes))),
            wrong => self.wrong(&wrong, connection, Some(answered(None))),
        }
    }

    /// What to do about who does not keep to the protocol. Who is slow may be far away.
    fn wrong(
        &self,
        what: &Carried,
        connection: ConnectionId,
        told: Option<OverlayEvent>,
    ) -> Upshot {
        if *what == Carried::Stalled {
            self.drops.count(OverlayDrop::Stalled);
            return told.map_or(Upshot::Done, Upshot::Tell);
        }
        self.drops.count(OverlayDrop::Unreadable);
        Upshot::HangUp(connection, told)
    }
}
