//! Frames of the upstream side: a request into bytes, bytes into a checked reply.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

use super::parts::Parts;
use crate::wire::guard::{self, GuardError};
use crate::wire::header::{self, HeaderError};

/// How a reply (or a request of ours) breaks the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("reply header: {0}")]
    Header(#[from] HeaderError),
    #[error("reply to {got} where {want} was due")]
    Correlation { want: i32, got: i32 },
    #[error("reply refused: {0}")]
    Refused(#[from] GuardError),
    #[error("reply does not decode: {0}")]
    Decode(String),
    #[error("{0} bytes after the end of the reply")]
    Trailing(usize),
    #[error("request does not encode: {0}")]
    Encode(String),
}

/// Checks that a frame answers the request with this correlation id.
pub(super) fn check_correlation(frame: &Bytes, want: i32) -> Result<(), ReplyError> {
    let got = header::response_correlation_id(frame)?;
    if got == want { Ok(()) } else { Err(ReplyError::Correlation { want, got }) }
}

/// What stands in front of a request's body.
pub(super) struct Head<'a> {
    pub key: i16,
    pub version: i16,
    pub header_version: i16,
    pub correlation_id: i32,
    pub client_id: &'a StrBytes,
}

impl Head<'_> {
    /// The whole frame; `body` writes the request in the version that it is given, `small` bytes of it not shared.
    pub fn frame(self, small: usize, body: impl FnOnce(i16, &mut Parts)) -> Result<Parts, ReplyError> {
        let head = RequestHeader::default()
            .with_request_api_key(self.key)
            .with_request_api_version(self.version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let refused = |e: &dyn std::fmt::Display| ReplyError::Encode(e.to_string());
        let size = head.compute_size(self.header_version).map_err(|e| refused(&e))?;
        let mut frame = Parts::with_capacity(size + small);
        head.encode(frame.put(), self.header_version).map_err(|e| refused(&e))?;
        body(self.version, &mut frame);
        frame.finish().ok_or_else(|| refused(&"it is too long"))
    }

    /// The frame of a request that the codec writes.
    pub fn encode<R: Request>(self, req: &R) -> Result<Parts, ReplyError> {
        let refused = |e: &dyn std::fmt::Display| ReplyError::Encode(e.to_string());
        let size = req.compute_size(self.version).map_err(|e| refused(&e))?;
        let mut written = Ok(());
        let frame = self.frame(size, |version, to| written = req.encode(to.put(), version))?;
        written.map_err(|e| refused(&e))?;
        Ok(frame)
    }
}

/// The body of a reply frame (correlation id included, already checked).
pub(super) fn body<R: Request>(mut frame: Bytes, version: i16) -> Result<Bytes, ReplyError> {
    let body = header::response_body_offset(R::KEY, version, &frame)?;
    frame.advance(body.min(frame.len()));
    Ok(frame)
}

/// Decodes a reply's body. Records and strings share its memory.
///
/// The guard comes first: the codec hands array counts unchecked to the allocator.
pub(super) fn read<R: Request>(version: i16, mut body: Bytes) -> Result<R::Response, ReplyError> {
    guard::check(guard::Kind::Response, R::KEY, version, &body)?;
    let reply = R::Response::decode(&mut body, version).map_err(|e| ReplyError::Decode(e.to_string()))?;
    if body.has_remaining() { Err(ReplyError::Trailing(body.remaining())) } else { Ok(reply) }
}

/// Decodes a reply frame.
pub(super) fn decode<R: Request>(frame: Bytes, version: i16) -> Result<R::Response, ReplyError> {
    read::<R>(version, body::<R>(frame, version)?)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

    use super::*;

    #[test]
    fn a_reply_is_checked_to_its_last_byte() {
        let mut good = BytesMut::from(&[0, 0, 0, 7, 0][..]);
        HeartbeatResponse::default().with_error_code(27).encode(&mut good, 4).unwrap();
        let good = good.freeze();
        assert_eq!(check_correlation(&good, 7), Ok(()));
        assert_eq!(check_correlation(&good, 8), Err(ReplyError::Correlation { want: 8, got: 7 }));
        assert_eq!(decode::<HeartbeatRequest>(good.clone(), 4).unwrap().error_code, 27);

        let mut long = BytesMut::from(&good[..]);
        long.put_u8(0);
        assert!(decode::<HeartbeatRequest>(long.freeze(), 4).is_err());
        for end in 4..good.len() {
            assert!(decode::<HeartbeatRequest>(good.slice(..end), 4).is_err(), "cut at {end}");
        }
    }
}
