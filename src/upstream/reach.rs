//! Addresses for those who bring their own sockets: the proxy's client connections are forwarded, not multiplexed.

use std::time::Duration;

use futures_util::future::join_all;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::cluster::{Cluster, Lane, Target};
use super::metadata::Broker;

/// How long a look at stale metadata may take before the old one has to do: the caller tries the address anyway.
const LOOK_UP: Duration = Duration::from_secs(1);

impl Cluster {
    /// `host:port` of everything that may answer: the brokers last seen, then the bootstrap addresses.
    pub async fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = match self.last_known().await {
            Some(snapshot) => snapshot.brokers.iter().map(Broker::address).collect(),
            None => Vec::new(),
        };
        for address in self.bootstrap() {
            if !addresses.iter().any(|a| **a == **address) {
                addresses.push(address.to_string());
            }
        }
        addresses
    }

    /// `host:port` of a broker; `None` if the cluster does not have it, as far as can be learnt.
    pub async fn address(&self, broker: i32) -> Option<String> {
        if let Some(found) = self.last_known().await?.broker(broker) {
            return Some(found.address());
        }
        self.refresh_by(Instant::now() + LOOK_UP).await.ok()?.broker(broker).map(Broker::address)
    }

    /// Whether some broker of the cluster answers a Metadata request within `timeout`. Asks; does not trust memory.
    pub async fn reachable(&self, timeout: Duration) -> bool {
        self.refresh_by(Instant::now() + timeout).await.is_ok()
    }

    /// Opens the connections that streams in either direction need, so that a cutover does not wait for them. Best effort.
    pub async fn warm(&self, timeout: Duration) {
        let Some(snapshot) = self.cached_snapshot() else { return };
        let ask = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("kafka-standby"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let lanes = [Lane::Control, Lane::Fetch, Lane::Produce];
        let calls = snapshot.brokers.iter().flat_map(|b| lanes.map(|lane| (b.id, lane)));
        let calls = calls.map(|(broker, lane)| self.call(Target::Broker(broker), lane, &ask, timeout));
        for failed in join_all(calls).await.into_iter().filter_map(Result::err) {
            tracing::debug!(error = %failed, "a connection was not warmed");
        }
    }

    /// Fresh metadata where it can be had soon, else the last.
    async fn last_known(&self) -> Option<std::sync::Arc<super::Snapshot>> {
        match self.snapshot_by(Instant::now() + LOOK_UP).await {
            Ok(snapshot) => Some(snapshot),
            Err(_) => self.cached_snapshot(),
        }
    }
}
