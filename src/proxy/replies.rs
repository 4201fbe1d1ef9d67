//! The reply half of a client connection: answers pending requests in order, from upstream or from the proxy itself.

mod burst;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use super::budget::Held;
use super::connection::{End, write_frame};
use super::gate::{self, GateState};
use super::inbox::Inbox;
use super::intake::Intake;
use super::pending::{self, Pending, Reply};
use super::{Context, commits, fetch, local, produce, shares, transactions};
use crate::admin::metrics::{self, Counted, Direction, RequestResult, Side};
use crate::catalog::View;
use crate::groups;
use crate::rewrite::{self, fetch::Thin};
use crate::wire::apis;
use crate::wire::header::{self, RequestHeader};

/// A fetch reply exceeds what was asked for by up to one batch.
const REPLY_SLACK: usize = 32 << 20;
/// How long a cutover waits for a client that does not read its replies. It loses its connection, as it would at a broker that
/// restarts, rather than keep all others standing.
pub const STUCK: Duration = Duration::from_secs(1);

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
    read: Intake,
    view: Arc<View>,
    /// What the reply that is being gathered counts.
    held: Option<Held>,
    /// The reply that is being thinned, and how much of it is to come.
    thin: Option<(Thin, usize)>,
    _open: Counted,
}

/// A reply that the broker or the proxy has given, as the bytes for the client (head, body).
enum Leaving {
    Ready([Bytes; 2]),
    /// What it still waits for (the standby, a new topic on it) is inside.
    Later(Pin<Box<dyn Future<Output = Result<[Bytes; 2], End>> + Send>>),
}

impl Leaving {
    fn whole(frame: Bytes) -> Self {
        Leaving::Ready([frame, Bytes::new()])
    }
}

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
                    // The client may take its time.
                    if let Some(upstream) = &mut replies.upstream {
                        upstream.read.park();
                    }
                    replies.write(&[&head, &body]).await
                }
                Err(end) => Err(end),
            },
            read = read(&mut replies.upstream), if replies.upstream.is_some() => match read {
                Ok(()) => replies.burst().await,
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
    let out = match leaving.front_mut() {
        None => return std::future::pending().await,
        Some(Leaving::Ready(parts)) => Ok(std::mem::take(parts)),
        Some(Leaving::Later(reply)) => reply.as_mut().await,
    };
    leaving.pop_front();
    out
}

/// Reads from upstream. Cancel-safe.
async fn read(upstream: &mut Option<Upstream>) -> Result<(), End> {
    let Some(up) = upstream else { return std::future::pending().await };
    match up.read.read().await {
        Ok(0) => Err(End::Upstream),
        Ok(n) => {
            metrics::bytes(Direction::ClusterIn).increment(n as u64);
            Ok(())
        }
        Err(e) => Err(End::UpstreamIo(e)),
    }
}

impl Replies {
    /// Takes what the request half tells.
    fn look_in(&mut self) {
        let Self { inbox, upstream, queue, quieten, .. } = self;
        inbox.take(|message| match message {
            ToReplies::Upstream { read, view } => {
                let open = Counted::connection(Side::Cluster);
                let (read, held, thin) = (Intake::new(read), None, None);
                *upstream = Some(Upstream { read, view, held, thin, _open: open });
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
                Reply::Local(frame) => self.leaving.push_back(Leaving::whole(frame)),
                Reply::Produce(produced) => {
                    let arrived = produce::answered(&self.context, &produced);
                    let context = self.context.clone();
                    self.leaving.push_back(Leaving::Later(Box::pin(async move {
                        let bad = |reason: String| bad(header.api_key, &reason);
                        let body = produce::settle(&context, arrived.map_err(bad)?).await;
                        Ok([head(&header), body.map_err(bad)?])
                    })));
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
    Ok([head(&header), context.budget.count(out)])
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
