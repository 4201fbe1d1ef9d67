//! Bodies of messages by the codec, for callers that name an error themselves. What comes from a socket has passed
//! [`super::guard`] before.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

/// Reads one whole body.
pub fn decode<M: Decodable>(body: &Bytes, version: i16) -> Result<M, String> {
    let mut rest = body.clone();
    let message = M::decode(&mut rest, version).map_err(|e| e.to_string())?;
    match rest.remaining() {
        0 => Ok(message),
        n => Err(format!("{n} bytes too many")),
    }
}

/// Writes one whole body.
pub fn encode<M: Encodable>(message: &M, version: i16) -> Result<Bytes, String> {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).map_err(|e| e.to_string())?;
    Ok(out.freeze())
}
