//! What is known of all transactional ids.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::entry::{Ending, Entry, Sequence};
use super::kept::{Kept, Whole};
use super::{Ask, At, Init, Mapping, Offsets, Producer, Record, Touched, Verdict};
use crate::model::{Generation, TopicPartition};

/// Ids remembered, about 500 bytes each; beyond it the one unused for longest is forgotten. If that one comes back after a
/// cutover its transaction must be aborted once.
pub const MAX_IDS: usize = 20_000;
/// Bytes of all ids' names.
const MAX_NAMES: usize = 16 << 20;
/// Unused for this long an id is forgotten, as the clusters do (`transactional.id.expiration.ms`: 7 days).
const EXPIRY_MS: At = 7 * 24 * 3600 * 1000;
/// What is used is stored again after this long, so that a restart does not take it for unused.
const REFRESH_MS: At = 24 * 3600 * 1000;
/// For so long after a transaction the copy of its group's offsets may be on its way (milliseconds). Later what is found there
/// is somebody's will: an operator may have reset them.
const LATELY_MS: At = 30_000;
/// Given to a coordinator for an id whose InitProducerId was not seen (milliseconds): the default of all clients.
const DEFAULT_TIMEOUT_MS: i32 = 60_000;

/// The transactional ids of one pair of clusters.
#[derive(Debug, Default)]
pub struct Memory {
    entries: HashMap<Box<str>, Entry>,
    names: usize,
    /// Forgotten since the last look, to be removed from the state topics.
    forgotten: Vec<String>,
    kept: Kept,
}

/// A transaction whose EndTxn(commit) may or may not have been carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubt {
    pub id: String,
    pub touched: Touched,
    /// What it wrote, as far as it is kept.
    pub whole: Whole,
}

impl Memory {
    /// Takes over what was stored; what is known already stays.
    pub fn restore(&mut self, id: &str, record: Record, now: At) {
        if !self.entries.contains_key(id) {
            let mut entry = Entry::restored(record);
            // Nobody could use it while no proxy ran.
            entry.used_at = now;
            self.put(id, entry);
        }
    }

    /// Forgets everything: the state is about to be read anew.
    pub fn clear(&mut self) {
        *self = Memory::default();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn put(&mut self, id: &str, entry: Entry) {
        self.names += id.len();
        if let Some(_known) = self.entries.insert(id.into(), entry) {
            self.names -= id.len();
        }
        self.release(id);
        while self.entries.len() > MAX_IDS || self.names > MAX_NAMES {
            let others = self.entries.iter().filter(|(name, _)| ***name != *id);
            let Some(oldest) = others.min_by_key(|(_, e)| e.used_at).map(|(name, _)| name.clone()) else { return };
            self.forget(&oldest);
        }
    }

    /// Batches are kept while there is a transaction that has written them.
    fn release(&mut self, id: &str) {
        if self.entries.get(id).is_none_or(|e| e.touched.partitions.is_empty()) {
            self.kept.forget(id);
        }
    }

    fn forget(&mut self, id: &str) {
        if self.entries.remove(id).is_some() {
            self.release(id);
            self.names -= id.len();
            self.forgotten.push(id.to_owned());
        }
    }

    /// Judges a request. `fresh` is a new producer id out of random bits ([`super::Producer`] of a client at the end of its epochs).
    pub fn judge(
        &mut self,
        id: &str,
        who: Producer,
        ask: Ask,
        generation: Generation,
        (at, fresh): (At, i64),
    ) -> Verdict {
        if !self.entries.contains_key(id) {
            let mut entry = Entry::new(who, DEFAULT_TIMEOUT_MS, None, at);
            (entry.exact, entry.ending) = (false, Ending::Unknown);
            if generation == 0 {
                // There has been no other cluster.
                entry.mapping =
                    Some(Mapping { generation, shown: who, real: who, resumed: false, sequences: Default::default() });
            } else {
                // Its client's word is all there is, and it may be in the midst of a transaction.
                entry.broken = true;
            }
            self.put(id, entry);
        }
        let Some(entry) = self.entries.get_mut(id) else { return Verdict::AsIs };
        entry.used_at = at;
        entry.judge(who, ask, generation, fresh)
    }

    /// Judges an InitProducerId; `asked`: by whom, if it says so (KIP-360).
    pub fn init(&mut self, id: &str, asked: Option<Producer>, version: i16, generation: Generation, at: At) -> Init {
        if let (None, Some(who)) = (self.entries.get(id), asked)
            && generation > 0
        {
            let mut entry = Entry::new(who, DEFAULT_TIMEOUT_MS, None, at);
            entry.exact = false;
            self.put(id, entry);
        }
        self.entries.get_mut(id).map_or(Init::AsIs, |entry| {
            entry.used_at = at;
            entry.init(asked, version, generation)
        })
    }

    /// The cluster gave `real` for an InitProducerId that was sent on. Gives what the client is told, and what must be stored
    /// before it is.
    pub fn initialised(
        &mut self,
        id: &str,
        asked: Option<Producer>,
        timeout_ms: i32,
        real: Producer,
        generation: Generation,
        (at, fresh): (At, i64),
    ) -> (Producer, Record) {
        let mapped = self.entries.get(id).is_some_and(|e| e.mapping_in(generation).is_some());
        if !mapped {
            let mapping = Mapping { generation, shown: real, real, resumed: false, sequences: Default::default() };
            self.put(id, Entry::new(real, timeout_ms, Some(mapping), at));
        }
        let Some(entry) = self.entries.get_mut(id) else {
            return (real, Entry::new(real, timeout_ms, None, at).record(at));
        };
        let told = entry.initialised(asked, timeout_ms, real, generation, fresh);
        entry.stored_at = at;
        let record = entry.record(at);
        self.release(id);
        (told, record)
    }

    /// The record of a mapping for a client that goes on as it is, to be stored and then taken over by [`Self::adopt`].
    pub fn map(&self, id: &str, real: Producer, generation: Generation, at: At) -> Option<Record> {
        let mut entry = self.entries.get(id)?.clone();
        entry.map_use(real, generation);
        Some(entry.record(at))
    }

    /// As [`Self::map`], for an InitProducerId; what the client is told is the record's.
    pub fn map_init(
        &self,
        id: &str,
        timeout_ms: i32,
        real: Producer,
        generation: Generation,
        (at, fresh): (At, i64),
    ) -> Option<Record> {
        let mut entry = self.entries.get(id)?.clone();
        entry.map_init(None, timeout_ms, real, generation, fresh);
        Some(entry.record(at))
    }

    /// Takes over a stored mapping. `init`: it answers an InitProducerId, of this producer if it named one.
    pub fn adopt(&mut self, id: &str, record: &Record, init: Option<Option<Producer>>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(mapping) = record.mapping.clone() else { return };
        match init {
            Some(asked) => entry.begin(record.told, asked, record.timeout_ms),
            None => entry.exact = true,
        }
        entry.told = record.told;
        entry.mapping = Some(mapping);
        entry.stored_at = record.at_ms;
        self.release(id);
    }

    /// See [`Entry::sequence`].
    pub fn sequence(
        &self,
        id: &str,
        who: Producer,
        version: i16,
        partition: &str,
        sequence: i32,
        (generation, at): (Generation, At),
    ) -> Sequence {
        let known = self.entries.get(id);
        known.map_or(Sequence::As(sequence), |e| e.sequence(who, version, partition, sequence, generation, at))
    }

    /// Takes over stored first sequences.
    pub fn store_sequence(&mut self, id: &str, record: &Record) {
        if let (Some(entry), Some(stored)) = (self.entries.get_mut(id), &record.mapping)
            && let Some(mapping) = entry.mapping.as_mut().filter(|m| m.shown == stored.shown && m.real == stored.real)
        {
            mapping.sequences.clone_from(&stored.sequences);
        }
    }

    /// Records of the open transaction were stored: at these offsets of the active cluster. `batch`: in this form.
    pub fn touched(&mut self, id: &str, partition: &TopicPartition, base: i64, next: i64, batch: Option<&Bytes>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.touched.partitions.entry(partition.clone()).or_default().add(base, next);
            self.kept.add(id, partition, base, next, batch);
        }
    }

    /// Offsets were committed in the open transaction of the current incarnation.
    pub fn touched_offsets(&mut self, id: &str, who: Producer, group: &str, offsets: Offsets) {
        let Some(entry) = self.entries.get_mut(id).filter(|e| e.told == who) else { return };
        let known = entry.touched.offsets.entry(group.to_owned()).or_default();
        known.retain(|(tp, _, _)| offsets.iter().all(|(other, _, _)| other != tp));
        known.extend(offsets);
    }

    /// What the transaction that this EndTxn ends has touched.
    pub fn touched_by(&self, id: &str, who: Producer) -> Touched {
        let entry = self.entries.get(id).filter(|e| e.told == who);
        entry.map(|e| e.touched.clone()).unwrap_or_default()
    }

    /// The cluster has carried an EndTxn out; `real`: its word on the producer (from version 5 on). Gives what the client is
    /// told, and what must be stored before.
    pub fn ended(
        &mut self,
        id: &str,
        asked: Producer,
        committed: bool,
        real: Option<Producer>,
        generation: Generation,
        (at, fresh): (At, i64),
    ) -> (Producer, Option<Record>) {
        let Some(entry) = self.entries.get_mut(id) else { return (real.unwrap_or(asked), None) };
        let (told, moved) = entry.ended(asked, committed, real, generation, fresh);
        let record = moved.then(|| entry.record(at));
        self.release(id);
        (told, record)
    }

    /// The cluster has refused an EndTxn for good: what became of its transaction is not known, but it is not for this
    /// request to commit it any more.
    pub fn end_refused(&mut self, id: &str, asked: Producer) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.end_refused(asked);
        }
    }

    /// Nothing is open by this id, and nothing keeps it from beginning a transaction.
    pub fn is_idle(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|e| e.ending == Ending::Idle && !e.broken)
    }

    /// Is a transaction open whose producer may still be there? Its coordinator ends one that is silent for its timeout.
    pub fn any_open(&self, now: At) -> bool {
        let open = |e: &Entry| matches!(e.ending, Ending::Open | Ending::Ending { .. });
        self.entries.values().any(|e| open(e) && now.saturating_sub(e.used_at) < At::from(e.timeout_ms))
    }

    /// Transactions whose EndTxn(commit) was sent on and is not known to be done, when nothing is in flight any more.
    pub fn in_doubt(&self) -> Vec<InDoubt> {
        let ending = |e: &Entry| matches!(e.ending, Ending::Ending { committed: true, .. });
        let in_doubt = |id: &str, e: &Entry| InDoubt {
            id: id.to_owned(),
            touched: e.touched.clone(),
            whole: self.kept.get(id).cloned().unwrap_or_default(),
        };
        self.entries.iter().filter(|(_, e)| ending(e)).map(|(id, e)| in_doubt(id, e)).collect()
    }

    /// The last transactions that were acknowledged a moment ago and have committed offsets: while the standby is out of sync
    /// nothing waits for these to cross, and records can be there before them.
    pub fn lately_committed(&self, now: At) -> Vec<Touched> {
        let lately = |e: &&Entry| now.saturating_sub(e.used_at) < LATELY_MS && !e.last.offsets.is_empty();
        self.entries.values().filter(lately).map(|e| e.last.clone()).collect()
    }

    /// The transaction in doubt was committed by the cluster that is left.
    pub fn found_committed(&mut self, id: &str, fresh: i64) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.found_committed(fresh);
        }
        self.release(id);
    }

    /// A cluster is left: what is open there cannot go on. `aborted` are the transactions that were open by the cluster's own
    /// word; `None`: it cannot be asked, so that those of which this memory does not know count as open too. Gives what is
    /// to be stored with the cutover.
    pub fn break_open(&mut self, aborted: Option<&HashSet<String>>, at: At) -> Vec<(String, Record)> {
        let mut broken = Vec::new();
        for (id, entry) in &mut self.entries {
            entry.last = Touched::default();
            let open = match entry.ending {
                Ending::Idle => false,
                Ending::Open | Ending::Ending { .. } => true,
                Ending::Unknown => aborted.is_none(),
            };
            if open || aborted.is_some_and(|ids| ids.contains(&**id)) {
                (entry.broken, entry.mapping, entry.ending) = (true, None, Ending::Idle);
                entry.touched = Touched::default();
                self.kept.forget(id);
                broken.push((id.to_string(), entry.record(at)));
            } else if entry.ending == Ending::Unknown {
                entry.ending = Ending::Idle;
            }
        }
        broken
    }

    /// To be done from time to time: ids to be removed from the state topics, and records to be stored again.
    pub fn sweep(&mut self, now: At) -> (Vec<String>, Vec<(String, Record)>) {
        let expired = |e: &Entry| now.saturating_sub(e.used_at) > EXPIRY_MS;
        let old: Vec<_> = self.entries.iter().filter(|(_, e)| expired(e)).map(|(id, _)| id.clone()).collect();
        old.iter().for_each(|id| self.forget(id));
        let mut again = Vec::new();
        for (id, entry) in &mut self.entries {
            if entry.used_at > entry.stored_at && now.saturating_sub(entry.stored_at) > REFRESH_MS {
                entry.stored_at = now;
                again.push((id.to_string(), entry.record(now)));
            }
        }
        // One that came back meanwhile has a new record.
        let gone = std::mem::take(&mut self.forgotten);
        (gone.into_iter().filter(|id| !self.entries.contains_key(id.as_str())).collect(), again)
    }
}
