//! Frames of the upstream side: a request into bytes, bytes into a checked reply.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// Bytes of a frame's length prefix.
const LENGTH_PREFIX: usize = 4;
/// Bytes of the correlation id that opens every reply.
const CORRELATION_ID: usize = 4;

/// How a reply (or a request of ours) breaks the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("reply length {0} is not within 4..={1} bytes")]
    Length(i32, usize),
    #[error("reply ends inside its header")]
    Header,
    #[error("reply to {got} where {want} was due")]
    Correlation { want: i32, got: i32 },
    #[error("reply refused: {0}")]
    Refused(String),
    #[error("reply does not decode: {0}")]
    Decode(String),
    #[error("{0} bytes after the end of the reply")]
    Trailing(usize),
    #[error("request does not encode: {0}")]
    Encode(String),
}

/// Takes one whole frame (without its length prefix) off the front of `buf`; `None` if it is not complete yet.
pub(super) fn take_frame(buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>, ReplyError> {
    let Some(prefix) = buf.first_chunk::<LENGTH_PREFIX>() else { return Ok(None) };
    let length = i32::from_be_bytes(*prefix);
    let size = usize::try_from(length).ok().filter(|size| (CORRELATION_ID..=max).contains(size));
    let Some(size) = size else { return Err(ReplyError::Length(length, max)) };
    if buf.len() < LENGTH_PREFIX + size {
        return Ok(None);
    }
    buf.advance(LENGTH_PREFIX);
    Ok(Some(buf.split_to(size).freeze()))
}

/// Checks that a frame answers the request with this correlation id.
pub(super) fn check_correlation(frame: &Bytes, want: i32) -> Result<(), ReplyError> {
    let got = i32::from_be_bytes(*frame.first_chunk::<CORRELATION_ID>().ok_or(ReplyError::Header)?);
    if got == want { Ok(()) } else { Err(ReplyError::Correlation { want, got }) }
}

/// One request as a frame with its length prefix.
pub(super) fn encode<R: Request>(
    req: &R,
    version: i16,
    correlation_id: i32,
    client_id: &StrBytes,
) -> Result<Bytes, ReplyError> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(client_id.clone()));
    let header_version = R::header_version(version);
    let refused = |e: &dyn std::fmt::Display| ReplyError::Encode(e.to_string());
    let size = header.compute_size(header_version).and_then(|h| Ok(h + req.compute_size(version)?));
    let size = size.map_err(|e| refused(&e))?;
    let length = i32::try_from(size).map_err(|e| refused(&e))?;
    let mut buf = BytesMut::with_capacity(LENGTH_PREFIX + size);
    buf.put_i32(length);
    header.encode(&mut buf, header_version).map_err(|e| refused(&e))?;
    req.encode(&mut buf, version).map_err(|e| refused(&e))?;
    Ok(buf.freeze())
}

/// Decodes a reply frame (correlation id included, already checked). Records and strings share the frame's memory.
pub(super) fn decode<R: Request>(mut frame: Bytes, version: i16) -> Result<R::Response, ReplyError> {
    let flexible = <R::Response as HeaderVersion>::header_version(version) > 0;
    let offset = if flexible { skip_tagged_fields(&frame, CORRELATION_ID)? } else { CORRELATION_ID };
    frame.advance(offset.min(frame.len()));
    check_reply(R::KEY, version, &frame)?;
    let reply = R::Response::decode(&mut frame, version).map_err(|e| ReplyError::Decode(e.to_string()))?;
    if frame.has_remaining() { Err(ReplyError::Trailing(frame.remaining())) } else { Ok(reply) }
}

/// The guard in front of the codec. The codec hands array counts unchecked to the allocator, so every reply passes
/// here before it is decoded.
///
/// Not in place yet: `crate::wire::guard::check(guard::Kind::Response, key, version, body)` belongs here.
fn check_reply(_key: i16, _version: i16, _body: &[u8]) -> Result<(), ReplyError> {
    Ok(())
}

/// The offset behind the tagged fields that start at `at` (KIP-482). Response headers have none that we know.
fn skip_tagged_fields(frame: &[u8], mut at: usize) -> Result<usize, ReplyError> {
    let count = unsigned_varint(frame, &mut at)?;
    for _ in 0..count {
        unsigned_varint(frame, &mut at)?;
        let size = unsigned_varint(frame, &mut at)?;
        let size = usize::try_from(size).map_err(|_| ReplyError::Header)?;
        at = at.checked_add(size).filter(|end| *end <= frame.len()).ok_or(ReplyError::Header)?;
    }
    Ok(at)
}

fn unsigned_varint(frame: &[u8], at: &mut usize) -> Result<u32, ReplyError> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *frame.get(*at).ok_or(ReplyError::Header)?;
        *at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ReplyError::Header)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

    use super::*;

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let mut buf = BytesMut::from(&[0, 0, 0, 5, 1, 2, 3, 4][..]);
        assert_eq!(take_frame(&mut buf, 100), Ok(None));
        buf.extend_from_slice(&[5, 0, 0]);
        assert_eq!(take_frame(&mut buf, 100), Ok(Some(Bytes::from_static(&[1, 2, 3, 4, 5]))));
        assert_eq!(take_frame(&mut buf, 100), Ok(None));
    }

    #[test]
    fn bad_lengths_are_refused_before_any_allocation() {
        for (prefix, length) in [([0xff; 4], -1), ([0, 0, 0, 3], 3), ([0, 0, 0, 101], 101)] {
            let mut buf = BytesMut::from(&prefix[..]);
            assert_eq!(take_frame(&mut buf, 100), Err(ReplyError::Length(length, 100)));
        }
    }

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
        assert_eq!(decode::<HeartbeatRequest>(long.freeze(), 4), Err(ReplyError::Trailing(1)));
        for end in 4..good.len() {
            assert!(decode::<HeartbeatRequest>(good.slice(..end), 4).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn header_tags_are_skipped_within_bounds() {
        assert_eq!(skip_tagged_fields(&[1, 5, 2, 9, 9, 7], 0), Ok(5));
        for bad in [&[1, 5, 9, 1][..], &[0xff; 6], &[], &[2, 0, 0]] {
            assert_eq!(skip_tagged_fields(bad, 0), Err(ReplyError::Header));
        }
    }
}
