//! Rewriting of requests and replies between what clients see (virtual) and what the active cluster sees (real).
//! Pure: one file per API; everything it needs to know comes in through [`Translate`].

use uuid::Uuid;

/// What one generation knows about translating between the client's world and the active cluster's.
/// `*_in` is client -> cluster (requests), `*_out` is cluster -> client (replies).
pub trait Translate: Send + Sync {
    /// Virtual cluster id, stable for ever.
    fn cluster_id(&self) -> &str;

    /// Virtual broker id -> real node id on the active cluster. Negative ids map to themselves; `None`: no such broker.
    fn broker_in(&self, virtual_id: i32) -> Option<i32>;
    /// Real node id -> virtual broker id. Negative ids map to themselves; `None`: a broker without a virtual identity.
    fn broker_out(&self, real_id: i32) -> Option<i32>;
    /// Every virtual broker (id, host, port) behind which a broker of `alive` (real node ids) stands. Several virtual
    /// brokers may stand before one real broker (the active cluster may be smaller than the other).
    fn brokers(&self, alive: &[i32]) -> Vec<(i32, String, u16)>;
    /// Host and port clients are told for a virtual broker id; `None`: unknown id.
    fn endpoint(&self, virtual_id: i32) -> Option<(String, u16)>;

    /// Virtual leader epoch -> the active cluster's; -1 ("do not check") for an epoch of an earlier generation.
    fn epoch_in(&self, virtual_epoch: i32) -> i32;
    /// The active cluster's current leader epoch -> virtual. -1 stays -1.
    fn epoch_out(&self, real_epoch: i32) -> i32;
    /// End (logical offset, exclusive) of the records written in the generation of `virtual_epoch`, if that is an earlier
    /// generation than the current one; `None` if the epoch is of the current generation (the cluster must be asked).
    fn epoch_end(&self, topic: &str, partition: i32, virtual_epoch: i32) -> Option<i64>;

    /// Virtual topic id -> real; an unknown id and the zero id are passed through (the cluster answers UNKNOWN_TOPIC_ID).
    fn topic_id_in(&self, virtual_id: Uuid) -> Uuid;
    /// Real topic id -> virtual. `name` is given where the reply has it: a topic seen for the first time is registered.
    fn topic_id_out(&self, name: Option<&str>, real_id: Uuid) -> Uuid;
    /// Topic name of a virtual topic id.
    fn topic_name(&self, virtual_id: Uuid) -> Option<String>;
    /// Topics that clients must not see or touch (the proxy's own state topic).
    fn hidden(&self, topic: &str) -> bool;

    /// Logical offset -> the active cluster's: the first cluster offset that holds a record at or after it.
    /// Negative values are symbolic and stay.
    fn offset_in(&self, topic: &str, partition: i32, logical: i64) -> i64;
    /// A position (next record to read; end offsets included) of the active cluster -> logical. Negatives stay.
    fn offset_out(&self, topic: &str, partition: i32, cluster: i64) -> i64;
}
