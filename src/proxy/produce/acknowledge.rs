//! What must hold before a producer is told that its batches are stored: the standby has them where that was promised, and they
//! lie where nothing else has been.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use tokio::time::Instant;

use super::super::{Context, standby};
use super::{NOT_ENOUGH_REPLICAS_AFTER_APPEND, ProduceContext, TopicKey};
use crate::catalog::{Partition, View};
use crate::wire::body;

/// A partition that an acknowledgement waits for.
pub struct Wait {
    pub partition: Arc<Partition>,
    /// Offset of the active cluster that the standby must have reached.
    pub active_end: i64,
    /// The records it is about.
    pub logical: (i64, i64),
    pub topic: TopicKey,
    pub index: i32,
    /// Another batch was known under these offsets: the log may have lost its end.
    pub suspect: bool,
    /// The records are stored for good, or (in a transaction) only shown to be.
    pub promised: bool,
    /// The standby must have them.
    pub standby: bool,
}

impl Wait {
    /// Notes what the producer is told.
    pub fn tell(&self) {
        let (from, to) = self.logical;
        if self.promised { self.partition.acknowledge(from, to) } else { self.partition.expose(to) }
    }

    /// Gives the records their names once it is known what has become of the log.
    async fn name(&mut self, context: &Context, view: &View, deadline: Instant) -> Result<(), String> {
        context.house.check_log(&self.partition).await?;
        // What was written since the last look at the leader's epoch only the copy can tell.
        if !self.partition.beyond_doubt(deadline).await {
            return Err("the standby's copy could not be compared in time".into());
        }
        let count = self.logical.1 - self.logical.0;
        let offsets = self.partition.offsets.read();
        if offsets.generation() > view.generation {
            return Err("a cutover took place meanwhile".into());
        }
        let logical = offsets.map(view.active).position_out(self.active_end - count);
        self.logical = (logical, logical + count);
        Ok(())
    }
}

/// A reply that goes to the client once the standby has what it promises.
pub struct Arrived {
    /// As the client is to see it if the standby comes in time.
    body: Bytes,
    version: i16,
    view: Arc<View>,
    waits: Vec<Wait>,
    /// Until when the standby is waited for.
    deadline: Instant,
}

impl Arrived {
    pub fn new(context: &Context, produced: &ProduceContext, body: Bytes, waits: Vec<Wait>) -> Self {
        let deadline = Instant::now() + context.live.load().tee.sync_timeout;
        Arrived { body, version: produced.version, view: produced.view.clone(), waits, deadline }
    }
}

/// Waits for the standby where the acknowledgement promises that; gives the body for the client.
pub async fn settle(context: &Context, arrived: Arrived) -> Result<Bytes, String> {
    let Arrived { mut body, version, view, waits, deadline } = arrived;
    for mut wait in waits {
        if wait.suspect {
            match wait.name(context, &view, deadline).await {
                Ok(()) => body = change(&body, version, &wait, |row| row.base_offset = wait.logical.0)?,
                Err(reason) => {
                    let text = format!("it is not known whether the log has lost its end: {reason}");
                    body = change(&body, version, &wait, |row| fail(row, &text))?;
                    continue;
                }
            }
        }
        let held = !wait.standby
            || standby::reached(context, view.generation, &wait.partition, wait.active_end, deadline).await;
        match held {
            true => wait.tell(),
            false => {
                let text = "the standby cluster did not acknowledge the batch within tee.sync_timeout";
                body = change(&body, version, &wait, |row| fail(row, text))?;
            }
        }
    }
    Ok(body)
}

/// Retriable, and the retry of a batch that is stored is found to be a duplicate.
fn fail(row: &mut PartitionProduceResponse, reason: &str) {
    row.error_code = NOT_ENOUGH_REPLICAS_AFTER_APPEND;
    row.base_offset = -1;
    row.error_message = Some(kafka_protocol::protocol::StrBytes::from_string(reason.to_owned()));
}

/// The reply with another row for the partition of a wait.
fn change(
    reply: &Bytes,
    version: i16,
    wait: &Wait,
    with: impl Fn(&mut PartitionProduceResponse),
) -> Result<Bytes, String> {
    let mut reply: ProduceResponse = body::decode(reply, version)?;
    let topics = reply.responses.iter_mut();
    let topic = topics.filter(|t| t.name.as_str() == wait.topic.name && t.topic_id == wait.topic.id);
    topic.flat_map(|t| &mut t.partition_responses).filter(|p| p.index == wait.index).for_each(with);
    body::encode(&reply, version)
}
