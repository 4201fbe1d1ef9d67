//! What a cluster looks like at one moment: brokers, topics, leaders.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use uuid::Uuid;

use super::error::code;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

impl Broker {
    /// `host:port`, with an IPv6 host in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Broker id; `None` while the partition has no leader.
    pub leader: Option<i32>,
    /// -1 where the broker did not say.
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    /// Kafka error code, 0 if none.
    pub error: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: Arc<str>,
    /// The cluster's own topic id; nil where the broker did not say.
    pub id: Uuid,
    pub internal: bool,
    /// Kafka error code, 0 if none.
    pub error: i16,
    pub partitions: BTreeMap<i32, Partition>,
}

/// All of a cluster's metadata, from one Metadata reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub cluster_id: String,
    /// Live brokers, by id.
    pub brokers: Vec<Broker>,
    pub topics: HashMap<Arc<str>, Topic>,
}

impl Snapshot {
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.iter().find(|b| b.id == id)
    }

    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topic(topic)?.partitions.get(&partition)
    }

    /// The leader's broker id, or the Kafka error code that says why there is none.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<i32, i16> {
        let partition = self.partition(topic, partition).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
        partition.leader.ok_or(code::LEADER_NOT_AVAILABLE)
    }

    /// Copies what is kept out of the reply, whose strings pin the whole frame.
    pub(super) fn from_reply(reply: &MetadataResponse) -> Self {
        let mut brokers: Vec<Broker> = reply
            .brokers
            .iter()
            .filter_map(|b| {
                Some(Broker {
                    id: b.node_id.0,
                    host: b.host.to_string(),
                    port: u16::try_from(b.port).ok()?,
                    rack: b.rack.as_ref().map(ToString::to_string),
                })
            })
            .collect();
        brokers.sort_by_key(|b| b.id);
        let topics = reply.topics.iter().filter_map(topic).map(|t| (t.name.clone(), t)).collect();
        let cluster_id = reply.cluster_id.as_ref().map(ToString::to_string).unwrap_or_default();
        Snapshot { cluster_id, brokers, topics }
    }
}

fn topic(t: &MetadataResponseTopic) -> Option<Topic> {
    Some(Topic {
        name: Arc::from(t.name.as_ref()?.as_str()),
        id: t.topic_id,
        internal: t.is_internal,
        error: t.error_code,
        partitions: t.partitions.iter().map(|p| (p.partition_index, partition(p))).collect(),
    })
}

fn partition(p: &MetadataResponsePartition) -> Partition {
    Partition {
        leader: Some(p.leader_id.0).filter(|id| *id >= 0),
        leader_epoch: p.leader_epoch,
        replicas: p.replica_nodes.iter().map(|b| b.0).collect(),
        isr: p.isr_nodes.iter().map(|b| b.0).collect(),
        error: p.error_code,
    }
}
