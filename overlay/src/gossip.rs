//! Gossip: what is published reaches all who subscribed, through whoever is connected to whom.
//!
//! Core has signed what must be believed, so that gossipsub signs and says nothing of authors; a
//! message is told from others by the hash of its topic and content.

use crate::config::OverlayConfig;
use crate::drops::OverlayDrop;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentityTransform, MaxCountSubscriptionFilter, Message,
    MessageAuthenticity, MessageId, PublishError, TopicHash, TopicSubscriptionFilter,
    ValidationMode,
};
use margay_core::overlay::{OVERLAY_BYTES_MAX, Topic};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How many topics one neighbour subscribes to: those of its site and of each tier above it.
const TOPICS_MAX: usize = 64;

/// How long a topic is: a site path and what it is about.
const TOPIC_BYTES_MAX: usize = 512;

/// What gossipsub wraps around one message: its topic and a few bytes of protobuf.
const ENVELOPE_BYTES_MAX: usize = 2 * TOPIC_BYTES_MAX;

/// How often a neighbourhood is mended, and told what its members may have missed. Repair by the catalog
/// takes as long, and each wakes idle hosts.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long a message is known again: well beyond the five heartbeats for which it is offered.
const REMEMBERED: Duration = Duration::from_secs(30);

/// How many messages wait for one neighbour: 8 MiB of the longest kind.
const QUEUED_MAX: usize = 128;

pub(crate) type Gossip = Behaviour<IdentityTransform, Subscriptions>;
pub(crate) type Subscriptions = MaxCountSubscriptionFilter<ShortTopics>;

/// Lets neighbours subscribe to topics of bounded length.
#[derive(Clone, Debug)]
pub(crate) struct ShortTopics;

impl TopicSubscriptionFilter for ShortTopics {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        topic.as_str().len() <= TOPIC_BYTES_MAX
    }
}

/// Gossipsub (libp2p specification, gossipsub v1.1) for clusters from two hosts on: a mesh of four,
/// at least two, at most eight neighbours, one of them called by this host.
pub(crate) fn gossip(config: &OverlayConfig) -> Result<Gossip, String> {
    let settings = ConfigBuilder::default()
        .protocol_id_prefix(config.protocol("gossip"))
        .validation_mode(ValidationMode::Anonymous)
        // What is passed on is for the task to say: see `floods`.
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(OVERLAY_BYTES_MAX + ENVELOPE_BYTES_MAX)
        .mesh_n(4)
        .mesh_n_low(2)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        .gossip_lazy(4)
        .flood_publish(true)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(HEARTBEAT)
        .duplicate_cache_time(REMEMBERED)
        .connection_handler_queue_len(QUEUED_MAX)
        .build()
        .map_err(|error| error.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: ShortTopics,
        max_subscribed_topics: TOPICS_MAX,
        max_subscriptions_per_request: TOPICS_MAX,
    };
    Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, settings, filter)
        .map_err(str::to_owned)
}

/// Publishes, unless it says why not.
pub(crate) fn publish(
    gossip: &mut Gossip,
    topic: Topic,
    bytes: Vec<u8>,
) -> Result<(), OverlayDrop> {
    if bytes.len() > OVERLAY_BYTES_MAX || topic.0.len() > TOPIC_BYTES_MAX {
        return Err(OverlayDrop::TooLong);
    }
    match gossip.publish(TopicHash::from_raw(topic.0), bytes) {
        Ok(_) => Ok(()),
        Err(PublishError::NoPeersSubscribedToTopic) => Err(OverlayDrop::PublishedToNobody),
        Err(PublishError::Duplicate) => Err(OverlayDrop::PublishedAgain),
        Err(PublishError::AllQueuesFull(_)) => Err(OverlayDrop::PublishQueuesFull),
        // Nothing is signed or transformed here.
        Err(
            PublishError::MessageTooLarge
            | PublishError::SigningError(_)
            | PublishError::TransformFailed(_),
        ) => Err(OverlayDrop::TooLong),
    }
}

fn message_id(message: &Message) -> MessageId {
    let topic = message.topic.as_str().as_bytes();
    let mut hash = Sha256::new();
    hash.update((topic.len() as u64).to_be_bytes());
    hash.update(topic);
    hash.update(&message.data);
    MessageId::new(&hash.finalize())
}
