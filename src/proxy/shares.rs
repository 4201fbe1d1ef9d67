//! Share consumers (KIP-932). Their sessions are the client's and the broker's own; after a cutover the new broker knows neither
//! session nor member, upon which clients open a session anew and, told so here, join anew.
//!
//! A broker gives away records that clients must not see (a masked range); nobody would acknowledge those, and a share group
//! cannot go on behind too many of them. The proxy says in the same session that they are gaps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::share_fetch_request::{AcknowledgementBatch, FetchPartition, FetchTopic};
use kafka_protocol::messages::share_fetch_response::PartitionData;
use kafka_protocol::messages::{
    GroupId, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareFetchRequest, ShareFetchResponse,
    ShareGroupHeartbeatRequest,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use uuid::Uuid;

use super::pending::{SHARE_ACKNOWLEDGE, SHARE_FETCH};
use super::{Context, Entrance, fetch};
use crate::catalog::{Partition, View};
use crate::config::TeeMode;
use crate::groups::Met;
use crate::offsets::member_epoch_in;
use crate::rewrite::{self, Translate, share_acknowledge, share_fetch, share_group_heartbeat};
use crate::wire::body::{decode, encode};
use crate::wire::header::RequestHeader;

/// How long records wait for the standby. A share group may be given a record twice, so more is not asked for.
const SHOW_WAIT: Duration = Duration::from_millis(100);
/// Ranges of one connection that are still to be acknowledged. What is dropped is given away again when its lock ends.
const MAX_OWED: usize = 10_000;
/// `AcknowledgeType` of an offset without a record.
const GAP: i8 = 0;
/// The session epoch by which a session ends.
const FINAL_EPOCH: i32 = -1;

const NOT_LEADER: i16 = ResponseError::NotLeaderOrFollower.code();
/// SHARE_SESSION_NOT_FOUND: clients open a session anew.
const NO_SESSION: i16 = 122;

/// What the proxy has to acknowledge itself, of one connection in one generation.
#[derive(Default)]
pub struct Owed(Mutex<Vec<Range>>);

/// In the cluster's offsets, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    group: String,
    member: String,
    topic: Uuid,
    partition: i32,
    first: i64,
    last: i64,
}

impl Owed {
    fn add(&self, range: Range) {
        let mut owed = self.0.lock();
        if owed.len() < MAX_OWED {
            owed.push(range);
        }
    }

    /// Acknowledges what is owed by this member, in a request of its session that is translated already.
    fn pay(&self, req: &mut ShareFetchRequest) {
        let mut owed = self.0.lock();
        if owed.is_empty() || req.share_session_epoch <= 0 {
            return;
        }
        let (group, member) = session(&req.group_id, &req.member_id);
        let is_theirs = |range: &Range| range.group == group && range.member == member;
        let (paid, rest): (Vec<_>, Vec<_>) = owed.drain(..).partition(is_theirs);
        *owed = rest;
        for range in paid {
            let batches = &mut partition_of(req, range.topic, range.partition).acknowledgement_batches;
            batches.push(
                AcknowledgementBatch::default()
                    .with_first_offset(range.first)
                    .with_last_offset(range.last)
                    .with_acknowledge_types(vec![GAP]),
            );
            // Brokers refuse what does not rise.
            batches.sort_by_key(|batch| batch.first_offset);
        }
    }
}

/// Whose session it is: group and member.
fn session(group: &Option<GroupId>, member: &Option<StrBytes>) -> (String, String) {
    let group = group.as_ref().map(|group| group.to_string());
    (group.unwrap_or_default(), member.as_ref().map(|member| member.to_string()).unwrap_or_default())
}

fn partition_of(req: &mut ShareFetchRequest, topic: Uuid, partition: i32) -> &mut FetchPartition {
    let t = req.topics.iter().position(|t| t.topic_id == topic).unwrap_or_else(|| {
        req.topics.push(FetchTopic::default().with_topic_id(topic));
        req.topics.len() - 1
    });
    let partitions = &mut req.topics[t].partitions;
    let p = partitions.iter().position(|p| p.partition_index == partition).unwrap_or_else(|| {
        partitions.push(FetchPartition::default().with_partition_index(partition));
        partitions.len() - 1
    });
    &mut partitions[p]
}

/// What a request was about, for its reply.
pub struct Asked {
    owed: Arc<Owed>,
    group: String,
    /// Something was acknowledged.
    acknowledges: bool,
}

pub enum Taken {
    /// The reply's body.
    Answer(Bytes),
    /// The request's body for the broker.
    Send(Bytes, Asked),
}

/// Judges a ShareFetch or ShareAcknowledge.
///
/// # Errors
/// A body that the codec cannot read.
pub fn request(
    context: &Context,
    view: &View,
    entrance: Entrance,
    owed: &Arc<Owed>,
    header: &RequestHeader,
    body: &Bytes,
) -> Result<Taken, String> {
    let version = header.api_version;
    if header.api_key == SHARE_ACKNOWLEDGE {
        let mut req: ShareAcknowledgeRequest = decode(body, version)?;
        if is_alias(view, entrance) {
            return encode(&ShareAcknowledgeResponse::default().with_error_code(NO_SESSION), version)
                .map(Taken::Answer);
        }
        let (group, _) = session(&req.group_id, &req.member_id);
        share_acknowledge::request(&mut req, view);
        let asked = Asked { owed: owed.clone(), group, acknowledges: true };
        return Ok(Taken::Send(encode(&req, version)?, asked));
    }
    let mut req: ShareFetchRequest = decode(body, version)?;
    if is_alias(view, entrance) {
        return encode(&elsewhere(&req), version).map(Taken::Answer);
    }
    let (group, _) = session(&req.group_id, &req.member_id);
    note_asked(context, view, &group, &req);
    let mut partitions = req.topics.iter().flat_map(|topic| &topic.partitions);
    let acknowledges = partitions.any(|p| !p.acknowledgement_batches.is_empty());
    share_fetch::request(&mut req, view);
    let limit = context.budget.fetch_limit();
    (req.max_bytes, req.min_bytes) = (req.max_bytes.min(limit), req.min_bytes.min(limit));
    owed.pay(&mut req);
    Ok(Taken::Send(encode(&req, version)?, Asked { owed: owed.clone(), group, acknowledges }))
}

/// Where several virtual brokers stand before one broker, a member must not come to it by two of them: it has one session
/// there, and each would take the other's for its own. Clients that still remember the other address look again.
fn is_alias(view: &View, entrance: Entrance) -> bool {
    let Entrance::Broker(id) = entrance else { return false };
    view.brokers.to_real(id).is_some_and(|real| view.brokers.to_virtual(real) != Some(id))
}

fn elsewhere(req: &ShareFetchRequest) -> ShareFetchResponse {
    match req.share_session_epoch {
        0 => share_fetch::error(req, NOT_LEADER),
        FINAL_EPOCH => ShareFetchResponse::default(),
        _ => ShareFetchResponse::default().with_error_code(NO_SESSION),
    }
}

fn note_asked(context: &Context, view: &View, group: &str, req: &ShareFetchRequest) {
    for topic in &req.topics {
        let Some(known) = view.catalog.topic_by_id(topic.topic_id) else { continue };
        for partition in topic.partitions.iter().filter_map(|p| known.partition(p.partition_index)) {
            let end = partition.progress().active_end;
            if end >= 0 {
                let logical = partition.offsets.read().map(view.active).position_out(end);
                context.house.share_read(group, &partition.tp, Met::Asked(logical));
            }
        }
    }
}

/// The reply to a ShareFetch or ShareAcknowledge.
pub async fn reply(
    context: &Context,
    view: &Arc<View>,
    asked: Asked,
    header: &RequestHeader,
    request: &Bytes,
    body: &Bytes,
) -> Result<Bytes, String> {
    let (key, version) = (header.api_key, header.api_version);
    let out = match key {
        SHARE_FETCH => {
            let mut reply: ShareFetchResponse = decode(body, version)?;
            let req: ShareFetchRequest = decode(request, version)?;
            let (_, member) = session(&req.group_id, &req.member_id);
            for topic in &reply.responses {
                let Some(known) = view.catalog.topic_by_real_id(view.active, topic.topic_id) else { continue };
                for data in topic.partitions.iter().filter(|data| !data.acquired_records.is_empty()) {
                    if let Some(partition) = known.partition(data.partition_index) {
                        acquired(context, view, &asked, &member, topic.topic_id, &partition, data).await;
                    }
                }
            }
            share_fetch::response(&req, &mut reply, &**view);
            encode(&reply, version)?
        }
        _ => rewrite::response(key, version, request, body, &**view).map_err(|e| e.to_string())?,
    };
    if asked.acknowledges {
        context.house.share_group_moved(&asked.group);
    }
    Ok(out)
}

/// Records of a partition that a member is about to be given.
async fn acquired(
    context: &Context,
    view: &View,
    asked: &Asked,
    member: &str,
    topic: Uuid,
    partition: &Arc<Partition>,
    data: &PartitionData,
) {
    let end = data.acquired_records.iter().map(|a| a.last_offset.saturating_add(1)).max().unwrap_or(0);
    if partition.mode() == TeeMode::Sync && partition.in_sync() && fetch::crossed(view, partition) < end {
        partition.kick(end);
        let _ = partition.replicated_within(end, SHOW_WAIT).await;
    }
    fetch::expose(view, partition, end);
    let (name, index) = (&*partition.tp.topic, partition.tp.partition);
    for range in &data.acquired_records {
        let (first, last) = (range.first_offset, range.last_offset);
        if let Some(named) = view.stretches_out(name, index, first, last).first() {
            context.house.share_read(&asked.group, &partition.tp, Met::Acquired(named.to));
        }
        for (first, last) in share_fetch::unnamed(name, index, first, last, view) {
            let (group, member) = (asked.group.clone(), member.to_owned());
            asked.owed.add(Range { group, member, topic, partition: index, first, last });
        }
    }
}

/// Judges a ShareGroupHeartbeat: a member of before a cutover is to join anew. It goes on reading until it has.
///
/// # Errors
/// A body that the codec cannot read.
pub fn heartbeat(view: &View, version: i16, body: &Bytes) -> Result<Result<Bytes, Bytes>, String> {
    let mut req: ShareGroupHeartbeatRequest = decode(body, version)?;
    if member_epoch_in(view.generation, req.member_epoch).is_none() {
        tracing::debug!(group = %req.group_id.as_str(), member = %req.member_id, "share consumer told to join anew");
        return encode(&share_group_heartbeat::rejoin(&req), version).map(Err);
    }
    share_group_heartbeat::request(&mut req, view);
    encode(&req, version).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(member: &str, partition: i32, first: i64, last: i64) -> Range {
        let (group, topic) = ("g".to_owned(), Uuid::from_u128(1));
        Range { group, member: member.to_owned(), topic, partition, first, last }
    }

    fn request_of(member: &'static str, epoch: i32) -> ShareFetchRequest {
        ShareFetchRequest::default()
            .with_group_id(Some(GroupId("g".into())))
            .with_member_id(Some(member.into()))
            .with_share_session_epoch(epoch)
    }

    #[test]
    fn what_is_owed_goes_with_the_members_next_request_in_rising_order() {
        let owed = Owed::default();
        owed.add(range("m", 4, 10, 19));
        owed.add(range("m", 5, 7, 7));
        owed.add(range("other", 4, 1, 2));
        let mut first = request_of("m", 0);
        owed.pay(&mut first);
        assert_eq!(first, request_of("m", 0), "a session cannot begin with acknowledgements");
        let own = |first, last| AcknowledgementBatch::default().with_first_offset(first).with_last_offset(last);
        let mut next = request_of("m", 1);
        partition_of(&mut next, Uuid::from_u128(1), 4).acknowledgement_batches = vec![own(3, 9), own(20, 30)];
        owed.pay(&mut next);
        let told = |p: &FetchPartition| {
            let batches = p.acknowledgement_batches.iter();
            (p.partition_index, batches.map(|b| (b.first_offset, b.last_offset)).collect::<Vec<_>>())
        };
        let told: Vec<_> = next.topics[0].partitions.iter().map(told).collect();
        assert_eq!(told, [(4, vec![(3, 9), (10, 19), (20, 30)]), (5, vec![(7, 7)])]);
        assert_eq!(*owed.0.lock(), [range("other", 4, 1, 2)]);
    }

    #[test]
    fn a_broker_by_another_name_sends_clients_to_look_again() {
        let topic = FetchTopic::default().with_partitions(vec![FetchPartition::default().with_partition_index(3)]);
        let asked = |epoch| request_of("m", epoch).with_topics(vec![topic.clone()]);
        assert_eq!(elsewhere(&asked(0)).responses[0].partitions[0].error_code, NOT_LEADER);
        assert_eq!(elsewhere(&asked(4)).error_code, NO_SESSION);
        assert_eq!(elsewhere(&asked(FINAL_EPOCH)).error_code, 0);
    }
}
