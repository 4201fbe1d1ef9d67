//! The Produce request, written by hand: the codec would copy every batch into it.

use bytes::BufMut;

use super::ACKS_ALL;
use crate::model::TopicPartition;
use crate::records::Split;
use crate::upstream::ops::group_by_topic;
use crate::upstream::parts::Parts;

/// The first version with compact lengths and tagged fields (KIP-482).
const FLEXIBLE: i16 = 9;
/// Bytes of a partition's entry besides its batch's records, at most; topics add their names.
const ENTRY: usize = 96;

/// Batches by topic and partition, none of which is named twice.
pub struct Batches<'a> {
    topics: Vec<(&'a str, Vec<(i32, &'a Split)>)>,
    acks: i16,
    timeout_ms: i32,
}

impl<'a> Batches<'a> {
    pub fn new(batches: &'a [(TopicPartition, Split)], acks: i16, timeout_ms: i32) -> Result<Self, &'static str> {
        if acks != 1 && acks != ACKS_ALL {
            return Err("acks must be 1 or -1");
        }
        let mut topics: Vec<_> = group_by_topic(batches.iter().map(|(tp, batch)| (tp, batch))).into_iter().collect();
        for (_, partitions) in &mut topics {
            partitions.sort_by_key(|(partition, _)| *partition);
            if partitions.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
                return Err("a partition is named twice");
            }
        }
        Ok(Batches { topics, acks, timeout_ms })
    }

    /// Bytes to be written besides what is shared.
    pub fn small(&self) -> usize {
        self.topics.iter().map(|(topic, partitions)| topic.len() + ENTRY * (partitions.len() + 1)).sum()
    }

    /// The body of the request, versions 8 to 12.
    pub fn write(&self, version: i16, to: &mut Parts) {
        let flexible = version >= FLEXIBLE;
        // No transaction.
        if flexible {
            to.put().put_u8(0)
        } else {
            to.put().put_i16(-1)
        }
        to.put().put_i16(self.acks);
        to.put().put_i32(self.timeout_ms);
        length(to, flexible, self.topics.len());
        for (topic, partitions) in &self.topics {
            // Topics' names are at most 249 bytes.
            if flexible {
                compact(to, topic.len())
            } else {
                to.put().put_i16(topic.len() as i16)
            }
            to.put().put_slice(topic.as_bytes());
            length(to, flexible, partitions.len());
            for (partition, batch) in partitions {
                to.put().put_i32(*partition);
                length(to, flexible, batch.len());
                to.share(&batch.head);
                to.share(&batch.records);
                no_tags(to, flexible);
            }
            no_tags(to, flexible);
        }
        no_tags(to, flexible);
    }
}

fn length(to: &mut Parts, flexible: bool, length: usize) {
    if flexible { compact(to, length) } else { to.put().put_i32(length as i32) }
}

/// One more than the length, as an unsigned varint.
fn compact(to: &mut Parts, length: usize) {
    let mut rest = length as u32 + 1;
    while rest >= 0x80 {
        to.put().put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.put().put_u8(rest as u8);
}

fn no_tags(to: &mut Parts, flexible: bool) {
    if flexible {
        to.put().put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::protocol::Decodable;

    use super::*;

    #[test]
    fn names_a_partition_once_and_wants_an_answer() {
        let one = || (TopicPartition::new("t", 1), Split::from(Bytes::from_static(b"x")));
        assert!(Batches::new(&[one(), (TopicPartition::new("t", 0), one().1), one()], -1, 1000).is_err());
        assert!(Batches::new(&[one()], 0, 1000).is_err());
    }

    #[test]
    fn is_what_the_codec_reads() {
        let batches: Vec<_> = [("b", 300, 5000), ("a", 1, 90), ("b", 2, 1), ("c", 0, 40_000)]
            .into_iter()
            .map(|(topic, partition, size)| {
                let whole = Bytes::from((0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>());
                let split = Split { head: whole.slice(..size.min(61)), records: whole.slice(size.min(61)..) };
                (TopicPartition::new(topic, partition), split)
            })
            .collect();
        for version in 8..=12 {
            let request = Batches::new(&batches, -1, 1234).unwrap();
            let mut parts = Parts::with_capacity(request.small());
            request.write(version, &mut parts);
            let mut frame = parts.finish().unwrap();
            let mut body = frame.copy_to_bytes(frame.remaining()).slice(4..);
            let read = ProduceRequest::decode(&mut body, version).unwrap();
            assert!(body.is_empty() && read.transactional_id.is_none());
            assert_eq!((read.acks, read.timeout_ms), (-1, 1234));
            let names: Vec<_> = read.topic_data.iter().map(|t| t.name.as_str()).collect();
            assert_eq!(names, ["a", "b", "c"]);
            let rows = read.topic_data.iter().flat_map(|t| t.partition_data.iter().map(|p| (t.name.as_str(), p)));
            let rows: Vec<_> = rows.collect();
            assert_eq!(rows.iter().map(|(_, p)| p.index).collect::<Vec<_>>(), [1, 2, 300, 0]);
            for (topic, row) in rows {
                let sent = batches.iter().find(|(tp, _)| *tp.topic == *topic && tp.partition == row.index).unwrap();
                assert_eq!(row.records, Some(sent.1.clone().join()), "version {version}");
            }
        }
    }
}
