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
