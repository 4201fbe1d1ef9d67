//! Consumer groups and their offsets.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::*;

use super::{READ, Reply, Side};
use crate::wire::raw::{group_id, text, topic_name};

pub fn groups(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    let group = side.own("group");
    let reply = match api {
        ApiKey::OffsetCommit => side.commit(version, &group),
        ApiKey::OffsetFetch => {
            side.committed(&group);
            let request = match version >= 8 {
                false => OffsetFetchRequest::default().with_group_id(group_id(&group)).with_topics(Some(vec![
                    OffsetFetchRequestTopic::default().with_name(topic_name(READ)).with_partition_indexes(vec![0, 1]),
                ])),
                true => OffsetFetchRequest::default().with_groups(vec![
                    OffsetFetchRequestGroup::default().with_group_id(group_id(&group)).with_topics(Some(vec![
                        OffsetFetchRequestTopics::default()
                            .with_name(topic_name(READ))
                            .with_partition_indexes(vec![0, 1]),
                    ])),
                ]),
            };
            side.ask(version, request)
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::default();
            side.ask(
                version,
                match version >= 4 {
                    true => request.with_coordinator_keys(vec![text("readers"), text("others")]),
                    false => request.with_key(text("readers")),
                },
            )
        }
        ApiKey::JoinGroup => side.join(version, &group).0,
        ApiKey::SyncGroup => {
            let (_, joined) = side.join(3, &group);
            side.sync(version, &group, joined.generation_id, &joined.member_id)
        }
        ApiKey::Heartbeat => {
            let (generation, member) = side.stable_group(&group);
            let request = HeartbeatRequest::default().with_group_id(group_id(&group)).with_generation_id(generation);
            side.ask(version, request.with_member_id(text(&member)))
        }
        ApiKey::LeaveGroup => {
            let (_, member) = side.stable_group(&group);
            let request = LeaveGroupRequest::default().with_group_id(group_id(&group));
            side.ask(
                version,
                match version >= 3 {
                    true => request.with_members(vec![MemberIdentity::default().with_member_id(text(&member))]),
                    false => request.with_member_id(text(&member)),
                },
            )
        }
        ApiKey::DescribeGroups => {
            let groups = vec![group_id("readers"), group_id("nobody")];
            side.ask(version, DescribeGroupsRequest::default().with_groups(groups))
        }
        ApiKey::ListGroups => side.ask(version, ListGroupsRequest::default()),
        ApiKey::DeleteGroups => {
            side.committed(&group);
            side.ask(version, DeleteGroupsRequest::default().with_groups_names(vec![group_id(&group)]))
        }
        ApiKey::OffsetDelete => {
            use kafka_protocol::messages::offset_delete_request::{
                OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
            };
            side.committed(&group);
            let partitions = vec![OffsetDeleteRequestPartition::default().with_partition_index(0)];
            let topic = OffsetDeleteRequestTopic::default().with_name(topic_name(READ)).with_partitions(partitions);
            side.ask(version, OffsetDeleteRequest::default().with_group_id(group_id(&group)).with_topics(vec![topic]))
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(group_id(&group))
                .with_member_id(text(if version >= 1 { "2fBLhRsOSCmdUBIkS7uXfg" } else { "" }))
                .with_member_epoch(0)
                .with_rebalance_timeout_ms(30_000)
                .with_subscribed_topic_names(Some(vec![topic_name(READ)]))
                .with_topic_partitions(Some(Vec::new()));
            side.ask(version, request)
        }
        ApiKey::ConsumerGroupDescribe => {
            let groups = vec![group_id("moderns"), group_id("nobody")];
            side.ask(version, ConsumerGroupDescribeRequest::default().with_group_ids(groups))
        }
        _ => return None,
    };
    Some(reply)
}
