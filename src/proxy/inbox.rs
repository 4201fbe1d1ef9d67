//! What the request half of a connection tells its reply half. A request that went upstream wakes nobody: its reply will,
//! and that is when the reply half looks here. On small requests a wake-up costs more than all the rest.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::pending::Pending;
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
            self.room().await;
            wakes = pending.is_answered();
        }
        self.messages.lock().push_back(message);
        if wakes {
            self.word.notify_one();
        }
    }

    /// Room for one more request, if there is; else it is to be waited for.
    pub fn try_room(&self) -> bool {
        self.room.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    pub async fn room(&self) {
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
    }

    /// Leaves requests for which there was room and which the broker will answer.
    pub fn leave(&self, requests: impl Iterator<Item = Pending>) {
        self.messages.lock().extend(requests.map(ToReplies::Pending));
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
