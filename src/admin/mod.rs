//! The operators' side: the HTTP API over what the proxy can do ([`Control`]), its JSON ([`types`]), and the metrics.

pub mod control;
#[cfg(test)]
pub(crate) mod fake;
mod guard;
mod http;
pub mod metrics;
mod problem;
pub mod types;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

pub use control::{Answer, Control, ControlError, PROGRESS_CAPACITY};

use crate::config::Secret;

/// The exporter folds histogram samples away only when asked; without it they grow without bound.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("the admin API cannot listen on {addr}: {source}")]
    Bind { addr: SocketAddr, source: std::io::Error },
    #[error("the admin API stopped: {0}")]
    Serve(std::io::Error),
}

/// What the API needs besides its socket.
pub struct Admin {
    pub control: Arc<dyn Control>,
    pub metrics: PrometheusHandle,
    /// `None`: no token is asked for; the socket is then a loopback one.
    pub token: Option<Secret>,
    /// Whether the lag of each partition is a series of its own.
    pub per_partition: bool,
}

/// Takes the socket, so that a taken port shows before anything else starts.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(addr).await.map_err(|source| AdminError::Bind { addr, source })
}

/// Serves the API until `shutdown` ends; requests under way are finished first.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AdminError> {
    let metrics = admin.metrics.clone();
    let upkeep = tokio::spawn(async move {
        let mut timer = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            timer.tick().await;
            metrics.run_upkeep();
        }
    });
    let served = axum::serve(listener, http::router(admin)).with_graceful_shutdown(shutdown).await;
    upkeep.abort();
    served.map_err(AdminError::Serve)
}
