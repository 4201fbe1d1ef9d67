//! ConsumerGroupDescribe (key 69, KIP-848): topic ids of current and target assignments.

use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::Translate;
use super::ids::topic_id_out;

/// Topic ids out.
pub fn response(_req: &ConsumerGroupDescribeRequest, resp: &mut ConsumerGroupDescribeResponse, t: &dyn Translate) {
    for member in resp.groups.iter_mut().flat_map(|group| &mut group.members) {
        for assignment in [&mut member.assignment, &mut member.target_assignment] {
            for topic in &mut assignment.topic_partitions {
                topic_id_out(t, Some(&topic.topic_name), &mut topic.topic_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::consumer_group_describe_response::{
        Assignment, DescribedGroup, Member, TopicPartitions,
    };
    use uuid::Uuid;

    use super::super::tests::{name, real_id, to_client, versions, virtual_id};
    use super::*;

    #[test]
    fn topic_ids_out() {
        for version in versions::<ConsumerGroupDescribeRequest>() {
            let reply_of = |id: fn(u128) -> Uuid| {
                let assignment = |n| {
                    let topic = TopicPartitions::default().with_topic_id(id(n)).with_topic_name(name("orders"));
                    Assignment::default().with_topic_partitions(vec![topic])
                };
                let member = Member::default().with_assignment(assignment(1)).with_target_assignment(assignment(3));
                let group = DescribedGroup::default().with_members(vec![member]);
                ConsumerGroupDescribeResponse::default().with_groups(vec![group])
            };
            let req = ConsumerGroupDescribeRequest::default();
            assert_eq!(to_client(version, &req, &reply_of(real_id)), reply_of(virtual_id), "v{version}");
        }
    }
}
