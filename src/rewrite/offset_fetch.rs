//! OffsetFetch (key 9): committed positions out, for one group (v1-7) or several (v8+, KIP-709). The request has
//! only member epochs to translate.

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::Translate;

/// Member epochs in (v9, KIP-848).
pub fn request(req: &mut OffsetFetchRequest, t: &dyn Translate) {
    for group in &mut req.groups {
        group.member_epoch = t.member_epoch_in(group.member_epoch);
    }
}

/// Offsets out, leader epochs to -1 (see OffsetCommit; the cluster may hold some from commits that passed us by).
/// Hidden topics show up only where some other client committed for them: they go.
pub fn response(_req: &OffsetFetchRequest, resp: &mut OffsetFetchResponse, t: &dyn Translate) {
    resp.topics.retain(|topic| !t.hidden(&topic.name));
    for topic in &mut resp.topics {
        for p in &mut topic.partitions {
            p.committed_offset = t.offset_out(&topic.name, p.partition_index, p.committed_offset);
            p.committed_leader_epoch = -1;
        }
    }
    for group in &mut resp.groups {
        group.topics.retain(|topic| !t.hidden(&topic.name));
        for topic in &mut group.topics {
            for p in &mut topic.partitions {
                p.committed_offset = t.offset_out(&topic.name, p.partition_index, p.committed_offset);
                p.committed_leader_epoch = -1;
            }
        }
    }
}

/// A reply in which every group and every partition of `req` carries `code`. The top-level code (v2-7) is all that a
/// request for "all topics" has.
pub fn error(req: &OffsetFetchRequest, version: i16, code: i16) -> OffsetFetchResponse {
    if version >= 8 {
        return OffsetFetchResponse::default()
            .with_groups(req.groups.iter().map(|group| group_error(group, code)).collect());
    }
    let partition = |index: &i32| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_error_code(code)
    };
    let topics = req.topics.iter().flatten().map(|topic| {
        OffsetFetchResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partition_indexes.iter().map(partition).collect())
    });
    OffsetFetchResponse::default().with_error_code(code).with_topics(topics.collect())
}

fn group_error(group: &OffsetFetchRequestGroup, code: i16) -> OffsetFetchResponseGroup {
    let partition = |index: &i32| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_error_code(code)
    };
    let topics = group.topics.iter().flatten().map(|topic| {
        OffsetFetchResponseTopics::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partition_indexes.iter().map(partition).collect())
    });
    OffsetFetchResponseGroup::default()
        .with_group_id(group.group_id.clone())
        .with_error_code(code)
        .with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::GroupId;
    use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestTopic, OffsetFetchRequestTopics};
    use kafka_protocol::protocol::Request;

    use super::super::codec::{Side, encode};
    use super::super::tests::{FakeTranslate, HIDDEN, MEMBER_MARK, made_up, name, to_client, to_cluster, versions};
    use super::*;

    /// v1 names topics, v2-7 may ask for all, v8+ has groups.
    const SHAPES: [i16; 5] = [1, 2, 7, 8, 9];

    fn asked(version: i16) -> OffsetFetchRequest {
        if version >= 8 {
            let topic = OffsetFetchRequestTopics::default().with_name(name("orders")).with_partition_indexes(vec![4]);
            let group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![topic]));
            return OffsetFetchRequest::default().with_groups(vec![group]);
        }
        let topic = OffsetFetchRequestTopic::default().with_name(name("orders")).with_partition_indexes(vec![4]);
        OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]))
    }

    fn group() -> GroupId {
        GroupId("g".into())
    }

    /// Topic, offset, epoch, error code of partition 4; the code stands also at the top.
    fn answered(version: i16, code: i16, topics: &[(&str, i64, i32)]) -> OffsetFetchResponse {
        if version >= 8 {
            let topic = |(s, offset, epoch): &(&str, i64, i32)| {
                let p = OffsetFetchResponsePartitions::default().with_partition_index(4).with_error_code(code);
                let p = p.with_committed_offset(*offset).with_committed_leader_epoch(*epoch);
                OffsetFetchResponseTopics::default().with_name(name(s)).with_partitions(vec![p])
            };
            let of_group = OffsetFetchResponseGroup::default().with_group_id(group()).with_error_code(code);
            let of_group = of_group.with_topics(topics.iter().map(topic).collect());
            return OffsetFetchResponse::default().with_groups(vec![of_group]);
        }
        let topic = |(s, offset, epoch): &(&str, i64, i32)| {
            let p = OffsetFetchResponsePartition::default().with_partition_index(4).with_error_code(code);
            let p =
                p.with_committed_offset(*offset).with_committed_leader_epoch(if version >= 5 { *epoch } else { -1 });
            OffsetFetchResponseTopic::default().with_name(name(s)).with_partitions(vec![p])
        };
        OffsetFetchResponse::default()
            .with_error_code(if version >= 2 { code } else { 0 })
            .with_topics(topics.iter().map(topic).collect())
    }

    #[test]
    fn positions_out_without_epochs() {
        assert_eq!(versions::<OffsetFetchRequest>(), [SHAPES[0], SHAPES[4]]);
        for version in SHAPES {
            let req = asked(version);
            let body = encode(OffsetFetchRequest::KEY, version, Side::Request, &req).unwrap();
            let sent = super::super::request(OffsetFetchRequest::KEY, version, &body, &FakeTranslate).unwrap();
            assert!(sent.is_none(), "v{version} goes as it is");
            if version >= 9 {
                let of_member = |epoch| {
                    let mut member = req.clone();
                    member.groups.iter_mut().for_each(|g| g.member_epoch = epoch);
                    member
                };
                assert_eq!(to_cluster(version, &of_member(MEMBER_MARK + 5)), of_member(5));
            }
            let resp = answered(version, 0, &[("orders", 42, 7), (HIDDEN, 9, 7), ("other", -1, -1)]);
            let want = answered(version, 0, &[("orders", 1042, -1), ("other", -1, -1)]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");
        }
    }

    #[test]
    fn all_topics_of_a_group() {
        for version in [2, 7, 9] {
            let mut req = asked(version);
            match req.groups.first_mut() {
                Some(group) => group.topics = None,
                None => req.topics = None,
            }
            let got = to_client(version, &req, &answered(version, 0, &[("orders", 42, 7)]));
            assert_eq!(got, answered(version, 0, &[("orders", 1042, -1)]), "v{version}");
            assert_eq!(made_up(version, &req, 16), answered(version, 16, &[]), "v{version}");
        }
    }

    #[test]
    fn a_made_up_error_answers_every_group_and_partition() {
        for version in SHAPES {
            let want = answered(version, 16, &[("orders", -1, -1)]);
            assert_eq!(made_up(version, &asked(version), 16), want, "v{version}");
        }
    }
}
