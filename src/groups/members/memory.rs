//! The memory behind the rules: what is noted of groups and members, and when it is forgotten.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{At, GATHER, Who};
use crate::model::Generation;

/// Groups remembered. One more costs about 200 bytes; a group beyond gets the new cluster's raw answers at a cutover.
pub const MAX_GROUPS: usize = 20_000;
/// Members remembered, over all groups.
pub const MAX_MEMBERS: usize = 100_000;
/// Positions remembered that members have committed from outside their groups. Those beyond are not compared with later ones.
pub const MAX_POSITIONS: usize = 200_000;
/// How long a member that has gone or arrived stays known, so that its late requests are not taken for a stranger's.
pub(super) const KEEP: Duration = Duration::from_secs(600);
/// Session timeout of a member whose JoinGroup was not seen: the default of Java and librdkafka.
pub(super) const DEFAULT_SESSION: Duration = Duration::from_secs(45);
/// Time between two looks for what can be forgotten.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Active,
    /// Old: has sent its JoinGroup. Current: has an id but has not joined yet.
    Arrived,
    Gone,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) generation: Generation,
    pub(super) standing: Standing,
    pub(super) instance: Option<Box<str>>,
    pub(super) session: Duration,
    pub(super) seen: At,
    /// Heartbeats that are held at the moment.
    pub(super) waiting: u32,
    /// The cluster gave it this id (MEMBER_ID_REQUIRED) and has not seen it join by it.
    pub(super) unjoined: bool,
    /// Goes on under another id that the cluster gave it.
    pub(super) replaced: bool,
    /// No heartbeat of it has been answered here. The next one is, at once: the proxies before may have kept it waiting, each
    /// for as long as it lived, and a client gives its place up after a session timeout without an answer.
    pub(super) unanswered: bool,
    /// A commit of it was sent from outside the group.
    pub(super) outside: bool,
}

/// The re-homing of one group in one generation.
#[derive(Clone, Debug)]
pub(super) struct Gathering {
    pub(super) generation: Generation,
    pub(super) opened: At,
    /// End of the hold of JoinGroups, set by the first.
    pub(super) until: Option<(At, Duration)>,
    /// Not all members may be known: nothing is over before [`GATHER`] is.
    pub(super) incomplete: bool,
    /// Members were told to rebalance.
    pub(super) called: bool,
    /// JoinGroups go on.
    pub(super) closed: bool,
    /// Since when.
    pub(super) closed_at: At,
    /// What members have committed from outside the group: (topic, partition), offset.
    pub(super) positions: HashMap<(Box<str>, i32), i64>,
}

/// One partition of a commit: topic, partition, logical offset.
pub type Position<'a> = (&'a str, i32, i64);

/// Members by id.
pub(super) type Roll = BTreeMap<Box<str>, Member>;

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) members: Roll,
    pub(super) gathering: Option<Gathering>,
}

/// The members of all groups.
#[derive(Debug)]
pub struct Members {
    pub(super) groups: HashMap<Box<str>, Group>,
    members: usize,
    /// Of all gatherings.
    positions: usize,
    born: At,
    generation: Option<Generation>,
    /// First request of this generation.
    pub(super) began: At,
    /// Last reply of any coordinator.
    heard: At,
    /// When the generation before began, and the last reply of a coordinator in it.
    before: (At, At),
    /// This memory was younger than [`GATHER`] when the generation began, so it may lack members.
    young: bool,
    /// It began in the midst of a generation that a cutover had begun.
    midway: bool,
    swept: At,
}

impl Member {
    pub(super) fn heard_of(generation: Generation, standing: Standing, seen: At) -> Self {
        Member {
            generation,
            standing,
            instance: None,
            session: DEFAULT_SESSION,
            seen,
            waiting: 0,
            unjoined: false,
            replaced: false,
            unanswered: false,
            outside: false,
        }
    }

    pub(super) fn is_old(&self, generation: Generation) -> bool {
        self.generation < generation
    }

    /// It has sent its JoinGroup, and is not known to have got a reply.
    pub(super) fn is_on_its_way(&self, generation: Generation) -> bool {
        self.is_old(generation) && self.standing == Standing::Arrived && !self.replaced
    }

    /// Its JoinGroup did not get there: it comes again, soon.
    pub(super) fn expect_again(&mut self) {
        self.standing = Standing::Active;
        self.session = self.session.min(GATHER);
    }

    /// Until when an old member is waited for.
    pub(super) fn expected_until(&self, opened: At) -> At {
        self.seen.max(opened) + self.session
    }
}

impl Members {
    /// An empty memory that begins at `at`.
    pub fn new(at: At) -> Self {
        Members {
            groups: HashMap::new(),
            members: 0,
            positions: 0,
            born: at,
            generation: None,
            began: at,
            heard: at,
            before: (at, at),
            young: false,
            midway: false,
            swept: at,
        }
    }

    /// (groups, members) remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.groups.len(), self.members)
    }

    pub fn is_known(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    pub(super) fn member(&mut self, group: &str, member: &str) -> Option<&mut Member> {
        self.groups.get_mut(group)?.members.get_mut(member)
    }

    pub(super) fn old(&mut self, who: Who<'_>) -> Option<&mut Member> {
        self.member(who.group, who.member).filter(|m| m.is_old(who.generation))
    }

    /// The members and the gathering of a group that has old members; the gathering is opened if need be. Members that
    /// were silent for their session timeout before the cutover are not waited for.
    pub(super) fn gathering(
        &mut self,
        group: &str,
        generation: Generation,
        at: At,
    ) -> Option<(&mut Roll, &mut Gathering)> {
        let ((since, heard), incomplete) = (self.before, self.young);
        let Group { members, gathering } = self.groups.get_mut(group)?;
        if !members.values().any(|m| m.is_old(generation)) {
            return None;
        }
        if gathering.as_ref().is_none_or(|g| g.generation < generation) {
            let silent = |m: &&mut Member| m.is_old(generation) && heard.saturating_sub(m.seen.max(since)) > m.session;
            members.values_mut().filter(silent).for_each(|m| m.standing = Standing::Gone);
            // Who was on its way into the generation before has not got there: it comes again, at once.
            members.values_mut().filter(|m| m.is_on_its_way(generation)).for_each(Member::expect_again);
            let (until, called, closed, closed_at, positions) = (None, false, false, At::ZERO, HashMap::new());
            let opened = at;
            let before = gathering.replace(Gathering {
                generation,
                opened,
                until,
                incomplete,
                called,
                closed,
                closed_at,
                positions,
            });
            self.positions -= before.map_or(0, |before| before.positions.len());
        }
        gathering.as_mut().map(|gathering| (members, gathering))
    }

    /// Until when members of the generation before may still show up that this memory, begun after the cutover, has not heard
    /// of. `None`: not any more, or the new cluster has taken the group's members in already.
    pub(super) fn unheard(&self, group: &str, generation: Generation, at: At) -> Option<At> {
        let until = self.born + GATHER;
        let current = |m: &Member| !m.is_old(generation) && m.standing == Standing::Active;
        let settled = || self.groups.get(group).is_some_and(|g| g.members.values().any(current));
        (self.midway && at < until && !settled()).then_some(until)
    }

    /// Notes that time has come to a generation.
    pub(super) fn enter(&mut self, generation: Generation, at: At) {
        if self.generation.is_some_and(|known| known >= generation) {
            return;
        }
        self.young = self.generation.is_some() && at.saturating_sub(self.born) < GATHER;
        self.midway = self.generation.is_none() && generation > 0;
        self.generation = Some(generation);
        self.before = (self.began, self.heard);
        self.began = at;
    }

    pub(super) fn hear(&mut self, generation: Generation, at: At) {
        self.enter(generation, at);
        self.heard = at;
        if at.saturating_sub(self.swept) >= SWEEP_EVERY {
            self.sweep(at);
        }
    }

    /// Forgets what nobody asks about any more. Nobody is taken for silent while no coordinator answers anyone.
    pub(super) fn sweep(&mut self, at: At) {
        self.swept = at;
        let (now, began) = (self.generation.unwrap_or_default(), self.began);
        for group in self.groups.values_mut() {
            group.members.retain(|_, m| {
                if !m.is_old(now) && m.standing == Standing::Active {
                    if at.saturating_sub(m.seen) > m.session {
                        m.standing = Standing::Gone;
                    }
                    return true;
                }
                let last = if m.is_old(now) { m.seen.max(began) } else { m.seen };
                at.saturating_sub(last) <= KEEP
            });
        }
        self.groups.retain(|_, group| !group.members.is_empty());
        self.members = self.groups.values().map(|g| g.members.len()).sum();
        let gatherings = self.groups.values().filter_map(|g| g.gathering.as_ref());
        self.positions = gatherings.map(|g| g.positions.len()).sum();
    }

    /// Notes what is committed from outside a group; `false`: some of it lies behind what has been so committed before.
    pub(super) fn advances(&mut self, group: &str, commit: &[Position<'_>]) -> bool {
        let mut known = self.groups.get_mut(group).and_then(|g| g.gathering.as_mut());
        let Some(positions) = known.as_mut().map(|g| &mut g.positions) else { return true };
        let goes_back = |&(topic, partition, offset): &Position<'_>| {
            positions.get(&(Box::from(topic), partition)).is_some_and(|&last| offset < last)
        };
        if commit.iter().any(goes_back) {
            return false;
        }
        for &(topic, partition, offset) in commit {
            let room = self.positions < MAX_POSITIONS;
            match positions.entry((topic.into(), partition)) {
                Entry::Occupied(mut last) => *last.get_mut() = offset,
                Entry::Vacant(place) if room => {
                    place.insert(offset);
                    self.positions += 1;
                }
                Entry::Vacant(_) => {}
            }
        }
        true
    }

    /// All members of a group have committed.
    pub(super) fn forget_positions(&mut self, group: &str) {
        if let Some(gathering) = self.groups.get_mut(group).and_then(|g| g.gathering.as_mut()) {
            self.positions -= std::mem::take(&mut gathering.positions).len();
        }
    }

    pub(super) fn note(&mut self, who: Who<'_>, member: Member) {
        let room = self.members < MAX_MEMBERS;
        if !self.groups.contains_key(who.group) {
            if self.groups.len() >= MAX_GROUPS || !room {
                return;
            }
            self.groups.insert(who.group.into(), Group::default());
        }
        let Some(group) = self.groups.get_mut(who.group) else { return };
        if let Some(known) = group.members.get_mut(who.member) {
            *known = member;
        } else if room {
            group.members.insert(who.member.into(), member);
            self.members += 1;
        }
    }
}
