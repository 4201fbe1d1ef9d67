//! Share groups (KIP-932): where they begin to read, their settings and members.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequest, GroupId,
    ShareGroupDescribeRequest, ShareGroupHeartbeatRequest,
};
use kafka_protocol::protocol::Message;

use super::topics::{Configs, RESOURCE_GROUP, SOURCE_GROUP};
use super::{group_by_topic, name, topic_name};
use crate::model::TopicPartition;
use crate::upstream::cluster::Cluster;
use crate::upstream::error::{Kind, UpstreamError, code};

/// Member epochs by which a member joins and leaves.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

impl Cluster {
    /// Where a share group begins to read its partitions: the first offset that is not done with; -1 where it has not begun.
    /// `None`: there is no such group.
    pub async fn share_starts(&self, group: &str) -> Result<Option<BTreeMap<TopicPartition, i64>>, UpstreamError> {
        let wanted =
            DescribeShareGroupOffsetsRequestGroup::default().with_group_id(GroupId(name(group))).with_topics(None);
        let req = DescribeShareGroupOffsetsRequest::default().with_groups(vec![wanted]);
        self.ask_coordinator(group, &req, DescribeShareGroupOffsetsRequest::VERSIONS, |reply| {
            let Some(found) = reply.groups.first() else {
                return Err(self.error("DescribeShareGroupOffsets", Kind::Protocol("the reply is empty".into())));
            };
            if found.error_code == code::GROUP_ID_NOT_FOUND {
                return Ok(None);
            }
            self.verdict("DescribeShareGroupOffsets", Some((found.error_code, found.error_message.as_deref())))?;
            let mut starts = BTreeMap::new();
            for (topic, p) in found.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.topic_name, p))) {
                self.verdict("DescribeShareGroupOffsets", Some((p.error_code, p.error_message.as_deref())))?;
                starts.insert(TopicPartition::new(topic.as_str(), p.partition_index), p.start_offset);
            }
            Ok(Some(starts))
        })
        .await
    }

    /// Has a share group without members begin elsewhere. Answers the partitions that were refused, with their codes.
    ///
    /// Errors: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND.
    pub async fn alter_share_starts(
        &self,
        group: &str,
        starts: &[(TopicPartition, i64)],
    ) -> Result<Vec<(TopicPartition, i16)>, UpstreamError> {
        let topics = group_by_topic(starts.iter().map(|(tp, start)| (tp, *start))).into_iter();
        let topics = topics.map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, start)| {
                AlterShareGroupOffsetsRequestPartition::default()
                    .with_partition_index(partition)
                    .with_start_offset(start)
            });
            AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name(topic))
                .with_partitions(partitions.collect())
        });
        let req =
            AlterShareGroupOffsetsRequest::default().with_group_id(GroupId(name(group))).with_topics(topics.collect());
        self.ask_coordinator(group, &req, AlterShareGroupOffsetsRequest::VERSIONS, |reply| {
            self.verdict("AlterShareGroupOffsets", Some((reply.error_code, reply.error_message.as_deref())))?;
            let rows = reply.responses.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.topic_name, p)));
            let refused = rows.filter(|(_, p)| p.error_code != code::NONE);
            Ok(refused.map(|(t, p)| (TopicPartition::new(t.as_str(), p.partition_index), p.error_code)).collect())
        })
        .await
    }

    /// Has a share group without members forget that it ever read these topics.
    pub async fn delete_share_starts(&self, group: &str, topics: &[&str]) -> Result<(), UpstreamError> {
        let topics =
            topics.iter().map(|t| DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic_name(t)));
        let req =
            DeleteShareGroupOffsetsRequest::default().with_group_id(GroupId(name(group))).with_topics(topics.collect());
        self.ask_coordinator(group, &req, DeleteShareGroupOffsetsRequest::VERSIONS, |reply| {
            self.verdict("DeleteShareGroupOffsets", Some((reply.error_code, reply.error_message.as_deref())))
        })
        .await
    }

    /// Ids of a share group's members; none if there is no such group.
    pub async fn share_members(&self, group: &str) -> Result<Vec<String>, UpstreamError> {
        let req = ShareGroupDescribeRequest::default().with_group_ids(vec![GroupId(name(group))]);
        self.ask_coordinator(group, &req, ShareGroupDescribeRequest::VERSIONS, |reply| {
            let Some(found) = reply.groups.first() else {
                return Err(self.error("ShareGroupDescribe", Kind::Protocol("the reply is empty".into())));
            };
            if found.error_code == code::GROUP_ID_NOT_FOUND {
                return Ok(Vec::new());
            }
            self.verdict("ShareGroupDescribe", Some((found.error_code, found.error_message.as_deref())))?;
            Ok(found.members.iter().map(|m| m.member_id.to_string()).collect())
        })
        .await
    }

    /// Joins a share group by this member id, or leaves it.
    async fn share_heartbeat(
        &self,
        group: &str,
        member: &str,
        epoch: i32,
        topics: Option<&[&str]>,
    ) -> Result<(), UpstreamError> {
        let req = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(name(group)))
            .with_member_id(name(member))
            .with_member_epoch(epoch)
            .with_subscribed_topic_names(topics.map(|topics| topics.iter().map(|t| topic_name(t)).collect()));
        self.ask_coordinator(group, &req, ShareGroupHeartbeatRequest::VERSIONS, |reply| match reply.error_code {
            code::UNKNOWN_MEMBER_ID | code::GROUP_ID_NOT_FOUND if epoch == LEAVE => Ok(()),
            code => self.verdict("ShareGroupHeartbeat", Some((code, reply.error_message.as_deref()))),
        })
        .await
    }

    /// Makes a share group that is not there yet: by a member that joins and leaves.
    pub async fn create_share_group(&self, group: &str, member: &str, topics: &[&str]) -> Result<(), UpstreamError> {
        self.share_heartbeat(group, member, JOIN, Some(topics)).await?;
        self.leave_share_group(group, member).await
    }

    /// Takes a member out of a share group; one that is not in it counts as gone.
    pub async fn leave_share_group(&self, group: &str, member: &str) -> Result<(), UpstreamError> {
        self.share_heartbeat(group, member, LEAVE, None).await
    }

    /// The settings that were made for a group itself.
    pub async fn group_configs(&self, group: &str) -> Result<Configs, UpstreamError> {
        self.described(RESOURCE_GROUP, group, |entry| entry.config_source == SOURCE_GROUP).await
    }

    /// Sets and deletes single settings of a group.
    pub async fn alter_group_configs(&self, group: &str, set: &Configs, delete: &[&str]) -> Result<(), UpstreamError> {
        self.alter_configs(RESOURCE_GROUP, group, set, delete).await
    }
}
