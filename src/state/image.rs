//! What the records of both clusters' state topics mean together. Pure: records in, state out.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::records::{
    CutRecord, DivergenceRecord, GenerationRecord, InSyncRecord, Key, MapRecord, Owner, Stored, TopicRecord,
};
use crate::model::{ClusterIx, Generation};
use crate::offsets::{Cut, OffsetMap, PartitionOffsets};
use crate::transactions;

/// The newest copy of every record.
#[derive(Clone, Debug, Default)]
pub struct Image {
    records: BTreeMap<Key, (Generation, u64, Value)>,
}

impl Image {
    /// Takes one record of a state topic, in log order. Copies with a higher (generation, seq) win; a tombstone removes
    /// what was read from the same cluster before it. Records that cannot be read are reported, never guessed.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let Ok(text) = std::str::from_utf8(key) else { return Ok(()) };
        let Some(key) = Key::decode(text) else { return Ok(()) };
        let Some(value) = value else {
            self.records.remove(&key);
            return Ok(());
        };
        let stored: Stored<Value> =
            Stored::decode(value).map_err(|e| format!("state record {text} cannot be read: {e}"))?;
        self.put(key, stored.generation, stored.seq, stored.data);
        Ok(())
    }

    fn put(&mut self, key: Key, generation: Generation, seq: u64, data: Value) {
        // Clocks do not decide who owns a topic: the log's order does.
        let newer = key == Key::Owner || self.records.get(&key).is_none_or(|&(g, s, _)| (g, s) < (generation, seq));
        if newer {
            self.records.insert(key, (generation, seq, data));
        }
    }

    /// Takes over the other cluster's image.
    pub fn merge(&mut self, other: Image) {
        for (key, (generation, seq, data)) in other.records {
            self.put(key, generation, seq, data);
        }
    }

    /// All records as they are stored; the generation comes last, as in the write that commits it.
    pub fn stored(&self) -> impl Iterator<Item = (&Key, Stored<&Value>)> {
        let last = |key: &Key| matches!(key, Key::Generation);
        let first = self.records.iter().filter(move |(key, _)| !last(key));
        let all = first.chain(self.records.iter().filter(move |(key, _)| last(key)));
        all.map(|(key, (generation, seq, data))| (key, Stored { generation: *generation, seq: *seq, data }))
    }

    /// What `other` lacks, or has older copies of: to be written there in this order.
    pub fn news_for(&self, other: &Image) -> impl Iterator<Item = (&Key, Stored<&Value>)> {
        self.stored().filter(|(key, stored)| {
            let known = other.records.get(*key).map(|&(generation, seq, _)| (generation, seq));
            // Who owns a state topic is said there alone.
            **key != Key::Owner && known.is_none_or(|known| known < (stored.generation, stored.seq))
        })
    }

    fn get<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Option<T> {
        self.records.get(key).and_then(|(_, _, data)| serde_json::from_value(data.clone()).ok())
    }

    pub fn generation(&self) -> Option<GenerationRecord> {
        self.get(&Key::Generation)
    }

    /// The process that last took a state topic over.
    pub fn owner(&self) -> Option<Owner> {
        self.get(&Key::Owner)
    }

    pub fn brokers(&self, cluster: &str) -> Vec<i32> {
        self.get(&Key::Brokers { cluster: cluster.into() }).unwrap_or_default()
    }

    pub fn topics(&self) -> Vec<(String, TopicRecord)> {
        let topic = |key: &Key| match key {
            Key::Topic { topic } => self.get(key).map(|record| (topic.clone(), record)),
            _ => None,
        };
        self.records.keys().filter_map(topic).collect()
    }

    pub fn in_sync(&self) -> HashMap<(String, i32), InSyncRecord> {
        let entry = |key: &Key| match key {
            Key::InSync { topic, partition } => self.get(key).map(|record| ((topic.clone(), *partition), record)),
            _ => None,
        };
        self.records.keys().filter_map(entry).collect()
    }

    /// Partitions whose copies carry the stream's stamp in this generation.
    pub fn stamped(&self, generation: Generation) -> Vec<(String, i32)> {
        let entry = |(key, (written_in, ..)): (&Key, &(Generation, u64, Value))| match key {
            Key::Stamped { topic, partition } if *written_in == generation => Some((topic.clone(), *partition)),
            _ => None,
        };
        self.records.iter().filter_map(entry).collect()
    }

    pub fn reports(&self) -> Vec<(Generation, Value)> {
        let report = |(key, (_, _, data)): (&Key, &(Generation, u64, Value))| match key {
            Key::Report { generation } => Some((*generation, data.clone())),
            _ => None,
        };
        self.records.iter().filter_map(report).collect()
    }

    /// What was done with masked ranges.
    pub fn divergences(&self) -> Vec<(Key, DivergenceRecord)> {
        let known = self.records.keys().filter(|key| matches!(key, Key::Divergence { .. }));
        known.filter_map(|key| Some((key.clone(), self.get(key)?))).collect()
    }

    /// What is stored of transactional ids.
    pub fn transactions(&self) -> Vec<(String, transactions::Record)> {
        let entry = |key: &Key| match key {
            Key::Transaction { id } => self.get(key).map(|record| (id.clone(), record)),
            _ => None,
        };
        self.records.keys().filter_map(entry).collect()
    }

    /// The cuts of all committed cutovers by partition, in order of generation. `cluster` finds a cluster by name.
    /// Cuts of a generation that was never committed are ignored.
    pub fn cuts(&self, cluster: impl Fn(&str) -> Option<ClusterIx>) -> HashMap<(String, i32), Vec<Cut>> {
        let committed = self.generation().map_or(0, |g| g.generation);
        let mut all: HashMap<(String, i32), Vec<Cut>> = HashMap::new();
        for key in self.records.keys() {
            let Key::Cut { generation, .. } = *key else { continue };
            let Some(record) = self.get::<CutRecord>(key).filter(|_| generation <= committed) else { continue };
            let Some(to) = cluster(&record.to) else { continue };
            for (topic, partition, logical, to_end, from_end) in record.cuts {
                let own = record.completed.iter().filter(|c| c.0 == topic && c.1 == partition);
                let completed = own.map(|&(_, _, from, to)| (from, to)).collect();
                let cut = Cut { generation, to, logical, to_end, from_end, planned: record.planned, completed };
                all.entry((topic, partition)).or_default().push(cut);
            }
        }
        for cuts in all.values_mut() {
            cuts.sort_by_key(|c| c.generation);
        }
        all
    }

    /// The stored map of one partition on one cluster and the generation of its last write; `None`: nothing stored. An
    /// unreadable map is an error.
    pub fn map(&self, cluster: &str, topic: &str, partition: i32) -> Result<Option<(Generation, OffsetMap)>, String> {
        let key = |part| Key::Map { cluster: cluster.into(), topic: topic.into(), partition, part };
        let (mut first, mut parts) = (0, Vec::new());
        let mut newest = None;
        for (stored, (generation, _, data)) in self.records.range(key(0)..=key(usize::MAX)) {
            let Key::Map { part, .. } = *stored else { continue };
            let record: MapRecord =
                serde_json::from_value(data.clone()).map_err(|e| format!("{}: {e}", stored.encode()))?;
            newest = newest.max(Some(*generation));
            if record.runs.is_empty() {
                continue;
            }
            // One that stands apart in front of the others was forgotten, which only one cluster has heard of.
            if first + parts.len() != part {
                (first, parts) = (part, Vec::new());
            }
            parts.push(record);
        }
        let Some(newest) = newest else { return Ok(None) };
        let map = MapRecord::join(if parts.is_empty() { 0 } else { first }, &parts);
        map.map(|m| Some((newest, m)))
            .ok_or_else(|| format!("the stored offset map {cluster}/{topic}-{partition} does not rise"))
    }

    /// Partitions of a topic of which a map is stored. An empty one is that of a topic that is gone.
    pub fn partitions_of(&self, name: &str) -> i32 {
        let runs = |key: &Key| self.get::<MapRecord>(key).is_some_and(|record| !record.runs.is_empty());
        let highest = |key: &Key| match key {
            Key::Map { topic, partition, .. } if topic == name && runs(key) => Some(partition.saturating_add(1)),
            _ => None,
        };
        self.records.keys().filter_map(highest).max().unwrap_or(0)
    }

    /// What is known of one partition's offsets: stored maps, with the cuts that came after their last write.
    pub fn offsets(
        &self,
        names: &[String; 2],
        topic: &str,
        partition: i32,
        born: (ClusterIx, Generation),
        cuts: &[Cut],
    ) -> Result<PartitionOffsets, String> {
        let mut maps = [OffsetMap::default(), OffsetMap::default()];
        let mut known = vec![(born.1, 0)];
        for cluster in ClusterIx::BOTH {
            let stored = self.map(&names[cluster.ix()], topic, partition)?;
            let (written_in, map) = match stored {
                // Where it was born a map that was emptied (with the topic before it) is the one to begin with.
                Some((_, map)) if map.is_empty() && cluster == born.0 => (born.1, OffsetMap::identity()),
                Some((generation, map)) => (generation, map),
                None if cluster == born.0 => (born.1, OffsetMap::identity()),
                None => (born.1, OffsetMap::default()),
            };
            let mut one = PartitionOffsets::default();
            *one.map_mut(cluster) = map;
            for cut in cuts.iter().filter(|c| c.generation > written_in.max(born.1)) {
                one.cut(cut);
            }
            maps[cluster.ix()] = one.map(cluster).clone();
        }
        known.extend(cuts.iter().filter(|c| c.generation > born.1).map(|c| (c.generation, c.logical)));
        let later: Vec<&Cut> = cuts.iter().filter(|c| c.generation > born.1).collect();
        Ok(PartitionOffsets::restore(maps, known, &later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(image: &mut Image, key: &Key, generation: Generation, seq: u64, data: Value) {
        let value = serde_json::to_vec(&json!({"generation": generation, "seq": seq, "data": data})).unwrap();
        image.apply(key.encode().as_bytes(), Some(&value)).unwrap();
    }

    fn generation(n: Generation, active: &str) -> Value {
        json!({"generation": n, "active": active, "cluster_id": "c", "at_ms": 0})
    }

    fn ix(name: &str) -> Option<ClusterIx> {
        ["east", "west"].iter().position(|n| *n == name).map(|i| ClusterIx::BOTH[i])
    }

    const NAMES: fn() -> [String; 2] = || ["east".into(), "west".into()];

    #[test]
    fn highest_generation_wins_whichever_cluster_says_it() {
        let (mut a, mut b) = (Image::default(), Image::default());
        apply(&mut a, &Key::Generation, 1, 99, generation(1, "west"));
        apply(&mut b, &Key::Generation, 2, 5, generation(2, "east"));
        a.merge(b);
        assert_eq!(a.generation().unwrap().active, "east");
    }

    #[test]
    fn a_cluster_that_was_away_is_told_all_that_it_missed_the_generation_last() {
        let (mut here, mut there) = (Image::default(), Image::default());
        let cut = Key::Cut { generation: 1, part: 0 };
        let cuts = json!({"to": "west", "planned": false, "cuts": []});
        for (image, n) in [(&mut there, 0), (&mut here, 1)] {
            apply(image, &Key::Owner, 0, 50 - u64::from(n), json!({}));
            apply(image, &Key::Generation, n, 10 + u64::from(n), generation(n, "x"));
            apply(image, &Key::Brokers { cluster: "east".into() }, 0, 3, json!([1]));
        }
        apply(&mut here, &cut, 1, 9, cuts);
        apply(&mut there, &Key::Brokers { cluster: "west".into() }, 0, 4, json!([1]));
        fn news(of: &Image, other: &Image) -> Vec<Key> {
            of.news_for(other).map(|(key, _)| key.clone()).collect()
        }
        assert_eq!(news(&here, &there), [cut, Key::Generation]);
        assert_eq!(news(&there, &here), [Key::Brokers { cluster: "west".into() }]);
        here.merge(there.clone());
        there.merge(here.clone());
        assert!(news(&here, &there).is_empty() && news(&there, &here).is_empty());
    }

    #[test]
    fn cuts_count_only_once_committed_and_rebuild_the_maps() {
        let mut image = Image::default();
        apply(&mut image, &Key::Generation, 0, 1, generation(0, "east"));
        let map = Key::Map { cluster: "west".into(), topic: "t".into(), partition: 0, part: 0 };
        apply(&mut image, &map, 0, 2, json!({"runs": [[100, 0, -1]]}));
        apply(
            &mut image,
            &Key::Cut { generation: 1, part: 0 },
            1,
            3,
            json!({"to": "west", "cuts": [["t", 0, 160, 50, 150]], "completed": [["t", 0, 155, 157], ["t", 1, 3, 4]]}),
        );
        assert!(image.cuts(ix).is_empty(), "not committed");
        apply(&mut image, &Key::Generation, 1, 4, generation(1, "west"));
        let cuts = image.cuts(ix);
        let cuts = &cuts[&("t".to_string(), 0)];
        let offsets = image.offsets(&NAMES(), "t", 0, (ClusterIx::FIRST, 0), cuts).unwrap();
        let mut live = PartitionOffsets::born(ClusterIx::FIRST, 0);
        live.map_mut(ClusterIx::SECOND).append(100, 0, 50);
        live.cut(&cuts[0]);
        assert_eq!(offsets, live, "rebuilt state is the state that was");
        // after the cut the west map is stored again: the cut is in it already
        apply(&mut image, &map, 1, 9, json!({"runs": [[100, 0, 50], [60, 50, -1]]}));
        assert_eq!(image.offsets(&NAMES(), "t", 0, (ClusterIx::FIRST, 0), cuts).unwrap(), live);
    }

    #[test]
    fn a_map_whose_first_parts_were_forgotten_is_read_without_them() {
        let mut image = Image::default();
        let key = |part| Key::Map { cluster: "west".into(), topic: "t".into(), partition: 0, part };
        let first = 64 * 3;
        for (part, runs) in
            [(0, json!([[0, 0, 1]])), (3, json!([[100, 50, 5], [7, 6, 5]])), (4, json!([[200, 90, -1]]))]
        {
            apply(&mut image, &key(part), 0, 2, json!({ "runs": runs }));
        }
        let (_, map) = image.map("west", "t", 0).unwrap().unwrap();
        assert_eq!((map.forgotten(), map.runs().len(), map.to_cluster(108)), (first, 3, Some(57)));
        // A topic of that name that was created anew begins from the start; the old parts were emptied.
        for part in [3, 4] {
            apply(&mut image, &key(part), 0, 3, json!({ "runs": [] }));
        }
        apply(&mut image, &key(0), 0, 4, json!({"runs": [[0, 0, -1]]}));
        assert_eq!(image.map("west", "t", 0).unwrap().unwrap().1, OffsetMap::identity());
        apply(&mut image, &key(0), 0, 5, json!({"runs": []}));
        assert_eq!(image.map("west", "t", 0).unwrap().unwrap().1, OffsetMap::default());
        assert_eq!(image.map("east", "t", 0), Ok(None));
    }

    #[test]
    fn a_stamp_lasts_for_its_generation() {
        let mut image = Image::default();
        let key = |partition| Key::Stamped { topic: "t".into(), partition };
        apply(&mut image, &key(0), 1, 2, json!({"from": 5}));
        apply(&mut image, &key(3), 2, 3, json!({"from": 9}));
        assert_eq!(image.stamped(2), [("t".to_string(), 3)]);
        assert_eq!(image.stamped(3), []);
    }

    #[test]
    fn who_claimed_last_owns_the_topic_whatever_the_clocks_say() {
        let mut image = Image::default();
        let owner = |pid| json!({"instance": uuid::Uuid::nil(), "host": "h", "pid": pid, "since_ms": 0});
        apply(&mut image, &Key::Owner, 0, 900, owner(1));
        apply(&mut image, &Key::Owner, 0, 100, owner(2));
        assert_eq!(image.owner().map(|o| o.pid), Some(2));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_not_a_guess() {
        let mut image = Image::default();
        assert!(image.apply(b"generation", Some(b"{")).is_err());
        let map = Key::Map { cluster: "west".into(), topic: "t".into(), partition: 0, part: 0 };
        apply(&mut image, &map, 0, 2, json!({"runs": [[5, 5, 2], [1, 1, 1]]}));
        assert!(image.map("west", "t", 0).is_err());
        image.apply(map.encode().as_bytes(), None).unwrap();
        assert_eq!(image.map("west", "t", 0), Ok(None));
    }
}
