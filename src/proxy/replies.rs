//! The reply half of a client connection: answers pending requests in order, from upstream or from the proxy itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::connection::{End, write_frame};
use super::pending::{self, Pending, Reply};
use super::{Context, fetch, local, produce};
use crate::admin::metrics::{self, Counted, Direction, RequestResult, Side};
use crate::catalog::View;
use crate::groups;
use crate::rewrite;
use crate::wire::{apis, frame, guard, header};

/// A fetch reply exceeds what was asked for by up to one batch.
const REPLY_SLACK: usize = 32 << 20;
const READ_CHUNK: usize = 64 << 10;

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

struct Replies {
    context: Arc<Context>,
    client: OwnedWriteHalf,
    queue: VecDeque<Pending>,
    upstream: Option<Upstream>,
    quieten: Option<(bool, oneshot::Sender<Cut>)>,
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
pub async fn run(context: Arc<Context>, client: OwnedWriteHalf, mut inbox: mpsc::Receiver<ToReplies>) -> End {
    let mut replies = Replies { context, client, queue: VecDeque::new(), upstream: None, quieten: None };
    loop {
        if let Err(end) = replies.flush_local().await {
            return end;
        }
        replies.try_quieten();
        tokio::select! {
            biased;
            message = inbox.recv() => match message {
                None => return End::Client,
                Some(message) => replies.note(message),
            },
            reply = next_reply(&mut replies.upstream, &replies.context), if replies.upstream.is_some() => {
                let handled = match reply {
                    Ok(frame) => replies.answer_next(frame, &mut inbox).await,
                    Err(end) => replies.lost(end),
                };
                if let Err(end) = handled {
                    return end;
                }
            }
        }
    }
}

/// Reads the next frame from upstream. Cancel-safe: what was read stays in the buffer.
async fn next_reply(upstream: &mut Option<Upstream>, context: &Context) -> Result<Bytes, End> {
    let Some(up) = upstream else { return std::future::pending().await };
    loop {
        let frame = frame::next_frame(&mut up.buffer, context.config.limits.max_frame as usize + REPLY_SLACK);
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
    fn note(&mut self, message: ToReplies) {
        match message {
            ToReplies::Upstream { read, view } => {
                let open = Counted::connection(Side::Cluster);
                self.upstream = Some(Upstream { read, buffer: BytesMut::new(), view, _open: open });
            }
            ToReplies::Pending(pending) => self.queue.push_back(pending),
            ToReplies::Quieten { hard, done } => self.quieten = Some((hard, done)),
        }
    }

    /// Writes local answers as far as it is their turn.
    async fn flush_local(&mut self) -> Result<(), End> {
        while self.queue.front().is_some_and(Pending::is_answered) {
            let Some(pending) = self.queue.pop_front() else { break };
            match pending.reply {
                Reply::Local(frame) => self.write(&[&frame]).await?,
                Reply::Produce(context) => {
                    let body = produce::answered(&self.context, *context).await;
                    self.write_reply(&pending.header, body).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Comes to rest if all that is left may be cut.
    fn try_quieten(&mut self) {
        let Some((hard, _)) = &self.quieten else { return };
        let cuttable = self.queue.iter().all(Pending::can_be_cut);
        let soon = self.queue.iter().any(Pending::is_answered_at_once);
        if (!cuttable || soon) && !hard {
            return;
        }
        self.upstream = None;
        if let Some((_, done)) = self.quieten.take() {
            let pending = self.queue.drain(..).collect();
            let _ = done.send(if cuttable { Cut::Pending(pending) } else { Cut::Abort });
        }
    }

    /// The broker is gone: what may be asked again is kept if a cutover is under way, else the client sees it as it would
    /// see the broker's end.
    fn lost(&mut self, end: End) -> Result<(), End> {
        self.upstream = None;
        if self.queue.iter().all(Pending::can_be_cut) && self.quieten.is_some() { Ok(()) } else { Err(end) }
    }

    /// Handles a reply. The pending of a request is sent before the request is: it is here when the reply is, be it only
    /// since the inbox was last looked at.
    async fn answer_next(&mut self, frame: Bytes, inbox: &mut mpsc::Receiver<ToReplies>) -> Result<(), End> {
        if self.queue.is_empty() {
            while let Ok(message) = inbox.try_recv() {
                self.note(message);
            }
            self.flush_local().await?;
        }
        if self.queue.is_empty() {
            return Err(End::Frame("the broker answered what was not asked".into()));
        }
        self.answer(frame).await
    }

    /// Handles the reply to the oldest pending request.
    async fn answer(&mut self, frame: Bytes) -> Result<(), End> {
        let (Some(pending), Some(upstream)) = (self.queue.pop_front(), &self.upstream) else {
            return Err(End::Upstream);
        };
        let view = upstream.view.clone();
        let (key, version) = (pending.header.api_key, pending.header.api_version);
        let name = apis::row(key).map_or("unknown", |row| row.name);
        let bad = |reason: String| End::Request { api: name, reason: format!("reply: {reason}") };
        match header::response_correlation_id(&frame) {
            Ok(id) if id == pending.header.correlation_id => {}
            Ok(id) => return Err(bad(format!("correlation id {id} instead of {}", pending.header.correlation_id))),
            Err(e) => return Err(bad(e.to_string())),
        }
        if matches!(pending.reply, Reply::Forward) {
            return self.write(&[&frame]).await;
        }
        let sent = if let Reply::Join(sent) = pending.reply { sent } else { version };
        let offset = header::response_body_offset(key, sent, &frame).map_err(|e| bad(e.to_string()))?;
        let body = frame.slice(offset.min(frame.len())..);
        guard::check(guard::Kind::Response, key, sent, &body).map_err(|e| bad(e.to_string()))?;
        let started = Instant::now();
        let request = pending.body();
        let out = match pending.reply {
            Reply::Produce(context) => produce::reply(&self.context, &view, *context, &body).await,
            Reply::Fetch => fetch::reply(&self.context, &view, version, &request, &body).await,
            Reply::Join(sent) => groups::join_reply(&request, &body, sent, version),
            _ => rewrite::response(key, version, &request, &body, &*view).map_err(|e| e.to_string()),
        };
        let out = out.map_err(bad)?;
        let out = self.context.rehome.adjust_reply(&view, &pending.header, &request, out);
        self.observe(&view, &pending.header, &request, &out).await;
        metrics::api(key, name).seconds.record(started.elapsed());
        self.write_reply(&pending.header, out).await
    }

    /// Lets the rest of the house know what a reply says, before the client does.
    async fn observe(&self, view: &Arc<View>, header: &header::RequestHeader, request: &Bytes, reply: &Bytes) {
        match header.api_key {
            pending::JOIN_GROUP | pending::HEARTBEAT | pending::SYNC_GROUP | pending::LEAVE_GROUP => {
                self.context.rehome.reply(view, header, request, reply);
            }
            pending::CREATE_TOPICS | pending::CREATE_PARTITIONS | pending::DELETE_TOPICS => {
                self.context.house.topics_changed().await;
            }
            pending::LIST_OFFSETS => local::expose_ends(view, header.api_version, reply),
            pending::DELETE_RECORDS => {
                for (topic, partition, logical) in local::deleted_records(header.api_version, reply) {
                    self.context.house.records_deleted(&topic, partition, logical);
                }
            }
            _ => {}
        }
    }

    async fn write_reply(&mut self, request: &header::RequestHeader, body: Bytes) -> Result<(), End> {
        let mut head = BytesMut::with_capacity(8);
        header::encode_response_header(&mut head, request.api_key, request.api_version, request.correlation_id);
        self.write(&[&head.freeze(), &body]).await
    }

    async fn write(&mut self, parts: &[&Bytes]) -> Result<(), End> {
        metrics::bytes(Direction::ClientOut).increment(parts.iter().map(|p| p.len() as u64).sum());
        write_frame(&mut self.client, parts).await.map_err(End::ClientIo)
    }
}
