//! One request for each API of the table, to be asked of a broker directly and through the proxy.
//!
//! What only reads is asked for the same things on both sides. What changes something does it to a topic, group or user of
//! its side's own; such names differ in one letter, the [`Side::tag`], so that the answers have the same size and can be
//! compared byte by byte after a replacement. A case makes what it needs by itself, on its own side.

mod cluster;
mod groups;
mod records;
mod shares;
mod topics;

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use crate::support::wait::wait_for;
use crate::wire::raw::{self, Raw, batch, group_id, text, topic_name, transactional_id, try_reply};

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
            let reply = raw::reply::<R>(version, &frame);
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
        let decoded = raw::reply::<JoinGroupRequest>(version, &reply.frame);
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
        let decoded = raw::reply::<InitProducerIdRequest>(version, &reply.frame);
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
        let decoded = raw::reply::<CreateTopicsRequest>(version, &reply.frame);
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
    records::data(side, api, version)
        .or_else(|| groups::groups(side, api, version))
        .or_else(|| shares::shares(side, api, version))
        .or_else(|| records::transactions(side, api, version))
        .or_else(|| topics::topics(side, api, version))
        .or_else(|| cluster::cluster(side, api, version))
}

/// What the reading cases read: records, a stable classic group, a KIP-848 group, a share group, an idle transactional id.
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
    shares::beat(side, "sharers", 0);
}
