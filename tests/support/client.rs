//! Small helpers over rdkafka for a test's own needs: configurations, topics, one admin call at a time.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// How long one admin call may take on a busy machine.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A client configuration for `bootstrap` that comes back quickly after an outage.
pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("broker.address.family", "v4")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500");
    config
}

pub fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap).create().expect("an admin client")
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT)).request_timeout(Some(ADMIN_TIMEOUT))
}

/// Creates a topic with configuration entries. Panics when the cluster refuses.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, replication: i32, entries: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
    for (key, value) in entries {
        topic = topic.set(key, value);
    }
    let results = block_on(admin(bootstrap).create_topics([&topic], &options())).expect("create_topics is sent");
    for result in results {
        result.unwrap_or_else(|(topic, code)| panic!("cannot create {topic} at {bootstrap}: {code}"));
    }
}

/// Deletes a topic. Panics when the cluster refuses.
pub fn delete_topic(bootstrap: &str, name: &str) {
    let results = block_on(admin(bootstrap).delete_topics(&[name], &options())).expect("delete_topics is sent");
    for result in results {
        result.unwrap_or_else(|(topic, code)| panic!("cannot delete {topic} at {bootstrap}: {code}"));
    }
}

/// How many brokers a cluster says are alive.
pub fn alive_brokers(bootstrap: &str) -> Result<usize, String> {
    let consumer: BaseConsumer = config(bootstrap).create().map_err(|e| e.to_string())?;
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(2)).map_err(|e| e.to_string())?;
    Ok(metadata.brokers().len())
}

/// One partition's leader (broker id, -1 when there is none) and how many replicas are in sync.
pub fn leader_and_isr(bootstrap: &str, topic: &str, partition: i32) -> Result<(i32, usize), String> {
    let consumer: BaseConsumer = config(bootstrap).create().map_err(|e| e.to_string())?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(2)).map_err(|e| e.to_string())?;
    let topic = metadata.topics().first().ok_or("the topic is not there")?;
    let partition = topic.partitions().iter().find(|p| p.id() == partition).ok_or("the partition is not there")?;
    Ok((partition.leader(), partition.isr().len()))
}

/// Runs a future on this thread; works inside a runtime as well as without one.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
