//! ListPartitionReassignments (key 46, KIP-455): replicas of ongoing reassignments out.

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::Translate;
use super::ids::brokers_out;

/// Takes hidden topics out. `None` asks for all and stays; an empty list asks for none.
pub fn request(req: &mut ListPartitionReassignmentsRequest, t: &dyn Translate) {
    if let Some(topics) = &mut req.topics {
        topics.retain(|topic| !t.hidden(&topic.name));
    }
}

/// Broker ids out. A topic that is not being reassigned has no entry, so a hidden one needs none either.
pub fn response(
    _req: &ListPartitionReassignmentsRequest,
    resp: &mut ListPartitionReassignmentsResponse,
    t: &dyn Translate,
) {
    resp.topics.retain(|topic| !t.hidden(&topic.name));
    for p in resp.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        brokers_out(t, &mut p.replicas);
        brokers_out(t, &mut p.adding_replicas);
        brokers_out(t, &mut p.removing_replicas);
    }
}
