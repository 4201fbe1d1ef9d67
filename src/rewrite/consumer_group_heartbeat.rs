//! ConsumerGroupHeartbeat (key 68, KIP-848): topic ids of owned and of assigned partitions. Subscriptions are names.

use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::Translate;
use super::ids::{topic_id_in, topic_id_out};

/// Topic ids in.
pub fn request(req: &mut ConsumerGroupHeartbeatRequest, t: &dyn Translate) {
    for topic in req.topic_partitions.iter_mut().flatten() {
        topic_id_in(t, &mut topic.topic_id);
    }
}

/// Topic ids out.
pub fn response(_req: &ConsumerGroupHeartbeatRequest, resp: &mut ConsumerGroupHeartbeatResponse, t: &dyn Translate) {
    for topic in resp.assignment.iter_mut().flat_map(|a| &mut a.topic_partitions) {
        topic_id_out(t, None, &mut topic.topic_id);
    }
}
