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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
    use kafka_protocol::messages::list_partition_reassignments_response::{
        OngoingPartitionReassignment, OngoingTopicReassignment,
    };

    use super::super::tests::{HIDDEN, ids, name, to_client, to_cluster};
    use super::*;

    #[test]
    fn brokers_out_hidden_topics_absent() {
        let asked = |topic| ListPartitionReassignmentsTopics::default().with_name(name(topic));
        let request_of = |topics| ListPartitionReassignmentsRequest::default().with_topics(topics);
        let req = request_of(Some(vec![asked("orders"), asked(HIDDEN)]));
        assert_eq!(to_cluster(0, &req), request_of(Some(vec![asked("orders")])));
        assert_eq!(to_cluster(0, &request_of(Some(vec![asked(HIDDEN)]))), request_of(Some(vec![])));
        assert_eq!(to_cluster(0, &request_of(None)), request_of(None));

        let ongoing = |topic, p| OngoingTopicReassignment::default().with_name(name(topic)).with_partitions(vec![p]);
        let moves = |all: Vec<_>, adding: Vec<_>, removing: Vec<_>| {
            OngoingPartitionReassignment::default()
                .with_replicas(all)
                .with_adding_replicas(adding)
                .with_removing_replicas(removing)
        };
        let real = moves(ids([1, 2, 9]), ids([2]), ids([1]));
        let resp = ListPartitionReassignmentsResponse::default()
            .with_topics(vec![ongoing("orders", real.clone()), ongoing(HIDDEN, real)]);
        let shown = moves(ids([101, 102]), ids([102]), ids([101]));
        let want = resp.clone().with_topics(vec![ongoing("orders", shown)]);
        assert_eq!(to_client(0, &request_of(None), &resp), want);
    }
}
