//! Acknowledgements of OffsetCommit: what a group knows to be committed for `sync` partitions is on the standby too, so that
//! nobody reads it again after a failover.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use tokio::time::Instant;

use super::Context;
use crate::catalog::{Partition, View};
use crate::config::TeeMode;
use crate::groups::Teed;
use crate::model::TopicPartition;
use crate::rewrite;
use crate::wire::body::{decode, encode};

/// At which every client sends the same again.
const LATER: i16 = ResponseError::CoordinatorLoadInProgress.code();

/// The reply to a commit as it may be given, once the standby has the offsets or `sync_timeout` is over. That a standby is too
/// slow with them does not take it out of the in-sync state, which is about records: the commit is acknowledged all the same.
pub async fn settle(
    context: &Context,
    view: &Arc<View>,
    version: i16,
    request: &Bytes,
    reply: Bytes,
    came: Instant,
) -> Result<Bytes, String> {
    let commit: OffsetCommitRequest = decode(request, version)?;
    let answer: OffsetCommitResponse = decode(&reply, version)?;
    let codes = || answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect::<Vec<_>>();
    tracing::trace!(group = %commit.group_id.as_str(), member = %commit.member_id, codes = ?codes(), "OffsetCommit answered");
    let stored = answer.topics.iter().flat_map(|topic| {
        let taken = topic.partitions.iter().filter(|p| p.error_code == 0);
        taken.filter_map(|p| view.partition(&topic.name, p.partition_index))
    });
    let awaited: Vec<TopicPartition> = stored.filter(waits).map(|p| p.tp.clone()).collect();
    if awaited.is_empty() {
        return Ok(reply);
    }
    let deadline = came + context.live.load().tee.sync_timeout;
    let teed = context.house.commit_teed(&commit.group_id, &awaited, deadline).await;
    tracing::trace!(group = %commit.group_id.as_str(), member = %commit.member_id, ?teed, "OffsetCommit settled");
    match teed {
        Teed::OnBoth => Ok(reply),
        Teed::OnActive => {
            tracing::debug!(group = %commit.group_id.as_str(), "a commit is not on the standby yet");
            Ok(reply)
        }
        Teed::Unknown => encode(&rewrite::offset_commit::error(&commit, LATER), version),
    }
}

fn waits(partition: &Arc<Partition>) -> bool {
    partition.mode() == TeeMode::Sync && partition.in_sync()
}
