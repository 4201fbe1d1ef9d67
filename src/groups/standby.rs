//! Writing to groups on the standby, which must have no members there.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::model::TopicPartition;
use crate::upstream::{Cluster, GroupMember, GroupProtocol, Lane, Target, UpstreamError, code};

/// The member epoch by which a KIP-848 member leaves.
const LEAVE_EPOCH: i32 = -1;
const GROUP_ID_NOT_FOUND: i16 = ResponseError::GroupIdNotFound.code();

/// Why offsets were not written.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the group has members on the standby")]
    HasMembers,
    #[error("{partition}: error code {code}")]
    Partition { partition: TopicPartition, code: i16 },
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// A group in this state may have members that are not there any more.
pub fn has_members(state: &str) -> bool {
    !matches!(state, "Empty" | "Dead" | "")
}

/// Commits offsets from outside the group; answers the partitions that the standby does not have (yet).
pub async fn write(
    standby: &Cluster,
    group: &str,
    offsets: &[(TopicPartition, i64, String)],
) -> Result<HashSet<TopicPartition>, Refusal> {
    let refused = standby.offset_commit_simple(group, offsets).await?;
    let mut absent = HashSet::new();
    for (partition, code) in refused {
        match code {
            code::UNKNOWN_TOPIC_OR_PARTITION => {
                tracing::debug!(group, %partition, "not on the standby: its committed offset waits");
                absent.insert(partition);
            }
            code::UNKNOWN_MEMBER_ID => return Err(Refusal::HasMembers),
            code => return Err(Refusal::Partition { partition, code }),
        }
    }
    Ok(absent)
}

/// Removes the members that a group has on the standby: they were left behind when it was the active cluster.
pub async fn remove_members(standby: &Cluster, group: &str) -> Result<(), UpstreamError> {
    let Some(described) = standby.describe_group(group).await? else { return Ok(()) };
    if described.members.is_empty() {
        return Ok(());
    }
    tracing::info!(group, members = described.members.len(), "removing members left behind on the standby");
    match described.protocol {
        GroupProtocol::Classic => {
            let refused = standby.remove_members(group, &described.members).await?;
            if let Some((member, code)) = refused.first() {
                tracing::warn!(group, member, code, "a member left behind on the standby cannot be removed");
            }
        }
        GroupProtocol::Consumer => {
            for member in &described.members {
                let leave = ConsumerGroupHeartbeatRequest::default()
                    .with_group_id(GroupId(owned(group)))
                    .with_member_id(owned(&member.member_id))
                    .with_member_epoch(LEAVE_EPOCH)
                    .with_instance_id(member.group_instance_id.as_deref().map(owned));
                standby.call(Target::Coordinator(group), Lane::Control, &leave, standby.timeout()).await?;
            }
        }
    }
    Ok(())
}

/// Takes back member ids that were given on the standby and by which nobody joined.
pub async fn remove_unjoined(standby: &Cluster, group: &str, ids: &[String]) -> Result<(), UpstreamError> {
    tracing::info!(group, members = ids.len(), "removing member ids left behind on the standby");
    let member = |id: &String| GroupMember {
        member_id: id.clone(),
        group_instance_id: None,
        client_id: String::new(),
        client_host: String::new(),
    };
    let members: Vec<_> = ids.iter().map(member).collect();
    for (member, code) in standby.remove_members(group, &members).await? {
        tracing::warn!(group, member, code, "a member id left behind on the standby cannot be removed");
    }
    Ok(())
}

/// Deletes a group and its offsets; one that is not there counts as deleted.
pub async fn delete_group(standby: &Cluster, group: &str) -> Result<(), Refusal> {
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(owned(group))]);
    let reply = standby.call(Target::Coordinator(group), Lane::Control, &delete, standby.timeout()).await?;
    match reply.results.first().map_or(0, |r| r.error_code) {
        0 | GROUP_ID_NOT_FOUND => Ok(()),
        code => Err(Refusal::Partition { partition: TopicPartition::new(group, -1), code }),
    }
}

fn owned(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}
