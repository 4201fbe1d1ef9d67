//! A client that sends what it is told and checks nothing: one blocking connection, frames in, frames out.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{GroupId, MetadataRequest, MetadataResponse, TopicName, TransactionalId};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use kafka_standby::records::{BatchHeader, Codec, NewRecord, Stamp, build};
use kafka_standby::wire::header;
use uuid::Uuid;

/// A reply that takes longer is missing.
const PATIENCE: Duration = Duration::from_secs(30);
/// The last version of Metadata that the codec and both Kafka releases have.
const METADATA: i16 = 12;

pub struct Raw {
    stream: TcpStream,
    correlation: i32,
}

impl Raw {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        stream.set_nodelay(true).expect("no delay is set");
        Self { stream, correlation: 0 }
    }

    /// How the proxy's log names this client.
    pub fn local_address(&self) -> String {
        self.stream.local_addr().expect("an address").to_string()
    }

    /// Bytes as they are, without a length. An error means that the other side has closed, which reading will tell.
    pub fn push(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// A frame with a proper length around any bytes.
    pub fn push_frame(&mut self, bytes: &[u8]) {
        let mut frame = i32::try_from(bytes.len()).expect("a small frame").to_be_bytes().to_vec();
        frame.extend_from_slice(bytes);
        self.push(&frame);
    }

    /// A request with a proper header around any body; returns its correlation id.
    pub fn push_body(&mut self, key: i16, version: i16, body: &[u8]) -> i32 {
        self.correlation += 1;
        let mut frame = BytesMut::new();
        header::encode_request_header(&mut frame, key, version, self.correlation, Some("raw")).expect("a header");
        frame.extend_from_slice(body);
        self.push_frame(&frame);
        self.correlation
    }

    pub fn push_request<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.push_body(R::KEY, version, &encode(version, request))
    }

    /// The next frame without its length; `None`: closed, orderly or by a reset.
    pub fn frame(&mut self) -> Option<Bytes> {
        let length = self.length()?;
        Some(self.rest(length))
    }

    /// The length of the next frame, of which nothing more is read.
    pub fn length(&mut self) -> Option<usize> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        Some(usize::try_from(i32::from_be_bytes(length)).expect("a positive length"))
    }

    /// That frame.
    pub fn rest(&mut self, length: usize) -> Bytes {
        let mut frame = vec![0; length];
        self.fill(&mut frame).expect("a whole frame");
        frame.into()
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => None,
            Err(e) => panic!("no reply: {e}"),
        }
    }

    /// Panics when anything but the end of the connection comes.
    pub fn assert_closed(&mut self, what: &str) {
        assert_eq!(self.frame(), None, "{what}: the connection should have been closed");
    }

    /// The reply to a request, as a frame. Panics when the connection closes.
    pub fn exchange<R: Request>(&mut self, version: i16, request: &R) -> Bytes {
        let correlation = self.push_request(version, request);
        let frame = self.frame().unwrap_or_else(|| panic!("closed at API {} v{version}", R::KEY));
        assert_eq!(header::response_correlation_id(&frame), Ok(correlation));
        frame
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let frame = self.exchange(version, request);
        reply::<R>(version, &frame)
    }

    pub fn metadata(&mut self, topic: &str) -> MetadataResponse {
        let topics = vec![MetadataRequestTopic::default().with_name(Some(topic_name(topic)))];
        self.ask(METADATA, &MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false))
    }

    /// The id under which this side knows a topic.
    pub fn topic_id(&mut self, topic: &str) -> Uuid {
        let metadata = self.metadata(topic);
        assert_eq!(metadata.topics[0].error_code, 0, "{topic}");
        metadata.topics[0].topic_id
    }
}

pub fn encode<M: Encodable>(version: i16, message: &M) -> Bytes {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).unwrap_or_else(|e| panic!("version {version}: {e}"));
    body.freeze()
}

/// Decodes a whole reply frame; bytes that are left are an error.
pub fn reply<R: Request>(version: i16, frame: &Bytes) -> R::Response {
    try_reply::<R>(version, frame).unwrap_or_else(|e| panic!("reply of API {} v{version}: {e}: {frame:?}", R::KEY))
}

pub fn try_reply<R: Request>(version: i16, frame: &Bytes) -> Result<R::Response, String> {
    let offset = header::response_body_offset(R::KEY, version, frame).map_err(|e| e.to_string())?;
    let mut body = frame.slice(offset..);
    let message = <R::Response as Decodable>::decode(&mut body, version).map_err(|e| e.to_string())?;
    if body.is_empty() { Ok(message) } else { Err(format!("{} bytes are left", body.len())) }
}

pub fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

pub fn topic_name(s: &str) -> TopicName {
    text(s).into()
}

pub fn group_id(s: &str) -> GroupId {
    text(s).into()
}

pub fn transactional_id(s: &str) -> TransactionalId {
    text(s).into()
}

/// A batch of records `prefix-0`, `prefix-1` and so on, without a producer id.
pub fn batch(prefix: &str, count: usize) -> Bytes {
    stamped_batch(prefix, count, Stamp::NONE)
}

pub fn stamped_batch(prefix: &str, count: usize, stamp: Stamp) -> Bytes {
    let values: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
    // A fixed time, recent enough for every limit: the same batch twice is the same bytes.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let timestamp = i64::try_from(now.as_millis() / 3_600_000 * 3_600_000).expect("before the year 292 million");
    let records: Vec<NewRecord<'_>> = values
        .iter()
        .map(|value| NewRecord { value: Some(value.as_bytes()), timestamp, ..NewRecord::default() })
        .collect();
    build(&records, Codec::None, stamp).expect("a batch")
}

/// The same batch with other attribute bits and a proper checksum.
pub fn with_attributes(batch: &Bytes, attributes: i16) -> Bytes {
    let mut header = BatchHeader::parse(batch).expect("a batch");
    header.attributes |= attributes;
    header.encode(&batch[61..]).expect("a batch")
}
