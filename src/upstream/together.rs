//! Questions about one partition each, asked by thousands of tasks at the same time, in few requests. Of each kind one request
//! per broker is under way; what is asked meanwhile leaves with the next one. So nobody waits for company, and a broker, which
//! serves a connection's requests one at a time, is asked no later than it would be otherwise.
//!
//! Each partition is answered for itself: what is wrong with one neither fails nor delays the others of its request. Where a
//! request fails as a whole through what it carries, its halves are asked, down to single partitions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use kafka_protocol::protocol::{Request, VersionRange};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cluster::{Cluster, Lane, Target};
use super::error::{Kind, UpstreamError, code};
use super::ops::fetch::Peek;
use super::ops::log::{EpochOf, OffsetOf, ProducersOf};
use super::retry::Retry;
use crate::model::TopicPartition;

/// What one partition is told of a reply.
pub(super) type Row<A> = (TopicPartition, Result<A, i16>);
type ReplyTo<K> = <<K as Ask>::Request as Request>::Response;

/// A kind of question of which one request carries many.
pub(super) trait Ask: Copy + Eq + Hash + Send + Sync + 'static {
    type Question: Clone + Send + Sync + 'static;
    type Answer: Send + 'static;
    type Request: Request + Send + Sync;
    /// What errors call it.
    const NAME: &'static str;
    const WITHIN: VersionRange = <Self::Request as kafka_protocol::protocol::Message>::VERSIONS;
    const LANE: Lane = Lane::Control;
    /// Partitions in one request.
    const LIMIT: usize;

    fn request(self, items: &[(TopicPartition, Self::Question)]) -> Self::Request;
    /// In any order; a partition that is missing has failed.
    fn answers(reply: ReplyTo<Self>) -> Vec<Row<Self::Answer>>;
    fn line(all: &Together) -> &Mutex<Line<Self>>;
}

/// What waits to be asked of one cluster.
#[derive(Default)]
pub(super) struct Together {
    pub offsets: Mutex<Line<OffsetOf>>,
    pub epochs: Mutex<Line<EpochOf>>,
    pub producers: Mutex<Line<ProducersOf>>,
    pub peeks: Mutex<Line<Peek>>,
}

/// One question and who waits for its answer.
pub(super) struct Asked<K: Ask> {
    tp: TopicPartition,
    question: K::Question,
    answer: oneshot::Sender<Result<K::Answer, UpstreamError>>,
}

/// The questions that wait, by kind and broker; who has a queue, empty or not, is being asked.
pub(super) struct Line<K: Ask> {
    waiting: HashMap<(K, i32), VecDeque<Asked<K>>>,
}

impl<K: Ask> Default for Line<K> {
    fn default() -> Self {
        Line { waiting: HashMap::new() }
    }
}

impl<K: Ask> Line<K> {
    /// `true`: the broker is not being asked, which is now the caller's task.
    fn push(&mut self, kind: K, broker: i32, asked: Asked<K>) -> bool {
        let mut first = false;
        let queue = self.waiting.entry((kind, broker)).or_insert_with(|| {
            first = true;
            VecDeque::new()
        });
        queue.push_back(asked);
        first
    }

    /// The questions of the next request, each partition once: brokers refuse to be asked twice. `None`: there are none, and the
    /// broker is not being asked any more.
    fn take(&mut self, kind: K, broker: i32) -> Option<Vec<Asked<K>>> {
        let queue = self.waiting.get_mut(&(kind, broker))?;
        let (mut taken, mut named, mut later) = (Vec::new(), HashSet::new(), Vec::new());
        while taken.len() < K::LIMIT
            && let Some(asked) = queue.pop_front()
        {
            match named.insert(asked.tp.clone()) {
                true => taken.push(asked),
                false => later.push(asked),
            }
        }
        later.into_iter().rev().for_each(|asked| queue.push_front(asked));
        if taken.is_empty() {
            self.waiting.remove(&(kind, broker));
            return None;
        }
        Some(taken)
    }
}

impl Cluster {
    /// Asks a partition's leader, again where that can help, until there is an answer, a final error, or time is up.
    pub(super) async fn ask_together<K: Ask>(
        &self,
        kind: K,
        tp: &TopicPartition,
        question: K::Question,
    ) -> Result<K::Answer, UpstreamError> {
        let mut retry = Retry::new(self);
        loop {
            match self.ask_together_once(kind, tp, question.clone(), retry.deadline()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// As [`Cluster::ask_together`]; one attempt.
    pub(super) async fn ask_together_once<K: Ask>(
        &self,
        kind: K,
        tp: &TopicPartition,
        question: K::Question,
        deadline: Instant,
    ) -> Result<K::Answer, UpstreamError> {
        let leader = self.snapshot_by(deadline).await?.leader(&tp.topic, tp.partition);
        let leader = leader.map_err(|code| self.kafka_error(K::NAME, code, Some(&tp.to_string())))?;
        let (answer, wait) = oneshot::channel();
        let asked = Asked { tp: tp.clone(), question, answer };
        if K::line(self.together()).lock().push(kind, leader, asked) {
            tokio::spawn(self.clone().ask_broker(kind, leader));
        }
        match tokio::time::timeout_at(deadline, wait).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.error(K::NAME, Kind::Protocol("the reply could not be read".into()))),
            Err(_) => Err(self.error(K::NAME, Kind::Timeout(self.timeout()))),
        }
    }

    /// Asks a broker until nothing waits for it any more.
    async fn ask_broker<K: Ask>(self, kind: K, broker: i32) {
        let next = || K::line(self.together()).lock().take(kind, broker);
        while let Some(asked) = next() {
            // A panic would leave a broker that passes for being asked: those who asked are told instead.
            let _ = AssertUnwindSafe(self.ask_all(kind, broker, asked)).catch_unwind().await;
        }
    }

    async fn ask_all<K: Ask>(&self, kind: K, broker: i32, asked: Vec<Asked<K>>) {
        let mut parts = vec![asked];
        while let Some(mut part) = parts.pop() {
            part.retain(|asked| !asked.answer.is_closed());
            if part.is_empty() {
                continue;
            }
            let items: Vec<_> = part.iter().map(|asked| (asked.tp.clone(), asked.question.clone())).collect();
            let request = kind.request(&items);
            let target = Target::Broker(broker);
            match self.call_within(target, K::LANE, &request, K::WITHIN, self.timeout()).await {
                Ok(reply) => self.tell::<K>(broker, K::answers(reply), part),
                // A reply that is too large, or that cannot be read, ends the connection.
                Err(e) if part.len() > 1 && matches!(e.kind(), Kind::Protocol(_) | Kind::Closed(_)) => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(e) => part.into_iter().for_each(|asked| drop(asked.answer.send(Err(e.clone())))),
            }
        }
    }

    fn tell<K: Ask>(&self, broker: i32, rows: Vec<Row<K::Answer>>, asked: Vec<Asked<K>>) {
        let mut rows: HashMap<_, _> = rows.into_iter().collect();
        for Asked { tp, answer, .. } in asked {
            let told = rows.remove(&tp).unwrap_or(Err(code::UNKNOWN_SERVER_ERROR));
            let told = told.map_err(|code| self.kafka_error(K::NAME, code, Some(&tp.to_string())).at_broker(broker));
            // Whoever has given up is not told.
            let _ = answer.send(told);
        }
    }
}

#[cfg(test)]
mod tests;
