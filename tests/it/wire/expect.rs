//! What the proxy's answer must be, worked out from the broker's own: each id and address replaced by the one that
//! clients are to see, what differs from call to call blanked out on both sides.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::MetadataResponse;
use kafka_standby::wire::apis::How;

use super::cases::Reply;

/// Fields that are the clock's, the broker's random numbers', or counters'.
const VOLATILE: [&str; 7] = [
    "throttle_time_ms",
    "member_id",
    "leader",
    "producer_id",
    "last_timestamp",
    "finalized_features_epoch",
    "client_host",
];

const BROKER_IDS: [&str; 5] = ["node_id", "controller_id", "leader_id", "broker_id", "preferred_read_replica"];

/// The same cluster as a client of the proxy and as a client of the broker sees it.
#[derive(Debug, Clone)]
pub struct World {
    pub proxy: Seen,
    pub broker: Seen,
    /// Added to a broker's leader epoch.
    pub epoch_base: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub cluster_id: String,
    pub broker_id: i32,
    pub port: i32,
    /// Ids by topic name, as text.
    pub topics: Vec<(String, String)>,
    /// Leader epochs by topic name, all partitions'.
    pub epochs: Vec<(String, Vec<i32>)>,
}

impl Seen {
    /// From a reply that lists one broker.
    pub fn of(metadata: &MetadataResponse) -> Self {
        assert_eq!(metadata.brokers.len(), 1, "{metadata:?}");
        let named = |t: &kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
            t.name.as_ref().expect("a name").to_string()
        };
        let mut topics: Vec<_> = metadata.topics.iter().map(|t| (named(t), t.topic_id.to_string())).collect();
        topics.sort();
        let epochs = |t: &kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
            let mut epochs: Vec<_> = t.partitions.iter().map(|p| (p.partition_index, p.leader_epoch)).collect();
            epochs.sort_unstable();
            epochs.into_iter().map(|(_, epoch)| epoch).collect()
        };
        let mut epochs: Vec<_> = metadata.topics.iter().map(|t| (named(t), epochs(t))).collect();
        epochs.sort();
        Self {
            cluster_id: metadata.cluster_id.as_ref().expect("a cluster id").to_string(),
            broker_id: metadata.brokers[0].node_id.0,
            port: metadata.brokers[0].port,
            topics,
            epochs,
        }
    }
}

/// Why the proxy's answer is not what it should be; `None`: it is.
pub fn difference(how: How, world: &World, direct: &Reply, proxy: &Reply) -> Option<String> {
    if how == How::Forward {
        let expected = rename_bytes(&direct.frame);
        // Some list all groups or transactions, the direct side's own among them.
        let same = direct.frame == proxy.frame || expected == proxy.frame;
        return (!same).then(|| format!("expected {expected:?}\n     got {:?}", proxy.frame));
    }
    let (Some(direct), Some(proxy)) = (&direct.text, &proxy.text) else {
        return Some("a decoded API has a version that the codec does not know".into());
    };
    let expected = blank(&as_client(direct, world));
    let got = blank(&as_names(proxy, &world.proxy));
    (expected != got).then(|| format!("expected {expected}\n     got {got}"))
}

/// The direct side's own names become the proxy side's.
fn rename_bytes(frame: &Bytes) -> Bytes {
    let mut frame = BytesMut::from(&frame[..]);
    for at in 0..frame.len().saturating_sub(2) {
        if &frame[at..at + 3] == b"-d-" {
            frame[at + 1] = b'p';
        }
    }
    frame.freeze()
}

/// The broker's answer with everything as clients are to see it.
fn as_client(text: &str, world: &World) -> String {
    let (real, shown) = (&world.broker, &world.proxy);
    let mut text = as_names(text, real);
    for field in BROKER_IDS {
        let (one, other) = (real.broker_id.to_string(), shown.broker_id.to_string());
        text = map_field(&text, field, |id| if id == one { other.clone() } else { id.into() });
    }
    for field in ["replica_nodes", "isr_nodes"] {
        let (one, other) = (format!("[{}]", real.broker_id), format!("[{}]", shown.broker_id));
        text = map_field(&text, field, |ids| if ids == one { other.clone() } else { ids.into() });
    }
    // A broker that is nobody's is named to the cluster as one that it cannot have.
    text = text.replace("broker 77,", &format!("broker {},", i32::MAX));
    text = text.replace(&format!("\"{}\"", real.cluster_id), &format!("\"{}\"", shown.cluster_id));
    text = map_field(
        &text,
        "port",
        |port| if port == real.port.to_string() { shown.port.to_string() } else { port.into() },
    );
    text = map_field(&text, "resource_name", |name| {
        if name == format!("\"{}\"", real.broker_id) { format!("\"{}\"", shown.broker_id) } else { name.into() }
    });
    for field in ["leader_epoch", "committed_leader_epoch", "coordinator_epoch"] {
        text = map_field(&text, field, |epoch| match epoch.parse::<i32>() {
            Ok(epoch) if epoch >= 0 && field != "coordinator_epoch" => (epoch + world.epoch_base).to_string(),
            _ => epoch.into(),
        });
    }
    // Of which generation a member's epoch is can be told.
    let marked = ["ConsumerGroupHeartbeatResponse", "ShareGroupHeartbeatResponse", "ShareGroupDescribeResponse"];
    if marked.iter().any(|name| text.starts_with(name)) {
        text = map_field(&text, "member_epoch", |epoch| match epoch.parse::<i32>() {
            Ok(epoch) if epoch > 0 => (epoch + world.epoch_base).to_string(),
            _ => epoch.into(),
        });
    }
    text.replace("-d-", "-p-").replace("api-d", "api-p").replace("txn-d", "txn-p")
}

/// Topic ids become names: those of one side differ from the other's. The sides' own topics become the same one.
fn as_names(text: &str, seen: &Seen) -> String {
    let mut text = text.to_owned();
    for (name, id) in &seen.topics {
        text = text.replace(id, &format!("id of {name}"));
    }
    text.replace("id of api-d", "id of api-p")
}

fn blank(text: &str) -> String {
    let mut text = text.to_owned();
    for field in VOLATILE {
        text = map_field(&text, field, |_| "_".into());
    }
    // The id of a topic made or deleted by the case itself.
    map_field(&text, "topic_id", |id| {
        let random = id.len() == 36 && id.contains('-') && id.bytes().any(|b| b != b'0' && b != b'-');
        if random { "_".into() } else { id.into() }
    })
}

/// Changes each value of a field in the text that `Debug` makes of a message.
fn map_field(text: &str, field: &str, change: impl Fn(&str) -> String) -> String {
    let mark = format!("{field}: ");
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(&mark) {
        let whole = !rest[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let start = at + mark.len();
        let end = start + rest[start..].find([',', '}']).unwrap_or(rest.len() - start);
        let value = rest[start..end].trim_end();
        out.push_str(&rest[..start]);
        out.push_str(&if whole { change(value) } else { value.to_owned() });
        rest = &rest[start + value.len()..];
    }
    out + rest
}

/// Batches keep the epoch under which they were written; what clients see of it is another test's.
pub fn blank_batch_epochs(reply: &mut FetchResponse) {
    for data in reply.responses.iter_mut().flat_map(|t| &mut t.partitions) {
        let Some(records) = &data.records else { continue };
        let mut bytes = BytesMut::from(&records[..]);
        blank_epochs(&mut bytes);
        data.records = Some(bytes.freeze());
    }
}

/// As [`blank_batch_epochs`], of batches one after the other.
pub fn blank_epochs(batches: &mut [u8]) {
    let mut at = 0;
    while at + 16 <= batches.len() {
        batches[at + 12..at + 16].fill(0);
        let length = i32::from_be_bytes(batches[at + 8..at + 12].try_into().expect("four bytes"));
        at += 12 + usize::try_from(length).expect("a positive length");
    }
}
