//! Transactional ids: their coordinators, producers and open transactions.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, FindCoordinatorRequest, InitProducerIdRequest, ListTransactionsRequest,
    TransactionalId, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::time::Instant;

use super::log::{ActiveProducer, checked};
use super::{group_by_topic, name, topic_name};
use crate::model::TopicPartition;
use crate::upstream::cluster::{Cluster, Lane, Target};
use crate::upstream::error::{Kind, UpstreamError, code};

/// FindCoordinator's key type for transactional ids.
const KEY_TYPE_TRANSACTION: i8 = 1;
/// States (Kafka class TransactionState) of transactions whose markers are still to come.
const OPEN: [&str; 4] = ["Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"];
const ONGOING: &str = "Ongoing";
/// The state of a transaction that was committed, all its markers written.
pub const COMMITTED: &str = "CompleteCommit";
/// Given to a coordinator as the timeout of the next transaction, which never comes (milliseconds).
const NEXT_TIMEOUT_MS: i32 = 10_000;
/// Pause between attempts: an abort under way takes milliseconds, a coordinator that loads some hundred.
const PAUSE: Duration = Duration::from_millis(20);

/// A transaction as its coordinator lists it (KIP-664).
struct ListedTransaction {
    id: String,
    state: String,
}

/// A transaction as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTransaction {
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit`, `CompleteAbort`, `PrepareEpochFence`.
    pub state: String,
    /// Partitions by topic that are part of it while it is not complete.
    pub topics: BTreeMap<String, Vec<i32>>,
}

impl Cluster {
    /// Registers a new incarnation of a transactional producer (producer id, epoch), which aborts what the one before left
    /// open. Tried until the deadline of operations: a coordinator may be moving, loading, or still aborting.
    pub async fn init_transactional(&self, id: &str, timeout_ms: i32) -> Result<(i64, i16), UpstreamError> {
        let req = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(name(id))))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        self.ask_transaction_coordinator(id, &req, |reply| match reply.error_code {
            code::NONE => Ok((reply.producer_id.0, reply.producer_epoch)),
            refused => Err(self.kafka_error("InitProducerId", refused, Some(id))),
        })
        .await
    }

    /// What the coordinator knows of a transactional id; `None`: nothing.
    pub async fn describe_transaction(&self, id: &str) -> Result<Option<DescribedTransaction>, UpstreamError> {
        let req = DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(name(id))]);
        self.ask_transaction_coordinator(id, &req, |reply| {
            let Some(found) = reply.transaction_states.first() else {
                return Err(self.error("DescribeTransactions", Kind::Protocol("the reply is empty".into())));
            };
            match found.error_code {
                code::NONE => {}
                code::TRANSACTIONAL_ID_NOT_FOUND => return Ok(None),
                refused => return Err(self.kafka_error("DescribeTransactions", refused, Some(id))),
            }
            let topics = found.topics.iter().map(|t| (t.topic.to_string(), t.partitions.clone())).collect();
            Ok(Some(DescribedTransaction { state: found.transaction_state.to_string(), topics }))
        })
        .await
    }

    /// The cluster's transactions in any of these states (none: in all), of this producer id. Fails if one broker cannot
    /// answer for its own.
    async fn list_transactions(
        &self,
        states: &[&'static str],
        producer_id: Option<i64>,
    ) -> Result<Vec<ListedTransaction>, UpstreamError> {
        let deadline = Instant::now() + self.timeout();
        let filters = states.iter().map(|s| StrBytes::from_static_str(s)).collect();
        let req = ListTransactionsRequest::default()
            .with_state_filters(filters)
            .with_producer_id_filters(producer_id.into_iter().map(Into::into).collect());
        loop {
            let snapshot = self.snapshot_by(deadline).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            let calls = snapshot.brokers.iter().map(|b| self.call(Target::Broker(b.id), Lane::Control, &req, left));
            let mut listed = Vec::new();
            let mut failure = None;
            for reply in join_all(calls).await {
                let reply = reply?;
                if reply.error_code != code::NONE {
                    failure = Some(self.kafka_error("ListTransactions", reply.error_code, None));
                }
                listed.extend(reply.transaction_states.iter().map(|t| ListedTransaction {
                    id: t.transactional_id.to_string(),
                    state: t.transaction_state.to_string(),
                }));
            }
            match failure {
                None => return Ok(listed),
                Some(error) => pause(error, deadline).await?,
            }
        }
    }

    /// Aborts transactions that are open and waits until all are complete, so that no marker comes later: those that `which`
    /// chooses by what is known of them. Gives the ids of those aborted.
    pub async fn end_transactions(
        &self,
        which: impl Fn(&DescribedTransaction) -> bool,
    ) -> Result<HashSet<String>, UpstreamError> {
        let deadline = Instant::now() + self.timeout();
        let mut aborted = HashSet::new();
        loop {
            let mut open = Vec::new();
            for listed in self.list_transactions(&OPEN, None).await? {
                match self.describe_transaction(&listed.id).await? {
                    Some(found) if which(&found) => open.push(listed),
                    _ => {}
                }
            }
            let Some(first) = open.first() else { return Ok(aborted) };
            if Instant::now() >= deadline {
                let what = format!("transaction {} stays {}", first.id, first.state);
                return Err(self.error("end transactions", Kind::Unreachable(what.into())));
            }
            let ongoing: Vec<_> = open.into_iter().filter(|t| t.state == ONGOING).map(|t| t.id).collect();
            let aborts = ongoing.iter().map(|id| self.init_transactional(id, NEXT_TIMEOUT_MS));
            for done in join_all(aborts).await {
                done?;
            }
            aborted.extend(ongoing);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends a *hanging* transaction (KIP-664): a partition holds it open, but its coordinator has done with it, so that no marker
    /// will ever come. A broker that starts after a crash can complete a transaction without its markers, when the
    /// coordinator does not see the partition's leader yet (TransactionMarkerChannelManager takes the partition for a deleted
    /// one). Ended as the coordinator has it, aborted where that knows nothing of it; whether it was committed, or `None` if
    /// it is not hanging: then the marker will come from where it should.
    pub async fn end_hanging(
        &self,
        tp: &TopicPartition,
        producer: &ActiveProducer,
    ) -> Result<Option<bool>, UpstreamError> {
        let known = self.list_transactions(&[], Some(producer.producer_id)).await?;
        if known.iter().any(|t| OPEN.contains(&t.state.as_str())) {
            return Ok(None);
        }
        let commit = known.iter().any(|t| t.state == COMMITTED);
        let epoch = i16::try_from(producer.producer_epoch).unwrap_or(i16::MAX);
        let build = |items: &[(TopicPartition, ())]| {
            let topics = group_by_topic(items.iter().map(|(tp, ())| (tp, ()))).into_iter();
            let topics = topics.map(|(topic, partitions)| {
                let indexes = partitions.into_iter().map(|(partition, ())| partition).collect();
                WritableTxnMarkerTopic::default().with_name(topic_name(topic)).with_partition_indexes(indexes)
            });
            let marker = WritableTxnMarker::default()
                .with_producer_id(producer.producer_id.into())
                .with_producer_epoch(epoch)
                .with_transaction_result(commit)
                .with_topics(topics.collect())
                // Unknown before the producer's first marker; no coordinator's is below 0.
                .with_coordinator_epoch(producer.coordinator_epoch.max(0));
            WriteTxnMarkersRequest::default().with_markers(vec![marker])
        };
        let mut done = self
            .ask_leaders::<_, WriteTxnMarkersRequest, _>(vec![(tp.clone(), ())], build, |reply| {
                let topics = reply.markers.iter().flat_map(|m| &m.topics);
                topics
                    .flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p)))
                    .map(|(topic, p)| (TopicPartition::new(topic, p.partition_index), checked(p.error_code, ())))
                    .collect()
            })
            .await?;
        match done.remove(tp) {
            Some(Ok(())) => Ok(Some(commit)),
            Some(Err(code)) => Err(self.kafka_error("WriteTxnMarkers", code, Some(&tp.to_string()))),
            None => Err(self.error("WriteTxnMarkers", Kind::Protocol("the reply is empty".into()))),
        }
    }

    /// Has the coordinator of an id found, which creates `__transaction_state` on a cluster that never had transactions.
    pub async fn warm_transactions(&self, id: &str) -> Result<(), UpstreamError> {
        let deadline = Instant::now() + self.timeout();
        while let Err(error) = self.transaction_coordinator(id, self.timeout()).await {
            pause(error, deadline).await?;
        }
        Ok(())
    }

    /// The broker id of an id's coordinator.
    async fn transaction_coordinator(&self, id: &str, timeout: Duration) -> Result<i32, UpstreamError> {
        let find =
            FindCoordinatorRequest::default().with_key_type(KEY_TYPE_TRANSACTION).with_coordinator_keys(vec![name(id)]);
        let found = self.call(Target::Any, Lane::Control, &find, timeout).await?;
        match found.coordinators.first() {
            Some(c) if c.error_code == code::NONE => Ok(c.node_id.0),
            Some(c) => Err(self.kafka_error("FindCoordinator", c.error_code, Some(id))),
            None => Err(self.error("FindCoordinator", Kind::Protocol("the reply is empty".into()))),
        }
    }

    /// Asks the coordinator of an id, again while it moves, loads or is busy.
    async fn ask_transaction_coordinator<R: Request, A>(
        &self,
        id: &str,
        req: &R,
        read: impl Fn(R::Response) -> Result<A, UpstreamError>,
    ) -> Result<A, UpstreamError> {
        let deadline = Instant::now() + self.timeout();
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            let reply = match self.transaction_coordinator(id, left()).await {
                Ok(node) => self.call(Target::Broker(node), Lane::Control, req, left()).await,
                Err(error) => Err(error),
            };
            match reply.and_then(&read) {
                Ok(answer) => return Ok(answer),
                Err(error) => pause(error, deadline).await?,
            }
        }
    }
}

/// Waits before another attempt, or hands the error back when another cannot help or would come too late.
async fn pause(error: UpstreamError, deadline: Instant) -> Result<(), UpstreamError> {
    let busy = error.kafka_code() == Some(code::CONCURRENT_TRANSACTIONS);
    if !(busy || error.is_retriable()) || Instant::now() + PAUSE >= deadline {
        return Err(error);
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}
