//! A broker that misbehaves on request: an in-process TCP server whose every answer a test chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came in; enough to choose an answer.
pub struct Asked {
    pub key: i16,
    pub version: i16,
    pub correlation_id: i32,
    /// How many requests other than ApiVersions this broker had before.
    pub nth: usize,
    /// The whole request, header included.
    pub request: Bytes,
}

pub enum Answer {
    /// Bytes as they are, length prefix included.
    Raw(Bytes),
    /// Bytes as they are, then the connection is closed.
    RawThenClose(Bytes),
    /// No answer, the connection stays open.
    Silence,
}

impl Asked {
    /// What is asked.
    pub fn body<R: Request>(&self) -> R {
        let mut request = self.request.clone();
        RequestHeader::decode(&mut request, R::header_version(self.version)).unwrap();
        R::decode(&mut request, self.version).unwrap()
    }

    /// A proper answer.
    pub fn reply<M: Encodable + HeaderVersion>(&self, message: &M) -> Answer {
        Answer::Raw(frame(self.correlation_id, message, self.version))
    }
}

/// A whole reply frame.
pub fn frame<M: Encodable + HeaderVersion>(correlation_id: i32, message: &M, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(correlation_id);
    if M::header_version(version) > 0 {
        body.put_u8(0);
    }
    message.encode(&mut body, version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.extend_from_slice(&body);
    frame.freeze()
}

/// All APIs that a test uses, at the given range.
pub fn versions(keys: &[(i16, i16, i16)]) -> ApiVersionsResponse {
    let keys = keys
        .iter()
        .map(|&(key, min, max)| ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max));
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

type Script = Arc<dyn Fn(Asked) -> Answer + Send + Sync>;

pub struct FakeBroker {
    pub address: String,
    pub requests: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeBroker {
    /// Answers ApiVersions with `versions` and all else by `script`, which learns the broker's port.
    pub async fn start(
        versions: ApiVersionsResponse,
        script: impl Fn(u16, Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let highest = 4;
        Self::start_raw(move |port, asked| {
            if asked.key == 18 && asked.version <= highest { asked.reply(&versions) } else { script(port, asked) }
        })
        .await
    }

    /// Answers everything by `script`, ApiVersions too.
    pub async fn start_raw(script: impl Fn(u16, Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script: Script = Arc::new(move |asked| script(port, asked));
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, script.clone(), seen.clone()));
            }
        });
        FakeBroker { address: format!("127.0.0.1:{port}"), requests, task }
    }
}

async fn serve(mut stream: TcpStream, script: Script, requests: Arc<AtomicUsize>) -> std::io::Result<()> {
    loop {
        let size = stream.read_i32().await?;
        let mut request = vec![0; usize::try_from(size).unwrap()];
        stream.read_exact(&mut request).await?;
        let at = |i: usize| i16::from_be_bytes([request[i], request[i + 1]]);
        let correlation_id = i32::from_be_bytes(request[4..8].try_into().unwrap());
        let nth = if at(0) == 18 { 0 } else { requests.fetch_add(1, Ordering::SeqCst) };
        let (key, version, request) = (at(0), at(2), request.into());
        match script(Asked { key, version, correlation_id, nth, request }) {
            Answer::Raw(bytes) => stream.write_all(&bytes).await?,
            Answer::RawThenClose(bytes) => {
                stream.write_all(&bytes).await?;
                return Ok(());
            }
            Answer::Silence => {}
        }
    }
}
