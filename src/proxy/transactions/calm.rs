//! The moment before a switchover in which open transactions get to their ends and none begins: what would be aborted costs
//! an application its work (Kafka Streams builds its stores anew from their changelogs), what has ended costs nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Transactions, now};
use crate::transactions::Ask;

/// How often it is looked whether all have ended.
const LOOK: Duration = Duration::from_millis(2);

/// No transaction begins while this is there.
pub struct Calm(Arc<Transactions>);

impl Drop for Calm {
    fn drop(&mut self) {
        self.0.calming.send_replace(false);
    }
}

impl Transactions {
    /// Waits until no transaction is open, `limit` at most.
    pub async fn calm(self: &Arc<Self>, limit: Duration) -> Calm {
        self.calming.send_replace(true);
        let calm = Calm(self.clone());
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline && self.memory.lock().any_open(now()) {
            tokio::time::sleep(LOOK).await;
        }
        calm
    }

    /// Waits if the request would begin a transaction and none may. The hold that follows takes the request back.
    pub(super) async fn may_begin(&self, id: &str, ask: Ask) {
        let begins = !matches!(ask, Ask::End { .. } | Ask::Produce { transactional: false, .. });
        if begins && *self.calming.borrow() && self.memory.lock().is_idle(id) {
            // The sender lives in `self`: this cannot fail.
            let _ = self.calming.subscribe().wait_for(|calming| !calming).await;
        }
    }
}
