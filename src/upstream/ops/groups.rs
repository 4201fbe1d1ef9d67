//! Consumer groups: which there are, what they committed, who is in them.

use futures_util::future::join_all;
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DescribeGroupsRequest,
    GroupId, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::{Message, Request, VersionRange};

use super::{group_by_topic, name, topic_name};
use crate::model::TopicPartition;
use crate::upstream::cluster::{Cluster, Lane, Target};
use crate::upstream::error::{Kind, UpstreamError, code};
use crate::upstream::retry::Retry;

/// OffsetFetch for a list of groups (KIP-709) by topic name; version 10 wants topic ids.
const OFFSET_FETCH: VersionRange = VersionRange { min: 8, max: 9 };
/// OffsetCommit by topic name; version 10 wants topic ids. From 6 on with leader epochs.
const OFFSET_COMMIT: VersionRange = VersionRange { min: 6, max: 9 };
/// LeaveGroup for a list of members (KIP-345).
const LEAVE_GROUP: VersionRange = VersionRange { min: 3, max: i16::MAX };
/// The generation of a commit from outside the group.
const NO_GENERATION: i32 = -1;
const NO_LEADER_EPOCH: i32 = -1;
/// The state of a classic group that does not exist.
const STATE_DEAD: &str = "Dead";

/// A group as its coordinator lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, ...; empty before Kafka 2.6.
    pub state: String,
    /// `consumer` for consumers of both protocols, `connect` for Connect, empty for a group of bare commits.
    pub protocol_type: String,
    /// `classic`, `consumer`, `share`, `streams`; empty before Kafka 3.8 (KIP-848).
    pub group_type: String,
    /// Broker id.
    pub coordinator: i32,
}

/// A committed offset of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub tp: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// -1 if the committer did not know it.
    pub leader_epoch: i32,
    pub metadata: String,
}

/// Which protocol a group's members speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    Classic,
    /// KIP-848.
    Consumer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    pub state: String,
    pub protocol: GroupProtocol,
    pub members: Vec<GroupMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    pub member_id: String,
    /// Static members only (KIP-345).
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
}

impl Cluster {
    /// All groups of the cluster. Fails if one broker cannot answer, since a list with a gap looks like a complete one.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, UpstreamError> {
        let mut retry = Retry::new(self);
        loop {
            match self.list_groups_once(&retry).await {
                Ok(groups) => return Ok(groups),
                Err(e) => retry.pause(e).await?,
            }
        }
    }

    async fn list_groups_once(&self, retry: &Retry<'_>) -> Result<Vec<ListedGroup>, UpstreamError> {
        let snapshot = self.refresh_by(retry.deadline()).await?;
        let req = ListGroupsRequest::default();
        let mut calls = Vec::with_capacity(snapshot.brokers.len());
        for broker in &snapshot.brokers {
            calls.push(self.call(Target::Broker(broker.id), Lane::Control, &req, retry.left()));
        }
        let mut groups = Vec::new();
        for (reply, broker) in join_all(calls).await.into_iter().zip(&snapshot.brokers) {
            let reply = reply?;
            self.verdict("ListGroups", Some((reply.error_code, None))).map_err(|e| e.at_broker(broker.id))?;
            groups.extend(reply.groups.iter().map(|g| ListedGroup {
                group: g.group_id.to_string(),
                state: g.group_state.to_string(),
                protocol_type: g.protocol_type.to_string(),
                group_type: g.group_type.to_string(),
                coordinator: broker.id,
            }));
        }
        Ok(groups)
    }

    /// All offsets that a group has committed; empty if it has none or does not exist. Offsets inside a transaction that
    /// is still open are not among them.
    pub async fn offset_fetch_all(&self, group: &str) -> Result<Vec<Committed>, UpstreamError> {
        let wanted = OffsetFetchRequestGroup::default().with_group_id(GroupId(name(group))).with_topics(None);
        let req = OffsetFetchRequest::default().with_groups(vec![wanted]);
        self.ask_coordinator(group, &req, OFFSET_FETCH, |reply| self.committed(&reply)).await
    }

    /// The offsets that a group has committed for these partitions; `None` while one of them is about to change by a
    /// transaction that is not complete (KIP-447).
    pub async fn offset_fetch_stable(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Option<Vec<Committed>>, UpstreamError> {
        let topics = group_by_topic(partitions.iter().map(|tp| (tp, ()))).into_iter().map(|(topic, partitions)| {
            let indexes = partitions.into_iter().map(|(partition, ())| partition).collect();
            OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes(indexes)
        });
        let wanted =
            OffsetFetchRequestGroup::default().with_group_id(GroupId(name(group))).with_topics(Some(topics.collect()));
        let req = OffsetFetchRequest::default().with_groups(vec![wanted]).with_require_stable(true);
        self.ask_coordinator(group, &req, OFFSET_FETCH, |reply| match self.committed(&reply) {
            Err(e) if e.kafka_code() == Some(code::UNSTABLE_OFFSET_COMMIT) => Ok(None),
            told => told.map(Some),
        })
        .await
    }

    /// Reads the reply for one group.
    fn committed(&self, reply: &OffsetFetchResponse) -> Result<Vec<Committed>, UpstreamError> {
        let Some(found) = reply.groups.first() else {
            return Err(self.error("OffsetFetch", Kind::Protocol("the reply is empty".into())));
        };
        if found.error_code == code::GROUP_ID_NOT_FOUND {
            return Ok(Vec::new());
        }
        self.verdict("OffsetFetch", Some((found.error_code, None)))?;
        let mut all = Vec::new();
        for (topic, p) in found.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.name, p))) {
            self.verdict("OffsetFetch", Some((p.error_code, None)))?;
            if p.committed_offset >= 0 {
                all.push(Committed {
                    tp: TopicPartition::new(topic.as_str(), p.partition_index),
                    offset: p.committed_offset,
                    leader_epoch: p.committed_leader_epoch,
                    metadata: p.metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
                });
            }
        }
        Ok(all)
    }

    /// Commits offsets from outside the group: (partition, next offset, metadata). Answers the partitions that were
    /// refused, with their codes; UNKNOWN_MEMBER_ID on all of them means that the group has members.
    pub async fn offset_commit_simple(
        &self,
        group: &str,
        offsets: &[(TopicPartition, i64, String)],
    ) -> Result<Vec<(TopicPartition, i16)>, UpstreamError> {
        if offsets.is_empty() {
            return Ok(Vec::new());
        }
        let topics = group_by_topic(offsets.iter().map(|(tp, offset, metadata)| (tp, (*offset, metadata))));
        let topics = topics.into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, (offset, metadata))| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(NO_LEADER_EPOCH)
                    .with_committed_metadata(Some(name(metadata)))
            });
            OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
        });
        let req = OffsetCommitRequest::default()
            .with_group_id(GroupId(name(group)))
            .with_generation_id_or_member_epoch(NO_GENERATION)
            .with_topics(topics.collect());
        self.ask_coordinator(group, &req, OFFSET_COMMIT, |reply| {
            let mut refused = Vec::new();
            for (topic, p) in reply.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.name, p))) {
                match p.error_code {
                    code::NONE => {}
                    code::COORDINATOR_LOAD_IN_PROGRESS | code::COORDINATOR_NOT_AVAILABLE | code::NOT_COORDINATOR => {
                        return Err(self.kafka_error("OffsetCommit", p.error_code, None));
                    }
                    code => refused.push((TopicPartition::new(topic.as_str(), p.partition_index), code)),
                }
            }
            Ok(refused)
        })
        .await
    }

    /// State and members of a group of either protocol; `None` if there is no such group.
    pub async fn describe_group(&self, group: &str) -> Result<Option<DescribedGroup>, UpstreamError> {
        if let Some(found) = self.describe_classic(group).await? {
            return Ok(Some(found));
        }
        match self.describe_consumer(group).await {
            Err(e) if matches!(e.kind(), Kind::Unsupported(_)) => Ok(None), // a cluster without KIP-848
            other => other,
        }
    }

    async fn describe_classic(&self, group: &str) -> Result<Option<DescribedGroup>, UpstreamError> {
        let req = DescribeGroupsRequest::default().with_groups(vec![GroupId(name(group))]);
        self.ask_coordinator(group, &req, DescribeGroupsRequest::VERSIONS, |reply| {
            let Some(found) = reply.groups.first() else {
                return Err(self.error("DescribeGroups", Kind::Protocol("the reply is empty".into())));
            };
            if found.error_code == code::GROUP_ID_NOT_FOUND {
                return Ok(None);
            }
            self.verdict("DescribeGroups", Some((found.error_code, found.error_message.as_deref())))?;
            if found.group_state.as_str() == STATE_DEAD {
                return Ok(None);
            }
            let members = found.members.iter().map(|m| GroupMember {
                member_id: m.member_id.to_string(),
                group_instance_id: m.group_instance_id.as_ref().map(ToString::to_string),
                client_id: m.client_id.to_string(),
                client_host: m.client_host.to_string(),
            });
            Ok(Some(DescribedGroup {
                state: found.group_state.to_string(),
                protocol: GroupProtocol::Classic,
                members: members.collect(),
            }))
        })
        .await
    }

    async fn describe_consumer(&self, group: &str) -> Result<Option<DescribedGroup>, UpstreamError> {
        self.consumer_group(group, |found| {
            let members = found.members.iter().map(|m| GroupMember {
                member_id: m.member_id.to_string(),
                group_instance_id: m.instance_id.as_ref().map(ToString::to_string),
                client_id: m.client_id.to_string(),
                client_host: m.client_host.to_string(),
            });
            DescribedGroup {
                state: found.group_state.to_string(),
                protocol: GroupProtocol::Consumer,
                members: members.collect(),
            }
        })
        .await
    }

    /// What is wanted of the description of a KIP-848 group; `None` if there is none.
    async fn consumer_group<A>(
        &self,
        group: &str,
        read: impl Fn(&DescribedConsumerGroup) -> A,
    ) -> Result<Option<A>, UpstreamError> {
        let req = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(name(group))]);
        self.ask_coordinator(group, &req, ConsumerGroupDescribeRequest::VERSIONS, |reply| {
            let Some(found) = reply.groups.first() else {
                return Err(self.error("ConsumerGroupDescribe", Kind::Protocol("the reply is empty".into())));
            };
            if found.error_code == code::GROUP_ID_NOT_FOUND {
                return Ok(None);
            }
            self.verdict("ConsumerGroupDescribe", Some((found.error_code, found.error_message.as_deref())))?;
            Ok(Some(read(found)))
        })
        .await
    }

    /// A heartbeat of a KIP-848 member, again while the coordinator moves or loads. Other codes are in the reply.
    pub async fn consumer_group_heartbeat(
        &self,
        req: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, UpstreamError> {
        self.ask_coordinator(&req.group_id, req, ConsumerGroupHeartbeatRequest::VERSIONS, |reply| {
            match reply.error_code {
                code::COORDINATOR_LOAD_IN_PROGRESS | code::COORDINATOR_NOT_AVAILABLE | code::NOT_COORDINATOR => {
                    Err(self.kafka_error("ConsumerGroupHeartbeat", reply.error_code, None))
                }
                _ => Ok(reply),
            }
        })
        .await
    }

    /// (group epoch, epoch of the last assignment that was worked out) of a KIP-848 group; `None` if there is none.
    pub async fn consumer_group_epochs(&self, group: &str) -> Result<Option<[i32; 2]>, UpstreamError> {
        self.consumer_group(group, |found| [found.group_epoch, found.assignment_epoch]).await
    }

    /// Removes members from a group, as their own LeaveGroup would. Members that are gone already count as removed;
    /// answers those that were refused, with their codes.
    pub async fn remove_members(
        &self,
        group: &str,
        members: &[GroupMember],
    ) -> Result<Vec<(String, i16)>, UpstreamError> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let members = members.iter().map(|m| {
            MemberIdentity::default()
                .with_member_id(name(&m.member_id))
                .with_group_instance_id(m.group_instance_id.as_deref().map(name))
        });
        let req = LeaveGroupRequest::default().with_group_id(GroupId(name(group))).with_members(members.collect());
        self.ask_coordinator(group, &req, LEAVE_GROUP, |reply| {
            match reply.error_code {
                code::UNKNOWN_MEMBER_ID | code::GROUP_ID_NOT_FOUND => return Ok(Vec::new()),
                code => self.verdict("LeaveGroup", Some((code, None)))?,
            }
            let refused =
                reply.members.iter().filter(|m| !matches!(m.error_code, code::NONE | code::UNKNOWN_MEMBER_ID));
            Ok(refused.map(|m| (m.member_id.to_string(), m.error_code)).collect())
        })
        .await
    }

    /// A request to a group's coordinator, again while the coordinator moves, loads or cannot be reached.
    pub(super) async fn ask_coordinator<R: Request, A>(
        &self,
        group: &str,
        req: &R,
        versions: VersionRange,
        read: impl Fn(R::Response) -> Result<A, UpstreamError>,
    ) -> Result<A, UpstreamError> {
        let mut retry = Retry::for_group(self, group);
        loop {
            let reply = self.call_within(Target::Coordinator(group), Lane::Control, req, versions, retry.left()).await;
            match reply.and_then(&read) {
                Ok(answer) => return Ok(answer),
                Err(e) => retry.pause(e).await?,
            }
        }
    }
}
