//! The records of the state topic: a text key, a JSON value. Readable with any console consumer at 3 a.m.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::model::Generation;
use crate::offsets::{OffsetMap, Run};

/// Runs of one offset map that one record holds; a map of more runs takes several records, of which a new run touches only
/// the last, which is written anew: some hundred bytes. Runs that are forgotten leave whole records behind.
pub const RUNS_PER_RECORD: usize = 64;
/// Partitions whose cuts one record holds.
pub const CUTS_PER_RECORD: usize = 1000;

/// Every kind of key. `/` separates; topic names cannot contain it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Generation,
    /// Which process writes here.
    Owner,
    Topic {
        topic: String,
    },
    Map {
        cluster: String,
        topic: String,
        partition: i32,
        part: usize,
    },
    Cut {
        generation: Generation,
        part: usize,
    },
    Brokers {
        cluster: String,
    },
    InSync {
        topic: String,
        partition: i32,
    },
    /// Copies of this generation carry the stream's stamp.
    Stamped {
        topic: String,
        partition: i32,
    },
    Report {
        generation: Generation,
    },
    Divergence {
        cluster: String,
        topic: String,
        partition: i32,
        generation: Generation,
        /// Where it begins, for one that no cutover left behind.
        from: Option<i64>,
    },
    /// A transactional id, which may hold any character, `/` too.
    Transaction {
        id: String,
    },
}

impl Key {
    pub fn encode(&self) -> String {
        match self {
            Key::Generation => "generation".into(),
            Key::Owner => "owner".into(),
            Key::Topic { topic } => format!("topic/{topic}"),
            Key::Map { cluster, topic, partition, part } => format!("map/{cluster}/{topic}/{partition}/{part}"),
            Key::Cut { generation, part } => format!("cut/{generation}/{part}"),
            Key::Brokers { cluster } => format!("brokers/{cluster}"),
            Key::InSync { topic, partition } => format!("in-sync/{topic}/{partition}"),
            Key::Stamped { topic, partition } => format!("stamped/{topic}/{partition}"),
            Key::Report { generation } => format!("report/{generation}"),
            Key::Divergence { cluster, topic, partition, generation, from } => {
                let from = from.map_or_else(String::new, |from| format!("/{from}"));
                format!("divergence/{cluster}/{topic}/{partition}/{generation}{from}")
            }
            Key::Transaction { id } => format!("txn/{id}"),
        }
    }

    /// `None` for a key of another (later) version of this program: it is left alone.
    pub fn decode(text: &str) -> Option<Key> {
        if let Some(id) = text.strip_prefix("txn/") {
            return Some(Key::Transaction { id: id.to_owned() });
        }
        let mut parts = text.split('/');
        let kind = parts.next()?;
        let mut next = || parts.next().map(str::to_owned);
        let key = match kind {
            "generation" => Key::Generation,
            "owner" => Key::Owner,
            "topic" => Key::Topic { topic: next()? },
            "map" => Key::Map {
                cluster: next()?,
                topic: next()?,
                partition: next()?.parse().ok()?,
                part: next()?.parse().ok()?,
            },
            "cut" => Key::Cut { generation: next()?.parse().ok()?, part: next()?.parse().ok()? },
            "brokers" => Key::Brokers { cluster: next()? },
            "in-sync" => Key::InSync { topic: next()?, partition: next()?.parse().ok()? },
            "stamped" => Key::Stamped { topic: next()?, partition: next()?.parse().ok()? },
            "report" => Key::Report { generation: next()?.parse().ok()? },
            "divergence" => Key::Divergence {
                cluster: next()?,
                topic: next()?,
                partition: next()?.parse().ok()?,
                generation: next()?.parse().ok()?,
                from: next().map(|from| from.parse()).transpose().ok()?,
            },
            _ => return None,
        };
        parts.next().is_none().then_some(key)
    }
}

/// What every value is wrapped in: the copy with the highest (generation, seq) of the two clusters counts.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Stored<T> {
    pub generation: Generation,
    /// Rises with every write of this proxy (microseconds since 1970 at least).
    pub seq: u64,
    pub data: T,
}

impl<T: DeserializeOwned> Stored<T> {
    pub fn decode(value: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }
}

/// Which process writes a state topic; each writes this first.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Owner {
    pub instance: Uuid,
    pub host: String,
    pub pid: u32,
    /// Unix milliseconds of its start.
    pub since_ms: i64,
}

/// Who is active. Written with the cut, last: this record is the commit of a cutover.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct GenerationRecord {
    pub generation: Generation,
    pub active: String,
    /// The cluster id that clients see, for ever.
    pub cluster_id: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct TopicRecord {
    pub virtual_id: Uuid,
    pub born_on: String,
    pub born_in: Generation,
    /// The topic's own id by cluster name.
    pub ids: std::collections::BTreeMap<String, Uuid>,
    /// The topic's own settings, as the active cluster has them: the standby's copy has others until it becomes active.
    #[serde(default)]
    pub settings: std::collections::BTreeMap<String, String>,
}

/// Some runs of an offset map, each as differences to the run before (logical start, cluster start) and its length, -1 for
/// open. Cluster offsets at or above that cluster's log end mean nothing yet: runs are stored before they are filled.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct MapRecord {
    pub runs: Vec<(i64, i64, i64)>,
}

impl MapRecord {
    /// The records, by part, that make what is stored of a map what the map is. Parts are counted from the first run that it
    /// ever had; those in front of [`Self::first_part`] are gone. Parts that it no longer has are emptied: an old one behind the
    /// others would be read as if it belonged to them.
    pub fn unstored(map: &OffsetMap) -> impl Iterator<Item = (usize, MapRecord)> {
        let (front, kept) = (Self::first_part(map), map.kept());
        let changed = kept.unstored < map.forgotten() + map.runs().len();
        let first = if changed { (kept.unstored / RUNS_PER_RECORD).max(front) } else { Self::end_part(map) };
        let end = Self::end_part(map).max(kept.end.div_ceil(RUNS_PER_RECORD));
        let runs = move |part: usize| map.runs().chunks(RUNS_PER_RECORD).nth(part - front).unwrap_or_default();
        (first..end).map(move |part| (part, Self::encode(runs(part))))
    }

    /// The first part that a map has: runs are forgotten by the part.
    pub fn first_part(map: &OffsetMap) -> usize {
        map.forgotten() / RUNS_PER_RECORD
    }

    /// The number behind a map's last part.
    fn end_part(map: &OffsetMap) -> usize {
        Self::first_part(map) + map.runs().len().div_ceil(RUNS_PER_RECORD)
    }

    /// All parts under which something of a map may be stored, or would be: one at least.
    pub fn parts(map: &OffsetMap) -> std::ops::Range<usize> {
        let end = Self::end_part(map).max(map.kept().end.div_ceil(RUNS_PER_RECORD));
        Self::first_part(map)..end.max(Self::first_part(map) + 1)
    }

    fn encode(runs: &[Run]) -> MapRecord {
        let (mut logical, mut cluster) = (0, 0);
        let encode = |run: &Run| {
            let delta = (run.logical - logical, run.cluster - cluster, if run.len == Run::OPEN { -1 } else { run.len });
            (logical, cluster) = (run.logical, run.cluster);
            delta
        };
        MapRecord { runs: runs.iter().map(encode).collect() }
    }

    /// Puts parts together again, of which the first is number `first`; `None` if they do not make a rising map.
    pub fn join<'a>(first: usize, parts: impl IntoIterator<Item = &'a MapRecord>) -> Option<OffsetMap> {
        let mut runs = Vec::new();
        for part in parts {
            let (mut logical, mut cluster) = (0i64, 0i64);
            for &(l, c, len) in &part.runs {
                logical = logical.checked_add(l)?;
                cluster = cluster.checked_add(c)?;
                runs.push(Run { logical, cluster, len: if len == -1 { Run::OPEN } else { len } });
            }
        }
        let mut map = OffsetMap::from_runs_behind(first.checked_mul(RUNS_PER_RECORD)?, runs)?;
        let kept = map.storing();
        map.stored(kept);
        Some(map)
    }
}

/// Cuts of a cutover: (topic, partition, first logical offset of the new generation, log end of the new active cluster, end
/// on the old one).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct CutRecord {
    pub to: String,
    /// A switchover; `false` for a failover and in records of before this was stored.
    #[serde(default)]
    pub planned: bool,
    pub cuts: Vec<(String, i32, i64, i64, i64)>,
    /// Of transactions that a failover completed: (topic, partition, first offset on the old cluster, offset behind the last).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub completed: Vec<(String, i32, i64, i64)>,
}

/// Whether the standby is in sync, for partitions of `sync` topics; stored before the state is left.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct InSyncRecord {
    pub in_sync: bool,
    /// From this logical offset on the standby may lack acknowledged records.
    pub from: i64,
}

/// From this offset of the active cluster on, until the end of the generation, copies carry the stream's stamp.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct StampedRecord {
    pub from: i64,
}

/// What an operator had done with a masked range.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Handling {
    /// Its records are being written again, or were when the proxy ended.
    Reinjecting,
    Reinjected,
    Discarded,
}

/// A masked range that is dealt with (`Key::Divergence` names it by the generation whose cutover left it behind, or in which
/// the active cluster lost it, and where it begins). While it is
/// re-injected this is the place to go on from: everything below `next` is stored on the active cluster for certain.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct DivergenceRecord {
    pub handling: Handling,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Offset of the retired cluster of the next record to be written.
    #[serde(default)]
    pub next: i64,
    /// Sequence number that this record gets, under the producer id of the range.
    #[serde(default)]
    pub sequence: i32,
    /// Logical offset at or above which it is stored, if it is.
    #[serde(default)]
    pub logical: i64,
    /// The active generation in which this was written.
    #[serde(default)]
    pub written_in: Generation,
    /// Records written so far.
    #[serde(default)]
    pub records: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_come_back() {
        let t = || "a.b_c-d".to_string();
        for key in [
            Key::Generation,
            Key::Owner,
            Key::Topic { topic: t() },
            Key::Map { cluster: "east".into(), topic: t(), partition: 3, part: 2 },
            Key::Cut { generation: 7, part: 0 },
            Key::Brokers { cluster: "east".into() },
            Key::InSync { topic: t(), partition: 0 },
            Key::Stamped { topic: t(), partition: 2 },
            Key::Report { generation: 7 },
            Key::Divergence { cluster: "east".into(), topic: t(), partition: 3, generation: 7, from: None },
            Key::Divergence { cluster: "west".into(), topic: t(), partition: 3, generation: 7, from: Some(90) },
            Key::Transaction { id: "app/0_1 \u{e9}".into() },
        ] {
            assert_eq!(Key::decode(&key.encode()), Some(key));
        }
        for foreign in ["", "topic", "map/e/t/x/0", "generation/1", "later/thing"] {
            assert_eq!(Key::decode(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_map_of_many_runs_takes_several_records_and_few_bytes_a_run() {
        let mut map = OffsetMap::default();
        for i in 0..2000 {
            map.append(i * 7 + 1_000_000, i * 5, 3);
        }
        let split = |map: &OffsetMap| MapRecord::unstored(map).map(|(_, record)| record).collect::<Vec<_>>();
        let parts = split(&map);
        assert_eq!(parts.len(), 2000_usize.div_ceil(RUNS_PER_RECORD));
        let mut read = MapRecord::join(0, &parts).unwrap();
        assert_eq!(read, map);
        let bytes: usize = parts.iter().map(|p| serde_json::to_vec(p).unwrap().len()).sum();
        assert!(bytes < 2000 * 10, "{bytes} bytes");
        assert_eq!(split(&read), [], "as it is stored");
        map.forget_below(5 * 1000, RUNS_PER_RECORD);
        let first = MapRecord::first_part(&map);
        assert!(first > 10 && map.forgotten() == first * RUNS_PER_RECORD);
        assert_eq!((split(&map), MapRecord::parts(&map)), (parts[first..].to_vec(), first..parts.len()));
        assert_eq!(MapRecord::join(first, &parts[first..]), Some(map));
        assert_eq!(MapRecord::join(0, [&parts[1], &parts[0]]), None);
        // What is not there any more is emptied, behind the last one that has changed.
        read.close_at_cluster(5 * RUNS_PER_RECORD as i64 * 3);
        let changed: Vec<_> = MapRecord::unstored(&read).map(|(part, record)| (part, record.runs.len())).collect();
        assert_eq!(changed[..2], [(3, 0), (4, 0)]);
        assert_eq!((changed.len(), MapRecord::parts(&read)), (parts.len() - 3, 0..parts.len()));
    }

    proptest! {
        #[test]
        fn maps_come_back(gaps in prop::collection::vec((0i64..1 << 40, 0i64..1 << 40, 1i64..1 << 20), 0..30), open: bool) {
            let (mut l, mut c) = (0, 0);
            let mut map = OffsetMap::default();
            for (gl, gc, n) in gaps {
                map.append(l + gl, c + gc, n);
                (l, c) = (l + gl + n, c + gc + n);
            }
            if open { map.append(l + 1, c, Run::OPEN); }
            let parts: Vec<_> = MapRecord::unstored(&map).map(|(_, record)| record).collect();
            prop_assert_eq!(MapRecord::join(0, &parts), Some(map));
        }
    }
}
