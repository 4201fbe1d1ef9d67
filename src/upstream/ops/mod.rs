//! Typed operations on a cluster: each has one deadline ([`Cluster::timeout`]) and retries moved leaders and
//! coordinators, stale metadata and lost connections until then.
//!
//! `fetch` and `produce` are the exceptions: one attempt, since the streams must know what happened to it.

pub mod ends;
pub mod fetch;
pub mod groups;
pub mod log;
pub mod produce;
pub mod share_groups;
pub mod topics;
pub mod transactions;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Request, StrBytes};

use super::cluster::{Cluster, Lane, Target};
use super::error::{UpstreamError, code};
use super::metadata::{Broker, Snapshot};
use super::retry::Retry;
use crate::model::TopicPartition;

impl Cluster {
    /// The cluster's own id, as brokers give it in Metadata.
    pub async fn cluster_id(&self) -> Result<String, UpstreamError> {
        Ok(self.topics().await?.cluster_id.clone())
    }

    /// The live brokers, by id, read now.
    pub async fn brokers(&self) -> Result<Vec<Broker>, UpstreamError> {
        Ok(self.topics().await?.brokers.clone())
    }

    /// All topics, read now.
    pub async fn topics(&self) -> Result<Arc<Snapshot>, UpstreamError> {
        let mut retry = Retry::new(self);
        loop {
            match self.refresh_by(retry.deadline()).await {
                Ok(snapshot) => return Ok(snapshot),
                Err(e) => retry.pause(e).await?,
            }
        }
    }

    /// A request to one target until it is answered; the reply's own error codes are the caller's.
    async fn call_retrying<R: Request>(
        &self,
        retry: &mut Retry<'_>,
        target: Target<'_>,
        req: &R,
    ) -> Result<R::Response, UpstreamError> {
        loop {
            match self.call(target, Lane::Control, req, retry.left()).await {
                Ok(reply) => return Ok(reply),
                Err(e) => retry.pause(e).await?,
            }
        }
    }

    /// Asks the leader of every partition the same question, and again where leaders have moved, until each partition
    /// has an answer or a final error code, or time is up (then the last code stands).
    async fn ask_leaders<Q, R, A>(
        &self,
        items: Vec<(TopicPartition, Q)>,
        build: impl Fn(&[(TopicPartition, Q)]) -> R,
        read: impl Fn(R::Response) -> Vec<(TopicPartition, Result<A, i16>)>,
    ) -> Result<HashMap<TopicPartition, Result<A, i16>>, UpstreamError>
    where
        Q: Clone,
        R: Request,
    {
        let mut retry = Retry::new(self);
        let mut answers: HashMap<TopicPartition, Result<A, i16>> = HashMap::with_capacity(items.len());
        let mut open = items;
        while !open.is_empty() {
            let snapshot = match self.snapshot_by(retry.deadline()).await {
                Ok(snapshot) => snapshot,
                Err(e) => match retry.pause(e).await {
                    Ok(()) => continue,
                    Err(e) if answers.is_empty() => return Err(e),
                    Err(_) => break, // the codes of the earlier attempt stand
                },
            };
            let (by_leader, homeless) = group_by_leader(&snapshot, open);
            let mut calls = Vec::with_capacity(by_leader.len());
            for (leader, items) in &by_leader {
                let req = build(items);
                let left = retry.left();
                calls.push(async move { self.call(Target::Broker(*leader), Lane::Control, &req, left).await });
            }
            let replies = join_all(calls).await;
            open = Vec::new();
            for ((_, items), reply) in by_leader.into_iter().zip(replies) {
                let mut told: HashMap<_, _> = match reply {
                    Ok(reply) => read(reply).into_iter().collect(),
                    Err(e) => items.iter().map(|(tp, _)| (tp.clone(), Err(e.as_partition_code()))).collect(),
                };
                for (tp, question) in items {
                    let answer = told.remove(&tp).unwrap_or(Err(code::UNKNOWN_SERVER_ERROR));
                    settle(&retry, tp, question, answer, &mut answers, &mut open);
                }
            }
            for (tp, question, code) in homeless {
                settle(&retry, tp, question, Err(code), &mut answers, &mut open);
            }
            if !open.is_empty() && !retry.sleep().await {
                break;
            }
        }
        Ok(answers)
    }
}

/// Keeps an answer, and asks again where its code says that this can help.
fn settle<Q, A>(
    retry: &Retry<'_>,
    tp: TopicPartition,
    question: Q,
    answer: Result<A, i16>,
    answers: &mut HashMap<TopicPartition, Result<A, i16>>,
    open: &mut Vec<(TopicPartition, Q)>,
) {
    if let Err(code) = answer {
        retry.note_code(code);
        if retry.may_retry_code(code) {
            open.push((tp.clone(), question));
        }
    }
    answers.insert(tp, answer);
}

type Grouped<Q> = BTreeMap<i32, Vec<(TopicPartition, Q)>>;

/// Sorts partitions by leader; those without one come back with the code that says why.
pub(crate) fn group_by_leader<Q>(
    snapshot: &Snapshot,
    items: Vec<(TopicPartition, Q)>,
) -> (Grouped<Q>, Vec<(TopicPartition, Q, i16)>) {
    let mut grouped = Grouped::new();
    let mut homeless = Vec::new();
    for (tp, question) in items {
        match snapshot.leader(&tp.topic, tp.partition) {
            Ok(leader) => grouped.entry(leader).or_default().push((tp, question)),
            Err(code) => homeless.push((tp, question, code)),
        }
    }
    (grouped, homeless)
}

/// Groups items by topic, as all requests want them.
fn group_by_topic<'a, Q>(items: impl IntoIterator<Item = (&'a TopicPartition, Q)>) -> BTreeMap<&'a str, Vec<(i32, Q)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, Q)>> = BTreeMap::new();
    for (tp, question) in items {
        topics.entry(&tp.topic).or_default().push((tp.partition, question));
    }
    topics
}

/// A copy: names outlive the request and must not pin anything.
fn name(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

fn topic_name(s: &str) -> TopicName {
    TopicName(name(s))
}

/// Whole milliseconds for a request field, at most `i32::MAX`.
fn millis(d: std::time::Duration) -> i32 {
    i32::try_from(d.as_millis()).unwrap_or(i32::MAX)
}
