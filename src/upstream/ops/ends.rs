//! Where the logs of thousands of partitions end, asked several times a second: the requests are kept as bytes for as long as
//! the leaders stay, and the replies are read where they lie. An idle partition must cost next to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::protocol::{Encodable, VersionRange};

use super::group_by_leader;
use super::log::{LogEnd, OffsetSpec, offsets_request};
use crate::model::TopicPartition;
use crate::upstream::Snapshot;
use crate::upstream::cluster::{Cluster, Lane, Target};
use crate::upstream::error::{UpstreamError, code, means_stale_metadata};
use crate::upstream::reply::{Head, ReplyError};
use crate::wire::reader::{ReadError, Reader};

/// With leader epochs, from version 4 on; the layout of the replies is that of these versions.
const VERSIONS: VersionRange = VersionRange { min: 4, max: 11 };
/// The first version with compact lengths and tagged fields (KIP-482).
const FLEXIBLE: i16 = 6;

/// Partitions whose ends are asked for again and again.
#[derive(Default)]
pub struct EndsOf {
    partitions: Vec<TopicPartition>,
    /// By whose leaders the questions were sorted.
    snapshot: Option<Arc<Snapshot>>,
    asks: Vec<Ask>,
    /// Some have no leader there.
    homeless: bool,
}

/// What one leader is asked.
struct Ask {
    leader: i32,
    /// By topic and partition: the place among all.
    places: BTreeMap<Arc<str>, Vec<(i32, usize)>>,
    body: Option<(i16, Bytes)>,
}

impl EndsOf {
    pub fn new(partitions: Vec<TopicPartition>) -> Self {
        EndsOf { partitions, ..Default::default() }
    }

    fn sort(&mut self, snapshot: &Arc<Snapshot>) {
        let items = self.partitions.iter().cloned().enumerate().map(|(place, tp)| (tp, place)).collect();
        let (by_leader, homeless) = group_by_leader(snapshot, items);
        let ask = |(leader, items): (i32, Vec<(TopicPartition, usize)>)| {
            let mut places: BTreeMap<Arc<str>, Vec<(i32, usize)>> = BTreeMap::new();
            for (tp, place) in items {
                places.entry(tp.topic).or_default().push((tp.partition, place));
            }
            places.values_mut().for_each(|rows| rows.sort_unstable());
            Ask { leader, places, body: None }
        };
        self.asks = by_leader.into_iter().map(ask).collect();
        self.homeless = !homeless.is_empty();
        self.snapshot = Some(snapshot.clone());
    }
}

impl Ask {
    /// What the leader says of each place that it knows, and whether it says that it is not the leader.
    async fn put(&mut self, cluster: &Cluster) -> Result<(Vec<(usize, LogEnd)>, bool), UpstreamError> {
        let Ask { leader, places, body } = self;
        let (target, timeout) = (Target::Broker(*leader), cluster.timeout());
        let encode = |head: Head<'_>| {
            let body = kept(body, places, head.version)?;
            head.frame(0, |_, to| to.share(&body))
        };
        let read = |version: i16, body: Bytes| {
            let (mut found, mut stale) = (Vec::new(), false);
            let row = |topic: &str, partition: i32, error: i16, end: LogEnd| {
                stale |= means_stale_metadata(error);
                let rows = places.get(topic).map(Vec::as_slice).unwrap_or_default();
                if error == code::NONE
                    && let Ok(at) = rows.binary_search_by_key(&partition, |row| row.0)
                {
                    found.push((rows[at].1, end));
                }
            };
            rows(version, &body, row).map_err(|e| ReplyError::Decode(format!("{e:?}")))?;
            Ok((found, stale))
        };
        cluster.call_by::<ListOffsetsRequest, _>(target, Lane::Control, VERSIONS, timeout, encode, read).await
    }
}

/// The body of a request, encoded once.
fn kept(
    body: &mut Option<(i16, Bytes)>,
    places: &BTreeMap<Arc<str>, Vec<(i32, usize)>>,
    version: i16,
) -> Result<Bytes, ReplyError> {
    if let Some((known, bytes)) = body
        && *known == version
    {
        return Ok(bytes.clone());
    }
    let all = places.iter().flat_map(|(topic, rows)| rows.iter().map(|row| TopicPartition::new(topic.clone(), row.0)));
    let request = offsets_request(all.collect::<Vec<_>>().iter(), OffsetSpec::Latest);
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes, version).map_err(|e| ReplyError::Encode(e.to_string()))?;
    // As large as it is: it is kept.
    let bytes = Bytes::copy_from_slice(&bytes);
    *body = Some((version, bytes.clone()));
    Ok(bytes)
}

/// Reads the rows of a ListOffsets reply: topic, partition, error, end.
fn rows(version: i16, body: &[u8], mut row: impl FnMut(&str, i32, i16, LogEnd)) -> Result<(), ReadError> {
    let flexible = version >= FLEXIBLE;
    let mut reader = Reader::new(body);
    let _throttled = reader.i32()?;
    for _ in 0..count(&mut reader, flexible)? {
        let name = if flexible { reader.uvarint()?.saturating_sub(1) as usize } else { reader.i16()?.max(0) as usize };
        // One that is no text is none of those asked for.
        let name = std::str::from_utf8(reader.take(name)?).unwrap_or_default();
        for _ in 0..count(&mut reader, flexible)? {
            let (partition, error, _timestamp) = (reader.i32()?, reader.i16()?, reader.i64()?);
            let end = LogEnd { offset: reader.i64()?, leader_epoch: reader.i32()? };
            tags(&mut reader, flexible)?;
            row(name, partition, error, end);
        }
        tags(&mut reader, flexible)?;
    }
    tags(&mut reader, flexible)
}

/// Nothing is sized by it: a wrong one ends the reading.
fn count(reader: &mut Reader<'_>, flexible: bool) -> Result<u32, ReadError> {
    if flexible { Ok(reader.uvarint()?.saturating_sub(1)) } else { Ok(reader.i32()?.max(0) as u32) }
}

fn tags(reader: &mut Reader<'_>, flexible: bool) -> Result<(), ReadError> {
    if flexible { reader.skip_tags() } else { Ok(()) }
}

impl Cluster {
    /// Where each log ends (the high watermark) and under which leader epoch, in the order of the partitions; `None` where that
    /// could not be learnt. One attempt.
    pub async fn ends_of(&self, asked: &mut EndsOf) -> Result<Vec<Option<LogEnd>>, UpstreamError> {
        let snapshot = self.snapshot().await?;
        if asked.snapshot.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &snapshot)) {
            asked.sort(&snapshot);
        }
        if asked.homeless {
            self.mark_stale();
        }
        let mut ends = vec![None; asked.partitions.len()];
        let mut failed = None;
        for answer in join_all(asked.asks.iter_mut().map(|ask| ask.put(self))).await {
            match answer {
                Ok((found, stale)) => {
                    found.into_iter().for_each(|(place, end)| ends[place] = Some(end));
                    if stale {
                        self.mark_stale();
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if ends.iter().all(Option::is_none) => Err(error),
            _ => Ok(ends),
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ListOffsetsResponse;
    use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    use kafka_protocol::protocol::StrBytes;
    use proptest::prelude::*;

    use super::*;

    fn reply() -> ListOffsetsResponse {
        let row = |partition: i32, error| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition)
                .with_error_code(error)
                .with_offset(i64::from(partition) * 100)
                .with_leader_epoch(partition + 5)
        };
        let topic = |name: &'static str, rows| {
            ListOffsetsTopicResponse::default().with_name(StrBytes::from_static_str(name).into()).with_partitions(rows)
        };
        let topics = vec![topic("b", vec![row(7, 0), row(1, 6)]), topic("a", vec![row(0, 0)])];
        ListOffsetsResponse::default().with_throttle_time_ms(9).with_topics(topics)
    }

    type Row = (String, i32, i16, i64, i32);

    fn read(version: i16, body: &[u8]) -> (Vec<Row>, Result<(), ReadError>) {
        let mut found = Vec::new();
        let row = |topic: &str, partition, error, end: LogEnd| {
            found.push((topic.to_owned(), partition, error, end.offset, end.leader_epoch));
        };
        let result = rows(version, body, row);
        (found, result)
    }

    #[test]
    fn is_what_the_codec_writes() {
        for version in VERSIONS.min..=10 {
            let mut body = BytesMut::new();
            reply().encode(&mut body, version).unwrap();
            let want = [("b", 7, 0, 700, 12), ("b", 1, 6, 100, 6), ("a", 0, 0, 0, 5)];
            let want = want.map(|(t, p, e, o, l)| (t.to_owned(), p, e, o, l)).to_vec();
            assert_eq!(read(version, &body), (want, Ok(())), "version {version}");
            for end in 0..body.len() {
                assert!(read(version, &body[..end]).1.is_err(), "cut at {end}");
            }
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(body in prop::collection::vec(any::<u8>(), 0..200), version in 4i16..=11) {
            let (rows, _) = read(version, &body);
            prop_assert!(rows.len() <= body.len());
        }
    }
}
