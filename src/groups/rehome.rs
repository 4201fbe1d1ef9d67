//! Re-homing of classic group members at the proxy: holds, answers or edits their requests by the rules of
//! [`super::members`].
//!
//! The new cluster's raw answer to a member of the old one, UNKNOWN_MEMBER_ID, makes eager clients drop their position and
//! read the last one committed again. So the member is told to rebalance instead, commits its exact position from outside
//! the group, and joins anew. KIP-848 members have [`super::heartbeats`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, OffsetCommitResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::bodies;
use super::members::{At, Beat, Commit, Join, Joined, Members, Met, Position, Who};
use crate::catalog::View;
use crate::offsets::is_marked;
use crate::proxy::Reply;
use crate::rewrite;
use crate::wire::body::{decode, encode};
use crate::wire::header::RequestHeader;

#[cfg(test)]
mod tests;

pub(super) const JOIN_GROUP: i16 = 11;
pub(super) const HEARTBEAT: i16 = 12;
pub(super) const LEAVE_GROUP: i16 = 13;
pub(super) const SYNC_GROUP: i16 = 14;
pub(super) const OFFSET_COMMIT: i16 = 8;

const NONE: i16 = 0;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = ResponseError::CoordinatorLoadInProgress.code();
const UNKNOWN_MEMBER_ID: i16 = ResponseError::UnknownMemberId.code();
const REBALANCE_IN_PROGRESS: i16 = ResponseError::RebalanceInProgress.code();
const GROUP_ID_NOT_FOUND: i16 = ResponseError::GroupIdNotFound.code();
const ILLEGAL_GENERATION: i16 = ResponseError::IllegalGeneration.code();
const MEMBER_ID_REQUIRED: i16 = ResponseError::MemberIdRequired.code();
const FENCED_INSTANCE_ID: i16 = ResponseError::FencedInstanceId.code();

/// Up to this version a member that has no id joins at once; later it is first given one with MEMBER_ID_REQUIRED (KIP-394),
/// at which cooperative librdkafka members drop their partitions and positions. Static members never get that.
const JOINS_WITHOUT_ID: i16 = 3;
/// Longest session timeout believed: brokers' own `group.max.session.timeout.ms`.
const MAX_SESSION: Duration = Duration::from_secs(1800);

/// What becomes of a group request.
pub enum Ruling {
    /// The proxy answers with this reply body (without header).
    Answer(Bytes),
    /// It goes to the cluster; `None`: with the client's own body.
    Send { body: Option<Bytes>, reply: Reply },
    /// This whole frame (without length) goes to the cluster in its place, a JoinGroup of this version; the reply goes
    /// through [`bodies::join_reply`].
    SendAs { version: i16, frame: Bytes },
}

/// The members of all groups, as all connections see them; noted as their replies pass.
pub struct Rehome {
    started: Instant,
    members: Mutex<Members>,
    /// Where requests that are held wait, by group; only groups in which one is held.
    doors: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Default for Rehome {
    fn default() -> Self {
        Rehome { started: Instant::now(), members: Mutex::new(Members::new(At::ZERO)), doors: Mutex::default() }
    }
}

impl Rehome {
    /// Judges a JoinGroup, SyncGroup, Heartbeat, LeaveGroup or OffsetCommit that has passed the guard. May wait, for up to
    /// [`super::members::MAX_HOLD`]; dropping the future gives the request up.
    ///
    /// # Errors
    /// A body that the codec cannot read, or a commit that may not be sent.
    pub async fn request(&self, view: &Arc<View>, header: &RequestHeader, body: &Bytes) -> Result<Ruling, String> {
        let (generation, version) = (view.generation, header.api_version);
        match header.api_key {
            HEARTBEAT => {
                let beat: HeartbeatRequest = decode(body, version)?;
                match self.beat(Who { group: &beat.group_id, member: &beat.member_id, generation }).await {
                    Beat::Native => Ok(as_it_is()),
                    Beat::GoOn | Beat::Wait(_) => bodies::heartbeat(version, NONE).map(Ruling::Answer),
                    Beat::Rebalance => bodies::heartbeat(version, REBALANCE_IN_PROGRESS).map(Ruling::Answer),
                }
            }
            SYNC_GROUP => {
                let sync: SyncGroupRequest = decode(body, version)?;
                let who = Who { group: &sync.group_id, member: &sync.member_id, generation };
                match self.members.lock().sync(who, self.now()) {
                    true => bodies::sync_group(version, REBALANCE_IN_PROGRESS).map(Ruling::Answer),
                    false => Ok(as_it_is()),
                }
            }
            JOIN_GROUP => self.join(generation, header, decode(body, version)?).await,
            LEAVE_GROUP => self.leave(generation, version, &decode(body, version)?),
            OFFSET_COMMIT => self.commit(view, version, body),
            key => {
                let body = rewrite::request(key, version, body, &**view).map_err(|e| e.to_string())?;
                Ok(Ruling::Send { body, reply: Reply::Rewrite })
            }
        }
    }

    async fn join(
        &self,
        generation: u32,
        header: &RequestHeader,
        mut join: JoinGroupRequest,
    ) -> Result<Ruling, String> {
        let version = header.api_version;
        let who = Who { group: &join.group_id, member: &join.member_id, generation };
        // Version 0 has no rebalance timeout: the session timeout stands for it (KIP-62).
        let limit = if version == 0 { join.session_timeout_ms } else { join.rebalance_timeout_ms };
        let rule = self.members.lock().join(who, join.group_instance_id.as_deref(), millis(limit), self.now());
        tracing::debug!(group = who.group, member = who.member, ?rule, generation, "JoinGroup");
        // Without an id it is given one at once (KIP-394). The group would wait for an id whose reply nobody saw.
        let at_once = version > JOINS_WITHOUT_ID && join.group_instance_id.is_none() && who.member.is_empty();
        let reply = || if at_once { Reply::AtOnce } else { Reply::Rewrite };
        if rule == Join::Native {
            return Ok(Ruling::Send { body: None, reply: reply() });
        }
        self.knock(&join.group_id);
        self.hold(&join.group_id, |members, at| members.hold(&join.group_id, generation, at)).await;
        if rule == Join::Fresh {
            return Ok(Ruling::Send { body: None, reply: reply() });
        }
        tracing::debug!(group = %join.group_id.as_str(), member = %join.member_id, "member re-homed");
        join.member_id = StrBytes::default();
        if version <= JOINS_WITHOUT_ID || join.group_instance_id.is_some() {
            return Ok(Ruling::Send { body: Some(encode(&join, version)?), reply: Reply::Rewrite });
        }
        join.reason = None; // has no place in the older version
        let frame = bodies::frame(header, JOINS_WITHOUT_ID, &join)?;
        Ok(Ruling::SendAs { version: JOINS_WITHOUT_ID, frame })
    }

    fn leave(&self, generation: u32, version: i16, leave: &LeaveGroupRequest) -> Result<Ruling, String> {
        let leaving = bodies::leaving(version, leave);
        let who = leaving.iter().map(|(member, instance)| (member.as_str(), instance.as_deref()));
        let all = self.members.lock().leave(&leave.group_id, who, generation, self.now());
        self.knock(&leave.group_id);
        if all { bodies::left(version, leave).map(Ruling::Answer) } else { Ok(as_it_is()) }
    }

    fn commit(&self, view: &Arc<View>, version: i16, body: &Bytes) -> Result<Ruling, String> {
        let mut commit: OffsetCommitRequest = decode(body, version)?;
        let who = Who { group: &commit.group_id, member: &commit.member_id, generation: view.generation };
        let positions: Vec<Position<'_>> = commit
            .topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p.partition_index, p.committed_offset)))
            .collect();
        let rule = match is_member(&commit) {
            true => self.members.lock().commit(who, &positions, self.now()),
            false => Commit::Native,
        };
        tracing::trace!(group = who.group, member = who.member, ?rule, ?positions, "OffsetCommit");
        let outside = match rule {
            Commit::Native => None,
            Commit::Rebalance => {
                let refusal = rewrite::offset_commit::error(&commit, REBALANCE_IN_PROGRESS);
                return encode(&refusal, version).map(Ruling::Answer);
            }
            Commit::Simple => {
                bodies::from_outside(&mut commit);
                Some(encode(&commit, version)?)
            }
        };
        let translated = rewrite::request(OFFSET_COMMIT, version, outside.as_ref().unwrap_or(body), &**view);
        let body = translated.map_err(|e| e.to_string())?.or(outside);
        Ok(Ruling::Send { body, reply: Reply::Rewrite })
    }

    /// Whether offsets that a transaction commits in this member's name go from outside the group, as its own commits do: the
    /// new coordinator does not know it yet. Its producer's epoch still fences it.
    pub fn commits_from_outside(&self, generation: u32, group: &str, member: &str) -> bool {
        let who = Who { group, member, generation };
        !member.is_empty() && self.members.lock().commit(who, &[], self.now()) == Commit::Simple
    }

    /// Whether a client of the proxy has been seen in this classic group.
    pub fn is_known(&self, group: &str) -> bool {
        self.members.lock().is_known(group)
    }

    /// See [`Members::take_unjoined`].
    #[must_use]
    pub fn take_unjoined(&self, generation: u32) -> Vec<(String, Vec<String>)> {
        self.members.lock().take_unjoined(generation)
    }

    /// A reply as the cluster gave it. Members that neither the cluster nor this memory knows may be left from the
    /// generation before (the proxy was restarted): their replies are changed so that they stay and come back re-homed.
    #[must_use]
    pub fn adjust_reply(&self, view: &Arc<View>, header: &RequestHeader, request: &Bytes, reply: Bytes) -> Bytes {
        if view.generation == 0 {
            return reply;
        }
        let changed = self.adjusted(view.generation, header.api_key, header.api_version, request, &reply);
        changed.ok().flatten().unwrap_or(reply)
    }

    fn adjusted(
        &self,
        generation: u32,
        key: i16,
        v: i16,
        request: &Bytes,
        reply: &Bytes,
    ) -> Result<Option<Bytes>, String> {
        match key {
            HEARTBEAT if decode::<HeartbeatResponse>(reply, v)?.error_code == UNKNOWN_MEMBER_ID => {
                let beat: HeartbeatRequest = decode(request, v)?;
                let who = Who { group: &beat.group_id, member: &beat.member_id, generation };
                // It goes on as it is; its next heartbeat is judged together with those of the others.
                self.adopt(who, Met::Heartbeat).then(|| bodies::heartbeat(v, NONE)).transpose()
            }
            SYNC_GROUP if decode::<SyncGroupResponse>(reply, v)?.error_code == UNKNOWN_MEMBER_ID => {
                let sync: SyncGroupRequest = decode(request, v)?;
                let who = Who { group: &sync.group_id, member: &sync.member_id, generation };
                self.adopt(who, Met::Other).then(|| bodies::sync_group(v, REBALANCE_IN_PROGRESS)).transpose()
            }
            JOIN_GROUP if decode::<JoinGroupResponse>(reply, v)?.error_code == UNKNOWN_MEMBER_ID => {
                let join: JoinGroupRequest = decode(request, v)?;
                // It has committed already and will join by no id: that waits for the others.
                self.adopt(Who { group: &join.group_id, member: &join.member_id, generation }, Met::Join);
                Ok(None)
            }
            OFFSET_COMMIT => self.adjusted_commit(generation, v, request, reply),
            _ => Ok(None),
        }
    }

    fn adjusted_commit(
        &self,
        generation: u32,
        v: i16,
        request: &Bytes,
        reply: &Bytes,
    ) -> Result<Option<Bytes>, String> {
        let answer: OffsetCommitResponse = decode(reply, v)?;
        let codes = || answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
        if !codes().any(|code| matches!(code, UNKNOWN_MEMBER_ID | GROUP_ID_NOT_FOUND | ILLEGAL_GENERATION)) {
            return Ok(None);
        }
        let commit: OffsetCommitRequest = decode(request, v)?;
        if codes().any(|code| code == ILLEGAL_GENERATION) {
            let settling = self.members.lock().is_settling(&commit.group_id, generation, self.now());
            let refusal = || encode(&rewrite::offset_commit::error(&commit, REBALANCE_IN_PROGRESS), v);
            return settling.then(refusal).transpose();
        }
        let who = Who { group: &commit.group_id, member: &commit.member_id, generation };
        let code = match is_member(&commit) {
            // Others have joined before it came. To rejoin with its position is the best that is left.
            true if self.members.lock().is_outside(who) => REBALANCE_IN_PROGRESS,
            // All clients send it again at once, and then it goes from outside the group.
            true if self.adopt(who, Met::Other) => COORDINATOR_LOAD_IN_PROGRESS,
            _ => return Ok(None),
        };
        encode(&rewrite::offset_commit::error(&commit, code), v).map(Some)
    }

    fn adopt(&self, who: Who<'_>, met: Met) -> bool {
        let adopted = self.members.lock().adopt(who, met, self.now());
        if adopted {
            tracing::debug!(
                group = who.group,
                member = who.member,
                "unknown member taken for one of the old generation"
            );
        }
        adopted
    }

    /// Notes what a reply, as the client will see it, says about members.
    pub fn reply(&self, view: &Arc<View>, header: &RequestHeader, request: &Bytes, reply: &Bytes) {
        if let Err(reason) = self.noted(view.generation, header.api_key, header.api_version, request, reply) {
            tracing::warn!(api = header.api_key, reason, "cannot note the members in a reply");
        }
    }

    fn noted(&self, generation: u32, key: i16, v: i16, request: &Bytes, reply: &Bytes) -> Result<(), String> {
        let at = self.now();
        match key {
            JOIN_GROUP => {
                let (join, answer): (JoinGroupRequest, JoinGroupResponse) = (decode(request, v)?, decode(reply, v)?);
                let who = Who { group: &join.group_id, member: &answer.member_id, generation };
                let session = millis(join.session_timeout_ms).min(MAX_SESSION);
                let instance = join.group_instance_id.as_deref();
                if matches!(answer.error_code, NONE | MEMBER_ID_REQUIRED) && !answer.member_id.is_empty() {
                    let joined = Joined { instance, session, complete: answer.error_code == NONE };
                    let mut members = self.members.lock();
                    members.joined(who, joined, at);
                    if join.member_id != answer.member_id {
                        members.replaced(Who { member: &join.member_id, ..who });
                    }
                    drop(members);
                    self.knock(&join.group_id);
                }
            }
            HEARTBEAT | SYNC_GROUP => {
                let (group, member, code) = bodies::heard_of(key, v, request, reply)?;
                let who = Who { group: &group, member: &member, generation };
                match code {
                    NONE | REBALANCE_IN_PROGRESS => self.members.lock().alive(who, at),
                    UNKNOWN_MEMBER_ID | FENCED_INSTANCE_ID => self.members.lock().expelled(who, at),
                    _ => {}
                }
            }
            LEAVE_GROUP => {
                let (leave, answer): (LeaveGroupRequest, LeaveGroupResponse) = (decode(request, v)?, decode(reply, v)?);
                if answer.error_code == NONE {
                    for (member, _) in bodies::leaving(v, &leave) {
                        self.members.lock().expelled(Who { group: &leave.group_id, member: &member, generation }, at);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn now(&self) -> At {
        self.started.elapsed()
    }

    /// Wakes what is held in a group: something has happened there.
    fn knock(&self, group: &str) {
        if let Some(door) = self.doors.lock().get(group) {
            door.notify_waiters();
        }
    }

    /// Holds a JoinGroup until `held` gives no time any more.
    async fn hold(&self, group: &str, held: impl Fn(&mut Members, At) -> Option<At>) {
        if held(&mut self.members.lock(), self.now()).is_none() {
            return;
        }
        let door = Door::new(self, group);
        loop {
            let mut knocked = std::pin::pin!(door.notify.notified());
            knocked.as_mut().enable();
            let Some(until) = held(&mut self.members.lock(), self.now()) else { return };
            tokio::select! {
                _ = knocked => {}
                _ = sleep_until(self.started + until) => {}
            }
        }
    }

    /// Judges a heartbeat, holding it until it can be told for good.
    async fn beat(&self, who: Who<'_>) -> Beat {
        let since = self.now();
        let told = self.members.lock().beat(who, since, since);
        if !matches!(told, Beat::Wait(_)) {
            return told;
        }
        let waiting = Waiting::begin(self, who);
        loop {
            let mut knocked = std::pin::pin!(waiting.door.notify.notified());
            knocked.as_mut().enable();
            let told = self.members.lock().beat(who, since, self.now());
            let Beat::Wait(until) = told else { return told };
            tokio::select! {
                _ = knocked => {}
                _ = sleep_until(self.started + until) => {}
            }
        }
    }
}

/// A place to wait for a knock at one group's door; gone with the last who waits there.
struct Door<'a> {
    rehome: &'a Rehome,
    group: &'a str,
    notify: Arc<Notify>,
}

impl<'a> Door<'a> {
    fn new(rehome: &'a Rehome, group: &'a str) -> Self {
        let notify = rehome.doors.lock().entry(group.to_owned()).or_default().clone();
        Door { rehome, group, notify }
    }
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        let mut doors = self.rehome.doors.lock();
        // The map's and ours: handles are only made under this lock.
        if Arc::strong_count(&self.notify) == 2 {
            doors.remove(self.group);
        }
    }
}

/// A heartbeat that is held; no longer counted once the client gives it up.
struct Waiting<'a> {
    door: Door<'a>,
    who: Who<'a>,
}

impl<'a> Waiting<'a> {
    fn begin(rehome: &'a Rehome, who: Who<'a>) -> Self {
        let waiting = Waiting { door: Door::new(rehome, who.group), who };
        rehome.members.lock().waiting(who, true);
        rehome.knock(who.group);
        waiting
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.door.rehome.members.lock().waiting(self.who, false);
    }
}

/// The group that an OffsetCommit (which has passed the guard) is for.
pub fn group_of_commit(body: &Bytes, version: i16) -> Option<String> {
    let commit = OffsetCommitRequest::decode(&mut body.clone(), version).ok()?;
    Some(commit.group_id.to_string())
}

/// Whether a commit is a classic member's, as far as it tells.
fn is_member(commit: &OffsetCommitRequest) -> bool {
    let generation = commit.generation_id_or_member_epoch;
    generation >= 0 && !is_marked(generation) && !commit.member_id.is_empty()
}

fn as_it_is() -> Ruling {
    Ruling::Send { body: None, reply: Reply::Rewrite }
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}
