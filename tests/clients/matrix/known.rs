//! The clients of the matrix, and what is known of each: what it cannot do, and which of its own settings make it stand
//! still for longer than the promise.

use super::events::Role;

/// Longest stall in a switchover, in milliseconds, unless a setting of the client says more.
pub const PROMISED_MS: u64 = 1000;

/// What a program does, and so what is compared in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The three roles on one topic.
    Plain,
    /// The producer writes in transactions, every fifth aborted on purpose; the group reader is a processor: reads
    /// committed records, writes them to the topic `-out`, commits its offsets in the same transaction; the assigned
    /// reader reads the output.
    Transactions,
    /// The producer is plain; a stream processor counts the records of each key, exactly once; both readers read the
    /// output, whose records are named by key and count.
    Streams,
}

/// A client program under tests/clients.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// What prepare.sh calls it.
    pub name: &'static str,
    /// Library and language.
    pub title: &'static str,
    /// Said below the table: what it cannot do, or does in its own way.
    pub note: &'static str,
    /// A role that may stand still for longer in a switchover, for how long (milliseconds), and by which setting.
    pub slower: &'static [(Role, u64, &'static str)],
    pub kind: Kind,
    /// The clusters' `transaction.version`: 2 (KIP-890) is what a new cluster has.
    pub transaction_version: u8,
}

impl Known {
    /// What prepare.sh calls the program; two entries may share one.
    pub fn program(&self) -> &'static str {
        self.name.strip_suffix("-tv1").unwrap_or(self.name)
    }

    /// How long a role may stand still in a switchover.
    pub fn limit(&self, role: Role) -> u64 {
        self.slower.iter().find(|(slow, ..)| *slow == role).map_or(PROMISED_MS, |(_, limit, _)| *limit)
    }
}

const fn client(name: &'static str, title: &'static str) -> Known {
    Known { name, title, note: "", slower: &[], kind: Kind::Plain, transaction_version: 2 }
}

const fn transactional(name: &'static str, title: &'static str, transaction_version: u8) -> Known {
    Known { kind: Kind::Transactions, transaction_version, ..client(name, title) }
}

/// In the order of the table.
pub static CLIENTS: [Known; 15] = [
    client("java-4.3.1", "Java kafka-clients"),
    client("java-3.9.2", "Java kafka-clients"),
    client("java-2.1.0", "Java kafka-clients (the oldest that a 4.x broker serves, KIP-896)"),
    client("librdkafka", "librdkafka (confluent-kafka, Python)"),
    client("franz-go", "franz-go (Go)"),
    Known { note: "Idempotent with one request at a time, as it insists.", ..client("sarama", "sarama (Go)") },
    client("kafka-python", "kafka-python (Python)"),
    client("aiokafka", "aiokafka (Python)"),
    Known {
        note: "No reader outside of a group: the assigned reader is alone in one, and seeks whenever it has joined. \
               Idempotent with one request at a time.",
        ..client("kafkajs", "KafkaJS (Node.js)")
    },
    Known {
        note: "Version 1, the last for Node.js 20. No reader outside of a group: the assigned reader is alone in one, with \
               positions of its own. Requests time out after 5 s, a JoinGroup too; the application then opens another \
               consumer.",
        ..client("platformatic", "@platformatic/kafka (Node.js)")
    },
    transactional("java-txn", "Java kafka-clients, transactions (protocol 2)", 2),
    transactional("java-txn-tv1", "Java kafka-clients, transactions (protocol 1)", 1),
    transactional("franz-go-txn", "franz-go (Go), transactions (protocol 2)", 2),
    transactional("franz-go-txn-tv1", "franz-go (Go), transactions (protocol 1)", 1),
    Known { kind: Kind::Streams, ..client("streams", "Kafka Streams, exactly_once_v2") },
];

pub fn find(name: &str) -> Option<&'static Known> {
    CLIENTS.iter().find(|known| known.name == name)
}
