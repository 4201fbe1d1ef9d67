//! The short way of a produce request: what goes to the broker as it came is judged by the fronts of its batches, where it lies
//! in the read buffer. What needs more is taken apart by [`super::request`].

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Entry, ProduceContext, TopicKey, check, known};
use crate::catalog::View;
use crate::config::TeeMode;
use crate::records::BatchHeader;
use crate::rewrite::{Translate, produce};
use crate::stream::is_client_id;

/// Partitions of one request that are compared with each other one by one.
const MAX_PARTS: usize = 64;

/// A request that goes on as it is.
pub struct Quick {
    context: ProduceContext,
    /// Where the batches lie in the body.
    batches: Vec<Range<usize>>,
    /// Some batch goes into a tee: its bytes are needed when the broker has answered.
    pub copied: bool,
}

impl Quick {
    /// For a request of which nothing is copied.
    pub fn forget(self) -> ProduceContext {
        self.context
    }

    /// Keeps what must be kept of the body.
    pub fn keep(mut self, body: &Bytes) -> ProduceContext {
        if self.copied {
            for (entry, place) in self.context.entries.iter_mut().zip(self.batches) {
                if let Some((_, batch)) = &mut entry.batch {
                    *batch = body.slice(place);
                }
            }
        }
        self.context
    }
}

/// Looks at the body of a request, or at as much of its front as shows the front of each batch; `size` is that of the whole
/// body. `None`: not for this way, or not well-formed.
pub fn look(view: &Arc<View>, version: i16, front: &[u8], size: usize) -> Option<Quick> {
    let sent = produce::sent(version, front, size)?;
    let acknowledged = sent.acks != 0 && !sent.transactional;
    if !acknowledged || sent.parts.is_empty() || sent.parts.len() > MAX_PARTS {
        return None;
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(sent.parts.len());
    let mut copied = false;
    for part in &sent.parts {
        if entries.iter().any(|e| e.index == part.index && e.topic.name == part.topic && e.topic.id == part.id) {
            return None;
        }
        let entry = entry(view, version, part, front.get(part.records.start..)?)?;
        copied |= entry.partition.as_ref().is_some_and(|(topic, _)| topic.mode() != TeeMode::Off);
        entries.push(entry);
    }
    let (view, transactional_id) = (view.clone(), None);
    let context = ProduceContext { acks: sent.acks, version, entries, all_answered: false, view, transactional_id };
    Some(Quick { context, batches: sent.parts.into_iter().map(|part| part.records).collect(), copied })
}

/// One partition, if there is nothing to be said or changed.
fn entry(view: &View, version: i16, part: &produce::SentPart<'_>, batch: &[u8]) -> Option<Entry> {
    let key = TopicKey { name: part.topic.to_owned(), id: part.id };
    let topic = known(view, version, &key)?;
    let partition = topic.partition(part.index)?;
    let header = BatchHeader::parse(batch).ok().filter(|header| header.size() == part.records.len())?;
    let stays = key.id.is_nil() || topic.real_id(view.active).is_none_or(|real| real == key.id);
    let restamped = view.generation > 0 && is_client_id(header.producer_id);
    if !stays || restamped || view.hidden(&topic.name) || check(&header, Some(&partition)).is_some() {
        return None;
    }
    let (partition, batch) = (Some((topic, partition)), Some((header, Bytes::new())));
    Some(Entry { topic: key, index: part.index, partition, batch, answer: None })
}
