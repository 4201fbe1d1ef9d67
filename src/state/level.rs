//! Keeps the two state topics saying the same: what a cluster missed while it was away is written there when it is back.
//! Until then it must not be relied on, for a proxy that could read nothing else would not know of a cut, or of a topic.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;

use super::Image;
use super::records::{Key, Stored};
use super::store::{Entry, StateError, Store};
use super::writer::Job;
use crate::model::ClusterIx;

/// Whether one cluster's state topic has all that was meant for it.
#[derive(Default)]
pub(super) struct Level {
    /// How often something did not get there, and how often it had not when all that was missing was last written.
    missed: AtomicU64,
    mended: AtomicU64,
    /// While it is being brought level: keys that are written meanwhile. A copy behind a newer one would be the one that
    /// compaction leaves.
    meanwhile: Mutex<Option<HashSet<String>>>,
}

impl Level {
    /// Something did not get there.
    pub(super) fn missed(&self) {
        self.missed.fetch_add(1, Ordering::AcqRel);
    }

    /// These will be put into the queue of this cluster's writer.
    pub(super) fn about_to_write(&self, entries: &[Entry]) {
        if let Some(keys) = &mut *self.meanwhile.lock() {
            keys.extend(entries.iter().map(|entry| entry.key.clone()));
        }
    }
}

/// A record as it was read, to be written elsewhere.
fn entry((key, stored): (&Key, Stored<&Value>)) -> Entry {
    // What was read as JSON is written as JSON.
    Entry { key: key.encode(), value: Some(serde_json::to_vec(&stored).unwrap_or_default()) }
}

impl Store {
    /// Whether a cluster's state topic has all that was meant for it, as far as this process knows.
    pub fn is_level(&self, cluster: ClusterIx) -> bool {
        let level = &self.levels[cluster.ix()];
        level.missed.load(Ordering::Acquire) == level.mended.load(Ordering::Acquire)
    }

    /// A cluster could not be read at the start: nobody knows what it lacks.
    pub fn missed(&self, cluster: ClusterIx) {
        self.levels[cluster.ix()].missed();
    }

    /// What a cluster's image lacks of another; to be written before others write.
    pub fn news(image: &Image, has: &Image) -> Vec<Entry> {
        image.news_for(has).map(entry).collect()
    }

    /// Writes to a cluster what only the other one's state topic says. Both must be there.
    pub async fn level(&self, cluster: ClusterIx) -> Result<(), StateError> {
        let level = &self.levels[cluster.ix()];
        let missed = level.missed.load(Ordering::Acquire);
        *level.meanwhile.lock() = Some(HashSet::new());
        let done = self.write_news(cluster, level).await;
        *level.meanwhile.lock() = None;
        if done.is_ok() {
            level.mended.store(missed, Ordering::Release);
        }
        done
    }

    async fn write_news(&self, cluster: ClusterIx, level: &Level) -> Result<(), StateError> {
        // Behind what was queued before.
        self.claim(cluster).await?;
        let (has, other) = (self.load(cluster).await?, self.load(cluster.other()).await?);
        let mut news = Self::news(&other, &has);
        let (done, wait) = oneshot::channel();
        let count = {
            let meanwhile = level.meanwhile.lock();
            news.retain(|entry| meanwhile.as_ref().is_none_or(|keys| !keys.contains(&entry.key)));
            if news.is_empty() {
                return Ok(());
            }
            let count = news.len();
            let queue = self.queues[cluster.ix()].as_ref().ok_or(StateError::NoCluster(cluster.ix()))?;
            let sent = queue.try_send(Job { entries: news, done });
            sent.map_err(|_| self.failed(cluster, "the queue is full".into()))?;
            count
        };
        wait.await
            .map_err(|_| self.failed(cluster, "the writer has stopped".into()))?
            .map_err(|e| self.failed(cluster, e))?;
        tracing::info!(cluster = self.name(cluster), records = count, "the state topic has what it missed");
        Ok(())
    }

    fn failed(&self, cluster: ClusterIx, reason: String) -> StateError {
        StateError::Write { cluster: self.name(cluster), reason }
    }

    /// Gives a cluster whose state topic is gone all that the other one's says.
    pub async fn rebuild(&self, cluster: ClusterIx, replication: Option<i16>) -> Result<(), StateError> {
        let image = self.load(cluster.other()).await?;
        // It was only unknown to a broker that has just started: what it has may be newer.
        if !self.ensure_topic(cluster, replication).await? {
            return Ok(());
        }
        self.write(cluster, image.stored().map(entry).collect()).await
    }
}
