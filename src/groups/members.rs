//! Who is in which classic group, and when the members that a cutover left behind may join the new cluster. Pure: time
//! comes in as an argument.
//!
//! A member that was noted under an earlier generation is *old*: the new active cluster does not know it. It is led
//! through these steps, so that every old member's position is committed before the first one joins (from then on the
//! coordinator refuses commits from outside the group):
//!
//! ```text
//!  Active --Heartbeat: all others are there, or time is up--> told to rebalance --commit, JoinGroup--> Arrived
//!     |  LeaveGroup, replaced (static), silent for its session timeout                                   |
//!     +--> Gone                                             all arrived or gone, or time is up: joins go on
//! ```
//! Heartbeats wait for each other because clients stop reading when they are told to rebalance: told one by one, at
//! the pace of their heartbeat intervals, the first would stand still until the last one came.

use std::time::Duration;

use crate::model::Generation;

mod memory;
#[cfg(test)]
mod tests;

use memory::{Gathering, Member, Roll, Standing};
pub use memory::{MAX_GROUPS, MAX_MEMBERS, MAX_POSITIONS, Members, Position};

/// A point in time: how long after a fixed start.
pub type At = Duration;

/// A group has this long after its first request of a generation until its members are told to rebalance, whether or not
/// all have been heard of. The default heartbeat interval of every client library is 3 s, a reconnect takes up to 1 s more.
pub const GATHER: Duration = Duration::from_secs(5);
/// Longest time from the first JoinGroup of a re-homed group until its members know the new group generation.
pub const SETTLE: Duration = Duration::from_secs(10);
/// Longest hold of a JoinGroup, whatever its rebalance timeout: Java's default is 5 minutes, too long to stand still for
/// a member that may be dead.
pub const MAX_HOLD: Duration = Duration::from_secs(60);
/// Members unknown to the proxy and to the cluster are taken for members of the generation before for this long after the
/// generation's first request; later they are zombies that the cluster has expelled.
pub const ADOPT_WITHIN: Duration = Duration::from_secs(600);
/// A heartbeat is held for at most this part of the session timeout, since clients give up a coordinator that is silent
/// for the whole of it.
const HOLD_PART: u32 = 3;

/// A member as a request or reply names it, under the generation of the connection's view.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub group: &'a str,
    pub member: &'a str,
    pub generation: Generation,
}

/// What to do with a Heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The cluster's to answer.
    Native,
    /// REBALANCE_IN_PROGRESS.
    Rebalance,
    /// No error: the member goes on as it is.
    GoOn,
    /// Ask again at this time, or when something happens in the group.
    Wait(At),
}

/// What to do with an OffsetCommit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    Native,
    /// Send it from outside the group: no member, no generation.
    Simple,
    /// REBALANCE_IN_PROGRESS.
    Rebalance,
}

/// What to do with a JoinGroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Send it as it is, at once.
    Native,
    /// Wait for [`Members::hold`], then send it as it is.
    Fresh,
    /// Wait for [`Members::hold`], then send it with an empty member id.
    Rehome,
}

/// The request by which an unknown member was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    Heartbeat,
    Join,
    Other,
}

/// What a JoinGroup told of a member.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    pub instance: Option<&'a str>,
    pub session: Duration,
    /// It is in the group; else it has only been given an id (MEMBER_ID_REQUIRED).
    pub complete: bool,
}

/// Old members that may still come.
fn outstanding<'a>(members: &'a Roll, gathering: &Gathering, at: At) -> impl Iterator<Item = &'a Member> {
    let (generation, opened) = (gathering.generation, gathering.opened);
    members
        .values()
        .filter(move |m| m.is_old(generation) && m.standing == Standing::Active && at < m.expected_until(opened))
}

impl Members {
    /// A Heartbeat; again after each wait, with the time when it came as `since`.
    pub fn beat(&mut self, who: Who<'_>, since: At, at: At) -> Beat {
        self.enter(who.generation, at);
        let Some(member) = self.old(who) else { return Beat::Native };
        member.seen = at;
        let (standing, patience) = (member.standing, since + member.session / HOLD_PART);
        match standing {
            Standing::Gone => return Beat::Native,
            Standing::Arrived => return Beat::Rebalance,
            Standing::Active if std::mem::take(&mut member.unanswered) => return Beat::GoOn,
            Standing::Active => {}
        }
        let Some((members, gathering)) = self.gathering(who.group, who.generation, at) else { return Beat::Native };
        let limit = gathering.opened + GATHER;
        let all_here = !gathering.incomplete && outstanding(members, gathering, at).all(|m| m.waiting > 0);
        gathering.called |= gathering.closed || gathering.until.is_some() || all_here || at >= limit;
        match gathering.called {
            true => Beat::Rebalance,
            false if at >= patience => Beat::GoOn,
            false => Beat::Wait(limit.min(patience)),
        }
    }

    /// A heartbeat begins (`true`) or ends to be held.
    pub fn waiting(&mut self, who: Who<'_>, begins: bool) {
        if let Some(member) = self.member(who.group, who.member) {
            member.waiting = if begins { member.waiting + 1 } else { member.waiting.saturating_sub(1) };
        }
    }

    /// A SyncGroup; `true`: answer REBALANCE_IN_PROGRESS.
    pub fn sync(&mut self, who: Who<'_>, at: At) -> bool {
        self.enter(who.generation, at);
        let Some(member) = self.old(who) else { return false };
        member.seen = at;
        member.standing != Standing::Gone
    }

    /// An OffsetCommit of a member. One that an old member sent before its last one and sends again (librdkafka does, when its
    /// connection was lost) would be taken by the new cluster, which cannot tell: the group would go back when it joins.
    pub fn commit(&mut self, who: Who<'_>, positions: &[Position<'_>], at: At) -> Commit {
        self.enter(who.generation, at);
        let Some(member) = self.old(who) else { return Commit::Native };
        member.seen = at;
        let standing = member.standing;
        let closed = self.gathering(who.group, who.generation, at).is_some_and(|(_, gathering)| gathering.closed);
        match standing {
            Standing::Gone => Commit::Native,
            // It has joined by another id, or is about to: what it commits now could undo what others have committed.
            Standing::Arrived if closed => Commit::Rebalance,
            Standing::Active | Standing::Arrived if !self.advances(who.group, positions) => Commit::Rebalance,
            Standing::Active | Standing::Arrived => {
                self.old(who).into_iter().for_each(|member| member.outside = true);
                Commit::Simple
            }
        }
    }

    /// A JoinGroup that may be held for `limit` from the first one of its group on.
    pub fn join(&mut self, who: Who<'_>, instance: Option<&str>, limit: Duration, at: At) -> Join {
        self.enter(who.generation, at);
        // Opened first: that decides who of those that had arrived before must come again.
        let _opened = self.gathering(who.group, who.generation, at);
        let unheard = self.unheard(who.group, who.generation, at).is_some();
        let rule = match (who.member.is_empty(), self.old(who)) {
            (true, _) => Join::Fresh,
            (false, Some(member)) if member.standing != Standing::Gone => {
                let again = member.standing == Standing::Arrived && !member.replaced;
                member.standing = Standing::Arrived;
                member.seen = at;
                if again {
                    self.reopen(who, at);
                }
                Join::Rehome
            }
            // Alone it would get all partitions, those of members that are still reading among them.
            (false, _) if unheard => Join::Fresh,
            (false, _) => return Join::Native,
        };
        let Some((members, gathering)) = self.gathering(who.group, who.generation, at) else { return rule };
        // A static member that was started anew takes the place of its former self (KIP-345).
        let is_it = |m: &Member| instance.is_some() && m.instance.as_deref() == instance && m.is_old(who.generation);
        for member in members.values_mut().filter(|m| is_it(m) && m.standing == Standing::Active) {
            member.standing = Standing::Arrived;
        }
        let (first, shortest) = gathering.until.unwrap_or((at, MAX_HOLD));
        gathering.until = Some((first, shortest.min(limit)));
        rule
    }

    /// A member whose JoinGroup had gone on comes again: nobody has seen a reply, so the new cluster may have lost it with those
    /// of the others (it was killed in the midst). They are waited for once more, or the first one back would get what the
    /// others still read.
    fn reopen(&mut self, who: Who<'_>, at: At) {
        let Some((members, gathering)) = self.gathering(who.group, who.generation, at) else { return };
        if !std::mem::take(&mut gathering.closed) {
            return;
        }
        (gathering.opened, gathering.until) = (at, None);
        let lost = members.iter_mut().filter(|(id, m)| ***id != *who.member && m.is_on_its_way(who.generation));
        lost.for_each(|(_, member)| member.expect_again());
    }

    /// Whether JoinGroups of a group are held: until this time, or until something happens in the group. Once they go on
    /// they do so for the whole generation.
    pub fn hold(&mut self, group: &str, generation: Generation, at: At) -> Option<At> {
        let unheard = self.unheard(group, generation, at);
        let Some((members, gathering)) = self.gathering(group, generation, at) else { return unheard };
        let over = gathering.until.map_or(at, |(first, limit)| first + limit);
        let last = outstanding(members, gathering, at).map(|m| m.expected_until(gathering.opened)).max();
        let complete = if gathering.incomplete { gathering.opened + GATHER } else { at };
        let wait = last.unwrap_or(at).max(complete).max(unheard.unwrap_or(at)).min(over);
        if wait <= at && !gathering.closed {
            (gathering.closed, gathering.closed_at) = (true, at);
            self.forget_positions(group);
            return None;
        }
        (!gathering.closed).then_some(wait)
    }

    /// Whether the group was re-homed so lately that a member may still commit under the group generation of the cluster
    /// before.
    pub fn is_settling(&mut self, group: &str, generation: Generation, at: At) -> bool {
        let gathering = self.gathering(group, generation, at);
        gathering.is_some_and(|(_, g)| g.closed && at.saturating_sub(g.closed_at) < SETTLE)
    }

    /// The cluster gave an old member another id.
    pub fn replaced(&mut self, who: Who<'_>) {
        if let Some(member) = self.old(who) {
            member.replaced = true;
        }
    }

    /// A LeaveGroup of these members (id, instance). `true`: all are old, so there is nothing to ask the cluster.
    pub fn leave<'a>(
        &mut self,
        group: &str,
        leaving: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        generation: Generation,
        at: At,
    ) -> bool {
        self.enter(generation, at);
        let Some(members) = self.groups.get_mut(group).map(|g| &mut g.members) else { return false };
        let (mut any, mut all) = (false, true);
        for (id, instance) in leaving {
            any = true;
            let named = members.iter_mut().find(|(known, m)| match id.is_empty() {
                true => instance.is_some() && m.instance.as_deref() == instance && m.standing != Standing::Gone,
                false => ***known == *id,
            });
            match named {
                Some((_, member)) if member.is_old(generation) => member.standing = Standing::Gone,
                _ => all = false,
            }
        }
        any && all
    }

    /// The cluster took a member in, or gave it an id.
    pub fn joined(&mut self, who: Who<'_>, joined: Joined<'_>, at: At) {
        self.hear(who.generation, at);
        let standing = if joined.complete { Standing::Active } else { Standing::Arrived };
        let instance = joined.instance.map(Box::from);
        if instance.is_some()
            && let Some(group) = self.groups.get_mut(who.group)
        {
            let former = group.members.iter_mut().filter(|(id, m)| ***id != *who.member && m.instance == instance);
            former.for_each(|(_, m)| m.standing = Standing::Gone);
        }
        let Joined { session, complete, .. } = joined;
        let generation = who.generation;
        self.note(
            who,
            Member {
                generation,
                standing,
                instance,
                session,
                seen: at,
                waiting: 0,
                unjoined: !complete,
                replaced: false,
                unanswered: false,
                outside: false,
            },
        );
    }

    /// Ids that the cluster of the generation before gave and that never joined by them, by group; each is told once. That
    /// cluster waits for them at a rebalance, for up to their session timeout, and shows them to nobody (Kafka class
    /// ClassicGroup, pendingJoinMembers).
    pub fn take_unjoined(&mut self, generation: Generation) -> Vec<(String, Vec<String>)> {
        let mut taken = Vec::new();
        for (name, group) in &mut self.groups {
            let forgotten = |m: &Member| m.unjoined && m.generation.checked_add(1) == Some(generation);
            let mut ids = Vec::new();
            for (id, member) in group.members.iter_mut().filter(|(_, m)| forgotten(m)) {
                member.unjoined = false;
                ids.push(id.to_string());
            }
            if !ids.is_empty() {
                taken.push((name.to_string(), ids));
            }
        }
        taken
    }

    /// The cluster knows the member. An old one stays old, whatever a cluster says that it once belonged to.
    pub fn alive(&mut self, who: Who<'_>, at: At) {
        self.hear(who.generation, at);
        match self.member(who.group, who.member) {
            Some(member) => {
                member.seen = at;
                if !member.is_old(who.generation) {
                    member.standing = Standing::Active;
                }
            }
            None => self.note(who, Member::heard_of(who.generation, Standing::Active, at)),
        }
    }

    /// The cluster does not know the member any more, or it has left.
    pub fn expelled(&mut self, who: Who<'_>, at: At) {
        self.hear(who.generation, at);
        if let Some(member) = self.member(who.group, who.member)
            && !member.is_old(who.generation)
        {
            member.standing = Standing::Gone;
            member.seen = at;
        }
    }

    /// The cluster does not know a member that nobody here knows either: soon after a cutover, with an empty memory, it is
    /// one of the generation before. `true`: it is, or was taken for such a one by another request of its own that was on
    /// its way at the same time.
    pub fn adopt(&mut self, who: Who<'_>, met: Met, at: At) -> bool {
        self.enter(who.generation, at);
        let arrived = met == Met::Join;
        if let Some(member) = self.member(who.group, who.member) {
            let known = member.is_old(who.generation) && member.standing != Standing::Gone;
            if known && arrived {
                (member.standing, member.replaced) = (Standing::Arrived, true);
            }
            return known;
        }
        if who.member.is_empty() || at.saturating_sub(self.began) > ADOPT_WITHIN {
            return false;
        }
        let Some(before) = who.generation.checked_sub(1) else { return false };
        let standing = if arrived { Standing::Arrived } else { Standing::Active };
        // One that has arrived comes again by no id.
        let unanswered = met == Met::Other;
        self.note(who, Member { replaced: arrived, unanswered, ..Member::heard_of(before, standing, at) });
        match self.gathering(who.group, who.generation, at) {
            Some((_, gathering)) => {
                gathering.incomplete = true;
                true
            }
            None => false, // no room for it
        }
    }

    /// Whether the member is known from an earlier generation and has not gone.
    pub fn is_old(&mut self, who: Who<'_>) -> bool {
        self.old(who).is_some_and(|m| m.standing != Standing::Gone)
    }

    /// As [`Self::is_old`], and a commit of it went from outside the group.
    pub fn is_outside(&mut self, who: Who<'_>) -> bool {
        self.is_old(who) && self.old(who).is_some_and(|m| m.outside)
    }
}
