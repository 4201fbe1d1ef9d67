//! The way of a `sync` partition back into the in-sync state, by itself: when its stream has caught up and the standby
//! answers. Leaving is the acknowledgements' business (`coordinator::house`).

use std::time::Duration;

use tokio::time::Instant;

use super::Stream;
use crate::config::TeeMode;
use crate::state::{InSyncRecord, Key};
use crate::upstream::OffsetSpec;

/// How old the end of the log that the stream has reached may be for the standby to count as in sync again, as Kafka's
/// replicas count (class Partition, `isCaughtUp`): under load the newest end is never reached. Acknowledgements wait about
/// this long then.
const CAUGHT_UP: Duration = Duration::from_millis(200);

/// The way back into the in-sync state.
#[derive(Default)]
pub(super) struct Return {
    /// An end of the active cluster's log to be reached, and when it was the newest known.
    mark: Option<(i64, Instant)>,
    /// Acknowledgements wait again; the state is stored when the stream has reached this offset: what was acknowledged
    /// without the standby is below it.
    entering: Option<i64>,
}

impl Stream {
    /// Brings a `sync` partition back into the in-sync state when it has reached the `end` of the log, or one that was the
    /// newest a moment ago; `true` while it is on its way.
    pub(super) async fn return_to_sync(&mut self, end: i64) -> bool {
        if self.partition.mode() != TeeMode::Sync {
            return false;
        }
        let next = self.cursor.active_next;
        match self.back.entering {
            // It has left again.
            Some(_) if !self.partition.in_sync() => self.back = Return::default(),
            Some(goal) if next < goal => return true,
            Some(_) => {
                self.back = Return::default();
                Box::pin(self.store_in_sync()).await;
                return false;
            }
            None if self.partition.in_sync() => return false,
            None => {}
        }
        // Who could read the standby alone would have to go by what its state topic says.
        if !self.direction.store.is_level(self.direction.to()) {
            return true;
        }
        let reached = |(goal, since): (i64, Instant)| next >= goal && since.elapsed() <= CAUGHT_UP;
        if (next >= end || self.back.mark.is_some_and(reached)) && Box::pin(self.standby_answers()).await {
            self.partition.set_in_sync(true);
            self.back.entering = Some(self.partition.with_tee(|t| t.seen_end()));
        } else if self.back.mark.is_none_or(|(goal, _)| next >= goal) {
            self.back.mark = Some((end, Instant::now()));
        }
        true
    }

    /// A partition with nothing to copy is level with a dead standby, too.
    async fn standby_answers(&self) -> bool {
        let asked = self.direction.standby.offset_of(&self.partition.tp, OffsetSpec::Latest);
        matches!(tokio::time::timeout(CAUGHT_UP, asked).await, Ok(Ok(_)))
    }

    async fn store_in_sync(&self) {
        let tp = &self.partition.tp;
        let _transition = self.partition.transition.lock().await;
        if !self.partition.in_sync() {
            return;
        }
        let key = Key::InSync { topic: tp.topic.to_string(), partition: tp.partition };
        let from = self.partition.offsets.read().map(self.direction.from).position_out(self.cursor.active_next);
        let store = &self.direction.store;
        let record = || vec![store.entry(&key, &InSyncRecord { in_sync: true, from })];
        if let Err(error) = store.write(self.direction.from, record()).await {
            tracing::warn!(%tp, %error, "the standby is in sync again, which could not be stored");
        }
        store.write_soon(self.direction.to(), record());
        tracing::info!(%tp, "the standby is in sync again");
    }
}
