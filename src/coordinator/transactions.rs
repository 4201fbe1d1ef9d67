//! Transactions that are open on the active cluster when it is about to be retired. Their records must not cross, and what
//! lies behind them in the log can only cross once they are decided: so they are aborted there, by fencing, which is
//! what their coordinator does to a transaction whose producer does not come back.

use std::time::Duration;

use kafka_protocol::messages::{
    FindCoordinatorRequest, InitProducerIdRequest, ListTransactionsRequest, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::upstream::{Cluster, Lane, Target};

/// Bound for one call.
const CALL: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);
/// FindCoordinator's key type for transactional ids.
const KEY_TYPE_TRANSACTION: i8 = 1;
/// Kafka error codes (class Errors) that mean "soon".
const CONCURRENT_TRANSACTIONS: i16 = 51;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
/// Given to the coordinator as the timeout of the next transaction, which never comes (milliseconds).
const TRANSACTION_TIMEOUT_MS: i32 = 10_000;

/// Aborts every transaction that is open on the cluster; gives their ids.
pub async fn abort_open(cluster: &Cluster, deadline: Instant) -> Result<Vec<String>, String> {
    let open = open_ids(cluster).await?;
    for id in &open {
        abort(cluster, id, deadline).await.map_err(|e| format!("transaction {id} cannot be aborted: {e}"))?;
        tracing::warn!(transactional_id = id, cluster = %cluster.name(), "open transaction aborted for the cutover");
    }
    Ok(open)
}

async fn open_ids(cluster: &Cluster) -> Result<Vec<String>, String> {
    let snapshot = cluster.snapshot().await.map_err(|e| e.to_string())?;
    let ongoing = ListTransactionsRequest::default().with_state_filters(vec![StrBytes::from_static_str("Ongoing")]);
    let mut ids = Vec::new();
    for broker in &snapshot.brokers {
        let reply = cluster.call(Target::Broker(broker.id), Lane::Control, &ongoing, CALL).await;
        let reply = reply.map_err(|e| e.to_string())?;
        ids.extend(reply.transaction_states.iter().map(|t| t.transactional_id.to_string()));
    }
    Ok(ids)
}

/// A new incarnation of the producer: the coordinator aborts what the old one left open.
async fn abort(cluster: &Cluster, id: &str, deadline: Instant) -> Result<(), String> {
    let name = StrBytes::from_string(id.to_owned());
    let find =
        FindCoordinatorRequest::default().with_key_type(KEY_TYPE_TRANSACTION).with_coordinator_keys(vec![name.clone()]);
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(name)))
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    loop {
        let found = cluster.call(Target::Any, Lane::Control, &find, CALL).await.map_err(|e| e.to_string())?;
        let node = found.coordinators.first().filter(|c| c.error_code == 0).map(|c| c.node_id.0);
        let code = match node {
            Some(node) => {
                let reply = cluster.call(Target::Broker(node), Lane::Control, &init, CALL).await;
                reply.map_err(|e| e.to_string())?.error_code
            }
            None => COORDINATOR_LOAD_IN_PROGRESS,
        };
        match code {
            0 => return Ok(()),
            // The abort is under way: asked again until it is done.
            CONCURRENT_TRANSACTIONS | COORDINATOR_LOAD_IN_PROGRESS | 15 | 16 if Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            code => return Err(format!("Kafka error {code}")),
        }
    }
}
