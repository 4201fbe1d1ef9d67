//! One request for each API of the table, to be asked of a broker directly and through the proxy.
//!
//! What only reads is asked for the same things on both sides. What changes something does it to a topic, group or user of
//! its side's own; such names differ in one letter, the [`Side::tag`], so that the answers have the same size and can be
//! compared byte by byte after a replacement. A case makes what it needs by itself, on its own side.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use super::raw::{Raw, batch, group_id, text, topic_name, transactional_id, try_reply};
use crate::support::wait::wait_for;

/// For a coordinator to load.
const PATIENCE: Duration = Duration::from_secs(30);
const TIMEOUT_MS: i32 = 20_000;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// The topic that the reading cases read; `api-d` is the direct side's own.
pub const READ: &str = "api-p";

/// One way to ask: straight to the broker, or through the proxy.
pub struct Side {
    pub raw: Raw,
    /// The letter in this side's own names: `d` for direct, `p` for proxy.
    pub tag: char,
    /// The id under which this side knows the broker.
    pub broker: i32,
    /// The leader epoch of every partition, as this side sees it.
    pub epoch: i32,
    /// Tells the rounds apart: names are used once.
    pub round: String,
}

/// A reply as bytes and, where the codec knows the version, as text.
pub struct Reply {
    pub frame: Bytes,
    pub text: Option<String>,
}

impl Side {
    fn own(&self, what: &str) -> String {
        format!("{what}-{}-{}", self.tag, self.round)
    }

    /// The topic with records of this side's own.
    fn topic(&self) -> String {
        format!("api-{}", self.tag)
    }

    fn ask<R: Request>(&mut self, version: i16, request: R) -> Reply
    where
        R::Response: Debug,
    {
        let frame = self.raw.exchange(version, &request);
        let text = try_reply::<R>(version, &frame).ok().map(|reply| format!("{reply:?}"));
        Reply { frame, text }
    }

    /// As [`Self::ask`] while the answer has one of the codes of a coordinator that is not there yet.
    fn ask_coordinator<R: Request>(&mut self, version: i16, request: &R, code: impl Fn(&R::Response) -> i16) -> Reply
    where
        R::Response: Debug,
    {
        wait_for("the coordinator", PATIENCE, || {
            let frame = self.raw.exchange(version, request);
            let reply = super::raw::reply::<R>(version, &frame);
            match code(&reply) {
                14..=16 => {
                    self.find_coordinators();
                    Err(format!("{reply:?}"))
                }
                51 => Err(format!("{reply:?}")),
                _ => Ok(Reply { frame, text: Some(format!("{reply:?}")) }),
            }
        })
    }

    /// The first look for a coordinator is what creates its topic.
    fn find_coordinators(&mut self) {
        for kind in [0, 1] {
            self.raw.ask(3, &FindCoordinatorRequest::default().with_key(text("any")).with_key_type(kind));
        }
    }

    /// A group with one committed offset and no members.
    fn committed(&mut self, group: &str) {
        let reply = self.commit(2, group);
        assert!(reply.text.expect("version 2").contains("error_code: 0"), "{group} has an offset");
    }

    fn commit(&mut self, version: i16, group: &str) -> Reply {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(1)
            .with_committed_leader_epoch(if version >= 6 { self.epoch } else { -1 })
            .with_committed_metadata(Some(text("note")));
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name(READ)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        self.ask_coordinator(version, &request, |r| r.topics[0].partitions[0].error_code)
    }

    fn join(&mut self, version: i16, group: &str) -> (Reply, JoinGroupResponse) {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let request = JoinGroupRequest::default()
            .with_group_id(group_id(group))
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(if version >= 1 { 30_000 } else { -1 })
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0"))]);
        let reply = self.ask_coordinator(version, &request, |r| r.error_code);
        let decoded = super::raw::reply::<JoinGroupRequest>(version, &reply.frame);
        (reply, decoded)
    }

    /// A classic group with one member that has its assignment: (generation, member id).
    fn stable_group(&mut self, group: &str) -> (i32, String) {
        let (_, joined) = self.join(3, group);
        assert_eq!(joined.error_code, 0, "{group}");
        let (generation, member) = (joined.generation_id, joined.member_id.to_string());
        let synced = self.sync(3, group, generation, &member);
        assert!(synced.text.expect("version 3").contains("error_code: 0"), "{group}");
        (generation, member)
    }

    fn sync(&mut self, version: i16, group: &str, generation: i32, member: &str) -> Reply {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0"));
        let mut request = SyncGroupRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id(generation)
            .with_member_id(text(member))
            .with_assignments(vec![assignment]);
        if version >= 5 {
            request = request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
        }
        self.ask(version, request)
    }

    fn init_producer(&mut self, version: i16, id: Option<&str>) -> (Reply, InitProducerIdResponse) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(id.map(transactional_id))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let reply = self.ask_coordinator(version, &request, |r| r.error_code);
        let decoded = super::raw::reply::<InitProducerIdRequest>(version, &reply.frame);
        assert_eq!(decoded.error_code, 0);
        (reply, decoded)
    }

    /// An open transaction with one partition in it.
    fn begin(&mut self, id: &str) -> InitProducerIdResponse {
        let (_, producer) = self.init_producer(1, Some(id));
        let added = self.add_partitions(3, id, &producer);
        assert!(added.text.expect("version 3").contains("partition_error_code: 0"), "{id}");
        producer
    }

    fn add_partitions(&mut self, version: i16, id: &str, producer: &InitProducerIdResponse) -> Reply {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(&format!("txn-{}", self.tag)))
            .with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(id))
            .with_v3_and_below_producer_id(producer.producer_id)
            .with_v3_and_below_producer_epoch(producer.producer_epoch)
            .with_v3_and_below_topics(vec![topic]);
        let code = |r: &AddPartitionsToTxnResponse| {
            r.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        self.ask_coordinator(version, &request, code)
    }

    fn end(&mut self, version: i16, id: &str, producer: &InitProducerIdResponse) -> Reply {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(id))
            .with_producer_id(producer.producer_id)
            .with_producer_epoch(producer.producer_epoch)
            .with_committed(false);
        self.ask_coordinator(version, &request, |r| r.error_code)
    }

    fn create(&mut self, version: i16, name: &str) -> (Reply, CreateTopicsResponse) {
        let assignment =
            CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(vec![self.broker.into()]);
        let config =
            CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("123456789")));
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment])
            .with_configs(vec![config]);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let reply = self.ask(version, request);
        let decoded = super::raw::reply::<CreateTopicsRequest>(version, &reply.frame);
        assert_eq!(decoded.topics[0].error_code, 0, "{name}: {decoded:?}");
        (reply, decoded)
    }

    /// A topic of this side's own that its broker knows.
    fn created(&mut self, what: &str) -> String {
        let name = self.own(what);
        self.create(7, &name);
        wait_for("the new topic", PATIENCE, || {
            let metadata = self.raw.metadata(&name);
            if metadata.topics[0].error_code == 0 { Ok(()) } else { Err(format!("{metadata:?}")) }
        });
        name
    }

    /// The resource of this side's broker, as configurations name it.
    fn broker_name(&self) -> String {
        self.broker.to_string()
    }

    fn read_id(&mut self, by_id: bool) -> Uuid {
        if by_id { self.raw.topic_id(READ) } else { Uuid::nil() }
    }
}

/// Asks this side for an API in a version; `None`: there is no case for the API.
pub fn drive(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    data(side, api, version)
        .or_else(|| groups(side, api, version))
        .or_else(|| transactions(side, api, version))
        .or_else(|| topics(side, api, version))
        .or_else(|| cluster(side, api, version))
}

fn data(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    let reply = match api {
        ApiKey::Produce => {
            let name = side.topic();
            let data = PartitionProduceData::default().with_index(0).with_records(Some(batch("produced", 3)));
            let topic = TopicProduceData::default().with_partition_data(vec![data]);
            let topic = match version >= 13 {
                true => topic.with_topic_id(side.raw.topic_id(&name)),
                false => topic.with_name(topic_name(&name)),
            };
            let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS);
            side.ask(version, request.with_topic_data(vec![topic]))
        }
        ApiKey::Fetch => {
            let partition = FetchPartition::default()
                .with_partition(0)
                .with_fetch_offset(2)
                .with_current_leader_epoch(if version >= 9 { side.epoch } else { -1 })
                .with_partition_max_bytes(1 << 20);
            let topic = FetchTopic::default().with_partitions(vec![partition]);
            let topic = match version >= 13 {
                true => topic.with_topic_id(side.read_id(true)),
                false => topic.with_topic(topic_name(READ)),
            };
            let request = FetchRequest::default()
                .with_replica_id((-1).into())
                .with_max_wait_ms(100)
                .with_session_epoch(if version >= 7 { -1 } else { 0 })
                .with_topics(vec![topic]);
            let frame = side.raw.exchange(version, &request);
            let mut reply = super::raw::reply::<FetchRequest>(version, &frame);
            super::expect::blank_batch_epochs(&mut reply);
            Reply { frame, text: Some(format!("{reply:?}")) }
        }
        ApiKey::ListOffsets => {
            let spec = |timestamp| {
                ListOffsetsPartition::default()
                    .with_partition_index(0)
                    .with_current_leader_epoch(if version >= 4 { side.epoch } else { -1 })
                    .with_timestamp(timestamp)
            };
            let topic = |name, timestamp| {
                ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(vec![spec(timestamp)])
            };
            // Latest of one topic, earliest of the other: a partition may be named once.
            let topics = vec![topic(READ, -1), topic("api-x", -2)];
            side.ask(version, ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics))
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(0)
                .with_current_leader_epoch(side.epoch)
                .with_leader_epoch(side.epoch);
            let topic = OffsetForLeaderTopic::default().with_topic(topic_name(READ)).with_partitions(vec![partition]);
            let request =
                OffsetForLeaderEpochRequest::default().with_replica_id(if version >= 3 { -1 } else { -2 }.into());
            side.ask(version, request.with_topics(vec![topic]))
        }
        ApiKey::DeleteRecords => {
            // In the partition that no reading case looks at.
            let name = side.created("cut");
            let data = PartitionProduceData::default().with_index(0).with_records(Some(batch("cut", 5)));
            let topic = TopicProduceData::default().with_name(topic_name(&name)).with_partition_data(vec![data]);
            let produce = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS);
            let produced = side.raw.ask(9, &produce.with_topic_data(vec![topic]));
            assert_eq!(produced.responses[0].partition_responses[0].error_code, 0, "{name}");
            let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(2);
            let topic = DeleteRecordsTopic::default().with_name(topic_name(&name)).with_partitions(vec![partition]);
            side.ask(version, DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS))
        }
        _ => return None,
    };
    Some(reply)
}

fn groups(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
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

fn transactions(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    let id = side.own("txn");
    let reply = match api {
        ApiKey::InitProducerId => side.init_producer(version, Some(&id)).0,
        ApiKey::AddPartitionsToTxn => {
            let (_, producer) = side.init_producer(1, Some(&id));
            let reply = side.add_partitions(version, &id, &producer);
            side.end(1, &id, &producer);
            reply
        }
        ApiKey::AddOffsetsToTxn => {
            let producer = side.begin(&id);
            let group = side.own("group");
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(transactional_id(&id))
                .with_producer_id(producer.producer_id)
                .with_producer_epoch(producer.producer_epoch)
                .with_group_id(group_id(&group));
            let reply = side.ask_coordinator(version, &request, |r| r.error_code);
            side.end(1, &id, &producer);
            reply
        }
        ApiKey::TxnOffsetCommit => {
            let producer = side.begin(&id);
            let group = side.own("group");
            let add = AddOffsetsToTxnRequest::default()
                .with_transactional_id(transactional_id(&id))
                .with_producer_id(producer.producer_id)
                .with_producer_epoch(producer.producer_epoch)
                .with_group_id(group_id(&group));
            side.ask_coordinator(3, &add, |r| r.error_code);
            let partition = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(0)
                .with_committed_offset(1)
                .with_committed_leader_epoch(if version >= 2 { side.epoch } else { -1 });
            let topic =
                TxnOffsetCommitRequestTopic::default().with_name(topic_name(READ)).with_partitions(vec![partition]);
            let request = TxnOffsetCommitRequest::default()
                .with_transactional_id(transactional_id(&id))
                .with_group_id(group_id(&group))
                .with_producer_id(producer.producer_id)
                .with_producer_epoch(producer.producer_epoch)
                .with_topics(vec![topic]);
            let reply = side.ask_coordinator(version, &request, |r| r.topics[0].partitions[0].error_code);
            side.end(1, &id, &producer);
            reply
        }
        ApiKey::EndTxn => {
            let producer = side.begin(&id);
            side.end(version, &id, &producer)
        }
        ApiKey::DescribeTransactions => {
            let ids = vec![transactional_id("idle"), transactional_id("nobody")];
            side.ask(version, DescribeTransactionsRequest::default().with_transactional_ids(ids))
        }
        ApiKey::ListTransactions => side.ask(version, ListTransactionsRequest::default()),
        ApiKey::DescribeProducers => {
            use kafka_protocol::messages::describe_producers_request::TopicRequest;
            let topic = TopicRequest::default().with_name(topic_name(READ)).with_partition_indexes(vec![0, 1]);
            side.ask(version, DescribeProducersRequest::default().with_topics(vec![topic]))
        }
        _ => return None,
    };
    Some(reply)
}

fn topics(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    let reply = match api {
        ApiKey::Metadata => {
            use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
            let by_name = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            let mut topics = vec![by_name(READ), by_name("nothing")];
            if version >= 12 {
                let id = side.raw.topic_id("api-x");
                topics.push(MetadataRequestTopic::default().with_topic_id(id).with_name(None));
            }
            let request = MetadataRequest::default().with_topics(Some(topics));
            side.ask(version, request.with_allow_auto_topic_creation(version < 4))
        }
        ApiKey::DescribeTopicPartitions => {
            use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
            let topics = [READ, "nothing"].map(|name| TopicRequest::default().with_name(topic_name(name)));
            side.ask(version, DescribeTopicPartitionsRequest::default().with_topics(topics.into()))
        }
        ApiKey::CreateTopics => {
            let name = side.own("made");
            side.create(version, &name).0
        }
        ApiKey::DeleteTopics => {
            let name = side.created("gone");
            let request = DeleteTopicsRequest::default().with_timeout_ms(TIMEOUT_MS);
            let request = match version >= 6 {
                false => request.with_topic_names(vec![topic_name(&name)]),
                true => request.with_topics(vec![
                    DeleteTopicState::default().with_name(None).with_topic_id(side.raw.topic_id(&name)),
                ]),
            };
            side.ask(version, request)
        }
        ApiKey::CreatePartitions => {
            use kafka_protocol::messages::create_partitions_request::{
                CreatePartitionsAssignment, CreatePartitionsTopic,
            };
            let name = side.created("grown");
            let replicas = CreatePartitionsAssignment::default().with_broker_ids(vec![side.broker.into()]);
            let topic = CreatePartitionsTopic::default()
                .with_name(topic_name(&name))
                .with_count(2)
                .with_assignments(Some(vec![replicas]));
            side.ask(version, CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS))
        }
        ApiKey::DescribeConfigs => {
            use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
            let resource = |kind, name: &str, key| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(Some(vec![text(key)]))
            };
            let resources =
                vec![resource(TOPIC, READ, "retention.ms"), resource(BROKER, &side.broker_name(), "num.io.threads")];
            side.ask(version, DescribeConfigsRequest::default().with_resources(resources))
        }
        ApiKey::AlterConfigs => {
            use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
            let name = side.created("legacy");
            let resource = |kind, name: &str, key, value| {
                let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
                let resource = AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
                resource.with_configs(vec![config])
            };
            let resources = vec![
                resource(TOPIC, &name, "retention.ms", "987654321"),
                resource(BROKER, &side.broker_name(), "log.cleaner.threads", "1"),
            ];
            let request = AlterConfigsRequest::default().with_resources(resources);
            side.ask(version, request)
        }
        ApiKey::IncrementalAlterConfigs => {
            use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
            let name = side.created("newer");
            let resource = |kind, name: &str, key, value| {
                let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
                let resource = AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
                resource.with_configs(vec![config])
            };
            let resources = vec![
                resource(TOPIC, &name, "retention.ms", "987654321"),
                resource(BROKER, &side.broker_name(), "log.cleaner.threads", "1"),
            ];
            side.ask(version, IncrementalAlterConfigsRequest::default().with_resources(resources))
        }
        ApiKey::AlterPartitionReassignments => {
            use kafka_protocol::messages::alter_partition_reassignments_request::{
                ReassignablePartition, ReassignableTopic,
            };
            let replicas = Some(vec![side.broker.into()]);
            let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(replicas);
            // A broker that neither side has.
            let nowhere = ReassignablePartition::default().with_partition_index(1).with_replicas(Some(vec![77.into()]));
            let topic = ReassignableTopic::default()
                .with_name(topic_name(&side.topic()))
                .with_partitions(vec![partition, nowhere]);
            let request = AlterPartitionReassignmentsRequest::default().with_timeout_ms(TIMEOUT_MS);
            side.ask(version, request.with_topics(vec![topic]))
        }
        ApiKey::ListPartitionReassignments => {
            let request = ListPartitionReassignmentsRequest::default().with_timeout_ms(TIMEOUT_MS);
            side.ask(version, request.with_topics(None))
        }
        ApiKey::ElectLeaders => {
            use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
            let topic = TopicPartitions::default().with_topic(topic_name(READ)).with_partitions(vec![0, 7]);
            let request = ElectLeadersRequest::default().with_timeout_ms(TIMEOUT_MS);
            side.ask(version, request.with_topic_partitions(Some(vec![topic])))
        }
        _ => return None,
    };
    Some(reply)
}

fn cluster(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    // All kinds of operation and permission, as a filter.
    const ANY: i8 = 1;
    let name = side.own("name");
    let reply = match api {
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            side.ask(
                version,
                match version >= 3 {
                    true => request.with_client_software_name(text("raw")).with_client_software_version(text("1")),
                    false => request,
                },
            )
        }
        ApiKey::DescribeCluster => side.ask(version, DescribeClusterRequest::default()),
        ApiKey::DescribeAcls => {
            let request = DescribeAclsRequest::default().with_resource_type_filter(ANY).with_pattern_type_filter(ANY);
            side.ask(version, request.with_operation(ANY).with_permission_type(ANY))
        }
        ApiKey::CreateAcls => {
            let acl = AclCreation::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(&name))
                .with_resource_pattern_type(3)
                .with_principal(text("User:someone"))
                .with_host(text("*"))
                .with_operation(3)
                .with_permission_type(3);
            side.ask(version, CreateAclsRequest::default().with_creations(vec![acl]))
        }
        ApiKey::DeleteAcls => {
            // Also what the case before made, so that nothing is left.
            let filter = DeleteAclsFilter::default()
                .with_resource_type_filter(TOPIC)
                .with_resource_name_filter(Some(text(&name)))
                .with_pattern_type_filter(ANY)
                .with_operation(ANY)
                .with_permission_type(ANY);
            side.ask(version, DeleteAclsRequest::default().with_filters(vec![filter]))
        }
        ApiKey::AlterReplicaLogDirs => {
            let topic = AlterReplicaLogDirTopic::default().with_name(topic_name(READ)).with_partitions(vec![0]);
            let dir = AlterReplicaLogDir::default().with_path(text("/no/such/directory")).with_topics(vec![topic]);
            side.ask(version, AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]))
        }
        ApiKey::DescribeLogDirs => {
            let topic = DescribableLogDirTopic::default().with_topic(topic_name(READ)).with_partitions(vec![0]);
            let request = DescribeLogDirsRequest::default().with_topics(Some(vec![topic]));
            // Version 5 changed the reply only, and the codec does not have it.
            let body = super::raw::encode(version.min(4), &request);
            side.raw.push_body(DescribeLogDirsRequest::KEY, version, &body);
            Reply { frame: side.raw.frame().expect("a reply"), text: None }
        }
        ApiKey::CreateDelegationToken => {
            side.ask(version, CreateDelegationTokenRequest::default().with_max_lifetime_ms(60_000))
        }
        ApiKey::RenewDelegationToken => {
            side.ask(version, RenewDelegationTokenRequest::default().with_hmac(Bytes::from_static(b"hmac")))
        }
        ApiKey::ExpireDelegationToken => {
            side.ask(version, ExpireDelegationTokenRequest::default().with_hmac(Bytes::from_static(b"hmac")))
        }
        ApiKey::DescribeDelegationToken => side.ask(version, DescribeDelegationTokenRequest::default()),
        ApiKey::DescribeClientQuotas => side.ask(version, DescribeClientQuotasRequest::default()),
        ApiKey::AlterClientQuotas => {
            let entity = EntityData::default().with_entity_type(text("user")).with_entity_name(Some(text(&name)));
            let op = OpData::default().with_key(text("producer_byte_rate")).with_value(1e9);
            let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![op]);
            side.ask(version, AlterClientQuotasRequest::default().with_entries(vec![entry]))
        }
        ApiKey::DescribeUserScramCredentials => {
            side.ask(version, DescribeUserScramCredentialsRequest::default().with_users(None))
        }
        ApiKey::AlterUserScramCredentials => {
            let credential = ScramCredentialUpsertion::default()
                .with_name(text(&name))
                .with_mechanism(1)
                .with_iterations(4096)
                .with_salt(Bytes::from_static(b"salt"))
                .with_salted_password(Bytes::from_static(b"01234567890123456789012345678901"));
            side.ask(version, AlterUserScramCredentialsRequest::default().with_upsertions(vec![credential]))
        }
        ApiKey::ListConfigResources => side.ask(version, ListConfigResourcesRequest::default()),
        _ => return None,
    };
    Some(reply)
}

/// What the reading cases read: records, a stable classic group, a KIP-848 group, an idle transactional id.
pub fn prepare(side: &mut Side) {
    side.find_coordinators();
    for name in [READ, "api-d", "api-x"] {
        for part in 0..3 {
            let data = [0, 1].map(|index| {
                let records = batch(&format!("{name}-{index}-{part}"), 2);
                PartitionProduceData::default().with_index(index).with_records(Some(records))
            });
            let topic = TopicProduceData::default().with_name(topic_name(name)).with_partition_data(data.into());
            let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS);
            let reply = side.raw.ask(9, &request.with_topic_data(vec![topic]));
            assert!(reply.responses[0].partition_responses.iter().all(|p| p.error_code == 0), "{reply:?}");
        }
    }
    members(side);
    side.init_producer(1, Some("idle"));
}

/// The groups with members that the describing cases describe; after a cutover they are made anew.
pub fn members(side: &mut Side) {
    side.stable_group("readers");
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id("moderns"))
        .with_member_id(text("2fBLhRsOSCmdUBIkS7uXfg"))
        .with_member_epoch(0)
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![topic_name(READ)]))
        .with_topic_partitions(Some(Vec::new()));
    side.ask_coordinator(1, &request, |r| r.error_code);
}
