//! Request and response headers, read by hand: the codec's own reader panics on short frames and knows only its APIs.

use super::reader::{ReadError, Reader};
use super::schema;
use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Key of ApiVersions, whose replies have header version 0 in every version: the client does not know yet what the
/// broker speaks (KIP-511).
pub const API_VERSIONS: i16 = 18;

/// A header that cannot be read; the connection cannot go on.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum HeaderError {
    #[error("header cut short: {need} bytes needed, {left} left")]
    Truncated { need: usize, left: usize },
    #[error("client id has length {0}")]
    ClientIdLength(i16),
    #[error("tagged field of the header has a varint of more than 32 bits")]
    Varint,
    #[error("client id of {0} bytes is too long to send")]
    ClientIdTooLong(usize),
}

impl From<ReadError> for HeaderError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Truncated { need, left } => HeaderError::Truncated { need, left },
            ReadError::Varint => HeaderError::Varint,
        }
    }
}

/// What a request frame starts with (header version 1, or 2 where the request is flexible).
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    /// As sent, perhaps not UTF-8. Shares the frame's memory: copy it if it is kept.
    pub client_id: Option<Bytes>,
    /// Where the request's body starts in the frame.
    pub body_offset: usize,
    /// Is the request flexible, so that the header had tagged fields?
    pub flexible: bool,
}

impl RequestHeader {
    /// Reads the header of a request frame (without length prefix). `flexible` says for (key, version) whether a request
    /// is flexible, usually [`schema::is_flexible`]. For an unknown API only key, version and correlation id mean
    /// anything.
    pub fn parse(frame: &Bytes, flexible: impl Fn(i16, i16) -> bool) -> Result<Self, HeaderError> {
        let (header, client_id) = Self::read(frame, flexible)?;
        Ok(RequestHeader { client_id: client_id.map(|place| frame.slice(place)), ..header })
    }

    /// As [`Self::parse`], for a frame of which perhaps only the front is there, and without the client id.
    pub fn parse_front(front: &[u8], flexible: impl Fn(i16, i16) -> bool) -> Result<Self, HeaderError> {
        Self::read(front, flexible).map(|(header, _)| header)
    }

    /// The header, and where the client id lies.
    fn read(
        frame: &[u8],
        flexible: impl Fn(i16, i16) -> bool,
    ) -> Result<(Self, Option<std::ops::Range<usize>>), HeaderError> {
        let mut reader = Reader::new(frame);
        let (api_key, api_version, correlation_id) = (reader.i16()?, reader.i16()?, reader.i32()?);
        // Header version 2 kept the 16-bit length of the client id, so that it can be read before the version is judged.
        let client_id = match reader.i16()? {
            -1 => None,
            len => {
                let len = usize::try_from(len).map_err(|_| HeaderError::ClientIdLength(len))?;
                let start = reader.position();
                reader.take(len)?;
                Some(start..start + len)
            }
        };
        let flexible = flexible(api_key, api_version);
        if flexible {
            reader.skip_tags()?;
        }
        let (body_offset, none) = (reader.position(), None);
        let header = RequestHeader { api_key, api_version, correlation_id, client_id: none, body_offset, flexible };
        Ok((header, client_id))
    }
}

/// Appends a request header as the proxy's own client sends it. Fails on a client id of more than 32767 bytes.
pub fn encode_request_header(
    buf: &mut BytesMut,
    key: i16,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<(), HeaderError> {
    let len = match client_id {
        None => -1,
        Some(id) => i16::try_from(id.len()).map_err(|_| HeaderError::ClientIdTooLong(id.len()))?,
    };
    buf.put_i16(key);
    buf.put_i16(version);
    buf.put_i32(correlation_id);
    buf.put_i16(len);
    buf.put_slice(client_id.unwrap_or_default().as_bytes());
    if schema::is_flexible(key, version) {
        buf.put_u8(0);
    }
    Ok(())
}

/// Appends the header of a reply to a request of this key and version.
pub fn encode_response_header(buf: &mut BytesMut, key: i16, version: i16, correlation_id: i32) {
    buf.put_i32(correlation_id);
    if has_tagged_response_header(key, version) {
        buf.put_u8(0);
    }
}

/// Correlation id of a reply frame (without length prefix).
pub fn response_correlation_id(frame: &[u8]) -> Result<i32, HeaderError> {
    Ok(Reader::new(frame).i32()?)
}

/// Where the body starts in the frame of a reply to a request of this key and version.
pub fn response_body_offset(key: i16, version: i16, frame: &[u8]) -> Result<usize, HeaderError> {
    let mut reader = Reader::new(frame);
    reader.i32()?;
    if has_tagged_response_header(key, version) {
        reader.skip_tags()?;
    }
    Ok(reader.position())
}

fn has_tagged_response_header(key: i16, version: i16) -> bool {
    key != API_VERSIONS && schema::is_flexible(key, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{self, ApiKey};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    fn written_by_codec(key: ApiKey, version: i16, client_id: Option<&str>) -> Bytes {
        let mut buf = BytesMut::new();
        messages::RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(77)
            .with_client_id(client_id.map(|id| StrBytes::from_string(id.to_owned())))
            .encode(&mut buf, key.request_header_version(version))
            .unwrap();
        buf.freeze()
    }

    #[test]
    fn request_headers_agree_with_the_codec() {
        for key in ApiKey::iter() {
            let range = key.valid_versions();
            for version in range.min..=range.max {
                for client_id in [None, Some(""), Some("probe")] {
                    let frame = written_by_codec(key, version, client_id);
                    let header = RequestHeader::parse(&frame, schema::is_flexible).unwrap();
                    assert_eq!(
                        header,
                        RequestHeader {
                            api_key: key as i16,
                            api_version: version,
                            correlation_id: 77,
                            client_id: client_id.map(Bytes::from),
                            body_offset: frame.len(),
                            flexible: key.request_header_version(version) == 2,
                        }
                    );
                    let mut ours = BytesMut::new();
                    encode_request_header(&mut ours, key as i16, version, 77, client_id).unwrap();
                    assert_eq!(ours, frame);
                }
            }
        }
    }

    #[test]
    fn response_headers_agree_with_the_codec() {
        for key in ApiKey::iter() {
            let range = key.valid_versions();
            for version in range.min..=range.max {
                let mut buf = BytesMut::new();
                encode_response_header(&mut buf, key as i16, version, -5);
                let length = if key.response_header_version(version) == 1 { 5 } else { 4 };
                assert_eq!(buf.len(), length, "{key:?} {version}");
                assert_eq!(response_correlation_id(&buf), Ok(-5));
                buf.put_slice(b"body");
                assert_eq!(response_body_offset(key as i16, version, &buf), Ok(length));
            }
        }
    }

    #[test]
    fn tagged_fields_of_headers_are_skipped() {
        // Metadata 12, correlation id 1, client id "a", two tagged fields of 3 and 0 bytes.
        let frame = Bytes::from_static(&[0, 3, 0, 12, 0, 0, 0, 1, 0, 1, b'a', 2, 7, 3, 1, 2, 3, 9, 0, 0xaa]);
        assert_eq!(RequestHeader::parse(&frame, schema::is_flexible).unwrap().body_offset, 19);
        let reply = [0, 0, 0, 1, 1, 0x80, 0x01, 2, 5, 5, 0xaa];
        assert_eq!(response_body_offset(3, 12, &reply), Ok(10));
        assert_eq!(response_body_offset(3, 8, &reply), Ok(4));
        assert_eq!(response_body_offset(API_VERSIONS, 4, &reply), Ok(4));
    }

    #[test]
    fn bad_headers_are_errors() {
        for (frame, want) in [
            (&[][..], HeaderError::Truncated { need: 2, left: 0 }),
            (&[0, 3, 0], HeaderError::Truncated { need: 2, left: 1 }),
            (&[0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xfe], HeaderError::ClientIdLength(-2)),
            (&[0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, 1], HeaderError::Truncated { need: 32767, left: 1 }),
            (&[0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff], HeaderError::Truncated { need: 1, left: 0 }),
            (&[0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff], HeaderError::Varint),
            (&[0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 1, 1, 9], HeaderError::Truncated { need: 9, left: 0 }),
        ] {
            assert_eq!(RequestHeader::parse(&Bytes::copy_from_slice(frame), schema::is_flexible), Err(want));
        }
        assert_eq!(response_body_offset(3, 12, &[0, 0, 0, 1]), Err(HeaderError::Truncated { need: 1, left: 0 }));
    }

    proptest! {
        #[test]
        fn no_frame_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), key in -1i16..95, version in -1i16..20) {
            let frame = Bytes::from(bytes);
            if let Ok(header) = RequestHeader::parse(&frame, |_, _| version % 2 == 0) {
                prop_assert!(header.body_offset <= frame.len());
            }
            if let Ok(offset) = response_body_offset(key, version, &frame) {
                prop_assert!(offset <= frame.len());
            }
        }
    }
}
