//! One multiplexed connection to one broker: requests are pipelined, replies are matched in order.
//!
//! One task owns the socket. A failure of any kind (socket, frame, correlation id, a call's timeout) ends the
//! connection: it is recorded once, every waiter gets it as the cause, and later calls are refused with it. There is no
//! half-broken state.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use ::metrics::Histogram;
use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Message, Request, StrBytes, VersionRange};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::error::{Kind, Place, UpstreamError, code};
use super::frames::Frames;
use super::parts::Parts;
use super::reply::{self, Head, ReplyError};
use crate::admin::metrics::{self, Counted, Direction, Side};

/// Requests written or queued on one connection; more wait for a reply. A broker serves a connection's requests one
/// at a time, so a longer queue would only hold memory.
const MAX_IN_FLIGHT: usize = 256;
/// Reported in ApiVersions (KIP-511), visible in the brokers' connection metrics.
const SOFTWARE_NAME: &str = "kafka-standby";

/// What a connection needs to know besides the address.
#[derive(Debug, Clone)]
pub(super) struct ConnOptions {
    pub client_id: StrBytes,
    /// Bound for name look-up, TCP connect and ApiVersions together.
    pub connect_timeout: Duration,
    /// Largest reply accepted, in bytes, without its length prefix.
    pub max_frame: usize,
}

/// A live or failed connection. Dropping it closes the socket.
pub(super) struct Connection {
    place: Place,
    client_id: StrBytes,
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
    permits: Arc<Semaphore>,
    next_correlation_id: AtomicI32,
    task: AbortHandle,
    api_versions: ApiVersionsResponse,
    ranges: HashMap<i16, VersionRange>,
    timings: Mutex<Vec<(i16, Histogram)>>,
}

/// A request on its way to the socket.
struct Job {
    frame: Parts,
    waiter: Waiter,
}

/// Who waits for a reply. The permit bounds what one connection has in flight, cancelled calls included.
struct Waiter {
    correlation_id: i32,
    reply: oneshot::Sender<Result<Bytes, Kind>>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Waiters in the order of their requests on the wire.
    pending: VecDeque<Waiter>,
    failure: Option<Arc<str>>,
}

impl Shared {
    /// Records the first failure and wakes everyone whose request is on the wire.
    fn fail(&self, cause: Arc<str>) {
        let waiters = {
            let mut state = self.state.lock();
            state.failure.get_or_insert_with(|| cause.clone());
            std::mem::take(&mut state.pending)
        };
        for waiter in waiters {
            let _ = waiter.reply.send(Err(Kind::Closed(cause.clone())));
        }
    }

    /// Queues a waiter just before its frame is written; false once the connection has failed.
    fn expect(&self, waiter: Waiter) -> bool {
        let mut state = self.state.lock();
        if state.failure.is_some() {
            return false;
        }
        state.pending.push_back(waiter);
        true
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.state.lock().failure.clone()
    }
}

impl Connection {
    /// Connects and learns the broker's versions.
    ///
    /// Errors: `Unreachable` for all that goes wrong before ApiVersions is answered.
    pub async fn open(place: Place, options: &ConnOptions) -> Result<Self, UpstreamError> {
        let failed = |why: String| UpstreamError::new("connect", &place, Kind::Unreachable(why.into()));
        let until = options.connect_timeout;
        let opening = async {
            let stream = TcpStream::connect(&*place.address).await.map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            let mut conn = Connection::start(place.clone(), stream, options);
            conn.api_versions = conn.learn_versions(until).await.map_err(|kind| kind.to_string())?;
            conn.ranges = version_ranges(&conn.api_versions);
            Ok(conn)
        };
        match tokio::time::timeout(until, opening).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(format!("no connection within {until:?}"))),
        }
    }

    fn start(place: Place, stream: TcpStream, options: &ConnOptions) -> Self {
        let shared = Arc::new(Shared::default());
        let (jobs, queue) = mpsc::unbounded_channel();
        let task = tokio::spawn(serve(stream, queue, shared.clone(), options.max_frame, place.clone()));
        Connection {
            place,
            client_id: options.client_id.clone(),
            shared,
            jobs,
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            next_correlation_id: AtomicI32::new(0),
            task: task.abort_handle(),
            api_versions: ApiVersionsResponse::default(),
            ranges: HashMap::new(),
            timings: Mutex::default(),
        }
    }

    /// What the broker answered to ApiVersions at connect.
    pub fn api_versions(&self) -> &ApiVersionsResponse {
        &self.api_versions
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.place.address
    }

    pub fn is_alive(&self) -> bool {
        self.shared.failure().is_none() && !self.jobs.is_closed()
    }

    /// Sends a request, which `encode` writes, at the highest version that broker, codec and `within` share, and waits for its
    /// reply, of which `read` reads the body in that version.
    ///
    /// Requests go out in the order in which these futures are first polled, unless more than `MAX_IN_FLIGHT` are under
    /// way. A call that is dropped leaves the
    /// connection usable. A call that times out ends it: the broker serves a connection in order, so whatever follows
    /// would wait for the same reply.
    pub async fn call_by<R: Request, T>(
        &self,
        within: VersionRange,
        timeout: Duration,
        encode: impl FnOnce(Head<'_>) -> Result<Parts, ReplyError>,
        read: impl FnOnce(i16, Bytes) -> Result<T, ReplyError>,
    ) -> Result<T, UpstreamError> {
        let what = api_name::<R>();
        let fail = |kind| UpstreamError::new(what, &self.place, kind);
        let version = self.pick::<R>(within).map_err(fail)?;
        let started = Instant::now();
        let frame = self.exchange::<R>(version, timeout, encode).await.map_err(fail)?;
        self.timing(R::KEY, what).record(started.elapsed());
        reply::body::<R>(frame, version).and_then(|body| read(version, body)).map_err(|e| {
            self.poison(&format!("{what}: {e}"));
            fail(protocol(&e))
        })
    }

    /// As [`Connection::call_by`], for a request that the codec writes and a reply that it reads.
    pub async fn call<R: Request>(
        &self,
        req: &R,
        within: VersionRange,
        timeout: Duration,
    ) -> Result<R::Response, UpstreamError> {
        self.call_by::<R, _>(within, timeout, |head| head.encode(req), reply::read::<R>).await
    }

    fn pick<R: Request>(&self, within: VersionRange) -> Result<i16, Kind> {
        let ours = R::VERSIONS.intersect(&<R::Response as Message>::VERSIONS).intersect(&within);
        let Some(theirs) = self.ranges.get(&R::KEY) else {
            return Err(Kind::Unsupported(format!("the broker does not have api {}", R::KEY).into()));
        };
        let common = ours.intersect(theirs);
        if common.is_empty() {
            return Err(Kind::Unsupported(format!("the broker has versions {theirs}, this client {ours}").into()));
        }
        Ok(common.max)
    }

    /// Where the time that the broker took is counted; to look it up each time costs more than to count.
    fn timing(&self, key: i16, what: &'static str) -> Histogram {
        let mut timings = self.timings.lock();
        if let Some((_, timing)) = timings.iter().find(|(known, _)| *known == key) {
            return timing.clone();
        }
        let timing = metrics::upstream_seconds(&self.place.cluster, what);
        timings.push((key, timing.clone()));
        timing
    }

    /// One request, one reply frame. `Unreachable` if the request never reached the socket.
    async fn exchange<R: Request>(
        &self,
        version: i16,
        timeout: Duration,
        encode: impl FnOnce(Head<'_>) -> Result<Parts, ReplyError>,
    ) -> Result<Bytes, Kind> {
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let header_version = R::header_version(version);
        let head = Head { key: R::KEY, version, header_version, correlation_id, client_id: &self.client_id };
        let frame = encode(head).map_err(|e| protocol(&e))?;
        let (sender, receiver) = oneshot::channel();
        let wait = async {
            // Without a wait where possible: tokio may put off a wait that is over already, and the order would be lost.
            let permit = match self.permits.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => self.permits.clone().acquire_owned().await.map_err(|_| self.refused())?,
            };
            let waiter = Waiter { correlation_id, reply: sender, _permit: permit };
            self.jobs.send(Job { frame, waiter }).map_err(|_| self.refused())?;
            // The sender is dropped without a word only while its job still waits to be written.
            receiver.await.unwrap_or_else(|_| Err(self.refused()))
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(result) => result,
            Err(_) => {
                self.poison(&format!("{} had no reply within {timeout:?}", api_name::<R>()));
                Err(Kind::Timeout(timeout))
            }
        }
    }

    fn refused(&self) -> Kind {
        Kind::Unreachable(self.shared.failure().unwrap_or_else(|| Arc::from("connection closed")))
    }

    fn poison(&self, cause: &str) {
        tracing::debug!(cluster = %self.place.cluster, broker = self.place.broker, cause, "connection given up");
        self.shared.fail(Arc::from(cause));
        self.task.abort();
    }

    /// ApiVersions at our highest version; a broker that lacks it says so in version 0 with its own range (KIP-511).
    async fn learn_versions(&self, timeout: Duration) -> Result<ApiVersionsResponse, Kind> {
        let req = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(SOFTWARE_NAME))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let highest = ApiVersionsRequest::VERSIONS.max;
        let frame = self.exchange::<ApiVersionsRequest>(highest, timeout, |head| head.encode(&req)).await?;
        let refused = frame.get(4..6) == Some(&code::UNSUPPORTED_VERSION.to_be_bytes()[..]);
        if !refused {
            return accept_versions(frame, highest);
        }
        let answer = reply::decode::<ApiVersionsRequest>(frame, 0).map_err(|e| protocol(&e))?;
        let theirs = version_ranges(&answer).get(&ApiVersionsRequest::KEY).map_or(0, |range| range.max);
        let version = theirs.clamp(0, highest - 1);
        let req = if version < 3 { ApiVersionsRequest::default() } else { req };
        let frame = self.exchange::<ApiVersionsRequest>(version, timeout, |head| head.encode(&req)).await?;
        accept_versions(frame, version)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn accept_versions(frame: Bytes, version: i16) -> Result<ApiVersionsResponse, Kind> {
    let reply = reply::decode::<ApiVersionsRequest>(frame, version).map_err(|e| protocol(&e))?;
    match reply.error_code {
        code::NONE => Ok(reply),
        code => Err(Kind::Kafka(super::KafkaError::new(code, None))),
    }
}

fn version_ranges(reply: &ApiVersionsResponse) -> HashMap<i16, VersionRange> {
    reply.api_keys.iter().map(|k| (k.api_key, VersionRange { min: k.min_version, max: k.max_version })).collect()
}

fn protocol(e: &ReplyError) -> Kind {
    Kind::Protocol(e.to_string().into())
}

/// `Fetch` for `FetchRequest`: what errors and metrics call a request.
fn api_name<R>() -> &'static str {
    let path = std::any::type_name::<R>();
    let name = path.rsplit("::").next().unwrap_or(path);
    name.strip_suffix("Request").unwrap_or(name)
}

/// Owns the socket until something fails, then tells every waiter.
async fn serve(
    stream: TcpStream,
    mut queue: mpsc::UnboundedReceiver<Job>,
    shared: Arc<Shared>,
    max_frame: usize,
    place: Place,
) {
    let _open = Counted::connection(Side::Cluster);
    let (read, write) = stream.into_split();
    let cause = tokio::select! {
        cause = read_replies(read, &shared, max_frame) => cause,
        cause = write_requests(write, &mut queue, &shared) => cause,
    };
    tracing::debug!(cluster = %place.cluster, broker = place.broker, address = %place.address, cause, "connection closed");
    // Before the queue is dropped: those still in it shall find the cause.
    shared.fail(cause.into());
}

async fn write_requests(
    mut socket: OwnedWriteHalf,
    queue: &mut mpsc::UnboundedReceiver<Job>,
    shared: &Shared,
) -> String {
    while let Some(Job { mut frame, waiter }) = queue.recv().await {
        if waiter.reply.is_closed() {
            continue; // given up before it was sent: nobody would read the answer
        }
        if !shared.expect(waiter) {
            break;
        }
        metrics::bytes(Direction::ClusterOut).increment(frame.remaining() as u64);
        if let Err(e) = socket.write_all_buf(&mut frame).await {
            return format!("write: {e}");
        }
    }
    "closed by this side".to_owned()
}

async fn read_replies(socket: OwnedReadHalf, shared: &Shared, max_frame: usize) -> String {
    let mut frames = Frames::new(socket);
    loop {
        let delivered = frames.next(max_frame).await.and_then(|frame| deliver(shared, frame));
        if let Err(why) = delivered {
            return why;
        }
    }
}

fn deliver(shared: &Shared, frame: Bytes) -> Result<(), String> {
    let Some(waiter) = shared.state.lock().pending.pop_front() else {
        return Err("a reply that nothing asked for".to_owned());
    };
    if let Err(e) = reply::check_correlation(&frame, waiter.correlation_id) {
        let _ = waiter.reply.send(Err(protocol(&e)));
        return Err(e.to_string());
    }
    let _ = waiter.reply.send(Ok(frame)); // the caller may have given up: the reply is dropped
    Ok(())
}
