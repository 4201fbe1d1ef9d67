//! Requests that the proxy answers itself.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::delete_records_response::DeleteRecordsResponse;
use kafka_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use kafka_protocol::messages::list_offsets_response::ListOffsetsResponse;
use kafka_protocol::messages::{AlterShareGroupOffsetsRequest, ApiVersionsRequest, DeleteShareGroupOffsetsRequest};
use kafka_protocol::protocol::Decodable;

use super::pending;
use crate::catalog::View;
use crate::stream::client_producer_id;
use crate::transactions::Library;
use crate::wire::body;
use crate::wire::guard;
use crate::wire::header::{RequestHeader, encode_response_header};
use crate::wire::versions::Advertised;

/// How Apache Kafka's clients for Java name themselves.
const JAVA: &str = "apache-kafka-java";

/// A whole reply frame (without length).
pub fn frame(request: &RequestHeader, body: &[u8]) -> Bytes {
    frame_as(request, request.api_version, body)
}

fn frame_as(request: &RequestHeader, version: i16, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 8);
    encode_response_header(&mut out, request.api_key, version, request.correlation_id);
    out.extend_from_slice(body);
    out.freeze()
}

/// ApiVersions: what both clusters, the codec and the API table have in common. A version that the proxy does not know
/// is answered in version 0 with UNSUPPORTED_VERSION and the versions it does (KIP-511).
pub fn api_versions(advertised: &Advertised, request: &RequestHeader) -> Result<Bytes, String> {
    let known = advertised.served(request.api_key).is_some_and(|(min, max)| (min..=max).contains(&request.api_version));
    let (version, reply) = match known {
        true => (request.api_version, advertised.response(request.api_version)),
        false => (0, advertised.unsupported_version()),
    };
    Ok(frame_as(request, version, &body::encode(&reply, version)?))
}

/// Whose library has sent an ApiVersions request; it says so from version 3 on (KIP-511).
pub fn library(header: &RequestHeader, frame: &Bytes) -> Library {
    let version = header.api_version;
    let body = frame.slice(header.body_offset.min(frame.len())..);
    if version < 3 || guard::check(guard::Kind::Request, header.api_key, version, &body).is_err() {
        return Library::Other;
    }
    match body::decode::<ApiVersionsRequest>(&body, version) {
        Ok(request) if &*request.client_software_name == JAVA => Library::Java,
        _ => Library::Other,
    }
}

/// The reply to an InitProducerId without a transactional id: an id of the proxy's own namespace, valid on both clusters.
pub fn init_producer_id() -> InitProducerIdResponse {
    let id = client_producer_id(rand::random());
    InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(0)
}

/// What a DeleteRecords reply (as the client sees it) says was deleted: (topic, partition, new logical start).
pub fn deleted_records(version: i16, reply: &Bytes) -> Vec<(String, i32, i64)> {
    let Ok(reply) = DeleteRecordsResponse::decode(&mut reply.clone(), version) else { return Vec::new() };
    let rows = reply.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p)));
    rows.filter(|(_, p)| p.error_code == 0)
        .map(|(t, p)| (t.name.to_string(), p.partition_index, p.low_watermark))
        .collect()
}

/// The share group whose start offsets a request changes.
pub fn share_group(header: &RequestHeader, request: &Bytes) -> Option<String> {
    let group = match header.api_key {
        pending::ALTER_SHARE_GROUP_OFFSETS => {
            body::decode::<AlterShareGroupOffsetsRequest>(request, header.api_version).ok()?.group_id
        }
        _ => body::decode::<DeleteShareGroupOffsetsRequest>(request, header.api_version).ok()?.group_id,
    };
    Some(group.to_string())
}

/// A client was told where logs end: no new record may be given an offset below.
pub fn expose_ends(view: &View, version: i16, reply: &Bytes) {
    let Ok(reply) = ListOffsetsResponse::decode(&mut reply.clone(), version) else { return };
    for topic in &reply.topics {
        for row in topic.partitions.iter().filter(|p| p.error_code == 0 && p.offset > 0) {
            if let Some(partition) = view.partition(&topic.name, row.partition_index) {
                partition.expose(row.offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::wire::schema;

    #[test]
    fn a_library_is_known_by_what_its_api_versions_says() {
        let told = |name: &'static str, version: i16| {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(name))
                .with_client_software_version(StrBytes::from_static_str("4.3.1"));
            let mut frame = vec![0, 18, 0, version as u8, 0, 0, 0, 1, 0xff, 0xff];
            frame.extend((version >= 3).then_some(0));
            frame.extend(body::encode(&request, version).expect("encoded"));
            let frame = Bytes::from(frame);
            library(&RequestHeader::parse(&frame, schema::is_flexible).expect("a header"), &frame)
        };
        assert_eq!(told(JAVA, 3), Library::Java);
        assert_eq!(told(JAVA, 4), Library::Java);
        assert_eq!(told("kgo", 4), Library::Other);
        assert_eq!(told("", 2), Library::Other, "it says nothing");
        let cut = RequestHeader { body_offset: 99, api_version: 4, ..header() };
        assert_eq!(library(&cut, &Bytes::from_static(&[1, 2, 3])), Library::Other);
    }

    fn header() -> RequestHeader {
        let frame = Bytes::from_static(&[0, 18, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0]);
        RequestHeader::parse(&frame, schema::is_flexible).expect("a header")
    }
}
