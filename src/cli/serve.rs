//! `serve`: the start-up sequence, the signals, and the bounded drain.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::{Exit, Failure, ServeArgs, log};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Control, metrics};
use crate::config::Config;
use crate::coordinator::{Coordinator, Operator};
use crate::proxy::threads;

/// Longer than any request that a cutover may hold by default; after it the process ends with what is still open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(35);

/// Reads the configuration, sets up logs and runtime, and runs the proxy until a signal ends it.
pub fn serve(args: &ServeArgs) -> Result<Exit, Failure> {
    let config = configured(args)?;
    log::init(args.log_format)?;
    // As many as there are for clients. With more than there are cores for, each event that one of them takes wakes another one to
    // look whether there is more to do, which costs more than most events.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads::count()).enable_all().build()?;
    let ended = runtime.block_on(until_signalled(|shutdown| run(config, shutdown)));
    // Tasks that outlive the drain are not waited for.
    runtime.shutdown_background();
    ended.map_err(|error| Failure::new(Exit::Failed, format!("{error:#}")))?;
    Ok(Exit::Done)
}

fn configured(args: &ServeArgs) -> Result<Config, Failure> {
    let usage = |error: &dyn ToString| Failure::new(Exit::Usage, error.to_string());
    let mut config = Config::load(&args.config).map_err(|error| usage(&error))?;
    if let Some(name) = &args.assume_active {
        let missing = || usage(&format!("--assume-active: `{name}` is neither the active nor the standby cluster"));
        config.assume_active = Some(config.cluster_named(name).ok_or_else(missing)?);
    }
    Ok(config)
}

/// Runs the proxy until `shutdown` ends and what is open has drained.
pub async fn run(config: Config, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let recorder = metrics::install()?;
    let api = admin::bind(config.admin.bind).await?;
    let stop = CancellationToken::new();
    let (token, per_partition) = (config.admin.token.clone(), config.metrics.per_partition);
    let coordinator = Coordinator::new(Arc::new(config), stop.clone());
    let control: Arc<dyn Control> = Arc::new(Operator(coordinator.clone()));
    reload_on_hangup(control.clone())?;
    let admin = admin::Admin { control, metrics: recorder, token, per_partition };
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(admin::serve(api, admin, async { drop(ended.await) }));
    let starting = coordinator.start();
    tokio::pin!(shutdown);
    let superseded = coordinator.superseded();
    tokio::pin!(superseded);
    let ended = tokio::select! {
        started = starting => {
            started.map_err(anyhow::Error::msg)?;
            tokio::select! {
                () = &mut shutdown => Ok(()),
                superseded = &mut superseded => Err(superseded),
            }
        }
        () = &mut shutdown => Ok(()),
        superseded = &mut superseded => Err(superseded),
    };
    if ended.is_ok() {
        coordinator.drain().await;
    }
    drop(end);
    serving.await??;
    Ok(ended?)
}

/// Reads the configuration again at each SIGHUP, as `POST /v1/reload` does.
pub fn reload_on_hangup(control: Arc<dyn Control>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match control.reload().await {
                Ok(report) => {
                    tracing::info!(changed = ?report.changed, needs_restart = ?report.needs_restart, "reloaded")
                }
                Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
            }
        }
    });
    Ok(())
}

/// Gives `run` a future that ends at SIGTERM or SIGINT, and from then on [`DRAIN_TIMEOUT`]; a second signal ends at once.
async fn until_signalled<F, R>(run: F) -> anyhow::Result<()>
where
    F: FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let (tell, told) = oneshot::channel();
    let deadline = async {
        let first = signalled().await;
        tracing::info!(signal = first, "draining");
        // The proxy may have ended by itself.
        let _ = tell.send(());
        let again = tokio::time::timeout(DRAIN_TIMEOUT, signalled()).await;
        match again {
            Ok(second) => anyhow::anyhow!("ended at once by a second signal, {second}"),
            Err(_) => anyhow::anyhow!("the drain took longer than {} s", DRAIN_TIMEOUT.as_secs()),
        }
    };
    let shutdown = Box::pin(async move {
        let _ = told.await;
    });
    tokio::select! {
        ended = run(shutdown) => ended,
        late = deadline => Err(late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::LogFormat;
    use crate::model::ClusterIx;

    #[test]
    fn assume_active_names_a_cluster() {
        let args = |name: &str| ServeArgs {
            config: concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml").into(),
            log_format: LogFormat::Text,
            assume_active: Some(name.to_owned()),
        };
        assert_eq!(configured(&args("west")).unwrap().assume_active, Some(ClusterIx::SECOND));
        assert_eq!(configured(&args("north")).unwrap_err().exit, Exit::Usage);
    }

    /// A proxy that ends by itself ends the wait, with its own result.
    #[tokio::test]
    async fn an_end_without_a_signal() {
        until_signalled(|_| async { Ok(()) }).await.unwrap();
        let error = until_signalled(|_| async { anyhow::bail!("port taken") }).await.unwrap_err();
        assert_eq!(error.to_string(), "port taken");
    }

    /// Once the handler is in place (it is when `run` begins) the signal no longer ends the process.
    #[tokio::test]
    async fn a_signal_starts_the_drain() {
        let drained = until_signalled(|shutdown| async move {
            let pid = std::process::id().to_string();
            std::process::Command::new("kill").args(["-TERM", &pid]).status()?;
            shutdown.await;
            Ok(())
        });
        tokio::time::timeout(Duration::from_secs(10), drained).await.unwrap().unwrap();
    }
}
