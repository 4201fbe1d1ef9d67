//! The way from a client connection to the broker behind its virtual broker.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::{Connection, End, gone};
use crate::catalog::View;
use crate::proxy::{Entrance, gate};

/// Pause between attempts to reach a cluster of which no broker answers.
const RETRY: Duration = Duration::from_millis(100);
/// As long as Kafka's clients wait at first (`socket.connection.setup.timeout.ms`): a broker that many connect to at once drops
/// what its backlog cannot hold, and TCP tries again after 1 s and 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a cluster gets to show that some broker of it is alive.
const ALIVE: Duration = Duration::from_secs(2);

impl Connection {
    /// Connects to the broker behind this entrance. While no broker of the cluster answers, the client is kept waiting (a
    /// failover will move it); if only this broker is gone, the connection closes as the broker's would.
    /// Nothing of the request has been sent: when the gate closes it is kept for the next cluster, however long the lookup of
    /// one that is lost would take.
    pub(super) async fn connect(&self, view: &Arc<View>) -> Result<TcpStream, End> {
        let mut watch = self.context.gate.watch();
        tokio::select! {
            connected = self.reach(view) => connected,
            _ = gate::closed(&mut watch, view.generation) => Err(End::Gate),
            end = gone(self.client.socket()) => Err(end),
        }
    }

    async fn reach(&self, view: &Arc<View>) -> Result<TcpStream, End> {
        loop {
            for address in &self.addresses(view).await? {
                match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => {
                        let _ = stream.set_nodelay(true);
                        return Ok(stream);
                    }
                    Ok(Err(error)) => tracing::debug!(address, %error, peer = %self.peer, "broker not reached"),
                    Err(_) => tracing::debug!(address, peer = %self.peer, "broker not reached in time"),
                }
            }
            if matches!(self.entrance, Entrance::Broker(_)) && self.any_alive(view).await {
                return Err(End::Upstream);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn addresses(&self, view: &View) -> Result<Vec<String>, End> {
        let Some(cluster) = &self.context.clusters[view.active.ix()] else { return Ok(Vec::new()) };
        match self.entrance {
            Entrance::Bootstrap => Ok(cluster.addresses().await),
            Entrance::Broker(id) => {
                let real = view.brokers.to_real(id).ok_or(End::NoBroker(id))?;
                Ok(cluster.address(real).await.into_iter().collect())
            }
        }
    }

    async fn any_alive(&self, view: &View) -> bool {
        match &self.context.clusters[view.active.ix()] {
            Some(cluster) => cluster.reachable(ALIVE).await,
            None => false,
        }
    }
}
