//! The pure part of a stream: what order batches cross in, which of them cross, how they are stamped, and which
//! duplicates the proxy answers itself. No I/O.

mod bypass;
mod duplicates;
mod lineage;
mod plan;
mod ranges;
mod tee;

pub use bypass::Bypass;
pub use duplicates::{DuplicateWindow, Seen};
pub use lineage::{Change, Lineage, Look};
pub use plan::{Append, Cursor, Plan, PlanError, Stamp, StampState, apply_breaks, plan, plan_placed, plan_teed, seen};
pub use ranges::Ranges;
pub use tee::{TeeBuffer, TeeItem};

use crate::model::Generation;

/// Producer ids that the proxy hands out (and stamps with) have bit 62 set: no cluster ever allocates one.
pub const NAMESPACE: i64 = 1 << 62;
/// Ids with which streams stamp batches that carry no usable producer id have this bit as well.
const STREAM_BIT: i64 = 1 << 61;
/// Ids of clients carry the generation in these bits on their way to a cluster, see [`cluster_producer_id`].
const GENERATION_BITS: i64 = 0x7ff << GENERATION_SHIFT;
const GENERATION_SHIFT: u32 = 50;

/// True for an id that the proxy gave to a client, whatever the generation: valid on both clusters.
pub fn is_client_id(producer_id: i64) -> bool {
    producer_id > 0 && producer_id & NAMESPACE != 0 && producer_id & STREAM_BIT == 0
}

/// An id for a client's idempotent producer out of 64 random bits.
pub fn client_producer_id(random: u64) -> i64 {
    NAMESPACE | (random as i64 & ((1 << GENERATION_SHIFT) - 1))
}

/// The id under which a cluster gets a client's batches in this generation. A copy may lack the id's latest sequences (a
/// stream that was behind stamps with its own); under the same id the cluster would then refuse the client's next batch,
/// once it is active, as out of order. An id that it has never seen may begin anywhere.
pub fn cluster_producer_id(client: i64, generation: Generation) -> i64 {
    client_id_of(client) | ((i64::from(generation) << GENERATION_SHIFT) & GENERATION_BITS)
}

/// The client's id behind one that a cluster stores.
pub fn client_id_of(producer_id: i64) -> i64 {
    if is_client_id(producer_id) { producer_id & !GENERATION_BITS } else { producer_id }
}

/// The id with which the stream of a partition stamps: the same whoever runs the stream, so that the next owner goes on
/// with the same sequence and an append stays a compare-and-set (FNV-1a over name, partition and direction).
pub fn stream_producer_id(topic: &str, partition: i32, to: crate::model::ClusterIx) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let tail = partition.to_be_bytes();
    for byte in topic.bytes().chain(tail).chain([to.ix() as u8]) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    NAMESPACE | STREAM_BIT | (hash as i64 & (STREAM_BIT - 1))
}

/// The id under which the state topics are written, by whatever process: the epoch tells the processes apart. `round`: how
/// often epochs have been used up.
pub fn state_producer_id(round: i32) -> i64 {
    // Not a topic's name.
    stream_producer_id("state topic/writers", round, crate::model::ClusterIx::FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClusterIx;

    #[test]
    fn namespaces_do_not_meet() {
        for random in [0, 1, u64::MAX, 1 << 61, 1 << 62, 1 << 63] {
            let id = client_producer_id(random);
            assert!(id > 0 && is_client_id(id));
        }
        let client = client_producer_id(u64::MAX);
        assert_eq!(cluster_producer_id(client, 0), client, "nothing is changed before the first cutover");
        for generation in [1, 2, 2047] {
            let stored = cluster_producer_id(client, generation);
            assert!(stored != client && is_client_id(stored) && client_id_of(stored) == client);
            assert_eq!(cluster_producer_id(stored, generation), stored);
        }
        let stream = stream_producer_id("t", 0, ClusterIx::SECOND);
        assert_eq!(client_id_of(stream), stream);
        assert!(stream > 0 && !is_client_id(stream));
        assert_ne!(stream, stream_producer_id("t", 1, ClusterIx::SECOND));
        assert_ne!(stream, stream_producer_id("t", 0, ClusterIx::FIRST));
        assert!(!is_client_id(4000) && !is_client_id(-1));
    }
}
