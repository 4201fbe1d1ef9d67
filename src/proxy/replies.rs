//! The reply half of a client connection: answers pending requests in order, from upstream or from the proxy itself.

use std::collections::VecDeque;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use super::connection::{End, write_frame};
use super::gate::{self, GateState};
use super::inbox::Inbox;
use super::pending::{self, Pending, Reply};
use super::{Context, commits, fetch, local, produce, shares, transactions};
use crate::admin::metrics::{self, Counted, Direction, RequestResult, Side};
use crate::catalog::View;
use crate::groups;
use crate::rewrite;
use crate::wire::header::{self, RequestHeader};
use crate::wire::{apis, frame, guard};

/// A fetch reply exceeds what was asked for by up to one batch.
const REPLY_SLACK: usize = 32 << 20;
const READ_CHUNK: usize = 64 << 10;
/// How long a cutover waits for a client that does not read its replies. It loses its connection, as it would at a broker that
/// restarts, rather than keep all others standing.
const STUCK: Duration = Duration::from_secs(1);

/// What the request half tells the reply half.
pub enum ToReplies {
    /// The upstream connection from which the replies to all later pendings come.
    Upstream {
        read: OwnedReadHalf,
        view: Arc<View>,
    },
    Pending(Pending),
    /// A cutover: answer what must be answered, cut the rest. `hard`: nothing is waited for.
    Quieten {
        hard: bool,
        done: oneshot::Sender<Cut>,
    },
}

/// How a connection came to rest.
pub enum Cut {
    /// These are to be sent again under the next view.
    Pending(Vec<Pending>),
    /// Something in flight can neither be answered nor sent again: the connection must close.
    Abort,
}

struct Upstream {
    read: OwnedReadHalf,
    buffer: BytesMut,
    view: Arc<View>,
    _open: Counted,
}

/// A reply that the broker or the proxy has given, up to the bytes for the client (head, body). What it still waits for
/// (the standby, a new topic on it) is inside.
type Leaving = Pin<Box<dyn Future<Output = Result<[Bytes; 2], End>> + Send>>;

struct Replies {
    context: Arc<Context>,
    client: OwnedWriteHalf,
    gate: watch::Receiver<GateState>,
    inbox: Arc<Inbox>,
    /// Not answered yet.
    queue: VecDeque<Pending>,
    /// Answered, not written yet; all before those in `queue`.
    leaving: VecDeque<Leaving>,
    upstream: Option<Upstream>,
    quieten: Option<(bool, oneshot::Sender<Cut>)>,
    /// The broker is gone: the end, once all that it answered is written.
    end: Option<End>,
}

impl Drop for Replies {
    /// What is still waited for will not be answered.
    fn drop(&mut self) {
        for pending in self.queue.iter().filter(|pending| !pending.is_answered()) {
            let key = pending.header.api_key;
            metrics::request(key, apis::row(key).map_or("other", |row| row.name), RequestResult::Failed);
        }
    }
}

/// Runs until the client or the broker is gone.
pub async fn run(context: Arc<Context>, client: OwnedWriteHalf, inbox: Arc<Inbox>) -> End {
    let gate = context.gate.watch();
    let (queue, leaving) = (VecDeque::new(), VecDeque::new());
    let mut replies =
        Replies { context, client, gate, inbox, queue, leaving, upstream: None, quieten: None, end: None };
    let inbox = replies.inbox.clone();
    loop {
        replies.look_in();
        replies.try_quieten();
        if let Some(end) = replies.end.take_if(|_| replies.leaving.is_empty()) {
            return end;
        }
        let handled = tokio::select! {
            biased;
            () = inbox.woken() => Ok(()),
            out = front(&mut replies.leaving), if !replies.leaving.is_empty() => match out {
                Ok([head, body]) => {
                    inbox.make_room(1);
                    replies.write(&[&head, &body]).await
                }
                Err(end) => Err(end),
            },
            reply = next_reply(&mut replies.upstream, &replies.context), if replies.upstream.is_some() => match reply {
                Ok(frame) => replies.answer(frame),
                Err(end) => {
                    replies.lost(end);
                    Ok(())
                }
            },
        };
        if let Err(end) = handled {
            return end;
        }
    }
}

/// The next reply to write. Cancel-safe: it is taken out only when it is ready.
async fn front(leaving: &mut VecDeque<Leaving>) -> Result<[Bytes; 2], End> {
    let Some(first) = leaving.front_mut() else { return std::future::pending().await };
    let out = first.as_mut().await;
    leaving.pop_front();
    out
}

/// Reads the next frame from upstream. Cancel-safe: what was read stays in the buffer.
async fn next_reply(upstream: &mut Option<Upstream>, context: &Context) -> Result<BytesMut, End> {
    let Some(up) = upstream else { return std::future::pending().await };
    loop {
        let frame = frame::next_frame_mut(&mut up.buffer, context.config.limits.max_frame as usize + REPLY_SLACK);
        if let Some(frame) = frame.map_err(|e| End::Frame(format!("from the broker: {e}")))? {
            return Ok(frame);
        }
        up.buffer.reserve(READ_CHUNK);
        match up.read.read_buf(&mut up.buffer).await {
            Ok(0) => return Err(End::Upstream),
            Ok(n) => metrics::bytes(Direction::ClusterIn).increment(n as u64),
            Err(e) => return Err(End::UpstreamIo(e)),
        }
    }
}

impl Replies {
    /// Takes what the request half tells.
    fn look_in(&mut self) {
        let Self { inbox, upstream, queue, quieten, .. } = self;
        inbox.take(|message| match message {
            ToReplies::Upstream { read, view } => {
                let open = Counted::connection(Side::Cluster);
                *upstream = Some(Upstream { read, buffer: BytesMut::new(), view, _open: open });
            }
            ToReplies::Pending(pending) => queue.push_back(pending),
            ToReplies::Quieten { hard, done } => *quieten = Some((hard, done)),
        });
        self.take_answered();
    }

    /// Takes what the proxy answers itself, as far as it is its turn.
    fn take_answered(&mut self) {
        while self.queue.front().is_some_and(Pending::is_answered) {
            let Some(Pending { header, reply, .. }) = self.queue.pop_front() else { break };
            match reply {
                Reply::Local(frame) => self.leaving.push_back(Box::pin(ready(Ok([frame, Bytes::new()])))),
                Reply::Produce(produced) => {
                    let arrived = produce::answered(&self.context, &produced);
                    let context = self.context.clone();
                    self.leaving.push_back(Box::pin(async move {
                        let body = produce::settle(&context, arrived).await;
                        Ok([head(&header), body.map_err(|reason| bad(header.api_key, &reason))?])
                    }));
                }
                _ => {}
            }
        }
    }

    /// Comes to rest if all that is left may be cut.
    fn try_quieten(&mut self) {
        let Some((hard, _)) = &self.quieten else { return };
        let cuttable = self.queue.iter().all(Pending::can_be_cut);
        let soon = self.queue.iter().any(Pending::is_answered_at_once);
        if !self.leaving.is_empty() || ((!cuttable || soon) && !hard) {
            return;
        }
        self.upstream = None;
        if let Some((_, done)) = self.quieten.take() {
            self.inbox.make_room(self.queue.len());
            let pending = self.queue.drain(..).collect();
            let _ = done.send(if cuttable { Cut::Pending(pending) } else { Cut::Abort });
        }
    }

    /// The broker is gone: what may be asked again is kept if a cutover is under way, else the client sees it as it would
    /// see the broker's end.
    fn lost(&mut self, end: End) {
        self.upstream = None;
        if !self.queue.iter().all(Pending::can_be_cut) || self.quieten.is_none() {
            self.end = Some(end);
        }
    }

    /// Handles the reply to the oldest pending request. That is left in the inbox before the request is sent: it is here when
    /// the reply is.
    fn answer(&mut self, mut frame: BytesMut) -> Result<(), End> {
        self.look_in();
        let (Some(pending), Some(upstream)) = (self.queue.pop_front(), &self.upstream) else {
            return Err(End::Frame("the broker answered what was not asked".into()));
        };
        let view = upstream.view.clone();
        let (key, version) = (pending.header.api_key, pending.header.api_version);
        let bad = |reason: String| bad(key, &reason);
        match header::response_correlation_id(&frame) {
            Ok(id) if id == pending.header.correlation_id => {}
            Ok(id) => return Err(bad(format!("correlation id {id} instead of {}", pending.header.correlation_id))),
            Err(e) => return Err(bad(e.to_string())),
        }
        if matches!(pending.reply, Reply::Forward) {
            self.leaving.push_back(Box::pin(ready(Ok([frame.freeze(), Bytes::new()]))));
            return Ok(());
        }
        let sent = if let Reply::Join(sent) = pending.reply { sent } else { version };
        let offset = header::response_body_offset(key, sent, &frame).map_err(|e| bad(e.to_string()))?;
        if matches!(pending.reply, Reply::Fetch { plain: true })
            && frame.get_mut(offset..).is_some_and(|body| fetch::patched(&view, version, body))
        {
            self.leaving.push_back(Box::pin(ready(Ok([frame.freeze(), Bytes::new()]))));
            return Ok(());
        }
        let frame = frame.freeze();
        let body = frame.slice(offset.min(frame.len())..);
        guard::check(guard::Kind::Response, key, sent, &body).map_err(|e| bad(e.to_string()))?;
        let started = Instant::now();
        let request = pending.body();
        let answer = match pending.reply {
            Reply::Produce(produced) => {
                Answer::Produce(produce::arrived(&self.context, &view, &produced, &body).map_err(bad)?)
            }
            Reply::Fetch { .. } => Answer::Fetch(body),
            Reply::Transaction(asked) => Answer::Transaction(asked, body),
            Reply::Join(sent) => Answer::Join(sent, body),
            Reply::Share(asked) => Answer::Share(asked, body),
            _ => Answer::Other(body),
        };
        let asked = Asked { header: pending.header, request, view, started };
        self.leaving.push_back(Box::pin(leave(self.context.clone(), asked, answer)));
        Ok(())
    }

    /// Writes to the client; at a cutover only as long as it reads.
    async fn write(&mut self, parts: &[&Bytes]) -> Result<(), End> {
        metrics::bytes(Direction::ClientOut).increment(parts.iter().map(|p| p.len() as u64).sum());
        tokio::select! {
            biased;
            written = write_frame(&mut self.client, parts) => written.map_err(End::ClientIo),
            () = gate::held_for(&mut self.gate, STUCK) => Err(End::Stuck),
        }
    }
}

/// A broker's reply.
enum Answer {
    Produce(produce::Arrived),
    Fetch(Bytes),
    /// To a JoinGroup sent in this version.
    Join(i16, Bytes),
    Transaction(Box<transactions::Asked>, Bytes),
    Share(Box<shares::Asked>, Bytes),
    Other(Bytes),
}

/// What a reply answers.
struct Asked {
    header: RequestHeader,
    /// The request's body, as the client sent it.
    request: Bytes,
    view: Arc<View>,
    /// When the reply came.
    started: Instant,
}

/// Turns a broker's reply into the client's; waits for what must be true before the client sees it.
async fn leave(context: Arc<Context>, asked: Asked, answer: Answer) -> Result<[Bytes; 2], End> {
    let Asked { header, request, view, started } = asked;
    let (key, version) = (header.api_key, header.api_version);
    let out = match answer {
        Answer::Produce(arrived) => produce::settle(&context, arrived).await,
        Answer::Fetch(body) => fetch::reply(&context, &view, version, &request, &body).await,
        Answer::Join(sent, body) => groups::join_reply(&request, &body, sent, version),
        Answer::Transaction(asked, body) => transactions::reply(&context, &view, *asked, version, &body).await,
        Answer::Share(asked, body) => shares::reply(&context, &view, *asked, &header, &request, &body).await,
        Answer::Other(body) => rewrite::response(key, version, &request, &body, &*view).map_err(|e| e.to_string()),
    };
    let out = out.map_err(|reason| bad(key, &reason))?;
    let out = context.heartbeats.adjust_reply(&view, &header, &request, out);
    let mut out = context.rehome.adjust_reply(&view, &header, &request, out);
    if key == pending::OFFSET_COMMIT {
        let settled = commits::settle(&context, &view, version, &request, out, started.into()).await;
        out = settled.map_err(|reason| bad(key, &reason))?;
    }
    observe(&context, &view, &header, &request, &out).await;
    metrics::api(key, name_of(key)).seconds.record(started.elapsed());
    Ok([head(&header), out])
}

/// Lets the rest of the house know what a reply says, before the client does.
async fn observe(context: &Context, view: &Arc<View>, header: &RequestHeader, request: &Bytes, reply: &Bytes) {
    match header.api_key {
        pending::JOIN_GROUP | pending::HEARTBEAT | pending::SYNC_GROUP | pending::LEAVE_GROUP => {
            context.rehome.reply(view, header, request, reply);
        }
        pending::CREATE_TOPICS | pending::CREATE_PARTITIONS | pending::DELETE_TOPICS => {
            context.house.topics_changed().await;
        }
        pending::LIST_OFFSETS => local::expose_ends(view, header.api_version, reply),
        pending::ALTER_SHARE_GROUP_OFFSETS | pending::DELETE_SHARE_GROUP_OFFSETS => {
            if let Some(group) = local::share_group(header, request) {
                context.house.share_group_moved(&group);
            }
        }
        pending::DELETE_RECORDS => {
            for (topic, partition, logical) in local::deleted_records(header.api_version, reply) {
                context.house.records_deleted(&topic, partition, logical);
            }
        }
        _ => {}
    }
}

/// The header of a reply.
fn head(request: &RequestHeader) -> Bytes {
    let mut head = BytesMut::with_capacity(8);
    header::encode_response_header(&mut head, request.api_key, request.api_version, request.correlation_id);
    head.freeze()
}

fn name_of(key: i16) -> &'static str {
    apis::row(key).map_or("unknown", |row| row.name)
}

fn bad(key: i16, reason: &str) -> End {
    End::Request { api: name_of(key), reason: format!("reply: {reason}") }
}
