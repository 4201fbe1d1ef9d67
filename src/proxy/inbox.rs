//! What the request half of a connection tells its reply half. A request that went upstream wakes nobody: its reply will,
//! and that is when the reply half looks here. On small requests a wake-up costs more than all the rest.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::replies::ToReplies;

pub struct Inbox {
    messages: Mutex<VecDeque<ToReplies>>,
    /// One permit per request that may still be taken from the client.
    room: Semaphore,
    word: Notify,
}

impl Inbox {
    /// `limit`: requests under way at a time.
    pub fn new(limit: usize) -> Self {
        Inbox { messages: Mutex::default(), room: Semaphore::new(limit), word: Notify::new() }
    }

    /// Leaves a message; a request waits until there is room for it.
    pub async fn put(&self, message: ToReplies) {
        let mut wakes = true;
        if let ToReplies::Pending(pending) = &message {
            if let Ok(permit) = self.room.acquire().await {
                permit.forget();
            }
            wakes = pending.is_answered();
        }
        self.messages.lock().push_back(message);
        if wakes {
            self.word.notify_one();
        }
    }

    /// Hands over what has been left.
    pub fn take(&self, mut each: impl FnMut(ToReplies)) {
        self.messages.lock().drain(..).for_each(&mut each);
    }

    /// Requests were answered or cut.
    pub fn make_room(&self, requests: usize) {
        self.room.add_permits(requests);
    }

    /// Resolves when there is a message that does not wait for a broker's reply.
    pub async fn woken(&self) {
        self.word.notified().await;
    }
}
