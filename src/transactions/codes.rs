//! The error codes (Kafka class Errors) by which a producer learns that its transaction cannot go on. Which client takes
//! which code for an abortable error was tried with Java, librdkafka and franz-go; a code that a client of that request
//! version does not know is fatal to it.

use kafka_protocol::error::ResponseError;

use super::{Ask, Library};

const ILLEGAL_GENERATION: i16 = ResponseError::IllegalGeneration.code();
const INVALID_PRODUCER_EPOCH: i16 = ResponseError::InvalidProducerEpoch.code();
const INVALID_TXN_STATE: i16 = ResponseError::InvalidTxnState.code();
const UNKNOWN_PRODUCER_ID: i16 = ResponseError::UnknownProducerId.code();
const PRODUCER_FENCED: i16 = ResponseError::ProducerFenced.code();
const TRANSACTION_ABORTABLE: i16 = ResponseError::TransactionAbortable.code();

/// First versions whose senders know TRANSACTION_ABORTABLE (KIP-890).
const PRODUCE_ABORTABLE: i16 = 11;
/// Of transaction protocol 2 (KIP-890): librdkafka, to which INVALID_PRODUCER_EPOCH is fatal, sends none so high.
const PRODUCE_OWN_EPOCH: i16 = 12;
const OFFSETS_ABORTABLE: i16 = 4;
/// Of transaction protocol 2; franz-go sends 4 under protocol 1 as well, and then the code is fatal to it.
const END_ABORTABLE: i16 = 5;
const JAVA_END_ABORTABLE: i16 = 4;
/// First versions whose senders know PRODUCER_FENCED (KIP-588).
const TXN_FENCED: i16 = 2;
const INIT_FENCED: i16 = 4;

/// The transaction was open when its cluster was left: an error after which the application may abort it.
pub fn broken(ask: Ask) -> i16 {
    match ask {
        // Kafka Streams ends a thread by TRANSACTION_ABORTABLE here, and its group then waits for the session of that member; by
        // this it gives its tasks back and goes on. Those who send this version take it for abortable.
        Ask::Produce { version, .. } if version >= PRODUCE_OWN_EPOCH => INVALID_PRODUCER_EPOCH,
        Ask::Produce { version, .. } if version >= PRODUCE_ABORTABLE => TRANSACTION_ABORTABLE,
        Ask::Produce { .. } => INVALID_TXN_STATE,
        // Java's UnknownProducerIdException is an OutOfOrderSequenceException, behind which an application closes its producer, as
        // the documentation of KafkaProducer tells it to. Versions that do not know this code take it for abortable, too.
        Ask::AddPartitions { library: Library::Java, .. } => TRANSACTION_ABORTABLE,
        // Clients send version 3 at most, whether they know TRANSACTION_ABORTABLE or not.
        Ask::AddPartitions { .. } => UNKNOWN_PRODUCER_ID,
        Ask::AddOffsets { version, .. } | Ask::CommitOffsets { version } if version >= OFFSETS_ABORTABLE => {
            TRANSACTION_ABORTABLE
        }
        Ask::AddOffsets { .. } => UNKNOWN_PRODUCER_ID,
        Ask::CommitOffsets { .. } => ILLEGAL_GENERATION,
        // Under transaction protocol 2 the code that every client turns into an abort, franz-go's group sessions too (KIP-890).
        Ask::End { version, .. } if version >= END_ABORTABLE => TRANSACTION_ABORTABLE,
        Ask::End { version, library: Library::Java, .. } if version >= JAVA_END_ABORTABLE => TRANSACTION_ABORTABLE,
        Ask::End { .. } => UNKNOWN_PRODUCER_ID,
    }
}

/// Another incarnation of the producer has taken over.
pub fn fenced(ask: Ask) -> i16 {
    match ask {
        Ask::AddPartitions { version, .. } | Ask::AddOffsets { version, .. } | Ask::End { version, .. }
            if version >= TXN_FENCED =>
        {
            PRODUCER_FENCED
        }
        _ => INVALID_PRODUCER_EPOCH,
    }
}

/// As [`fenced`], for an InitProducerId.
pub fn init_fenced(version: i16) -> i16 {
    if version >= INIT_FENCED { PRODUCER_FENCED } else { INVALID_PRODUCER_EPOCH }
}
