//! The rules of one transactional id.

use super::{Ask, At, Init, LAST_EPOCH, Library, Mapping, Producer, Record, Touched, Verdict, codes};
use crate::model::Generation;

/// EndTxn replies carry a producer from this version on, one epoch higher (KIP-890).
const ENDS_WITH_BUMP: i16 = 5;
/// Produce requests of transaction protocol 2: every transaction has an epoch of its own and begins its sequences at 0.
const OWN_EPOCH: i16 = 12;
/// Partitions whose first sequence is remembered of one id: more than any producer writes to between two cutovers.
const MAX_SEQUENCES: usize = 10_000;

/// How far the current transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is open.
    Idle,
    Open,
    /// An EndTxn was sent on and is not known to be done.
    Ending {
        asked: Producer,
        version: i16,
        committed: bool,
    },
    /// This memory is younger than what may have been begun.
    Unknown,
}

/// The last EndTxn that is done, for its retry on another cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub asked: Producer,
    pub committed: bool,
    pub told: Producer,
}

/// The sequence that a batch goes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sequence {
    As(i32),
    /// The client's first batch of this partition: this must be stored before ([`super::Memory::store_sequence`]).
    Store(Record),
    /// Too many partitions.
    Refuse(i16),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Who the client's current incarnation is, or at least is (not `exact`).
    pub told: Producer,
    /// `told` is the last that was told; else it was read from the state topic, and transactions may have raised it.
    pub exact: bool,
    pub timeout_ms: i32,
    pub mapping: Option<Mapping>,
    pub broken: bool,
    pub ending: Ending,
    /// Of the current transaction, something that only follows an acknowledged AddPartitionsToTxn or AddOffsetsToTxn was seen; `None`:
    /// this memory is younger.
    wrote: Option<bool>,
    pub touched: Touched,
    /// Of the last transaction that was committed in this generation.
    pub last: Touched,
    pub ended: Option<Ended>,
    /// Whose InitProducerId made `told`, if it named one (KIP-360): its retry is not a stranger's.
    pub bumped_from: Option<Producer>,
    pub used_at: At,
    pub stored_at: At,
}

impl Mapping {
    /// Nothing is rewritten.
    pub fn is_identity(&self) -> bool {
        self.shown == self.real && !self.resumed
    }

    /// The cluster's producer behind a client's; `None` for one that is older than the mapping.
    pub(super) fn real_of(&self, who: Producer) -> Option<Producer> {
        if self.is_identity() {
            return Some(who);
        }
        let ahead = who.epoch.checked_sub(self.shown.epoch)?;
        let epoch = self.real.epoch.checked_add(ahead)?;
        (who.id == self.shown.id && ahead >= 0).then_some(Producer { id: self.real.id, epoch })
    }

    /// What the client is told for a producer of the cluster; `None` if it takes a new mapping to say it.
    fn shown_of(&self, real: Producer) -> Option<Producer> {
        if real.id != self.real.id {
            return None;
        }
        if self.is_identity() {
            return Some(real);
        }
        let epoch = self.shown.epoch.checked_add(real.epoch.checked_sub(self.real.epoch)?)?;
        (epoch <= LAST_EPOCH).then_some(Producer { id: self.shown.id, epoch })
    }
}

impl Entry {
    pub fn new(told: Producer, timeout_ms: i32, mapping: Option<Mapping>, at: At) -> Self {
        Entry {
            told,
            exact: true,
            timeout_ms,
            mapping,
            broken: false,
            ending: Ending::Idle,
            wrote: Some(false),
            touched: Touched::default(),
            last: Touched::default(),
            ended: None,
            bumped_from: None,
            used_at: at,
            stored_at: at,
        }
    }

    /// As stored by this or another proxy, which may have seen more since.
    pub fn restored(record: Record) -> Self {
        let Record { told, timeout_ms, mapping, broken, at_ms } = record;
        let mut entry = Entry::new(told, timeout_ms, mapping, at_ms);
        (entry.exact, entry.broken, entry.ending, entry.wrote) = (false, broken, Ending::Unknown, None);
        entry
    }

    pub fn record(&self, at: At) -> Record {
        let (told, timeout_ms, mapping, broken) = (self.told, self.timeout_ms, self.mapping.clone(), self.broken);
        Record { told, timeout_ms, mapping, broken, at_ms: at }
    }

    pub fn mapping_in(&self, generation: Generation) -> Option<&Mapping> {
        self.mapping.as_ref().filter(|m| m.generation == generation)
    }

    /// Is it the incarnation that was told last? A stored epoch may have been passed since.
    fn is_current(&self, who: Producer) -> bool {
        who == self.told || (!self.exact && who.id == self.told.id && who.epoch > self.told.epoch)
    }

    pub fn judge(&mut self, who: Producer, ask: Ask, generation: Generation, fresh: i64) -> Verdict {
        match self.mapping_in(generation).map(|m| (m.is_identity(), m.real_of(who))) {
            Some((_, None)) => self.done_before(who, ask).unwrap_or(Verdict::Refuse(codes::fenced(ask))),
            Some((identity, Some(real))) => {
                if self.is_current(who) {
                    self.told = who;
                    self.track(who, ask);
                }
                if identity { Verdict::AsIs } else { Verdict::As(real) }
            }
            None => self.unmapped(who, ask, fresh),
        }
    }

    fn unmapped(&mut self, who: Producer, ask: Ask, fresh: i64) -> Verdict {
        if let Some(done) = self.done_before(who, ask) {
            return done;
        }
        if !self.is_current(who) {
            return Verdict::Refuse(codes::fenced(ask));
        }
        self.told = who;
        match ask {
            _ if !self.broken => Verdict::Map(self.timeout_ms),
            Ask::End { committed: false, version, .. } => {
                let told = if version >= ENDS_WITH_BUMP { who.bumped(fresh) } else { who };
                self.finish(who, false, told);
                self.broken = false;
                Verdict::Done(told)
            }
            ask => self.refuse_broken(ask),
        }
    }

    /// Java ends a transaction without an EndTxn when no addition to it was acknowledged: told to abort, it would be told so for
    /// ever.
    fn refuse_broken(&mut self, ask: Ask) -> Verdict {
        match (ask, self.wrote) {
            // Nothing was written: what was added before, if anything, is refused by the broker, and can be aborted there.
            (
                Ask::AddPartitions { library: Library::Java, .. } | Ask::AddOffsets { library: Library::Java, .. },
                Some(false),
            ) => {
                self.broken = false;
                Verdict::Map(self.timeout_ms)
            }
            (ask, None) => Verdict::Refuse(codes::broken(ask.of_other())),
            (ask, _) => Verdict::Refuse(codes::broken(ask)),
        }
    }

    /// A retry of the last EndTxn, whose reply was lost.
    fn done_before(&self, who: Producer, ask: Ask) -> Option<Verdict> {
        let Ask::End { committed, .. } = ask else { return None };
        let ended = self.ended.filter(|ended| ended.asked == who && ended.committed == committed);
        ended.map(|ended| Verdict::Done(ended.told))
    }

    /// A request of the current incarnation goes to the cluster.
    fn track(&mut self, who: Producer, ask: Ask) {
        match ask {
            Ask::Produce { transactional: false, .. } => {}
            Ask::End { .. } if self.done_before(who, ask).is_some() => {}
            Ask::End { version, committed, .. } => self.ending = Ending::Ending { asked: who, version, committed },
            _ => {
                self.ending = Ending::Open;
                self.ended = None;
                if matches!(ask, Ask::Produce { .. } | Ask::CommitOffsets { .. }) {
                    self.wrote = Some(true);
                }
            }
        }
    }

    fn finish(&mut self, asked: Producer, committed: bool, told: Producer) {
        self.told = told;
        (self.ending, self.wrote) = (Ending::Idle, Some(false));
        let touched = std::mem::take(&mut self.touched);
        if committed {
            self.last = touched;
        }
        self.ended = Some(Ended { asked, committed, told });
    }

    /// The cluster has ended the transaction; `real` is what it says of the producer from now on. Gives what the client is
    /// told; `true`: the mapping is another one, to be stored.
    pub fn ended(
        &mut self,
        asked: Producer,
        committed: bool,
        real: Option<Producer>,
        generation: Generation,
        fresh: i64,
    ) -> (Producer, bool) {
        let (told, moved) = match real {
            Some(real) => self.show(real, generation, fresh),
            None => (asked, false),
        };
        if asked == self.told {
            self.finish(asked, committed, told);
            self.exact |= real.is_some();
        }
        (told, moved)
    }

    /// The cluster has refused an EndTxn, and not only for the moment.
    pub fn end_refused(&mut self, who: Producer) {
        if matches!(self.ending, Ending::Ending { asked, .. } if asked == who) {
            self.ending = Ending::Unknown;
        }
    }

    /// What the client is told for a producer of the cluster. The mapping moves where the cluster gave another producer id, or
    /// the shown epoch is at its end.
    fn show(&mut self, real: Producer, generation: Generation, fresh: i64) -> (Producer, bool) {
        let Some(mapping) = self.mapping.as_mut().filter(|m| m.generation == generation) else { return (real, false) };
        if let Some(shown) = mapping.shown_of(real) {
            return (shown, false);
        }
        let shown = match mapping.is_identity() {
            true => real,
            false if real.id == mapping.real.id => Producer { id: fresh, epoch: 0 },
            false => self.told.bumped(fresh),
        };
        *mapping = Mapping { generation, shown, real, resumed: false, sequences: Default::default() };
        (shown, true)
    }

    /// The failed cluster is found to have committed the transaction.
    pub fn found_committed(&mut self, fresh: i64) {
        if let Ending::Ending { asked, version, committed: true } = self.ending {
            let told = if version >= ENDS_WITH_BUMP { asked.bumped(fresh) } else { asked };
            self.finish(asked, true, told);
        }
    }

    pub fn init(&self, asked: Option<Producer>, version: i16, generation: Generation) -> Init {
        let refuse = Init::Refuse(codes::init_fenced(version));
        let again = |who| self.bumped_from == Some(who);
        match (self.mapping_in(generation), asked) {
            (None, None) => Init::Map,
            (None, Some(who)) => {
                if self.is_current(who) || again(who) {
                    Init::Map
                } else {
                    refuse
                }
            }
            (Some(_), None) => Init::AsIs,
            (Some(m), Some(_)) if m.is_identity() => Init::AsIs,
            (Some(m), Some(who)) => {
                let who = if again(who) { self.told } else { who };
                m.real_of(who).map_or(refuse, Init::As)
            }
        }
    }

    /// The cluster gave `real` for an InitProducerId that was sent on under this mapping. Gives what the client is told.
    pub fn initialised(
        &mut self,
        asked: Option<Producer>,
        timeout_ms: i32,
        real: Producer,
        generation: Generation,
        fresh: i64,
    ) -> Producer {
        let (shown, moved) = self.show(real, generation, fresh);
        // Replies to two incarnations may come in the wrong order: the cluster has fenced the lower one.
        if moved || shown.id != self.told.id || shown.epoch >= self.told.epoch {
            self.begin(shown, asked, timeout_ms);
        }
        shown
    }

    pub fn begin(&mut self, told: Producer, asked: Option<Producer>, timeout_ms: i32) {
        (self.told, self.exact, self.broken) = (told, true, false);
        (self.timeout_ms, self.bumped_from) = (timeout_ms, asked);
        (self.ending, self.ended, self.touched) = (Ending::Idle, None, Touched::default());
        self.wrote = Some(false);
    }

    /// A mapping for a client that goes on as it is: the coordinator gave `real` to a new incarnation.
    pub fn map_use(&mut self, real: Producer, generation: Generation) {
        // A producer id that is new to the cluster takes any first sequence; a known one's new epoch begins at 0.
        let resumed = real.epoch > 0;
        let shown = self.told;
        self.mapping = Some(Mapping { generation, shown, real, resumed, sequences: Default::default() });
        self.exact = true;
    }

    /// As [`Self::map_use`], for an InitProducerId; gives what the client is told.
    pub fn map_init(
        &mut self,
        asked: Option<Producer>,
        timeout_ms: i32,
        real: Producer,
        generation: Generation,
        fresh: i64,
    ) -> Producer {
        let shown = match self.told {
            // Epochs above the stored one may have been told: only another id is certain to fence them.
            _ if !self.exact => Producer { id: fresh, epoch: 0 },
            told if told.id == real.id && told.epoch < real.epoch => real,
            told => told.bumped(fresh),
        };
        self.mapping = Some(Mapping { generation, shown, real, resumed: false, sequences: Default::default() });
        self.begin(shown, asked, timeout_ms);
        shown
    }

    /// The cluster's sequence for a client's batch of this partition.
    pub fn sequence(
        &self,
        who: Producer,
        version: i16,
        partition: &str,
        sequence: i32,
        generation: Generation,
        at: At,
    ) -> Sequence {
        let mapping = self.mapping_in(generation).filter(|m| m.resumed && m.shown == who);
        let Some(mapping) = mapping.filter(|_| version < OWN_EPOCH && sequence >= 0) else {
            return Sequence::As(sequence);
        };
        match mapping.sequences.get(partition) {
            // Sequences wrap from int32 max to 0.
            Some(first) => Sequence::As(sequence.wrapping_sub(*first) & i32::MAX),
            None if mapping.sequences.len() >= MAX_SEQUENCES => {
                Sequence::Refuse(codes::broken(Ask::Produce { version, transactional: true }))
            }
            None => {
                let mut record = self.record(at);
                if let Some(mapping) = &mut record.mapping {
                    mapping.sequences.insert(partition.to_owned(), sequence);
                }
                Sequence::Store(record)
            }
        }
    }
}
