//! Writing raw batches to partitions' leaders.

mod request;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::protocol::VersionRange;

use super::millis;
use crate::model::TopicPartition;
use crate::records::Split;
use crate::upstream::cluster::{Cluster, Lane, Target};
use crate::upstream::error::{Kind, UpstreamError, code, means_stale_metadata};
use crate::upstream::reply::{self, Head};
use crate::upstream::retry::Retry;

/// Topics by name only: version 13 wants topic ids (KIP-516). 8 is the first with error messages, and Kafka 2.4's.
const BY_NAME: VersionRange = VersionRange { min: 8, max: 12 };
/// How long the reply may take beyond the time that the broker was given, so that its own verdict comes first.
const GRACE: Duration = Duration::from_millis(250);
/// The acknowledgement of all in-sync replicas.
const ACKS_ALL: i16 = -1;

/// What a leader answered for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducedPartition {
    /// Kafka error code, 0 if none.
    pub error: i16,
    pub message: Option<String>,
    /// Offset of the batch's first record, -1 on errors. Of the first copy if the broker took it for a duplicate.
    pub base_offset: i64,
    /// Milliseconds; -1 on a CreateTime topic, except for a duplicate, where it is the batch's own timestamp.
    pub log_append_time: i64,
    pub log_start_offset: i64,
    /// The leader that the broker points to (version 10); -1 if it did not.
    pub current_leader: i32,
    pub current_leader_epoch: i32,
}

impl ProducedPartition {
    fn from_reply(p: &PartitionProduceResponse) -> Self {
        ProducedPartition {
            error: p.error_code,
            message: p.error_message.as_ref().map(ToString::to_string),
            base_offset: p.base_offset,
            log_append_time: p.log_append_time_ms,
            log_start_offset: p.log_start_offset,
            current_leader: p.current_leader.leader_id.0,
            current_leader_epoch: p.current_leader.leader_epoch,
        }
    }
}

impl Cluster {
    /// Writes one batch to each partition, all led by `leader`, in one request. One attempt: on an error the kind says
    /// whether the broker may have acted ([`Kind`]).
    ///
    /// Requests of one lane (usually [`Lane::Produce`]) reach the broker in the order in which these futures are first polled,
    /// as long as the connection holds. `timeout` is what the broker gets; its reply is awaited a little longer.
    ///
    /// `acks` is 1 or -1: without acknowledgement there is no reply to wait for. A partition named twice is refused, since
    /// brokers silently keep only one of the batches.
    pub async fn produce(
        &self,
        leader: i32,
        lane: Lane,
        batches: Vec<(TopicPartition, Split)>,
        acks: i16,
        timeout: Duration,
    ) -> Result<HashMap<TopicPartition, ProducedPartition>, UpstreamError> {
        let request = request::Batches::new(&batches, acks, millis(timeout))
            .map_err(|why| self.error("Produce", Kind::Unsupported(why.into())))?;
        let write = |head: Head<'_>| head.frame(request.small(), |version, to| request.write(version, to));
        let (target, read) = (Target::Broker(leader), reply::read::<ProduceRequest>);
        let sent = self.call_by::<ProduceRequest, _>(target, lane, BY_NAME, timeout + GRACE, write, read);
        let reply = sent.await?;
        let mut produced = HashMap::with_capacity(batches.len());
        for topic in &reply.responses {
            for p in &topic.partition_responses {
                if means_stale_metadata(p.error_code) {
                    self.mark_stale();
                }
                let tp = TopicPartition::new(topic.name.as_str(), p.index);
                produced.insert(tp, ProducedPartition::from_reply(p));
            }
        }
        if let Some((tp, _)) = batches.iter().find(|(tp, _)| !produced.contains_key(tp)) {
            return Err(self.error("Produce", Kind::Protocol(format!("the reply lacks {tp}").into())));
        }
        Ok(produced)
    }

    /// Writes one batch to a partition with `acks=all`, and again after retriable errors until it is stored or the
    /// deadline of `ops` has passed. A batch without a producer id can be stored twice if a reply is lost.
    pub async fn produce_one(&self, tp: &TopicPartition, batch: Bytes) -> Result<ProducedPartition, UpstreamError> {
        let mut retry = Retry::new(self);
        loop {
            match self.produce_once(tp, &batch, &retry).await {
                Ok(produced) => return Ok(produced),
                Err(e) => retry.pause(e).await?,
            }
        }
    }

    async fn produce_once(
        &self,
        tp: &TopicPartition,
        batch: &Bytes,
        retry: &Retry<'_>,
    ) -> Result<ProducedPartition, UpstreamError> {
        let leader = self.snapshot_by(retry.deadline()).await?.leader(&tp.topic, tp.partition);
        let leader = leader.map_err(|code| self.kafka_error("Produce", code, Some(&tp.to_string())))?;
        let batches = vec![(tp.clone(), batch.clone().into())];
        let mut produced =
            self.produce(leader, Lane::Produce, batches, ACKS_ALL, retry.left().saturating_sub(GRACE)).await?;
        let refused = |code, message| Err(self.kafka_error("Produce", code, message).at_broker(leader));
        match produced.remove(tp) {
            Some(p) if p.error == code::NONE => Ok(p),
            Some(p) => refused(p.error, p.message.as_deref()),
            None => refused(code::UNKNOWN_SERVER_ERROR, Some("no answer")),
        }
    }
}
