//! Bodies of the classic group requests and replies that the proxy reads or makes itself.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::rehome::HEARTBEAT;
use crate::wire::body::{decode, encode};
use crate::wire::header::{RequestHeader, encode_request_header};

/// The generation of a commit from outside the group.
pub const NO_GENERATION: i32 = -1;
/// LeaveGroup names several members from this version on (KIP-345).
const LEAVES_SEVERAL: i16 = 3;

/// JoinGroup replies carry the protocol type from this version on (KIP-559).
const NAMES_PROTOCOL_TYPE: i16 = 7;

/// Makes a member's commit one from outside the group: no member, no generation.
pub fn from_outside(commit: &mut OffsetCommitRequest) {
    commit.generation_id_or_member_epoch = NO_GENERATION;
    commit.member_id = StrBytes::default();
    commit.group_instance_id = None;
}

/// A whole request frame (without length) as the client of `header` would have sent it in another version.
pub fn frame<M: Encodable>(header: &RequestHeader, version: i16, message: &M) -> Result<Bytes, String> {
    let client_id = header.client_id.as_deref().and_then(|id| std::str::from_utf8(id).ok());
    let mut out = BytesMut::new();
    encode_request_header(&mut out, header.api_key, version, header.correlation_id, client_id)
        .map_err(|e| e.to_string())?;
    message.encode(&mut out, version).map_err(|e| e.to_string())?;
    Ok(out.freeze())
}

/// The reply to a JoinGroup that was sent in version `sent`, in the client's version `wanted`. `request` is the client's.
pub fn join_reply(request: &Bytes, reply: &Bytes, sent: i16, wanted: i16) -> Result<Bytes, String> {
    let join: JoinGroupRequest = decode(request, wanted)?;
    let mut answer: JoinGroupResponse = decode(reply, sent)?;
    if wanted >= NAMES_PROTOCOL_TYPE {
        answer.protocol_type = Some(join.protocol_type);
    }
    encode(&answer, wanted)
}

pub fn heartbeat(version: i16, code: i16) -> Result<Bytes, String> {
    encode(&HeartbeatResponse::default().with_error_code(code), version)
}

pub fn sync_group(version: i16, code: i16) -> Result<Bytes, String> {
    encode(&SyncGroupResponse::default().with_error_code(code), version)
}

/// Who leaves: (member id, instance id). A static member may be named by its instance id alone.
pub fn leaving(version: i16, leave: &LeaveGroupRequest) -> Vec<(String, Option<String>)> {
    if version < LEAVES_SEVERAL {
        return vec![(leave.member_id.to_string(), None)];
    }
    let several = leave.members.iter();
    several.map(|m| (m.member_id.to_string(), m.group_instance_id.as_ref().map(StrBytes::to_string))).collect()
}

/// The reply that all who wanted to leave have left.
pub fn left(version: i16, leave: &LeaveGroupRequest) -> Result<Bytes, String> {
    let members = leave.members.iter().map(|m| {
        MemberResponse::default()
            .with_member_id(m.member_id.clone())
            .with_group_instance_id(m.group_instance_id.clone())
    });
    let members = if version < LEAVES_SEVERAL { Vec::new() } else { members.collect() };
    encode(&LeaveGroupResponse::default().with_members(members), version)
}

/// Group, member and error code of a Heartbeat or SyncGroup.
pub fn heard_of(key: i16, version: i16, request: &Bytes, reply: &Bytes) -> Result<(String, String, i16), String> {
    if key == HEARTBEAT {
        let (q, a): (HeartbeatRequest, HeartbeatResponse) = (decode(request, version)?, decode(reply, version)?);
        return Ok((q.group_id.to_string(), q.member_id.to_string(), a.error_code));
    }
    let (q, a): (SyncGroupRequest, SyncGroupResponse) = (decode(request, version)?, decode(reply, version)?);
    Ok((q.group_id.to_string(), q.member_id.to_string(), a.error_code))
}
