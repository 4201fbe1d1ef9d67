//! AddPartitionsToTxn (key 24): keeps hidden topics out of transactions. One transaction per request up to v3; the later
//! shape is for brokers only (KIP-890) and clients do not send it.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::Translate;
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Takes hidden topics out.
pub fn request(req: &mut AddPartitionsToTxnRequest, t: &dyn Translate) {
    req.v3_and_below_topics.retain(|topic| !t.hidden(&topic.name));
    for txn in &mut req.transactions {
        txn.topics.retain(|topic| !t.hidden(&topic.name));
    }
}

/// Answers for the topics that the cluster was not asked about.
pub fn response(req: &AddPartitionsToTxnRequest, resp: &mut AddPartitionsToTxnResponse, t: &dyn Translate) {
    let refused = |topics: &[AddPartitionsToTxnTopic]| -> Vec<_> {
        let hidden = topics.iter().filter(|topic| t.hidden(&topic.name));
        hidden.map(|topic| topic_error(topic, UNKNOWN_TOPIC_OR_PARTITION)).collect()
    };
    resp.results_by_topic_v3_and_below.extend(refused(&req.v3_and_below_topics));
    for txn in &req.transactions {
        let of_txn = |r: &&mut AddPartitionsToTxnResult| r.transactional_id == txn.transactional_id;
        if let Some(result) = resp.results_by_transaction.iter_mut().find(of_txn) {
            result.topic_results.extend(refused(&txn.topics));
        }
    }
}

/// A reply in which every partition of `req` carries `code`.
pub fn error(req: &AddPartitionsToTxnRequest, code: i16) -> AddPartitionsToTxnResponse {
    let all = |topics: &[AddPartitionsToTxnTopic]| topics.iter().map(|topic| topic_error(topic, code)).collect();
    let of_txn = req.transactions.iter().map(|txn| {
        AddPartitionsToTxnResult::default()
            .with_transactional_id(txn.transactional_id.clone())
            .with_topic_results(all(&txn.topics))
    });
    AddPartitionsToTxnResponse::default()
        .with_error_code(code)
        .with_results_by_transaction(of_txn.collect())
        .with_results_by_topic_v3_and_below(all(&req.v3_and_below_topics))
}

fn topic_error(topic: &AddPartitionsToTxnTopic, code: i16) -> AddPartitionsToTxnTopicResult {
    let partition = |index: &i32| {
        AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(code)
    };
    AddPartitionsToTxnTopicResult::default()
        .with_name(topic.name.clone())
        .with_results_by_partition(topic.partitions.iter().map(partition).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TransactionalId;
    use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;

    use super::super::tests::{HIDDEN, made_up, name, to_client, to_cluster};
    use super::*;

    fn id() -> TransactionalId {
        TransactionalId("txn".into())
    }

    fn asked(version: i16, topics: &[&str]) -> AddPartitionsToTxnRequest {
        let topic = |s: &&str| AddPartitionsToTxnTopic::default().with_name(name(s)).with_partitions(vec![4]);
        let topics = topics.iter().map(topic).collect();
        if version < 4 {
            return AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(id())
                .with_v3_and_below_topics(topics);
        }
        let txn = AddPartitionsToTxnTransaction::default().with_transactional_id(id()).with_topics(topics);
        AddPartitionsToTxnRequest::default().with_transactions(vec![txn])
    }

    fn answered(version: i16, top: i16, topics: &[(&str, i16)]) -> AddPartitionsToTxnResponse {
        let topic = |(s, code): &(&str, i16)| {
            let p = AddPartitionsToTxnPartitionResult::default().with_partition_index(4);
            AddPartitionsToTxnTopicResult::default()
                .with_name(name(s))
                .with_results_by_partition(vec![p.with_partition_error_code(*code)])
        };
        let topics = topics.iter().map(topic).collect();
        if version < 4 {
            return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics);
        }
        let txn = AddPartitionsToTxnResult::default().with_transactional_id(id()).with_topic_results(topics);
        AddPartitionsToTxnResponse::default().with_error_code(top).with_results_by_transaction(vec![txn])
    }

    #[test]
    fn hidden_topics_stay_out_of_transactions() {
        for version in [0, 3, 4, 5] {
            let req = asked(version, &["orders", HIDDEN]);
            assert_eq!(to_cluster(version, &req), asked(version, &["orders"]), "v{version}");
            let got = to_client(version, &req, &answered(version, 0, &[("orders", 0)]));
            assert_eq!(got, answered(version, 0, &[("orders", 0), (HIDDEN, 3)]), "v{version}");
            assert_eq!(made_up(version, &asked(version, &["orders"]), 120), answered(version, 120, &[("orders", 120)]));
        }
    }
}
