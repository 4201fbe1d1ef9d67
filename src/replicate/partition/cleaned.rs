//! What the log cleaner took of a compacted topic before it was copied. Mostly that is of no account: a later record has the same
//! key. But a deletion (a tombstone) goes too, `delete.retention.ms` after it was cleaned, and then the copy keeps what was
//! deleted. Which keys those are nobody can tell without reading both logs (`verify` does), so the hole is told.

use std::collections::BTreeMap;

use super::{Stream, now_ms};

const KEEPS: &str = "delete.retention.ms";
/// Kafka's default.
const KEEPS_MS: i64 = 86_400_000;

impl Stream {
    /// `gaps`: offsets of the active cluster that its log has nothing of.
    pub(super) fn note_cleaned(&self, gaps: &[(i64, i64)]) {
        let tp = &self.partition.tp;
        let Some(topic) = self.direction.catalog.topic(&tp.topic).filter(|topic| topic.is_compacted()) else { return };
        if gaps.is_empty() || !may_lack_deletions(self.partition.level_at_ms(), now_ms(), &topic.settings()) {
            return;
        }
        let Ok(offsets) = self.offsets() else { return };
        let map = offsets.map(self.direction.from);
        let known = self.partition.holes();
        let told = |from, to| known.iter().any(|&(a, b)| a <= from && to <= b);
        for &(from, to) in gaps {
            let (from, to) = (map.position_out(from), map.position_out(to));
            if from < to && !told(from, to) {
                tracing::warn!(%tp, from, to, "the active cluster has cleaned records away before they were copied");
                self.partition.note_hole(from, to);
            }
        }
    }
}

/// Whether a deletion that was written since the copy was last level (or empty; 0: not known) may have been cleaned away.
fn may_lack_deletions(level_at_ms: i64, now_ms: i64, settings: &BTreeMap<String, String>) -> bool {
    let keeps = settings.get(KEEPS).and_then(|value| value.parse().ok()).unwrap_or(KEEPS_MS);
    level_at_ms == 0 || now_ms.saturating_sub(level_at_ms) >= keeps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_are_kept_for_a_while() {
        let (none, short) = (BTreeMap::new(), BTreeMap::from([(KEEPS.to_owned(), "100".to_owned())]));
        assert!(!may_lack_deletions(1_000, 1_099, &short));
        assert!(may_lack_deletions(1_000, 1_100, &short));
        assert!(!may_lack_deletions(1_000, KEEPS_MS, &none));
        assert!(may_lack_deletions(0, 1_000, &none), "nobody knows since when it is behind");
    }
}
