//! The few words that every room shares: which cluster, which generation, which partition.

use std::fmt;
use std::sync::Arc;

/// Which of the two configured clusters: 0 is the one configured as `active` at the first start, 1 the other.
/// Stable for ever; roles swap over a cutover, indices do not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ClusterIx(u8);

impl ClusterIx {
    pub const FIRST: ClusterIx = ClusterIx(0);
    pub const SECOND: ClusterIx = ClusterIx(1);
    pub const BOTH: [ClusterIx; 2] = [ClusterIx(0), ClusterIx(1)];

    /// The cluster that is not this one.
    pub fn other(self) -> ClusterIx {
        ClusterIx(1 - self.0)
    }

    /// 0 or 1, for indexing a `[T; 2]`.
    pub fn ix(self) -> usize {
        usize::from(self.0)
    }
}

/// Plus one at each cutover; the fencing token of everything.
pub type Generation = u32;

/// A partition by name.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
