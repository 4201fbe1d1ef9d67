//! Many appends of one partition under way at a time.
//!
//! Batches of clients cross under their clients' producer ids, so that each cluster's log tells of retries; nothing ties
//! the batches of two producers together, so the next one waits until the last one has landed. To a standby that is far away
//! this is too slow for a busy partition. Its stream goes over to its own stamp for the rest of the generation: one producer
//! id with one running sequence makes the broker refuse whatever does not follow, so many batches may be under way.
//!
//! That a partition is stamped is stored on the standby before the first such append. Both ways of sending are repeatable
//! by themselves, but not in turns: a successor must send what a killed stream may still have under way in the same way.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Answer, Stop, Stream, outcome};
use crate::catalog::StreamState;
use crate::state::{Key, StampedRecord};
use crate::stream::{Append, Stamp, TeeItem};
use crate::upstream::ProducedPartition;

/// Appends under way at a time. What fails is looked up and sent again from there, so this is not bound by the five batches
/// of a producer that a broker remembers.
const UNDER_WAY: usize = 64;
/// Batches and bytes taken from the tee at a time.
const TAKEN: (usize, usize) = (64, 2 << 20);
/// How long a stream may be behind, and getting on, before it goes over to its own stamp.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the stream has been behind.
#[derive(Default)]
pub(super) struct Behind {
    since: Option<Instant>,
}

impl Stream {
    /// A teed batch and those that follow it, as many as may be sent together.
    pub(super) fn with_followers(&self, first: TeeItem) -> Vec<Bytes> {
        let (mut next, mut size) = (first.next_offset, first.batch.len());
        let mut batches = vec![first.batch];
        if self.partition.is_stamped() {
            self.partition.with_tee(|tee| {
                while batches.len() < TAKEN.0
                    && size < TAKEN.1
                    && let Some(item) = tee.take(next)
                {
                    next = item.next_offset;
                    size += item.batch.len();
                    batches.push(item.batch);
                }
            });
        }
        batches
    }

    /// Goes over to the stream's own stamp if this has been behind for too long.
    pub(super) async fn keep_up(&mut self, appends: &[Append]) {
        let since = *self.behind.since.get_or_insert_with(Instant::now);
        let clients = appends.iter().any(|append| append.stamp == Stamp::Client);
        if !clients || self.partition.is_stamped() || since.elapsed() < PATIENCE {
            return;
        }
        Box::pin(self.go_over()).await;
    }

    async fn go_over(&self) {
        let tp = &self.partition.tp;
        let key = Key::Stamped { topic: tp.topic.to_string(), partition: tp.partition };
        let store = &self.direction.store;
        let record = || vec![store.entry(&key, &StampedRecord { from: self.cursor.active_next })];
        match store.write(self.direction.to(), record()).await {
            Ok(()) => {
                self.partition.set_stamped();
                store.write_soon(self.direction.from, record());
                tracing::info!(%tp, "the stream is behind: it goes on with many batches at a time, under its own stamp");
            }
            Err(error) => tracing::debug!(%tp, %error, "the stream is behind and cannot say so"),
        }
    }

    /// Appends batches that follow each other under the stream's stamp; comes back when all are there. Whatever goes wrong, the
    /// stream is opened again once the fate of all is known.
    pub(super) async fn append_all(&mut self, appends: &[Append]) -> Result<(), Stop> {
        let mut under_way: VecDeque<(&Append, Answer)> = VecDeque::new();
        let mut trouble = None;
        let _copy = self.hold_copy().await?;
        for append in appends {
            if under_way.len() >= UNDER_WAY
                && let Some((append, answer)) = under_way.pop_front()
                && let Err(stop) = self.settle(append, answer).await
            {
                trouble = Some(stop);
                break;
            }
            match self.send(append.split(&self.stamp, true)).await {
                Ok(answer) => under_way.push_back((append, answer)),
                Err(reason) => {
                    trouble = Some(Stop::Reopen(reason));
                    break;
                }
            }
            self.stamp.advance(append.count);
        }
        while let Some((append, answer)) = under_way.pop_front() {
            match &trouble {
                None => trouble = self.settle(append, answer).await.err(),
                Some(_) => drop(outcome(answer).await),
            }
        }
        match trouble {
            None => Ok(()),
            Some(stop) => {
                self.behind = Behind::default();
                if let Stop::Reopen(reason) = &stop {
                    self.partition.set_state(StreamState::Waiting(reason.clone()));
                }
                Err(stop)
            }
        }
    }

    async fn settle(&mut self, append: &Append, answer: Answer) -> Result<(), Stop> {
        match outcome(answer).await {
            Ok(ProducedPartition { error: 0, base_offset, .. }) if base_offset == append.standby_base => {
                self.landed(append);
                Ok(())
            }
            Ok(ProducedPartition { error: 0, base_offset, .. }) => Err(self.misplaced(append, base_offset, false)),
            Ok(p) => Err(Stop::Reopen(format!("standby: Kafka error {} {}", p.error, p.message.unwrap_or_default()))),
            Err(reason) => Err(Stop::Reopen(reason)),
        }
    }
}
