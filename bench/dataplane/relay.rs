//! The floor: a bare TCP relay that knows nothing of Kafka, one task and one buffer for each direction.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Serves until the process is killed.
pub fn run(port: u16, to: SocketAddr, buffer: usize) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(async move {
                let Ok(broker) = TcpStream::connect(to).await else { return };
                let _ = (client.set_nodelay(true), broker.set_nodelay(true));
                let (client, broker) = (client.into_split(), broker.into_split());
                tokio::spawn(pump(client.0, broker.1, buffer));
                pump(broker.0, client.1, buffer).await;
            });
        }
    })
}

/// Errors end a direction; dropping its writing half tells the other side.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, buffer: usize) {
    let mut buffer = vec![0; buffer];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) if to.write_all(&buffer[..n]).await.is_err() => return,
            Ok(_) => {}
        }
    }
}
