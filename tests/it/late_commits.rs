//! A commit that its sender repeats behind a later one, as librdkafka does with what was under way on a connection that it
//! lost: a member that is on its way to the new cluster must not be taken back by it.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, JoinGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes, VersionRange};
use kafka_standby::upstream::{ClientOptions, Cluster, Lane, Target};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::client;
use crate::support::wait::wait_for;

const TOPIC: &str = "late";
const GROUP: &str = "late-group";
const NONE: i16 = 0;
const REBALANCE_IN_PROGRESS: i16 = 27;

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// A classic group's only member, by raw requests through the proxy.
struct Member {
    runtime: Runtime,
    proxy: Cluster,
    id: StrBytes,
    generation: i32,
}

impl Member {
    fn try_call<R: Request>(&self, request: &R, versions: VersionRange) -> Result<R::Response, String> {
        let call = self.proxy.call_within(Target::Coordinator(GROUP), Lane::Control, request, versions, PATIENCE);
        self.runtime.block_on(call).map_err(|e| e.to_string())
    }

    fn call<R: Request>(&self, request: &R, versions: VersionRange) -> R::Response {
        self.try_call(request, versions).expect("a reply")
    }

    fn join(bootstrap: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let proxy = Cluster::new("proxy", vec![bootstrap.to_owned()], ClientOptions::default());
        let mut member = Self { runtime: runtime.expect("a runtime"), proxy, id: text(""), generation: -1 };
        member.rejoin();
        member
    }

    fn rejoin(&mut self) {
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(30_000)
            .with_member_id(self.id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("range"))]);
        // Up to version 3 a member joins at once, without being given an id first.
        let versions = VersionRange { min: 3, max: 3 };
        // A cluster's first group waits for its coordinator.
        let joined = wait_for("a place in the group", PATIENCE, || {
            let joined = self.try_call(&request, versions)?;
            if joined.error_code == NONE { Ok(joined) } else { Err(format!("{joined:?}")) }
        });
        (self.id, self.generation) = (joined.member_id, joined.generation_id);
        let own = SyncGroupRequestAssignment::default().with_member_id(self.id.clone());
        let sync = SyncGroupRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_assignments(vec![own]);
        assert_eq!(self.call(&sync, versions).error_code, NONE);
    }

    /// Commits a position of partition 0; gives the error code.
    fn commit(&self, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic =
            OffsetCommitRequestTopic::default().with_name(TopicName(text(TOPIC))).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(vec![topic]);
        let reply = self.call(&request, VersionRange { min: 8, max: 8 });
        reply.topics[0].partitions[0].error_code
    }

    fn committed(&self) -> i64 {
        let topic =
            OffsetFetchRequestTopics::default().with_name(TopicName(text(TOPIC))).with_partition_indexes(vec![0]);
        let group =
            OffsetFetchRequestGroup::default().with_group_id(GroupId(text(GROUP))).with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let reply = self.call(&request, VersionRange { min: 8, max: 8 });
        reply.groups[0].topics[0].partitions[0].committed_offset
    }
}

#[test]
fn a_commit_repeated_behind_a_later_one_does_not_take_the_group_back() {
    let mut rig = Rig::start_with("sync", |east, _| east.create_topic(TOPIC, 1, &[]));
    let producer: BaseProducer = client::config(&rig.proxy.bootstrap()).create().expect("a producer");
    for n in 0..30 {
        let value = format!("{n}");
        producer.send(BaseRecord::<(), _>::to(TOPIC).partition(0).payload(&value)).expect("queued");
    }
    producer.flush(PATIENCE).expect("sent");
    let mut member = Member::join(&rig.proxy.bootstrap());
    assert_eq!(member.commit(10), NONE);
    // Within a generation a member may go back as it likes.
    assert_eq!(member.commit(5), NONE);
    for planned in [true, false] {
        if planned {
            rig.switch();
        } else {
            rig.proxy.wait_in_sync(PATIENCE);
            rig.west.kill();
            assert_done(&rig.proxy.failover());
        }
        assert_eq!(member.commit(20), NONE, "its place, from outside the group");
        assert_eq!(member.commit(10), REBALANCE_IN_PROGRESS, "what it had sent before");
        assert_eq!(member.commit(20), NONE);
        assert_eq!(member.committed(), 20);
        member.rejoin();
        assert_eq!(member.committed(), 20);
        assert_eq!(member.commit(12), NONE, "in the group it may go back again");
        assert_eq!(member.committed(), 12);
    }
}
