//! Joins the old members of one KIP-848 group at the new coordinator, in their names, and plays their part until the
//! coordinator has nothing more to change: the first to join is assigned everything, and must give up as the others come.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::{FENCED_MEMBER_EPOCH, Heartbeats, UNKNOWN_MEMBER_ID, assigned_out, owned_topics, shown};
use crate::catalog::View;
use crate::groups::consumers::{Joiner, Parts, Subscription};
use crate::rewrite::Translate;
use crate::upstream::Cluster;

/// For one request: a coordinator that was elected just now takes seconds to load its groups.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one group under way.
const AT_ONCE: usize = 16;
/// From the last member's join until the coordinator has given everything to somebody: two or three rounds of heartbeats,
/// and a pattern subscription is matched in the background. Members go on as they are meanwhile, and what is left comes
/// right by their own heartbeats.
const SETTLE: Duration = Duration::from_secs(3);
/// Pause between two rounds if the last one brought nothing new.
const PAUSE: Duration = Duration::from_millis(50);

const UNRELEASED_INSTANCE_ID: i16 = ResponseError::UnreleasedInstanceId.code();
/// The member epoch by which a member leaves, and by which a static one leaves for good (KIP-848).
const LEAVE: i32 = -1;

/// A member that the coordinator has taken.
struct Joined {
    id: String,
    epoch: i32,
    /// As clients name it.
    assigned: Parts,
    changed: bool,
}

struct Settling<'a> {
    cluster: Cluster,
    view: &'a View,
    group: &'a str,
}

pub(super) async fn run(
    heartbeats: Arc<Heartbeats>,
    cluster: Cluster,
    view: Arc<View>,
    group: String,
    joiners: Vec<Joiner>,
) {
    let started = Instant::now();
    let settling = Settling { cluster: cluster.with_timeout(TIMEOUT), view: &view, group: &group };
    let wanted = joiners.len();
    let joins = stream::iter(joiners).map(|(id, subscription)| settling.join(id, subscription));
    let mut members: Vec<Joined> = joins.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
    let deadline = Instant::now() + SETTLE;
    let note = |members: &[Joined]| {
        let mut consumers = heartbeats.consumers.lock();
        for m in members.iter().filter(|m| m.changed) {
            consumers.joined(&group, view.generation, &m.id, m.epoch, m.assigned.clone());
        }
    };
    note(&members);
    heartbeats.settled.notify_waiters();
    while Instant::now() < deadline {
        let held = heartbeats.consumers.lock().held(&group);
        if settling.is_settled(&members, &held).await {
            break;
        }
        let round = stream::iter(members).map(|member| settling.beat(member));
        members = round.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
        note(&members);
    }
    let epochs: Vec<_> = members.iter().map(|m| m.epoch).collect();
    let joined = members.into_iter().map(|m| m.id).collect();
    let left = heartbeats.consumers.lock().settled(&group, view.generation, joined, heartbeats.now());
    let ms = started.elapsed().as_millis();
    tracing::debug!(group, wanted, ?epochs, left = left.len(), ms, "members joined");
    heartbeats.settled.notify_waiters();
    for id in left {
        settling.leave(&id, None).await;
    }
}

impl Settling<'_> {
    /// All members are of the group's epoch, and what the clients have is given to somebody. Waits a moment before it says
    /// no, if there is nothing to answer.
    async fn is_settled(&self, members: &[Joined], held: &Parts) -> bool {
        if members.is_empty() {
            return true;
        }
        if members.iter().any(|m| m.changed) {
            return false;
        }
        let given = held.iter().all(|part| members.iter().any(|m| m.assigned.contains(part)));
        // A new assignment may be worked out only a second after the last one (KIP-1263), unnoticed by the members.
        let epochs = match given {
            true => self.cluster.consumer_group_epochs(self.group).await.unwrap_or_default(),
            false => None,
        };
        let settled =
            epochs.is_some_and(|[group, assignment]| assignment == group && members.iter().all(|m| m.epoch == group));
        if !settled {
            tokio::time::sleep(PAUSE).await;
        }
        settled
    }

    async fn join(&self, id: String, subscription: Subscription) -> Option<Joined> {
        let request = subscription.full(self.group, &id);
        let mut reply = self.ask(&request).await?;
        // Left behind there when that cluster was active before, or joined by a proxy that ended before it was told.
        if matches!(reply.error_code, FENCED_MEMBER_EPOCH | UNRELEASED_INSTANCE_ID | UNKNOWN_MEMBER_ID) {
            self.leave(&id, request.instance_id.clone()).await;
            reply = self.ask(&request).await?;
        }
        if reply.error_code != 0 {
            tracing::warn!(group = self.group, member = id, code = reply.error_code, "a member cannot be moved");
            return None;
        }
        let assigned = reply.assignment.as_ref().map(|a| assigned_out(self.view, a)).unwrap_or_default();
        Some(Joined { id, epoch: reply.member_epoch, assigned, changed: true })
    }

    /// A heartbeat that has given up what it was told to, at once: no client had it yet.
    async fn beat(&self, mut member: Joined) -> Option<Joined> {
        let owned = member.assigned.iter().map(|(id, partition)| (self.view.topic_id_in(*id), *partition)).collect();
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(self.group.to_owned())))
            .with_member_id(StrBytes::from_string(member.id.clone()))
            .with_member_epoch(member.epoch)
            .with_topic_partitions(Some(owned_topics(&owned)));
        let reply = self.ask(&request).await?;
        if reply.error_code != 0 {
            tracing::warn!(
                group = self.group,
                member = member.id,
                code = reply.error_code,
                epoch = shown(self.view, member.epoch),
                "a member that was moved is refused"
            );
            return None;
        }
        let assigned = reply.assignment.as_ref().map(|a| assigned_out(self.view, a));
        member.changed = reply.member_epoch != member.epoch || assigned.as_ref().is_some_and(|a| *a != member.assigned);
        member.epoch = reply.member_epoch;
        member.assigned = assigned.unwrap_or(member.assigned);
        Some(member)
    }

    async fn leave(&self, id: &str, instance: Option<StrBytes>) {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(self.group.to_owned())))
            .with_member_id(StrBytes::from_string(id.to_owned()))
            .with_member_epoch(LEAVE)
            .with_instance_id(instance);
        self.ask(&request).await;
    }

    async fn ask(&self, request: &ConsumerGroupHeartbeatRequest) -> Option<ConsumerGroupHeartbeatResponse> {
        match self.cluster.consumer_group_heartbeat(request).await {
            Ok(reply) => Some(reply),
            Err(error) => {
                tracing::warn!(group = self.group, member = %request.member_id, %error, "a member cannot be moved");
                None
            }
        }
    }
}
