//! Transactional producers over cutovers: the rules for what becomes of their requests. Pure: generation, time and
//! entropy come in as arguments.
//!
//! Everything is remembered by the transactional id as text, never by producer id: two clusters give the same numbers to
//! different producers. What a cluster's coordinator gives in the generation in which an id is first seen is what clients
//! see, so nothing is rewritten then. After a cutover the first request of an id makes a mapping: the new cluster's
//! coordinator gives a producer id of its own, and the client's goes on to stand for it.
//!
//! ```text
//!            InitProducerId                cutover, nothing open             first request
//!  unknown ------------------> mapped ---------------------------> unmapped ---------------> mapped
//!                                |   cutover, a transaction open                 ^
//!                                +------------------------------> broken --------+
//!                                                     EndTxn(abort), InitProducerId
//! ```
//!
//! `memory` holds what is known of all ids, `entry` the rules of one, `kept` the batches of what is open, `codes` the errors
//! that clients can live with.

mod codes;
mod entry;
mod kept;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Generation, TopicPartition};
use crate::stream::Ranges;

pub use entry::{Ending, Sequence};
pub use kept::{Batches, Whole};
pub use memory::{InDoubt, MAX_IDS, Memory};

/// Highest epoch that a producer is given; at the next one there is a new producer id (Kafka class TransactionMetadata,
/// `isEpochExhausted`: one is left for fencing).
pub const LAST_EPOCH: i16 = i16::MAX - 1;

/// Milliseconds since 1970.
pub type At = i64;

/// A producer id with its epoch: who a transactional producer says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

impl Producer {
    pub const NONE: Producer = Producer { id: -1, epoch: -1 };

    /// The next epoch; `fresh` is a new producer id for when there is none.
    fn bumped(self, fresh: i64) -> Producer {
        match self.epoch {
            epoch if epoch < LAST_EPOCH => Producer { id: self.id, epoch: epoch + 1 },
            _ => Producer { id: fresh, epoch: 0 },
        }
    }
}

/// Whose library the sender of a request is, as far as it takes errors otherwise than others of the same version do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Library {
    /// Apache Kafka's own for Java, by its name in ApiVersions (KIP-511).
    Java,
    #[default]
    Other,
}

/// A request of a transactional producer. The version decides which errors its sender knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `transactional`: the batch is part of a transaction (a plain one under a transactional id is legal).
    Produce {
        version: i16,
        transactional: bool,
    },
    AddPartitions {
        version: i16,
        library: Library,
    },
    AddOffsets {
        version: i16,
        library: Library,
    },
    CommitOffsets {
        version: i16,
    },
    End {
        version: i16,
        committed: bool,
        library: Library,
    },
}

impl Ask {
    /// The same of a library of which nothing is known.
    fn of_other(mut self) -> Self {
        if let Ask::AddPartitions { library, .. } | Ask::AddOffsets { library, .. } | Ask::End { library, .. } =
            &mut self
        {
            *library = Library::Other;
        }
        self
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the cluster as the client sent it.
    AsIs,
    /// It goes with this producer in the place of the client's.
    As(Producer),
    /// The new cluster's coordinator must be asked for a producer first ([`Memory::map`]), with this transaction timeout
    /// (milliseconds). Then the request is judged again.
    Map(i32),
    /// The proxy answers with this error code.
    Refuse(i16),
    /// An EndTxn that the proxy answers: it is done, and this is the producer's epoch from now on.
    Done(Producer),
}

/// What becomes of an InitProducerId.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    AsIs,
    /// It goes with this producer in the place of the client's.
    As(Producer),
    /// The proxy asks the coordinator itself, for a new incarnation, and answers with what [`Memory::map`] gives.
    Map,
    Refuse(i16),
}

/// The mapping of one generation: the cluster's producer behind the one that clients see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    pub generation: Generation,
    /// First of this mapping, as clients see it. The distance of the epochs stays.
    pub shown: Producer,
    pub real: Producer,
    /// The client goes on with its sequences although the cluster expects those of a new epoch, from 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// With `resumed`: by topic and partition, the client's first sequence under this mapping.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sequences: BTreeMap<String, i32>,
}

/// What outlives the proxy of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Highest that a client is known to have been told. Under transaction protocol 2 the epoch rises with every
    /// transaction (KIP-890), which is not stored each time.
    pub told: Producer,
    /// Milliseconds, as the client asked for.
    pub timeout_ms: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// A transaction was open when its cluster was left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broken: bool,
    pub at_ms: At,
}

/// Offsets that a transaction commits for one group: partition, the active cluster's offset, metadata.
pub type Offsets = Vec<(TopicPartition, i64, String)>;

/// What an open transaction has touched, as far as it went through this proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// By partition: where its records are, in the active cluster's offsets.
    pub partitions: BTreeMap<TopicPartition, Ranges>,
    /// By group.
    pub offsets: BTreeMap<String, Offsets>,
}
