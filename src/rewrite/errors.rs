//! Replies that the proxy makes up itself: every entry of a request answered with one error code.

use bytes::Bytes;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, ApiKey, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, EndTxnRequest, EndTxnResponse, HeartbeatRequest, HeartbeatResponse,
    InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::codec::{RewriteError, Side, decode, encode};
use super::{
    add_partitions_to_txn, create_topics, delete_topics, fetch, find_coordinator, list_offsets, metadata,
    offset_commit, offset_fetch, offset_for_leader_epoch, produce, txn_offset_commit,
};

/// The body of a reply to `request_body` (as the client sent it) that carries `code` wherever it can carry a code.
/// `None` for an API that the proxy never answers with an error of its own. What fits which client is the caller's
/// choice: some die of a code that others retry (EXPERIMENTS, "Identity at a switch").
///
/// # Errors
/// A request body that the codec cannot read to its last byte.
pub fn reply(api_key: i16, version: i16, request_body: &Bytes, code: i16) -> Result<Option<Bytes>, RewriteError> {
    let Ok(api) = ApiKey::try_from(api_key) else { return Ok(None) };
    let (v, q) = (version, request_body);
    let body = match api {
        ApiKey::Produce => make(v, q, |r| produce::error(r, code)),
        ApiKey::Fetch => make(v, q, |r| fetch::error(r, code)),
        ApiKey::ListOffsets => make(v, q, |r| list_offsets::error(r, code)),
        ApiKey::Metadata => make(v, q, |r| metadata::error(r, code)),
        ApiKey::OffsetCommit => make(v, q, |r| offset_commit::error(r, code)),
        ApiKey::OffsetFetch => make(v, q, |r| offset_fetch::error(r, v, code)),
        ApiKey::FindCoordinator => make(v, q, |r| find_coordinator::error(r, v, code)),
        ApiKey::JoinGroup => make(v, q, |r| join_group(r, v, code)),
        ApiKey::Heartbeat => make(v, q, |_: &HeartbeatRequest| HeartbeatResponse::default().with_error_code(code)),
        ApiKey::LeaveGroup => make(v, q, |r| leave_group(r, code)),
        ApiKey::SyncGroup => make(v, q, |_: &SyncGroupRequest| SyncGroupResponse::default().with_error_code(code)),
        ApiKey::CreateTopics => make(v, q, |r| create_topics::error(r, code)),
        ApiKey::DeleteTopics => make(v, q, |r| delete_topics::error(r, code)),
        ApiKey::InitProducerId => make(v, q, |r| init_producer_id(r, code)),
        ApiKey::OffsetForLeaderEpoch => make(v, q, |r| offset_for_leader_epoch::error(r, code)),
        ApiKey::AddPartitionsToTxn => make(v, q, |r| add_partitions_to_txn::error(r, code)),
        ApiKey::AddOffsetsToTxn => {
            make(v, q, |_: &AddOffsetsToTxnRequest| AddOffsetsToTxnResponse::default().with_error_code(code))
        }
        ApiKey::EndTxn => make(v, q, |_: &EndTxnRequest| EndTxnResponse::default().with_error_code(code)),
        ApiKey::TxnOffsetCommit => make(v, q, |r| txn_offset_commit::error(r, code)),
        ApiKey::ConsumerGroupHeartbeat => make(v, q, |r| consumer_group_heartbeat(r, code)),
        _ => return Ok(None),
    };
    body.map(Some)
}

fn make<R: Request>(
    version: i16,
    request_body: &Bytes,
    build: impl FnOnce(&R) -> R::Response,
) -> Result<Bytes, RewriteError> {
    let req: R = decode(R::KEY, version, Side::Request, request_body)?;
    encode(R::KEY, version, Side::Reply, &build(&req))
}

fn join_group(req: &JoinGroupRequest, version: i16, code: i16) -> JoinGroupResponse {
    // Null is legal from v7 on; before, an empty name stands for "none".
    let protocol_name = if version >= 7 { None } else { Some(StrBytes::new()) };
    JoinGroupResponse::default()
        .with_error_code(code)
        .with_protocol_name(protocol_name)
        .with_member_id(req.member_id.clone())
}

fn leave_group(req: &LeaveGroupRequest, code: i16) -> LeaveGroupResponse {
    let members = req.members.iter().map(|m| {
        MemberResponse::default()
            .with_member_id(m.member_id.clone())
            .with_group_instance_id(m.group_instance_id.clone())
            .with_error_code(code)
    });
    LeaveGroupResponse::default().with_error_code(code).with_members(members.collect())
}

fn init_producer_id(_req: &InitProducerIdRequest, code: i16) -> InitProducerIdResponse {
    InitProducerIdResponse::default().with_error_code(code).with_producer_epoch(-1)
}

fn consumer_group_heartbeat(req: &ConsumerGroupHeartbeatRequest, code: i16) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(code).with_member_id(Some(req.member_id.clone()))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::leave_group_request::MemberIdentity;

    use super::super::tests::{made_up, versions};
    use super::*;

    #[test]
    fn groups() {
        for version in versions::<HeartbeatRequest>() {
            assert_eq!(made_up(version, &HeartbeatRequest::default(), 27).error_code, 27, "v{version}");
        }
        for version in versions::<SyncGroupRequest>() {
            let want = SyncGroupResponse::default().with_error_code(27);
            assert_eq!(made_up(version, &SyncGroupRequest::default(), 27), want, "v{version}");
        }
        for version in [0, 6, 7, versions::<JoinGroupRequest>()[1]] {
            let got = made_up(version, &JoinGroupRequest::default().with_member_id("m".into()), 16);
            assert_eq!((got.error_code, got.generation_id, &*got.member_id), (16, -1, "m"), "v{version}");
            assert_eq!(got.protocol_name.is_none(), version >= 7, "v{version}");
        }
        for version in versions::<LeaveGroupRequest>() {
            let member = MemberIdentity::default().with_member_id("m".into());
            let members = if version >= 3 { vec![member] } else { vec![] };
            let got = made_up(version, &LeaveGroupRequest::default().with_members(members.clone()), 16);
            assert_eq!((got.error_code, got.members.len()), (16, members.len()), "v{version}");
            assert!(got.members.iter().all(|m| m.error_code == 16 && &*m.member_id == "m"));
        }
    }

    #[test]
    fn transactions() {
        for version in versions::<InitProducerIdRequest>() {
            let got = made_up(version, &InitProducerIdRequest::default(), 51);
            assert_eq!((got.error_code, got.producer_id.0, got.producer_epoch), (51, -1, -1), "v{version}");
        }
        for version in versions::<AddOffsetsToTxnRequest>() {
            assert_eq!(made_up(version, &AddOffsetsToTxnRequest::default(), 51).error_code, 51, "v{version}");
        }
        for version in versions::<EndTxnRequest>() {
            let want = EndTxnResponse::default().with_error_code(59);
            assert_eq!(made_up(version, &EndTxnRequest::default(), 59), want, "v{version}");
        }
    }
}
