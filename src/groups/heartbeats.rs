//! KIP-848 members at the proxy: their heartbeats, and the offset requests that carry a member epoch, by the rules of
//! [`super::consumers`].
//!
//! The new cluster's raw answer to a member of the old one, GROUP_ID_NOT_FOUND, ends Java and librdkafka consumers for good.
//! So the proxy joins the members itself ([`settle`]) and their clients go on under the new epochs.

mod settle;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::bodies::from_outside;
use super::consumers::{Answer, Beat, Consumers, Epoch, Part, Parts, Shown};
use super::members::At;
use super::rehome::{OFFSET_COMMIT, Ruling};
use crate::catalog::View;
use crate::offsets::{is_marked, member_epoch_in, member_epoch_out};
use crate::proxy::Reply;
use crate::rewrite::{self, Translate};
use crate::upstream::Cluster;
use crate::wire::body::{decode, encode};
use crate::wire::header::RequestHeader;

pub const OFFSET_FETCH: i16 = 9;
pub const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
/// OffsetFetch names its member from this version on (KIP-848).
const FETCHES_AS_MEMBER: i16 = 9;

/// How soon the members of a group that is being moved come again: what changes hands is given up and taken at this pace.
/// librdkafka gives a heartbeat up that was not answered within this interval, so it is no shorter.
const SOON: Duration = Duration::from_secs(1);
/// An offset request waits for its group to settle for no longer than this, then the client is to send it again. Far below
/// any client's request timeout.
const PATIENCE: Duration = Duration::from_secs(5);

const LATER: i16 = ResponseError::CoordinatorLoadInProgress.code();
const STALE_MEMBER_EPOCH: i16 = ResponseError::StaleMemberEpoch.code();
const UNKNOWN_MEMBER_ID: i16 = ResponseError::UnknownMemberId.code();
const FENCED_MEMBER_EPOCH: i16 = ResponseError::FencedMemberEpoch.code();
const GROUP_ID_NOT_FOUND: i16 = ResponseError::GroupIdNotFound.code();

/// The KIP-848 members of all groups, as all connections see them.
pub struct Heartbeats {
    started: Instant,
    consumers: Mutex<Consumers>,
    /// A group has settled.
    settled: Notify,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Heartbeats { started: Instant::now(), consumers: Mutex::new(Consumers::new(At::ZERO)), settled: Notify::new() }
    }
}

impl Heartbeats {
    /// Judges a ConsumerGroupHeartbeat, OffsetCommit or OffsetFetch that has passed the guard; `None`: an offset request
    /// that is not an old KIP-848 member's. May wait, for up to [`PATIENCE`]; dropping the future gives the request up.
    ///
    /// # Errors
    /// A body that the codec cannot read.
    pub async fn request(
        self: &Arc<Self>,
        view: &Arc<View>,
        cluster: Option<&Cluster>,
        header: &RequestHeader,
        body: &Bytes,
    ) -> Result<Option<Ruling>, String> {
        let version = header.api_version;
        match header.api_key {
            CONSUMER_GROUP_HEARTBEAT => self.heartbeat(view, cluster, version, body).map(Some),
            OFFSET_COMMIT => self.commit(view, cluster, version, body).await,
            OFFSET_FETCH if version >= FETCHES_AS_MEMBER => self.fetch(view, cluster, version, body).await,
            _ => Ok(None),
        }
    }

    fn heartbeat(
        self: &Arc<Self>,
        view: &Arc<View>,
        cluster: Option<&Cluster>,
        version: i16,
        body: &Bytes,
    ) -> Result<Ruling, String> {
        let mut req: ConsumerGroupHeartbeatRequest = decode(body, version)?;
        let beat = self.consumers.lock().beat(&req, view.generation, self.now());
        tracing::trace!(group = %req.group_id.as_str(), member = %req.member_id, epoch = req.member_epoch, ?beat,
            generation = view.generation, "ConsumerGroupHeartbeat");
        self.start_due(view, cluster, &req.group_id);
        let answer = |reply: ConsumerGroupHeartbeatResponse| encode(&reply, version).map(Ruling::Answer);
        let reply = ConsumerGroupHeartbeatResponse::default();
        match beat {
            Beat::Native => {}
            Beat::As { epoch, owned, full } => {
                if let Some(subscription) = full {
                    subscription.fill(&mut req);
                }
                req.member_epoch = epoch;
                req.topic_partitions = Some(owned_topics(&owned));
            }
            Beat::GoOn => {
                let reply =
                    reply.with_member_epoch(req.member_epoch).with_heartbeat_interval_ms(SOON.as_millis() as i32);
                return answer(reply.with_member_id(Some(req.member_id)));
            }
            Beat::Left => return answer(reply.with_member_epoch(req.member_epoch).with_member_id(Some(req.member_id))),
            Beat::Refuse(code) => return answer(reply.with_error_code(code)),
        }
        rewrite::consumer_group_heartbeat::request(&mut req, &**view);
        Ok(Ruling::Send { body: Some(encode(&req, version)?), reply: Reply::Rewrite })
    }

    async fn commit(
        self: &Arc<Self>,
        view: &Arc<View>,
        cluster: Option<&Cluster>,
        version: i16,
        body: &Bytes,
    ) -> Result<Option<Ruling>, String> {
        let mut req: OffsetCommitRequest = decode(body, version)?;
        let shown = req.generation_id_or_member_epoch;
        let code = match self.epoch(view, cluster, &req.group_id, &req.member_id, shown).await {
            Epoch::Native => return Ok(None),
            Epoch::As(epoch) => {
                req.generation_id_or_member_epoch = epoch;
                rewrite::offset_commit::request(&mut req, &**view);
                return Ok(Some(Ruling::Send { body: Some(encode(&req, version)?), reply: Reply::Rewrite }));
            }
            Epoch::Outside => {
                from_outside(&mut req);
                rewrite::offset_commit::request(&mut req, &**view);
                return Ok(Some(Ruling::Send { body: Some(encode(&req, version)?), reply: Reply::Rewrite }));
            }
            Epoch::Wait | Epoch::Later => LATER,
            Epoch::Stale => STALE_MEMBER_EPOCH,
        };
        encode(&rewrite::offset_commit::error(&req, code), version).map(Ruling::Answer).map(Some)
    }

    async fn fetch(
        self: &Arc<Self>,
        view: &Arc<View>,
        cluster: Option<&Cluster>,
        version: i16,
        body: &Bytes,
    ) -> Result<Option<Ruling>, String> {
        let mut req: OffsetFetchRequest = decode(body, version)?;
        let mut changed = false;
        for i in 0..req.groups.len() {
            let Some(group) = req.groups.get(i) else { break };
            let (id, member) = (group.group_id.clone(), group.member_id.clone().unwrap_or_default());
            let code = match self.epoch(view, cluster, &id, &member, group.member_epoch).await {
                Epoch::Native => continue,
                Epoch::As(epoch) => {
                    if let Some(group) = req.groups.get_mut(i) {
                        group.member_epoch = epoch;
                    }
                    changed = true;
                    continue;
                }
                // To take over where another member is, which may commit yet.
                Epoch::Wait | Epoch::Later | Epoch::Outside => LATER,
                Epoch::Stale => STALE_MEMBER_EPOCH,
            };
            let refusal = rewrite::offset_fetch::error(&req, version, code);
            return encode(&refusal, version).map(Ruling::Answer).map(Some);
        }
        if !changed {
            return Ok(None);
        }
        rewrite::offset_fetch::request(&mut req, &**view);
        Ok(Some(Ruling::Send { body: Some(encode(&req, version)?), reply: Reply::Rewrite }))
    }

    /// The epoch by which a member's offset request goes to the cluster, once its group has settled.
    async fn epoch(
        self: &Arc<Self>,
        view: &Arc<View>,
        cluster: Option<&Cluster>,
        group: &str,
        member: &str,
        shown: i32,
    ) -> Epoch {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            let epoch = self.consumers.lock().epoch(group, member, shown, view.generation, self.now());
            if epoch != Epoch::Wait {
                return epoch;
            }
            self.start_due(view, cluster, group);
            if tokio::time::timeout_at(deadline, settled).await.is_err() {
                return Epoch::Wait;
            }
        }
    }

    /// Begins to join a group's members if it is time.
    fn start_due(self: &Arc<Self>, view: &Arc<View>, cluster: Option<&Cluster>, group: &str) {
        let Some(cluster) = cluster else { return };
        let joiners = self.consumers.lock().due(group, view.generation, self.now());
        if let Some(joiners) = joiners {
            tokio::spawn(settle::run(self.clone(), cluster.clone(), view.clone(), group.to_owned(), joiners));
        }
    }

    /// A reply, translated, as the client is to see it.
    #[must_use]
    pub fn adjust_reply(&self, view: &Arc<View>, header: &RequestHeader, request: &Bytes, reply: Bytes) -> Bytes {
        let version = header.api_version;
        let adjusted = match header.api_key {
            CONSUMER_GROUP_HEARTBEAT => self.adjusted(view, version, request, &reply),
            OFFSET_COMMIT if view.generation > 0 => self.adjusted_commit(view, version, request, &reply),
            OFFSET_FETCH if view.generation > 0 && version >= FETCHES_AS_MEMBER => {
                adjusted_fetch(view, version, request, &reply)
            }
            _ => Ok(None),
        };
        adjusted.ok().flatten().unwrap_or(reply)
    }

    fn adjusted(&self, view: &View, version: i16, request: &Bytes, reply: &Bytes) -> Result<Option<Bytes>, String> {
        let req: ConsumerGroupHeartbeatRequest = decode(request, version)?;
        let mut resp: ConsumerGroupHeartbeatResponse = decode(reply, version)?;
        let answer = Answer {
            code: resp.error_code,
            epoch: member_epoch_in(view.generation, resp.member_epoch).unwrap_or(resp.member_epoch),
            assignment: resp.assignment.as_ref().map(assigned),
        };
        let member = resp.member_id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| req.member_id.clone());
        let shown = self.consumers.lock().answered(&req, &member, view.generation, answer, self.now());
        tracing::trace!(group = %req.group_id.as_str(), %member, epoch = resp.member_epoch, code = resp.error_code,
            message = ?resp.error_message, assignment = ?resp.assignment.as_ref().map(assigned), ?shown, "answered");
        let changed = shown != Shown::default();
        if let Some(parts) = shown.assignment {
            resp.assignment = Some(Assignment::default().with_topic_partitions(assigned_topics(&parts)));
        }
        if shown.soon {
            resp.heartbeat_interval_ms = resp.heartbeat_interval_ms.min(SOON.as_millis() as i32);
        }
        // The new coordinator never heard of an old member: it is to join anew, which all clients survive.
        let old = is_old(view, req.member_epoch);
        let unknown = matches!(resp.error_code, GROUP_ID_NOT_FOUND | UNKNOWN_MEMBER_ID) && old;
        if unknown {
            resp.error_code = FENCED_MEMBER_EPOCH;
        }
        (changed || unknown).then(|| encode(&resp, version)).transpose()
    }

    /// The epoch that the proxy put into an old member's commit may have risen while it was on its way, or the first member
    /// may have joined while it came from outside: sent again, the commit gets the next epoch. By itself the client could
    /// not do better, for it does not know any new epoch yet.
    fn adjusted_commit(
        &self,
        view: &View,
        version: i16,
        request: &Bytes,
        reply: &Bytes,
    ) -> Result<Option<Bytes>, String> {
        let resp: OffsetCommitResponse = decode(reply, version)?;
        let refused = |code: i16| matches!(code, STALE_MEMBER_EPOCH | UNKNOWN_MEMBER_ID);
        if !resp.topics.iter().flat_map(|t| &t.partitions).any(|p| refused(p.error_code)) {
            return Ok(None);
        }
        let req: OffsetCommitRequest = decode(request, version)?;
        let shown = req.generation_id_or_member_epoch;
        // Those of classic groups are not ours to judge.
        let ours = is_marked(shown) || self.consumers.lock().knows(&req.group_id, &req.member_id);
        let again = || encode(&rewrite::offset_commit::error(&req, LATER), version);
        (ours && is_old(view, shown)).then(again).transpose()
    }

    fn now(&self) -> At {
        self.started.elapsed()
    }
}

fn is_old(view: &View, shown: i32) -> bool {
    shown > 0 && member_epoch_in(view.generation, shown).is_none()
}

/// As [`Heartbeats::adjusted_commit`].
fn adjusted_fetch(view: &View, version: i16, request: &Bytes, reply: &Bytes) -> Result<Option<Bytes>, String> {
    let resp: OffsetFetchResponse = decode(reply, version)?;
    if !resp.groups.iter().any(|g| g.error_code == STALE_MEMBER_EPOCH) {
        return Ok(None);
    }
    let req: OffsetFetchRequest = decode(request, version)?;
    let old = req.groups.iter().any(|g| is_old(view, g.member_epoch));
    old.then(|| encode(&rewrite::offset_fetch::error(&req, version, LATER), version)).transpose()
}

fn by_topic(parts: &Parts) -> Vec<(Uuid, Vec<i32>)> {
    let mut topics: Vec<(Uuid, Vec<i32>)> = Vec::new();
    for (id, partition) in parts {
        match topics.last_mut() {
            Some((last, partitions)) if last == id => partitions.push(*partition),
            _ => topics.push((*id, vec![*partition])),
        }
    }
    topics
}

fn owned_topics(parts: &Parts) -> Vec<Owned> {
    let topics = by_topic(parts).into_iter();
    topics.map(|(id, partitions)| Owned::default().with_topic_id(id).with_partitions(partitions)).collect()
}

fn assigned_topics(parts: &Parts) -> Vec<TopicPartitions> {
    let topics = by_topic(parts).into_iter();
    topics.map(|(id, partitions)| TopicPartitions::default().with_topic_id(id).with_partitions(partitions)).collect()
}

fn assigned(assignment: &Assignment) -> Parts {
    let parts = |t: &TopicPartitions| -> Vec<Part> { t.partitions.iter().map(|p| (t.topic_id, *p)).collect() };
    assignment.topic_partitions.iter().flat_map(parts).collect()
}

/// A coordinator's assignment as clients name it.
fn assigned_out(view: &View, assignment: &Assignment) -> Parts {
    assigned(assignment).into_iter().map(|(id, partition)| (view.topic_id_out(None, id), partition)).collect()
}

/// An epoch as the client of a member sees it; for the log.
fn shown(view: &View, epoch: i32) -> i32 {
    member_epoch_out(view.generation, epoch)
}
