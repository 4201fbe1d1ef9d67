//! What went wrong with a cluster: what was tried, where, and whether trying again can help.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;

/// The Kafka error codes that this crate tells apart by name (`org.apache.kafka.common.protocol.Errors`).
pub mod code {
    pub const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const LEADER_NOT_AVAILABLE: i16 = 5;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const NETWORK_EXCEPTION: i16 = 13;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const NOT_COORDINATOR: i16 = 16;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const UNSUPPORTED_VERSION: i16 = 35;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const CONCURRENT_TRANSACTIONS: i16 = 51;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    pub const NON_EMPTY_GROUP: i16 = 68;
    pub const GROUP_ID_NOT_FOUND: i16 = 69;
    pub const LISTENER_NOT_FOUND: i16 = 72;
    pub const FENCED_LEADER_EPOCH: i16 = 74;
    pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub const UNSTABLE_OFFSET_COMMIT: i16 = 88;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
    pub const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
}

/// An error code that a broker answered, with its message where the reply had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaError {
    pub code: i16,
    pub message: Option<Arc<str>>,
}

impl KafkaError {
    pub fn new(code: i16, message: Option<&str>) -> Self {
        KafkaError { code, message: message.filter(|m| !m.is_empty()).map(Arc::from) }
    }

    /// The name in Kafka's own spelling, such as `NOT_LEADER_OR_FOLLOWER`; `ERROR_123` for a code from the future.
    pub fn name(&self) -> String {
        code_name(self.code)
    }

    /// Kafka's own word on whether the same request can succeed later.
    pub fn is_retriable(&self) -> bool {
        is_retriable(self.code)
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code)?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

/// Kafka's spelling of an error code's name.
pub(crate) fn code_name(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        None => "NONE".to_owned(),
        Some(ResponseError::Unknown(code)) => format!("ERROR_{code}"),
        Some(known) => screaming_snake(&format!("{known:?}")),
    }
}

fn screaming_snake(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 8);
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

pub(crate) fn is_retriable(code: i16) -> bool {
    ResponseError::try_from_code(code).is_some_and(|e| e.is_retriable())
}

/// Codes after which cached leaders must be read again before the next attempt.
pub(crate) fn means_stale_metadata(code: i16) -> bool {
    use code::*;
    matches!(
        code,
        UNKNOWN_TOPIC_OR_PARTITION
            | LEADER_NOT_AVAILABLE
            | NOT_LEADER_OR_FOLLOWER
            | NETWORK_EXCEPTION
            | KAFKA_STORAGE_ERROR
            | LISTENER_NOT_FOUND
            | FENCED_LEADER_EPOCH
            | UNKNOWN_LEADER_EPOCH
            | UNKNOWN_TOPIC_ID
    )
}

/// Why a call failed. The variants differ in what is known about the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    /// No connection could be had, or it broke before the request was written: the broker has **not** seen it.
    #[error("unreachable: {0}")]
    Unreachable(Arc<str>),
    /// No reply in time: whether the broker acted on the request is **unknown**. The connection was given up.
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    /// The connection broke with the request in flight: whether the broker acted on it is **unknown**.
    #[error("connection closed: {0}")]
    Closed(Arc<str>),
    /// The broker broke the protocol (length, correlation id, undecodable body), or a request cannot be encoded.
    #[error("protocol violation: {0}")]
    Protocol(Arc<str>),
    /// The broker answered with an error code.
    #[error("{0}")]
    Kafka(KafkaError),
    /// The broker and this client have no version of the request in common.
    #[error("unsupported: {0}")]
    Unsupported(Arc<str>),
}

/// Where a request went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub cluster: Arc<str>,
    /// Broker id; `None` for a bootstrap address or when no broker was chosen yet.
    pub broker: Option<i32>,
    /// `host:port`; empty when no broker was chosen yet.
    pub address: Arc<str>,
}

impl Place {
    pub fn cluster_only(cluster: &Arc<str>) -> Self {
        Place { cluster: cluster.clone(), broker: None, address: Arc::from("") }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}", self.cluster)?;
        if let Some(broker) = self.broker {
            write!(f, ", broker {broker}")?;
        }
        if !self.address.is_empty() {
            write!(f, " at {}", self.address)?;
        }
        Ok(())
    }
}

/// A failed operation on a cluster: what was tried, where, and why it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({place}): {kind}")]
pub struct UpstreamError {
    what: &'static str,
    place: Box<Place>,
    kind: Kind,
}

impl UpstreamError {
    pub(crate) fn new(what: &'static str, place: &Place, kind: Kind) -> Self {
        UpstreamError { what, place: Box::new(place.clone()), kind }
    }

    /// Adds which broker answered.
    pub(crate) fn at_broker(mut self, broker: i32) -> Self {
        self.place.broker = Some(broker);
        self
    }

    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The cluster's configured name.
    pub fn cluster(&self) -> &str {
        &self.place.cluster
    }

    /// The broker that was asked, where one was.
    pub fn broker(&self) -> Option<i32> {
        self.place.broker
    }

    /// The error code that the broker answered, where it answered one.
    pub fn kafka_code(&self) -> Option<i16> {
        match &self.kind {
            Kind::Kafka(e) => Some(e.code),
            _ => None,
        }
    }

    /// Whether the same request can succeed later. It says nothing on whether it already did: see [`Kind`].
    pub fn is_retriable(&self) -> bool {
        match &self.kind {
            Kind::Unreachable(_) | Kind::Timeout(_) | Kind::Closed(_) => true,
            Kind::Kafka(e) => e.is_retriable(),
            Kind::Protocol(_) | Kind::Unsupported(_) => false,
        }
    }

    /// True if it is certain that no broker acted on the request.
    pub fn is_surely_unsent(&self) -> bool {
        matches!(self.kind, Kind::Unreachable(_) | Kind::Unsupported(_))
    }

    /// The code to put on a single partition when the whole request to its leader failed.
    pub(crate) fn as_partition_code(&self) -> i16 {
        match &self.kind {
            Kind::Unreachable(_) | Kind::Closed(_) => code::NETWORK_EXCEPTION,
            Kind::Timeout(_) => code::REQUEST_TIMED_OUT,
            Kind::Kafka(e) => e.code,
            Kind::Protocol(_) => code::UNKNOWN_SERVER_ERROR,
            Kind::Unsupported(_) => code::UNSUPPORTED_VERSION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_kafkas_names_and_retriability() {
        let rows = [
            (code::NONE, "NONE", false),
            (code::NOT_LEADER_OR_FOLLOWER, "NOT_LEADER_OR_FOLLOWER", true),
            (code::OFFSET_OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE", false),
            (code::NOT_COORDINATOR, "NOT_COORDINATOR", true),
            (code::UNKNOWN_MEMBER_ID, "UNKNOWN_MEMBER_ID", false),
            (32000, "ERROR_32000", false),
        ];
        for (code, name, retriable) in rows {
            assert_eq!(code_name(code), name);
            assert_eq!(is_retriable(code), retriable, "{name}");
        }
    }

    #[test]
    fn an_error_names_request_cluster_and_broker() {
        let place = Place { cluster: "east".into(), broker: Some(3), address: "h:9092".into() };
        let e = UpstreamError::new("Fetch", &place, Kind::Kafka(KafkaError::new(6, Some("moved"))));
        assert_eq!(e.to_string(), "Fetch (cluster east, broker 3 at h:9092): NOT_LEADER_OR_FOLLOWER (6): moved");
        assert!(e.is_retriable() && !e.is_surely_unsent());
    }
}
