//! ShareGroupDescribe (key 77, KIP-932): member epochs, topic ids of assignments.

use kafka_protocol::messages::{ShareGroupDescribeRequest, ShareGroupDescribeResponse};

use super::Translate;
use super::ids::topic_id_out;

/// Topic ids and member epochs out.
pub fn response(_req: &ShareGroupDescribeRequest, resp: &mut ShareGroupDescribeResponse, t: &dyn Translate) {
    for member in resp.groups.iter_mut().flat_map(|group| &mut group.members) {
        member.member_epoch = t.member_epoch_out(member.member_epoch);
        for topic in &mut member.assignment.topic_partitions {
            topic_id_out(t, Some(&topic.topic_name), &mut topic.topic_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::share_group_describe_response::{
        Assignment, DescribedGroup, Member, TopicPartitions,
    };
    use uuid::Uuid;

    use super::super::tests::{MEMBER_MARK, name, real_id, to_client, versions, virtual_id};
    use super::*;

    #[test]
    fn topic_ids_and_epochs_out() {
        for version in versions::<ShareGroupDescribeRequest>() {
            let reply_of = |id: fn(u128) -> Uuid, epoch| {
                let topic = TopicPartitions::default().with_topic_id(id(1)).with_topic_name(name("orders"));
                let assignment = Assignment::default().with_topic_partitions(vec![topic]);
                let member = Member::default().with_member_epoch(epoch).with_assignment(assignment);
                let group = DescribedGroup::default().with_members(vec![member]);
                ShareGroupDescribeResponse::default().with_groups(vec![group])
            };
            let req = ShareGroupDescribeRequest::default();
            let got = to_client(version, &req, &reply_of(real_id, 3));
            assert_eq!(got, reply_of(virtual_id, MEMBER_MARK + 3), "v{version}");
        }
    }
}
