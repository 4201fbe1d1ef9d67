//! ConsumerGroupHeartbeat (key 68, KIP-848): member epochs, topic ids of owned and of assigned partitions. Subscriptions
//! are names.

use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::Translate;
use super::ids::{topic_id_in, topic_id_out};

/// Topic ids and the member epoch in.
pub fn request(req: &mut ConsumerGroupHeartbeatRequest, t: &dyn Translate) {
    req.member_epoch = t.member_epoch_in(req.member_epoch);
    for topic in req.topic_partitions.iter_mut().flatten() {
        topic_id_in(t, &mut topic.topic_id);
    }
}

/// Topic ids and the member epoch out.
pub fn response(_req: &ConsumerGroupHeartbeatRequest, resp: &mut ConsumerGroupHeartbeatResponse, t: &dyn Translate) {
    resp.member_epoch = t.member_epoch_out(resp.member_epoch);
    for topic in resp.assignment.iter_mut().flat_map(|a| &mut a.topic_partitions) {
        topic_id_out(t, None, &mut topic.topic_id);
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
    use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};

    use super::super::tests::{MEMBER_MARK, made_up, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    #[test]
    fn topic_ids_both_ways() {
        for version in versions::<ConsumerGroupHeartbeatRequest>() {
            let owned = |id| {
                let topic = Owned::default().with_topic_id(id).with_partitions(vec![4]);
                ConsumerGroupHeartbeatRequest::default()
                    .with_member_id("m".into())
                    .with_topic_partitions(Some(vec![topic]))
            };
            assert_eq!(to_cluster(version, &owned(virtual_id(1))), owned(real_id(1)), "v{version}");
            let diff = ConsumerGroupHeartbeatRequest::default().with_member_epoch(3);
            assert_eq!(to_cluster(version, &diff), diff, "v{version}");
            assert_eq!(to_cluster(version, &diff.clone().with_member_epoch(MEMBER_MARK + 3)), diff, "v{version}");
            let bumped = ConsumerGroupHeartbeatResponse::default().with_member_epoch(4);
            let shown = bumped.clone().with_member_epoch(MEMBER_MARK + 4);
            assert_eq!(to_client(version, &diff, &bumped), shown, "v{version}");

            let assigned = |id| {
                let topic = TopicPartitions::default().with_topic_id(id).with_partitions(vec![4]);
                let assignment = Assignment::default().with_topic_partitions(vec![topic]);
                ConsumerGroupHeartbeatResponse::default().with_assignment(Some(assignment))
            };
            assert_eq!(to_client(version, &diff, &assigned(real_id(1))), assigned(virtual_id(1)), "v{version}");

            let want = ConsumerGroupHeartbeatResponse::default().with_error_code(16).with_member_id(Some("m".into()));
            assert_eq!(made_up(version, &owned(virtual_id(1)), 16), want, "v{version}");
        }
    }
}
