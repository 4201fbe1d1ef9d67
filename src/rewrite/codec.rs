//! The edge to the Kafka codec: whole bodies in and out, every failure a typed error.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

/// Which half of an exchange a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Request,
    Reply,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Request => "request",
            Side::Reply => "reply",
        })
    }
}

/// Why a body could not be rewritten. Nothing here is worth a retry: the connection that sent the body is at fault.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The codec cannot read the body at this version, or does not know the version.
    #[error("cannot decode the {side} of API {api_key} v{version}: {reason}")]
    Decode { api_key: i16, version: i16, side: Side, reason: String },
    /// The body goes on after its last field. Decoders do not notice by themselves.
    #[error("{bytes} bytes too many in the {side} of API {api_key} v{version}")]
    Trailing { api_key: i16, version: i16, side: Side, bytes: usize },
    /// The codec cannot write what the rewrite left.
    #[error("cannot encode the {side} of API {api_key} v{version}: {reason}")]
    Encode { api_key: i16, version: i16, side: Side, reason: String },
    /// A well-formed request that no client of the proxy may send.
    #[error("refused: {0}")]
    Refused(&'static str),
}

/// Reads one whole message. Strings and records of the result share `body`'s memory.
pub(super) fn decode<M: Decodable>(api_key: i16, version: i16, side: Side, body: &Bytes) -> Result<M, RewriteError> {
    let mut rest = body.clone();
    let message = M::decode(&mut rest, version).map_err(|e| RewriteError::Decode {
        api_key,
        version,
        side,
        reason: e.to_string(),
    })?;
    match rest.remaining() {
        0 => Ok(message),
        bytes => Err(RewriteError::Trailing { api_key, version, side, bytes }),
    }
}

/// Writes one whole message into a buffer of exactly its size.
pub(super) fn encode<M: Encodable>(api_key: i16, version: i16, side: Side, message: &M) -> Result<Bytes, RewriteError> {
    let failed = |e: anyhow::Error| RewriteError::Encode { api_key, version, side, reason: e.to_string() };
    let mut out = BytesMut::with_capacity(message.compute_size(version).map_err(failed)?);
    message.encode(&mut out, version).map_err(failed)?;
    Ok(out.freeze())
}
