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
mod tests;
