//! Who is in which KIP-848 group, which partitions each member holds, and how the members that a cutover left behind come
//! to the new coordinator. Pure: time comes in as an argument.
//!
//! A member whose epoch was given under an earlier generation is *old*. The proxy joins all old members of a group itself,
//! by what it has noted of them, before it lets one of their requests through; meanwhile they go on as they are. The new
//! coordinator deals partitions out as to newcomers, so a member may be given what another one still reads. Such
//! partitions have a *holder*, and until the holder has given them up (with its position committed) nobody is told of them:
//!
//! ```text
//!  Waiting --all members are known--> Joining --coordinator has settled--> Settled --nothing is held any more--> native
//!  members: go on                     go on            keep what they have, until each has been answered once;
//!                                                      then: give up what is not theirs, take what is free
//! ```
//! Members are told to give up only after each has been answered once under its new epoch, since from then on they come
//! at short intervals: what changes hands stands still for a moment, not for a heartbeat interval.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ConsumerGroupHeartbeatRequest;
use uuid::Uuid;

use super::members::At;
use crate::model::Generation;
use crate::offsets::{is_marked, member_epoch_in};

mod memory;
#[cfg(test)]
mod tests;

pub use memory::{Consumers, Joiner, MAX_CONSUMER_GROUPS, MAX_CONSUMERS, MAX_NOTED, Subscription};
use memory::{Group, Member, Moving, Stage};

/// A partition as clients name it: by the virtual id of its topic.
pub type Part = (Uuid, i32);
pub type Parts = BTreeSet<Part>;

/// Members that the proxy does not know (it was restarted) have this long to be heard of, and again as long to say all about
/// themselves, before the known ones are joined; and no member waits longer for another's first heartbeat. Brokers' default heartbeat interval
/// (`group.consumer.heartbeat.interval.ms`) is 5 s.
pub const HEAR_ALL: Duration = Duration::from_secs(6);
/// A member that has been silent for this long is dead: the brokers' default `group.consumer.session.timeout.ms`.
pub const SESSION: Duration = Duration::from_secs(45);
/// How often a member that is not known is asked for a full heartbeat before it is told to join anew.
const ASKS: u8 = 2;

/// Clients look for their coordinator again and then say everything about themselves (Java, librdkafka, franz-go).
const ASK_FOR_ALL: i16 = ResponseError::NotCoordinator.code();
/// Clients send the same again after a moment.
const LATER: i16 = ResponseError::CoordinatorLoadInProgress.code();
/// The member drops its partitions and joins anew, by the same id.
const FENCED: i16 = ResponseError::FencedMemberEpoch.code();

/// What to do with a ConsumerGroupHeartbeat.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    /// The cluster's to answer.
    Native,
    /// The cluster's to answer, with the coordinator's own epoch and all that the member owns. With `full`, also what it
    /// subscribes to: the coordinator then says the whole assignment, whatever it thinks that the member knows.
    As { epoch: i32, owned: Parts, full: Option<Subscription> },
    /// No error and nothing new: the member goes on as it is and comes again soon.
    GoOn,
    /// It has left.
    Left,
    /// This error code.
    Refuse(i16),
}

/// What to do with an offset request of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// Not an old KIP-848 member's.
    Native,
    /// Send it with this epoch, the coordinator's own.
    As(i32),
    /// Nobody has joined at the new coordinator yet: a commit goes from outside the group, with neither member nor epoch.
    Outside,
    /// Look again once the group has settled.
    Wait,
    /// The client is to send it again.
    Later,
    /// STALE_MEMBER_EPOCH: the member is none any more.
    Stale,
}

/// A heartbeat's reply as the coordinator gave it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: i16,
    /// The coordinator's own.
    pub epoch: i32,
    pub assignment: Option<Parts>,
}

/// What the client is told instead.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// To be put in place of the coordinator's; `None`: as that was.
    pub assignment: Option<Parts>,
    /// The member is to come again soon.
    pub soon: bool,
}

/// Whether a heartbeat says all about its member (Kafka class GroupMetadataManager, `isFullRequest`).
fn is_full(req: &ConsumerGroupHeartbeatRequest) -> bool {
    let subscribed = req.subscribed_topic_names.is_some() || req.subscribed_topic_regex.is_some();
    req.rebalance_timeout_ms >= 0 && subscribed && req.topic_partitions.is_some()
}

fn owned(req: &ConsumerGroupHeartbeatRequest) -> Option<Parts> {
    let topics = req.topic_partitions.as_ref()?;
    Some(topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, *p))).collect())
}

/// Whether members of a group are not joined yet, for others may come: until its time is up, and once more as long for those
/// that have been asked who they are. They answer with their next heartbeat but one (librdkafka).
fn waits(members: &BTreeMap<Box<str>, Member>, moving: &Moving, at: At) -> bool {
    let Stage::Waiting(until) = moving.stage else { return false };
    let asked = || members.values().any(|m| m.generation < moving.generation && m.is_asked());
    at < until || (at < until + HEAR_ALL && asked())
}

impl Consumers {
    /// A ConsumerGroupHeartbeat as the client sent it, on a connection of `generation`.
    pub fn beat(&mut self, req: &ConsumerGroupHeartbeatRequest, generation: Generation, at: At) -> Beat {
        self.enter(generation, at);
        self.open(&req.group_id, generation, at);
        self.review(&req.group_id, at);
        match req.member_epoch {
            0 => self.join(req),
            epoch if epoch < 0 => self.leave(req, generation),
            epoch => match member_epoch_in(generation, epoch).filter(|_| !self.is_behind(req, generation)) {
                Some(real) => self.current(req, real, generation, at),
                None => self.old(req, generation, at),
            },
        }
    }

    /// Marks of generations come round again; what is noted of a member does not.
    fn is_behind(&self, req: &ConsumerGroupHeartbeatRequest, generation: Generation) -> bool {
        let member = self.member(&req.group_id, &req.member_id);
        member.is_some_and(|m| m.subscription.is_some() && m.generation < generation)
    }

    fn join(&mut self, req: &ConsumerGroupHeartbeatRequest) -> Beat {
        if let Some(group) = self.group(&req.group_id)
            && group.moving.as_ref().is_some_and(|m| !matches!(m.stage, Stage::Settled(_)))
        {
            return Beat::Refuse(LATER);
        }
        // It has nothing any more. A static member that was started anew takes the place of its former self (KIP-345).
        self.gone(&req.group_id, |id, m| {
            let instance = req.instance_id.as_deref();
            *id == *req.member_id || (instance.is_some() && m.instance() == instance)
        });
        Beat::Native
    }

    fn leave(&mut self, req: &ConsumerGroupHeartbeatRequest, generation: Generation) -> Beat {
        let joined = self.member(&req.group_id, &req.member_id).map(|m| m.generation >= generation);
        self.gone(&req.group_id, |id, _| *id == *req.member_id);
        let stage = self.group(&req.group_id).and_then(|g| g.moving.as_ref()).map(|m| m.stage);
        match (joined, stage) {
            // If the proxy has joined it by then, it is taken out again.
            (Some(false), _) | (Some(true), Some(Stage::Joining)) => Beat::Left,
            _ => Beat::Native,
        }
    }

    fn current(&mut self, req: &ConsumerGroupHeartbeatRequest, real: i32, generation: Generation, at: At) -> Beat {
        let member = self.member(&req.group_id, &req.member_id);
        if member.is_some_and(|m| m.fenced) {
            return Beat::Refuse(FENCED);
        }
        let known = member.is_some_and(|m| m.subscription.is_some() && !m.gone);
        if !known && !is_full(req) {
            let asked = self.ask(req, generation, at);
            return if asked == 1 { Beat::Refuse(ASK_FOR_ALL) } else { Beat::Native };
        }
        if !known {
            self.note_full(req, generation, real, at);
        }
        let Some((owned, full, changed)) = self.edit(&req.group_id, &req.member_id, |m| {
            m.hear(req, at);
            (m.owned.clone(), m.if_unanswered(), m.told != m.target)
        }) else {
            return Beat::Native;
        };
        self.review(&req.group_id, at);
        match changed || full.is_some() || self.group(&req.group_id).is_some_and(|g| g.moving.is_some()) {
            true => Beat::As { epoch: real, owned, full },
            false => Beat::Native,
        }
    }

    fn old(&mut self, req: &ConsumerGroupHeartbeatRequest, generation: Generation, at: At) -> Beat {
        let before = generation.saturating_sub(1);
        let known = self.member(&req.group_id, &req.member_id);
        let (known, gone) = known.map_or((false, false), |m| (m.subscription.is_some(), m.gone));
        if gone {
            return Beat::Refuse(FENCED);
        }
        if !known {
            let stage = self.group(&req.group_id).and_then(|g| g.moving.as_ref()).map(|m| m.stage);
            let late = matches!(stage, Some(Stage::Joining | Stage::Settled(_)));
            if late || !is_full(req) {
                let asks = self.ask(req, before, at);
                return Beat::Refuse(if late || asks > ASKS { FENCED } else { ASK_FOR_ALL });
            }
            self.note_full(req, before, 0, at);
            self.open(&req.group_id, generation, at);
        }
        let Some((joined, epoch, owned)) = self.edit(&req.group_id, &req.member_id, |m| {
            m.hear(req, at);
            (m.generation >= generation, m.epoch, m.owned.clone())
        }) else {
            return Beat::Refuse(FENCED); // no room for it
        };
        self.hold(&req.group_id, &req.member_id, generation);
        self.review(&req.group_id, at);
        let stage = self.group(&req.group_id).and_then(|g| g.moving.as_ref()).map(|m| m.stage);
        match (joined, stage) {
            (_, Some(Stage::Waiting(_) | Stage::Joining)) => Beat::GoOn,
            (true, _) => {
                let full = self.edit(&req.group_id, &req.member_id, Member::if_unanswered).flatten();
                Beat::As { epoch, owned, full }
            }
            // The coordinator did not take it.
            (false, _) => {
                self.gone(&req.group_id, |id, _| *id == *req.member_id);
                Beat::Refuse(FENCED)
            }
        }
    }

    /// The group's old members if it is time to join them; told once.
    pub fn due(&mut self, group: &str, generation: Generation, at: At) -> Option<Vec<Joiner>> {
        let Group { members, moving } = self.group(group)?;
        let moving = moving.as_mut().filter(|m| m.generation == generation)?;
        if !matches!(moving.stage, Stage::Waiting(_)) || waits(members, moving, at) {
            return None;
        }
        moving.stage = Stage::Joining;
        let old = members.iter().filter(|(_, m)| !m.gone && m.generation < generation);
        Some(old.filter_map(|(id, m)| m.subscription.clone().map(|s| (id.to_string(), s))).collect())
    }

    /// What the old members hold; the coordinator may need a moment until it knows whom to give it to.
    pub fn held(&mut self, group: &str) -> Parts {
        let moving = self.group(group).and_then(|g| g.moving.as_ref());
        moving.map_or_else(Parts::new, |m| m.holders.keys().copied().collect())
    }

    /// The coordinator of `generation` has taken a member in, or has changed its epoch or assignment while the proxy plays
    /// its part.
    pub fn joined(&mut self, group: &str, generation: Generation, member: &str, epoch: i32, target: Parts) {
        let joining = |m: &Moving| m.generation == generation && m.stage == Stage::Joining;
        if self.group(group).and_then(|g| g.moving.as_ref()).is_some_and(joining) {
            self.edit(group, member, |m| (m.generation, m.epoch, m.target) = (generation, epoch, target));
        }
    }

    /// The coordinator of `generation` has nothing more to change. Answers which of `joined` have left meanwhile.
    pub fn settled(&mut self, group: &str, generation: Generation, joined: Vec<String>, at: At) -> Vec<String> {
        let current = self.group(group).and_then(|g| g.moving.as_mut()).filter(|m| m.generation == generation);
        let Some(moving) = current else { return Vec::new() };
        moving.stage = Stage::Settled(at);
        self.review(group, at);
        joined.into_iter().filter(|id| self.member(group, id).is_none_or(|m| m.gone)).collect()
    }

    /// The reply to a heartbeat that went to the cluster; `member`: as the reply names it, for a member of protocol version
    /// 0 gets its id there.
    pub fn answered(
        &mut self,
        req: &ConsumerGroupHeartbeatRequest,
        member: &str,
        generation: Generation,
        answer: Answer,
        at: At,
    ) -> Shown {
        self.heard(generation, at);
        let group = &*req.group_id;
        if answer.code != 0 || answer.epoch <= 0 {
            if answer.epoch < 0 || matches!(answer.code, FENCED | UNKNOWN_MEMBER_ID) {
                self.gone(group, |id, _| *id == *member);
                self.review(group, at);
            }
            return Shown::default();
        }
        if self.member(group, member).is_none_or(|m| m.subscription.is_none() || m.gone) && is_full(req) {
            self.note(group, member, Member::new(req, generation, Parts::new(), at));
        }
        let told = self.edit(group, member, |m| {
            (m.generation, m.epoch, m.seen, m.met, m.unanswered) = (generation, answer.epoch, at, true, false);
            let afresh = member_epoch_in(generation, req.member_epoch).is_none() || answer.assignment.is_some();
            if let Some(assignment) = answer.assignment.clone() {
                m.target = assignment;
            }
            afresh
        });
        let Some(afresh) = told else { return Shown::default() };
        self.review(group, at);
        let effective = self.effective(group, member);
        let soon = self.group(group).is_some_and(|g| g.moving.is_some());
        // Said again until the member owns it: a reply may be lost, and not every client asks after one (librdkafka 2.12).
        let changed = self.member(group, member).is_some_and(|m| m.told != effective || m.owned != effective);
        if !afresh && !changed {
            return Shown { assignment: None, soon };
        }
        self.edit(group, member, |m| m.told = effective.clone());
        Shown { assignment: (answer.assignment.as_ref() != Some(&effective)).then_some(effective), soon }
    }

    /// An OffsetCommit or OffsetFetch of a member, by the epoch that the client sent.
    pub fn epoch(&mut self, group: &str, member: &str, shown: i32, generation: Generation, at: At) -> Epoch {
        if shown <= 0 || member.is_empty() || member_epoch_in(generation, shown).is_some() {
            return Epoch::Native;
        }
        self.enter(generation, at);
        self.open(group, generation, at);
        let Some(Group { members, moving }) = self.group(group) else {
            return if is_marked(shown) { Epoch::Outside } else { Epoch::Native };
        };
        let known = members.get(member);
        match known {
            Some(m) if m.gone => return Epoch::Stale,
            Some(m) if m.generation >= generation => return Epoch::As(m.epoch),
            None if !is_marked(shown) => return Epoch::Native,
            _ => {}
        }
        let Some(moving) = moving.as_ref() else { return Epoch::Outside };
        let is_noted = known.is_some_and(|m| m.subscription.is_some());
        match moving.stage {
            Stage::Waiting(_) if waits(members, moving, at) => Epoch::Outside,
            Stage::Waiting(_) | Stage::Joining if is_noted => Epoch::Wait,
            Stage::Settled(_) if is_noted => Epoch::Stale,
            // Its next heartbeat tells what becomes of it.
            _ => Epoch::Later,
        }
    }

    /// Whether this member is, or was, known.
    pub fn knows(&self, group: &str, member: &str) -> bool {
        self.member(group, member).is_some()
    }

    /// What a member may be told to have.
    fn effective(&mut self, group: &str, member: &str) -> Parts {
        let Some(Group { members, moving }) = self.group(group) else { return Parts::new() };
        let Some(m) = members.get(member) else { return Parts::new() };
        let Some(Moving { holders, called, .. }) = moving else { return m.target.clone() };
        let free = |p: &&Part| holders.get(*p).is_none_or(|holder| **holder == *member);
        let mut parts: Parts = m.target.iter().filter(free).copied().collect();
        if called.is_none() {
            parts.extend(holders.iter().filter(|(_, holder)| ***holder == *member).map(|(p, _)| *p));
        }
        parts
    }

    /// Sees who has given up what, whether it is time to give up, and whether all is done.
    fn review(&mut self, group: &str, at: At) {
        let Some(Group { members, moving: slot }) = self.group(group) else { return };
        let Some(moving) = slot else { return };
        let Stage::Settled(since) = moving.stage else { return };
        let generation = moving.generation;
        let silent = |m: &Member| at.saturating_sub(m.seen) > SESSION;
        let here = |m: &&Member| m.generation >= generation && !m.gone && !silent(m);
        let all_met = || members.values().filter(here).all(|m| m.met);
        if moving.called.is_none() && (at >= since + HEAR_ALL || all_met()) {
            moving.called = Some(at);
        }
        if let Some(called) = moving.called {
            let mut overdue = BTreeSet::new();
            moving.holders.retain(|part, id| {
                let Some(m) = members.get(&**id).filter(|m| !m.gone && !silent(m)) else { return false };
                // What is its own by the coordinator's word, that sees to it that nobody else gets it.
                let own = m.generation >= generation && m.target.contains(part);
                let given_up = !m.told.contains(part) && !m.owned.contains(part);
                let is_overdue = !own && !given_up && at.saturating_sub(called) > m.rebalance_timeout();
                if is_overdue {
                    overdue.insert(id.clone());
                }
                !own && !given_up && !is_overdue
            });
            // As a broker does with a member that does not give up in time.
            for id in overdue {
                if let Some(m) = members.get_mut(&id) {
                    (m.gone, m.fenced) = (true, true);
                }
            }
        }
        if moving.holders.is_empty() {
            *slot = None;
        }
    }
}

const UNKNOWN_MEMBER_ID: i16 = ResponseError::UnknownMemberId.code();
