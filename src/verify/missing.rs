//! Records of a compacted topic that one cluster has and the other lacks: right if a later record has the same key, which
//! only the rest of the log can tell. Pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use super::feed::Side;
use crate::records::RecordRef;

/// Keys that may wait for a later record at a time, in one partition: about 64 bytes each, so 64 MiB at most. Reached only
/// if one cluster has compacted a million keys that the other has not.
pub const MAX_MISSING_KEYS: usize = 1 << 20;

/// Two different 64-bit hashes of a key: at [`MAX_MISSING_KEYS`] two keys fall together less than once in 10^26 runs.
type KeyHash = (u64, u64);

/// The missing records that nothing later has explained yet; of each key the last one, which explains those before it.
#[derive(Debug, Default)]
pub(super) struct Missing {
    by_key: HashMap<KeyHash, (i64, Side)>,
    overflowed: bool,
}

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// There were more than [`MAX_MISSING_KEYS`]: what the comparison says is no proof.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// A record exists (on either side): whatever was missing under its key before is explained.
    pub fn seen(&mut self, record: &RecordRef<'_>) {
        if let Some(key) = record.key.filter(|_| !self.by_key.is_empty()) {
            self.by_key.remove(&hash(key));
        }
    }

    /// `side` lacks a record that the other has. A record without a key never survives the cleaner, a tombstone not for
    /// ever (`delete.retention.ms`): neither needs an explanation.
    pub fn lacks(&mut self, side: Side, logical: i64, record: &RecordRef<'_>, limit: usize) {
        self.seen(record);
        let (Some(key), Some(_)) = (record.key, record.value) else { return };
        if self.by_key.len() < limit {
            self.by_key.insert(hash(key), (logical, side));
        } else {
            self.overflowed = true;
        }
    }

    /// What stayed unexplained, in logical order: where, and which side lacks it.
    pub fn into_rest(self) -> Vec<(i64, Side)> {
        let mut rest: Vec<_> = self.by_key.into_values().collect();
        rest.sort_unstable_by_key(|&(logical, _)| logical);
        rest
    }
}

fn hash(key: &[u8]) -> KeyHash {
    let salted = |salt| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(key);
        hasher.finish()
    };
    (salted(0), salted(1))
}
