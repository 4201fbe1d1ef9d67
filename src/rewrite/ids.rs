//! Brokers, topics and leaders: the small translations that most APIs need.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Translate;

pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = ResponseError::UnknownTopicOrPartition.code();
pub(super) const UNKNOWN_TOPIC_ID: i16 = ResponseError::UnknownTopicId.code();

/// Sent to the cluster in place of a virtual broker id that does not exist, so that the cluster itself gives the proper
/// error. The client's own number could by chance be a real node's.
pub(super) const NO_SUCH_BROKER: i32 = i32::MAX;

/// A broker that is not there: "no leader", "no preferred replica".
const NO_BROKER: i32 = -1;

pub(super) fn str_bytes(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

pub(super) fn brokers_in(t: &dyn Translate, ids: &mut [BrokerId]) {
    for id in ids {
        id.0 = t.broker_in(id.0).unwrap_or(NO_SUCH_BROKER);
    }
}

/// Replica lists; a broker without a virtual identity drops out.
pub(super) fn brokers_out(t: &dyn Translate, ids: &mut Vec<BrokerId>) {
    ids.retain_mut(|id| match t.broker_out(id.0) {
        Some(v) => {
            id.0 = v;
            true
        }
        None => false,
    });
}

/// One broker; -1 when it has no virtual identity.
pub(super) fn broker_out(t: &dyn Translate, id: &mut BrokerId) {
    id.0 = t.broker_out(id.0).unwrap_or(NO_BROKER);
}

/// The controller as clients see it: itself if it is among the virtual brokers, else the lowest of them, since a
/// controller-only node has no address for clients and any broker forwards. -1 stays.
pub(super) fn controller_out(t: &dyn Translate, real: BrokerId, brokers: &[(i32, String, u16)]) -> BrokerId {
    if real.0 < 0 {
        return real;
    }
    let itself = t.broker_out(real.0).filter(|v| brokers.iter().any(|(id, _, _)| id == v));
    let lowest = brokers.iter().map(|(id, _, _)| *id).min();
    BrokerId(itself.or(lowest).unwrap_or(NO_BROKER))
}

/// Address of a node endpoint; `false` when the node has no virtual identity and must not be shown.
#[must_use]
pub(super) fn endpoint_out(t: &dyn Translate, id: &mut BrokerId, host: &mut StrBytes, port: &mut i32) -> bool {
    let Some((v, (h, p))) = t.broker_out(id.0).and_then(|v| t.endpoint(v).map(|e| (v, e))) else { return false };
    id.0 = v;
    *host = StrBytes::from_string(h);
    *port = i32::from(p);
    true
}

/// A `CurrentLeader` (KIP-951). A leader without a virtual identity is no hint at all: both fields become -1.
pub(super) fn leader_out(t: &dyn Translate, id: &mut BrokerId, epoch: &mut i32) {
    broker_out(t, id);
    *epoch = if id.0 < 0 { -1 } else { t.epoch_out(*epoch) };
}

/// A leader epoch sent by a client; -1 means "do not check" and stays.
pub(super) fn epoch_in(t: &dyn Translate, epoch: &mut i32) {
    if *epoch >= 0 {
        *epoch = t.epoch_in(*epoch);
    }
}

pub(super) fn topic_id_in(t: &dyn Translate, id: &mut Uuid) {
    if !id.is_nil() {
        *id = t.topic_id_in(*id);
    }
}

pub(super) fn topic_id_out(t: &dyn Translate, name: Option<&str>, id: &mut Uuid) {
    if !id.is_nil() {
        *id = t.topic_id_out(name, *id);
    }
}

/// A topic by virtual id that clients must not touch.
pub(super) fn hidden_id(t: &dyn Translate, virtual_id: Uuid) -> bool {
    !virtual_id.is_nil() && t.topic_name(virtual_id).is_some_and(|name| t.hidden(&name))
}

/// A topic that a request names by id from some version on, and by name before (the other field is then empty).
pub(super) fn hidden(t: &dyn Translate, name: &str, virtual_id: Uuid) -> bool {
    if virtual_id.is_nil() { t.hidden(name) } else { hidden_id(t, virtual_id) }
}

/// How a cluster answers for a topic that it does not have (KIP-516): asked by id, or by name.
pub(super) fn unknown_topic(virtual_id: Uuid) -> i16 {
    if virtual_id.is_nil() { UNKNOWN_TOPIC_OR_PARTITION } else { UNKNOWN_TOPIC_ID }
}

/// The name of a topic in a reply that carries names before some version and (by now virtual) ids from it on.
pub(super) fn name_of<'a>(t: &dyn Translate, name: &'a str, virtual_id: Uuid) -> Option<std::borrow::Cow<'a, str>> {
    if virtual_id.is_nil() { Some(name.into()) } else { t.topic_name(virtual_id).map(Into::into) }
}
