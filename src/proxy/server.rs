//! Listeners: the bootstrap address and one port per virtual broker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::threads::Threads;
use super::{Context, Entrance, connection};
use crate::admin::metrics::{self, Side};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Accepts clients until it is stopped.
pub struct Server {
    context: Arc<Context>,
    brokers: Mutex<BTreeMap<i32, SocketAddr>>,
    /// Started with the first listener.
    threads: Mutex<Option<Arc<Threads>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    pub fn new(context: Arc<Context>, stop: CancellationToken) -> Self {
        Server { context, brokers: Mutex::default(), threads: Mutex::default(), tasks: TaskTracker::new(), stop }
    }

    /// Opens the bootstrap listener.
    pub fn listen_bootstrap(&self) -> std::io::Result<()> {
        self.listen(self.context.config.listener.bind, Entrance::Bootstrap)
    }

    /// Opens the ports of virtual brokers 0 to `count - 1`; those that are open stay.
    pub fn listen_brokers(&self, count: usize) -> std::io::Result<()> {
        let listener = &self.context.config.listener;
        for id in 0..count as i32 {
            if self.brokers.lock().contains_key(&id) {
                continue;
            }
            let address = listener.brokers.nth(id as usize).ok_or_else(|| {
                std::io::Error::other(format!("virtual broker {id} has no port: listener.brokers is too small a range"))
            })?;
            self.listen(address, Entrance::Broker(id))?;
            self.brokers.lock().insert(id, address);
        }
        Ok(())
    }

    fn listen(&self, address: SocketAddr, entrance: Entrance) -> std::io::Result<()> {
        let named = |e: std::io::Error| std::io::Error::new(e.kind(), format!("cannot listen on {address}: {e}"));
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(named)?;
        // A restarted proxy must get its ports back although connections of its predecessor linger.
        socket.set_reuse_address(true).map_err(named)?;
        socket.set_nonblocking(true).map_err(named)?;
        socket.bind(&address.into()).map_err(named)?;
        socket.listen(BACKLOG).map_err(named)?;
        let listener = TcpListener::from_std(socket.into()).map_err(named)?;
        tracing::info!(%address, ?entrance, "listening");
        let (context, stop, tasks) = (self.context.clone(), self.stop.clone(), self.tasks.clone());
        let threads = self.threads()?;
        self.tasks.spawn(async move {
            tokio::select! {
                () = accept(context, listener, entrance, (tasks, threads), stop.clone()) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(())
    }

    fn threads(&self) -> std::io::Result<Arc<Threads>> {
        let mut threads = self.threads.lock();
        match &*threads {
            Some(threads) => Ok(threads.clone()),
            None => Ok(threads.insert(Arc::new(Threads::start()?)).clone()),
        }
    }

    /// Waits until all connections have ended after a stop.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept(
    context: Arc<Context>,
    listener: TcpListener,
    entrance: Entrance,
    (tasks, threads): (TaskTracker, Arc<Threads>),
    stop: CancellationToken,
) {
    loop {
        let accepted = listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: let some connections end first.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let limit = context.config.limits.max_connections as usize;
        if context.connections.fetch_add(1, Ordering::Relaxed) >= limit {
            context.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%peer, limit, "connection refused: limits.max_connections is reached");
            metrics::disconnect(Side::Client, "limit");
            continue;
        }
        let _ = stream.set_nodelay(true);
        let (context, stop) = (context.clone(), stop.clone());
        let serve = async move {
            metrics::connections(Side::Client).increment(1.0);
            match TcpStream::from_std(stream) {
                Ok(stream) => tokio::select! {
                    () = connection::serve(context.clone(), stream, entrance, peer) => {}
                    () = stop.cancelled() => {}
                },
                Err(error) => tracing::warn!(%peer, %error, "connection refused"),
            }
            metrics::connections(Side::Client).decrement(1.0);
            context.connections.fetch_sub(1, Ordering::Relaxed);
        };
        match threads.next() {
            Some(thread) => tasks.spawn_on(serve, thread),
            None => tasks.spawn(serve),
        };
    }
}
