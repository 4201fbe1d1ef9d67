//! The memory behind the rules for KIP-848 members: what is noted of groups and members, and when it is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{ASKS, At, HEAR_ALL, Part, Parts, SESSION, owned};
use crate::model::Generation;

/// KIP-848 groups remembered.
pub const MAX_CONSUMER_GROUPS: usize = 20_000;
/// KIP-848 members remembered, over all groups. One that is not is told to join anew after a cutover.
pub const MAX_CONSUMERS: usize = 100_000;
/// Partitions and topic names noted, over all members: about 40 bytes each.
pub const MAX_NOTED: usize = 2_000_000;
/// How long a member that has gone stays known, so that its late requests are not taken for a stranger's.
const KEEP: Duration = Duration::from_secs(600);
/// Time between two looks for what can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What a member told once and leaves out of later heartbeats (KIP-848: "null if it didn't change"). Copies, since the
/// strings of a request keep its whole frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    instance: Option<Box<str>>,
    rack: Option<Box<str>>,
    rebalance_timeout_ms: i32,
    names: Option<Vec<Box<str>>>,
    regex: Option<Box<str>>,
    assignor: Option<Box<str>>,
}

/// A member to be joined: its id and what it subscribes to.
pub type Joiner = (String, Subscription);

impl Subscription {
    fn hear(&mut self, req: &ConsumerGroupHeartbeatRequest) {
        let text = |s: &Option<StrBytes>| s.as_deref().map(Box::from);
        let fields = [
            (&mut self.instance, &req.instance_id),
            (&mut self.rack, &req.rack_id),
            (&mut self.regex, &req.subscribed_topic_regex),
            (&mut self.assignor, &req.server_assignor),
        ];
        for (known, told) in fields {
            if told.is_some() {
                *known = text(told);
            }
        }
        if req.rebalance_timeout_ms >= 0 {
            self.rebalance_timeout_ms = req.rebalance_timeout_ms;
        }
        if let Some(names) = &req.subscribed_topic_names {
            self.names = Some(names.iter().map(|n| Box::from(n.as_str())).collect());
        }
    }

    /// Adds to a heartbeat what it leaves out.
    pub fn fill(&self, req: &mut ConsumerGroupHeartbeatRequest) {
        let full = self.full(&req.group_id, &req.member_id);
        if req.rebalance_timeout_ms < 0 {
            req.rebalance_timeout_ms = full.rebalance_timeout_ms;
        }
        req.subscribed_topic_names = req.subscribed_topic_names.take().or(full.subscribed_topic_names);
        req.subscribed_topic_regex = req.subscribed_topic_regex.take().or(full.subscribed_topic_regex);
        req.instance_id = req.instance_id.take().or(full.instance_id);
        req.rack_id = req.rack_id.take().or(full.rack_id);
        req.server_assignor = req.server_assignor.take().or(full.server_assignor);
    }

    /// The heartbeat by which the member joins (epoch 0).
    pub fn full(&self, group: &str, member: &str) -> ConsumerGroupHeartbeatRequest {
        let text = |s: &Option<Box<str>>| s.as_deref().map(string);
        let names = self.names.as_ref().map(|names| names.iter().map(|n| TopicName(string(n))).collect());
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(string(group)))
            .with_member_id(string(member))
            .with_member_epoch(0)
            .with_instance_id(text(&self.instance))
            .with_rack_id(text(&self.rack))
            .with_rebalance_timeout_ms(self.rebalance_timeout_ms)
            .with_subscribed_topic_names(names)
            .with_subscribed_topic_regex(text(&self.regex))
            .with_server_assignor(text(&self.assignor))
            .with_topic_partitions(Some(Vec::new()))
    }
}

fn string(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Under which `epoch` was given.
    pub(super) generation: Generation,
    /// The coordinator's own.
    pub(super) epoch: i32,
    /// `None`: it has not said all about itself yet.
    pub(super) subscription: Option<Subscription>,
    asks: u8,
    /// As it said last.
    pub(super) owned: Parts,
    /// As it was told last.
    pub(super) told: Parts,
    /// As the coordinator means it.
    pub(super) target: Parts,
    pub(super) seen: At,
    pub(super) gone: bool,
    /// Gone because it did not give up in time, which it does not know yet.
    pub(super) fenced: bool,
    /// Was answered under its new epoch.
    pub(super) met: bool,
    /// A heartbeat of its went to the cluster, and no reply came by.
    pub(super) unanswered: bool,
}

/// How far the move of a group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until this time, for members that nobody knows of.
    Waiting(At),
    Joining,
    /// Since then.
    Settled(At),
}

/// The move of one group to the coordinator of one generation.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    pub(super) generation: Generation,
    pub(super) stage: Stage,
    /// Since when members are told to give up what is not theirs.
    pub(super) called: Option<At>,
    /// Which old member has a partition that it may have to give up.
    pub(super) holders: BTreeMap<Part, Box<str>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) members: BTreeMap<Box<str>, Member>,
    pub(super) moving: Option<Moving>,
}

/// The members of all KIP-848 groups.
#[derive(Debug)]
pub struct Consumers {
    groups: HashMap<Box<str>, Group>,
    members: usize,
    noted: usize,
    born: At,
    generation: Option<Generation>,
    /// First request of this generation.
    began: At,
    /// All members that were alive when the generation began had been heard of.
    complete: bool,
    /// Last reply of any coordinator, and the last one of the generation before.
    heard: At,
    heard_before: At,
    swept: At,
}

impl Member {
    pub(super) fn new(req: &ConsumerGroupHeartbeatRequest, generation: Generation, told: Parts, at: At) -> Self {
        let mut subscription = Subscription::default();
        subscription.hear(req);
        Member {
            generation,
            epoch: 0,
            subscription: Some(subscription),
            asks: 0,
            owned: owned(req).unwrap_or_default(),
            target: told.clone(),
            told,
            seen: at,
            gone: false,
            fenced: false,
            met: false,
            unanswered: false,
        }
    }

    /// Takes in what a heartbeat says.
    pub(super) fn hear(&mut self, req: &ConsumerGroupHeartbeatRequest, at: At) {
        self.seen = at;
        if let Some(subscription) = &mut self.subscription {
            subscription.hear(req);
        }
        if let Some(owned) = owned(req) {
            self.owned = owned;
        }
    }

    /// A heartbeat goes to the cluster; what to add to it if the last one was not answered. The coordinator may have told
    /// of a new assignment in that reply, and tells of it once.
    pub(super) fn if_unanswered(&mut self) -> Option<Subscription> {
        let before = std::mem::replace(&mut self.unanswered, true);
        self.subscription.clone().filter(|_| before)
    }

    /// It is to say all about itself, and has not done so yet.
    pub(super) fn is_asked(&self) -> bool {
        self.subscription.is_none() && !self.gone && self.asks <= ASKS
    }

    pub(super) fn instance(&self) -> Option<&str> {
        self.subscription.as_ref()?.instance.as_deref()
    }

    pub(super) fn rebalance_timeout(&self) -> Duration {
        let ms = self.subscription.as_ref().map_or(0, |s| s.rebalance_timeout_ms);
        Duration::from_millis(u64::try_from(ms).unwrap_or_default())
    }

    fn weight(&self) -> usize {
        let names = self.subscription.as_ref().and_then(|s| s.names.as_ref()).map_or(0, Vec::len);
        self.owned.len() + self.told.len() + self.target.len() + names
    }
}

impl Consumers {
    /// An empty memory that begins at `at`.
    pub fn new(at: At) -> Self {
        Consumers {
            groups: HashMap::new(),
            members: 0,
            noted: 0,
            born: at,
            generation: None,
            began: at,
            complete: false,
            heard: at,
            heard_before: at,
            swept: at,
        }
    }

    /// (groups, members, partitions and names) remembered.
    pub fn len(&self) -> (usize, usize, usize) {
        (self.groups.len(), self.members, self.noted)
    }

    pub(super) fn group(&mut self, group: &str) -> Option<&mut Group> {
        self.groups.get_mut(group)
    }

    pub(super) fn member(&self, group: &str, member: &str) -> Option<&Member> {
        self.groups.get(group)?.members.get(member)
    }

    /// Changes a member. What is beyond the limit is forgotten: the member is then one that nobody knows.
    pub(super) fn edit<T>(&mut self, group: &str, member: &str, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let group = self.groups.get_mut(group)?;
        let found = group.members.get_mut(member)?;
        self.noted = self.noted.saturating_sub(found.weight());
        let done = change(found);
        if self.noted + found.weight() > MAX_NOTED {
            group.members.remove(member);
            self.members = self.members.saturating_sub(1);
            return None;
        }
        self.noted += found.weight();
        Some(done)
    }

    pub(super) fn note(&mut self, group: &str, id: &str, member: Member) {
        let full = self.noted + member.weight() > MAX_NOTED;
        let new = self.member(group, id).is_none();
        if full || (new && self.members >= MAX_CONSUMERS) {
            return;
        }
        if !self.groups.contains_key(group) && self.groups.len() >= MAX_CONSUMER_GROUPS {
            return;
        }
        self.noted += member.weight();
        let former = self.groups.entry(group.into()).or_default().members.insert(id.into(), member);
        self.noted = self.noted.saturating_sub(former.as_ref().map_or(0, Member::weight));
        self.members += usize::from(new);
    }

    /// A member that has said all about itself: it may have what it owns.
    pub(super) fn note_full(
        &mut self,
        req: &ConsumerGroupHeartbeatRequest,
        generation: Generation,
        epoch: i32,
        at: At,
    ) {
        let member = Member { epoch, ..Member::new(req, generation, owned(req).unwrap_or_default(), at) };
        self.note(&req.group_id, &req.member_id, member);
    }

    /// Counts that a member is asked for all about itself; answers how often it was, this time included.
    pub(super) fn ask(&mut self, req: &ConsumerGroupHeartbeatRequest, generation: Generation, at: At) -> u8 {
        if self.member(&req.group_id, &req.member_id).is_none_or(|m| m.gone) {
            let stub = Member { subscription: None, ..Member::new(req, generation, Parts::new(), at) };
            self.note(&req.group_id, &req.member_id, stub);
        }
        let asked = self.edit(&req.group_id, &req.member_id, |m| {
            m.asks = m.asks.saturating_add(1);
            m.seen = at;
            m.asks
        });
        asked.unwrap_or(u8::MAX)
    }

    /// These members have nothing any more.
    pub(super) fn gone(&mut self, group: &str, which: impl Fn(&str, &Member) -> bool) {
        let Some(found) = self.groups.get(group) else { return };
        let ids: Vec<_> = found.members.iter().filter(|(id, m)| which(id, m)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.edit(group, &id, |m| {
                m.gone = true;
                (m.owned, m.told, m.target) = Default::default();
            });
            if let Some(moving) = self.group(group).and_then(|g| g.moving.as_mut()) {
                moving.holders.retain(|_, holder| *holder != id);
            }
        }
    }

    /// Begins the move of a group that has old members. Those that were silent for their session timeout before the
    /// cutover are dead.
    pub(super) fn open(&mut self, group: &str, generation: Generation, at: At) {
        let (heard, complete, began) = (self.heard_before, self.complete, self.began);
        let Some(Group { members, moving }) = self.groups.get_mut(group) else { return };
        if moving.as_ref().is_some_and(|m| m.generation >= generation) {
            return;
        }
        *moving = None;
        let mut holders = BTreeMap::new();
        let mut any = false;
        for (id, m) in members.iter_mut().filter(|(_, m)| m.generation < generation && !m.gone) {
            m.gone = complete && heard.saturating_sub(m.seen) > SESSION;
            m.met = false;
            if m.gone || m.subscription.is_none() {
                continue;
            }
            any = true;
            for part in m.owned.union(&m.told) {
                holders.entry(*part).or_insert_with(|| id.clone());
            }
        }
        if any {
            let until = if complete { at } else { began.max(at.saturating_sub(HEAR_ALL)) + HEAR_ALL };
            *moving = Some(Moving { generation, stage: Stage::Waiting(until), called: None, holders });
        }
    }

    /// What a member of a group that has not settled yet may have is held by it.
    pub(super) fn hold(&mut self, group: &str, member: &str, generation: Generation) {
        let Some(Group { members, moving: Some(moving) }) = self.groups.get_mut(group) else { return };
        let Some(m) = members.get(member).filter(|m| m.generation < generation && !m.gone) else { return };
        if moving.generation == generation && matches!(moving.stage, Stage::Waiting(_)) {
            for part in m.owned.union(&m.told) {
                moving.holders.entry(*part).or_insert_with(|| member.into());
            }
        }
    }

    /// Notes that time has come to a generation.
    pub(super) fn enter(&mut self, generation: Generation, at: At) {
        if self.generation.is_some_and(|known| known >= generation) {
            return;
        }
        self.complete = self.generation.is_some() && at.saturating_sub(self.born) >= HEAR_ALL;
        self.generation = Some(generation);
        self.heard_before = self.heard;
        self.began = at;
    }

    /// A coordinator has answered somebody.
    pub(super) fn heard(&mut self, generation: Generation, at: At) {
        self.enter(generation, at);
        if at.saturating_sub(self.swept) >= SWEEP_EVERY {
            self.sweep(at);
        }
        self.heard = at;
    }

    /// Forgets what nobody asks about any more. Nobody is taken for silent while no coordinator answers anyone.
    fn sweep(&mut self, at: At) {
        self.swept = at;
        let (now, began, heard) = (self.generation.unwrap_or_default(), self.began, self.heard);
        for group in self.groups.values_mut() {
            group.members.retain(|_, m| {
                if m.generation >= now && !m.gone {
                    return heard.saturating_sub(m.seen) <= SESSION;
                }
                at.saturating_sub(m.seen.max(began)) <= KEEP
            });
        }
        self.groups.retain(|_, group| !group.members.is_empty());
        self.members = self.groups.values().map(|g| g.members.len()).sum();
        self.noted = self.groups.values().flat_map(|g| g.members.values()).map(Member::weight).sum();
    }
}
