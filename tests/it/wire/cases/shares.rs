//! Share groups (KIP-932). What reads or moves a group does it to one of its side's own, from the start of the log.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::share_fetch_response::LeaderIdAndEpoch;
use kafka_protocol::messages::*;

use super::{PATIENCE, READ, Reply, Side};
use crate::support::wait::wait_for;
use crate::wire::expect;
use crate::wire::raw::{self, group_id, text, topic_name};

const GROUP: i8 = 32;
const MEMBER: &str = "2fBLhRsOSCmdUBIkS7uXfg";
const ACCEPT: i8 = 1;

pub fn shares(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    let group = side.own("share");
    let reply = match api {
        ApiKey::ShareGroupHeartbeat => beat(side, &group, 0),
        ApiKey::ShareGroupDescribe => {
            let groups = vec![group_id("sharers"), group_id("nobody")];
            side.ask(version, ShareGroupDescribeRequest::default().with_group_ids(groups))
        }
        ApiKey::ShareFetch => {
            let (frame, mut reply, _) = fetched(side, &group, version);
            for data in reply.responses.iter_mut().flat_map(|t| &mut t.partitions) {
                // Only an error has one.
                data.current_leader = LeaderIdAndEpoch::default().with_leader_epoch(-1);
                // More than one where the broker's own wait ended while it was giving.
                data.acquired_records.iter_mut().for_each(|range| range.delivery_count = 1);
                let mut records = BytesMut::from(&data.records.take().unwrap_or_default()[..]);
                expect::blank_epochs(&mut records);
                data.records = Some(records.freeze());
            }
            Reply { frame, text: Some(format!("{reply:?}")) }
        }
        ApiKey::ShareAcknowledge => {
            let (_, _, epoch) = fetched(side, &group, 1);
            let reply = acknowledge(side, &group, epoch, version);
            let mut decoded = raw::reply::<ShareAcknowledgeRequest>(version, &reply.frame);
            for data in decoded.responses.iter_mut().flat_map(|t| &mut t.partitions) {
                data.current_leader.leader_epoch = -1;
                data.current_leader.leader_id = -1;
            }
            Reply { text: Some(format!("{decoded:?}")), ..reply }
        }
        ApiKey::DescribeShareGroupOffsets => {
            let (_, _, epoch) = fetched(side, &group, 1);
            acknowledge(side, &group, epoch, 1);
            let topic = DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name(READ))
                .with_partitions(vec![0]);
            let wanted = DescribeShareGroupOffsetsRequestGroup::default().with_group_id(group_id(&group));
            let wanted = wanted.with_topics(Some(vec![topic]));
            side.ask(version, DescribeShareGroupOffsetsRequest::default().with_groups(vec![wanted]))
        }
        ApiKey::AlterShareGroupOffsets => {
            beat(side, &group, 0);
            beat(side, &group, -1);
            alter(side, &group, version)
        }
        ApiKey::DeleteShareGroupOffsets => {
            beat(side, &group, 0);
            beat(side, &group, -1);
            alter(side, &group, 0);
            let topic = DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic_name(READ));
            let request = DeleteShareGroupOffsetsRequest::default().with_group_id(group_id(&group));
            side.ask(version, request.with_topics(vec![topic]))
        }
        _ => return None,
    };
    Some(reply)
}

/// Joins (0) or leaves (-1).
pub fn beat(side: &mut Side, group: &str, epoch: i32) -> Reply {
    let request = ShareGroupHeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(MEMBER))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names((epoch == 0).then(|| vec![topic_name(READ)]));
    side.ask_coordinator(1, &request, |r| r.error_code)
}

/// A session that got records of the first partition: the last reply, and the epoch of the next request.
fn fetched(side: &mut Side, group: &str, version: i16) -> (Bytes, ShareFetchResponse, i32) {
    let setting =
        AlterableConfig::default().with_name(text("share.auto.offset.reset")).with_value(Some(text("earliest")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP)
        .with_resource_name(text(group))
        .with_configs(vec![setting]);
    let set = side.raw.ask(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(set.responses[0].error_code, 0, "{set:?}");
    beat(side, group, 0);
    let partition = FetchPartition::default().with_partition_index(0);
    let topic = FetchTopic::default().with_topic_id(side.read_id(true)).with_partitions(vec![partition]);
    let mut epoch = 0;
    wait_for("records for a share group", PATIENCE, || {
        let request = ShareFetchRequest::default()
            .with_group_id(Some(group_id(group)))
            .with_member_id(Some(text(MEMBER)))
            .with_share_session_epoch(epoch)
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(100)
            .with_batch_size(100)
            .with_topics(if epoch == 0 { vec![topic.clone()] } else { Vec::new() });
        let frame = side.raw.exchange(version, &request);
        let reply = raw::reply::<ShareFetchRequest>(version, &frame);
        assert_eq!(reply.error_code, 0, "{reply:?}");
        epoch += 1;
        let got = reply.responses.iter().flat_map(|t| &t.partitions).any(|p| !p.acquired_records.is_empty());
        if got { Ok((frame, reply, epoch)) } else { Err(format!("{reply:?}")) }
    })
}

fn acknowledge(side: &mut Side, group: &str, epoch: i32, version: i16) -> Reply {
    let batch =
        AcknowledgementBatch::default().with_first_offset(0).with_last_offset(1).with_acknowledge_types(vec![ACCEPT]);
    let partition = AcknowledgePartition::default().with_partition_index(0).with_acknowledgement_batches(vec![batch]);
    let topic = AcknowledgeTopic::default().with_topic_id(side.read_id(true)).with_partitions(vec![partition]);
    let request = ShareAcknowledgeRequest::default()
        .with_group_id(Some(group_id(group)))
        .with_member_id(Some(text(MEMBER)))
        .with_share_session_epoch(epoch)
        .with_topics(vec![topic]);
    side.ask(version, request)
}

fn alter(side: &mut Side, group: &str, version: i16) -> Reply {
    let partition = AlterShareGroupOffsetsRequestPartition::default().with_partition_index(0).with_start_offset(2);
    let topic = AlterShareGroupOffsetsRequestTopic::default().with_topic_name(topic_name(READ));
    let topic = topic.with_partitions(vec![partition]);
    let request = AlterShareGroupOffsetsRequest::default().with_group_id(group_id(group)).with_topics(vec![topic]);
    side.ask_coordinator(version, &request, |r| r.error_code)
}
