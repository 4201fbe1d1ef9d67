//! Produces a batch of the proxy's own as if a client had sent it: through the gate, on the tee, acknowledged as a client's.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::Context;
use super::produce::{self, Taken};
use crate::catalog::View;
use crate::model::TopicPartition;
use crate::upstream::{Lane, ProducedPartition};
use crate::wire::header::RequestHeader;

/// Topics by name, with error messages (KIP-467).
const VERSION: i16 = 9;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// It is not stored, or not on the standby as its topic wants it: the same batch may be sent again.
    #[error("Kafka error {code} {message}")]
    Refused { code: i16, message: String },
    /// It may be stored or not.
    #[error("{0}")]
    Unknown(String),
}

/// Writes one batch to the active cluster, whichever that is when the gate is open; the logical offset of its first record.
pub async fn produce(context: &Context, tp: &TopicPartition, batch: Bytes) -> Result<i64, InjectError> {
    let pass = context.gate.pass().await;
    let answer = tokio::select! {
        answer = through(context, &pass.view, tp, batch) => answer.map_err(InjectError::Unknown)?,
        () = pass.abort.cancelled() => return Err(InjectError::Unknown("the active cluster was given up".into())),
    };
    if answer.error_code != 0 {
        let message = answer.error_message.as_ref().map(ToString::to_string).unwrap_or_default();
        return Err(InjectError::Refused { code: answer.error_code, message });
    }
    Ok(answer.base_offset)
}

async fn through(
    context: &Context,
    view: &std::sync::Arc<View>,
    tp: &TopicPartition,
    batch: Bytes,
) -> Result<PartitionProduceResponse, String> {
    let header = RequestHeader {
        api_key: ApiKey::Produce as i16,
        api_version: VERSION,
        correlation_id: 0,
        client_id: None,
        body_offset: 0,
        flexible: true,
    };
    let name = || StrBytes::from_string(tp.topic.to_string());
    let data = PartitionProduceData::default().with_index(tp.partition).with_records(Some(batch.clone()));
    let topic = TopicProduceData::default().with_name(name().into()).with_partition_data(vec![data]);
    let timeout = i32::try_from(TIMEOUT.as_millis()).unwrap_or(i32::MAX);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(timeout).with_topic_data(vec![topic]);
    let mut body = BytesMut::new();
    request.encode(&mut body, VERSION).map_err(|e| e.to_string())?;
    let arrived = match produce::request(context, view, &header, &body.freeze()).await? {
        Taken::Answered(produced) => produce::answered(context, &produced)?,
        Taken::Forward { context: produced, body: changed } => {
            let batch = match changed {
                Some(body) => records(body).ok_or("the request has lost its batch")?,
                None => batch,
            };
            let cluster = context.clusters[view.active.ix()].as_ref().ok_or("the active cluster is not configured")?;
            let snapshot = cluster.snapshot().await.map_err(|e| e.to_string())?;
            let leader = snapshot.leader(&tp.topic, tp.partition).map_err(|code| format!("no leader: error {code}"))?;
            let stored = cluster.produce(leader, Lane::Produce, vec![(tp.clone(), batch.into())], -1, TIMEOUT).await;
            let stored = stored.map_err(|e| e.to_string())?.remove(tp).ok_or("no answer for the partition")?;
            let row = TopicProduceResponse::default().with_name(name().into());
            let reply = ProduceResponse::default()
                .with_responses(vec![row.with_partition_responses(vec![answer(tp.partition, stored)])]);
            let mut body = BytesMut::new();
            reply.encode(&mut body, VERSION).map_err(|e| e.to_string())?;
            produce::arrived(context, view, &produced, &body.freeze())?
        }
        Taken::Dropped | Taken::Held => return Err("a request with acknowledgements was not taken".into()),
    };
    let mut reply = produce::settle(context, arrived).await?;
    let reply = ProduceResponse::decode(&mut reply, VERSION).map_err(|e| e.to_string())?;
    let mut rows = reply.responses.into_iter().flat_map(|t| t.partition_responses);
    rows.next().ok_or_else(|| "no answer for the partition".into())
}

/// The batch of the request as the cluster is to get it.
fn records(mut body: Bytes) -> Option<Bytes> {
    let request = ProduceRequest::decode(&mut body, VERSION).ok()?;
    request.topic_data.into_iter().flat_map(|t| t.partition_data).next()?.records
}

fn answer(index: i32, stored: ProducedPartition) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(stored.error)
        .with_error_message(stored.message.map(StrBytes::from_string))
        .with_base_offset(stored.base_offset)
        .with_log_append_time_ms(stored.log_append_time)
        .with_log_start_offset(stored.log_start_offset)
        .with_current_leader(LeaderIdAndEpoch::default())
}
