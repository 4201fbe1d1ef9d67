//! The clients of the matrix, and what is known of each: what it cannot do, and which of its own settings make it stand
//! still for longer than the promise.

use super::events::Role;

/// Longest stall in a switchover, in milliseconds, unless a setting of the client says more.
pub const PROMISED_MS: u64 = 1000;

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
}

impl Known {
    /// How long a role may stand still in a switchover.
    pub fn limit(&self, role: Role) -> u64 {
        self.slower.iter().find(|(slow, ..)| *slow == role).map_or(PROMISED_MS, |(_, limit, _)| *limit)
    }
}

const fn client(name: &'static str, title: &'static str) -> Known {
    Known { name, title, note: "", slower: &[] }
}

/// In the order of the table.
pub static CLIENTS: [Known; 10] = [
    client("java-4.3.1", "Java kafka-clients"),
    client("java-3.9.2", "Java kafka-clients"),
    client("java-2.1.0", "Java kafka-clients (the oldest that a 4.x broker serves, KIP-896)"),
    client("librdkafka", "librdkafka (confluent-kafka, Python)"),
    client("franz-go", "franz-go (Go)"),
    client("sarama", "sarama (Go)"),
    client("kafka-python", "kafka-python (Python)"),
    client("aiokafka", "aiokafka (Python)"),
    client("kafkajs", "KafkaJS (Node.js)"),
    client("platformatic", "@platformatic/kafka (Node.js)"),
];

pub fn find(name: &str) -> Option<&'static Known> {
    CLIENTS.iter().find(|known| known.name == name)
}
