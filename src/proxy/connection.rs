//! The request half of a client connection: reads frames, rewrites what needs it, sends them to the broker behind the
//! virtual broker, and stops at the gate during a cutover.
//!
//! ```text
//!  Waiting --gate opens--> Running --gate closes--> Quieting --replies drained or cut--> Waiting
//!     |  client closed        | client closed, bad frame, upstream lost
//!     +----------> Closed <---+
//! ```
//! What was cut is sent again, first, under the next view.

mod burst;
mod held;
mod reach;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::gate::{self, Pass};
use super::inbox::Inbox;
use super::intake::Intake;
use super::pending::{self, Pending, Reply};
use super::replies::{self, Cut, ToReplies};
use super::{Context, Entrance, fetch, local, produce, shares, transactions};
use crate::admin::metrics::{self, Counted, Direction, Pool, RequestResult, Side};
use crate::catalog::View;
use crate::groups::Ruling;
use crate::rewrite;
use crate::transactions::Library;
use crate::wire::apis::{self, How};
use crate::wire::{guard, header::RequestHeader};

/// Why a connection ended: a metric label and a log line.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the client closed the connection")]
    Client,
    #[error("reading from or writing to the client failed: {0}")]
    ClientIo(std::io::Error),
    #[error("the broker closed the connection")]
    Upstream,
    #[error("writing to the broker failed: {0}")]
    UpstreamIo(std::io::Error),
    #[error("bad frame: {0}")]
    Frame(String),
    #[error("request of {api}: {reason}")]
    Request { api: &'static str, reason: String },
    #[error("{0}")]
    Refused(String),
    #[error("virtual broker {0} does not exist")]
    NoBroker(i32),
    #[error("a request was in flight on the cluster that was given up")]
    GivenUp,
    #[error("the client does not read its replies, and a cutover cannot wait for it")]
    Stuck,
    /// Not an end: the gate closed while the request waited for a broker.
    #[error("the gate closed")]
    Gate,
}

impl End {
    pub fn label(&self) -> &'static str {
        match self {
            End::Client => "client_closed",
            End::ClientIo(_) => "client_io",
            End::Upstream | End::UpstreamIo(_) => "upstream",
            End::Frame(_) => "bad_frame",
            End::Request { .. } => "bad_request",
            End::Refused(_) => "refused",
            End::NoBroker(_) => "no_broker",
            End::GivenUp | End::Gate => "given_up",
            End::Stuck => "stuck",
        }
    }
}

pub struct Connection {
    context: Arc<Context>,
    entrance: Entrance,
    client: Intake,
    replies: Arc<Inbox>,
    /// As the client's ApiVersions said.
    library: Library,
    peer: std::net::SocketAddr,
}

/// Serves one client until either side ends it.
pub async fn serve(context: Arc<Context>, stream: TcpStream, entrance: Entrance, peer: std::net::SocketAddr) {
    let (client, writer) = stream.into_split();
    let replies = Arc::new(Inbox::new(context.config.limits.in_flight_per_connection.max(1) as usize));
    let mut reply_half = tokio::spawn(replies::run(context.clone(), writer, replies.clone()));
    let mut connection =
        Connection { context, entrance, client: Intake::new(client), replies, library: Library::default(), peer };
    let end = tokio::select! {
        end = connection.run() => {
            drop(connection);
            // The client may still read what was answered; an abrupt end must not wait for a broker.
            reply_half.abort();
            end
        }
        end = &mut reply_half => end.unwrap_or(End::Upstream),
    };
    metrics::disconnect(Side::Client, end.label());
    match end {
        End::Client | End::ClientIo(_) => tracing::debug!(%peer, ?entrance, "connection ended: {end}"),
        _ => tracing::info!(%peer, ?entrance, "connection ended: {end}"),
    }
}

impl Connection {
    async fn run(&mut self) -> End {
        let mut again = Vec::new();
        loop {
            let pass = match self.wait_for_gate(&again).await {
                Ok(pass) => pass,
                Err(end) => return end,
            };
            let abort = pass.abort.clone();
            let cut = tokio::select! {
                cut = self.generation(pass, again) => cut,
                () = abort.cancelled() => Err(End::GivenUp),
            };
            match cut {
                Ok(cut) => again = cut,
                Err(end) => return end,
            }
        }
    }

    /// Waits at the gate. A client that closes its socket meanwhile has given its requests up: they are dropped.
    async fn wait_for_gate(&mut self, again: &[Pending]) -> Result<Pass, End> {
        let gate = self.context.gate.clone();
        self.client.park();
        let held = self.client.len() + again.iter().map(|pending| pending.frame.len()).sum::<usize>();
        let _held = Counted::bytes(Pool::Held, held);
        let pass = tokio::select! {
            pass = gate.pass() => pass,
            end = gone(self.client.socket()) => return Err(end),
        };
        Ok(pass)
    }

    /// Runs under one view until the gate closes; returns what was cut.
    async fn generation(&mut self, pass: Pass, again: Vec<Pending>) -> Result<Vec<Pending>, End> {
        let mut watch = self.context.gate.watch();
        // It may have closed since the pass.
        watch.mark_changed();
        let generation = pass.view.generation;
        let mut session = Session { view: pass.view.clone(), upstream: None, owed: Arc::default() };
        let mut again = again.into_iter();
        while let Some(pending) = again.next() {
            if !self.take_or_keep(&mut session, &pending.header, &pending.frame).await? {
                let mut cut = self.quieten().await?;
                cut.push(pending);
                cut.extend(again);
                return Ok(cut);
            }
        }
        loop {
            if let Some(cut) = self.burst(&mut session).await? {
                return Ok(cut);
            }
            tokio::select! {
                biased;
                read = self.client.read() => match read {
                    Ok(0) => return Err(End::Client),
                    Ok(n) => metrics::bytes(Direction::ClientIn).increment(n as u64),
                    Err(e) => return Err(End::ClientIo(e)),
                },
                _ = gate::closed(&mut watch, generation) => return self.quieten().await,
            }
            if gate::is_closed(&mut watch, generation) {
                return self.quieten().await;
            }
        }
    }

    /// Lets the reply half finish or cut what is in flight. The pass of the old generation is held until then.
    async fn quieten(&mut self) -> Result<Vec<Pending>, End> {
        let hard = matches!(&*self.context.gate.watch().borrow(), super::GateState::Held { hard: true });
        let (done, cut) = oneshot::channel();
        self.replies.put(ToReplies::Quieten { hard, done }).await;
        match cut.await {
            Ok(Cut::Pending(pending)) => Ok(pending),
            Ok(Cut::Abort) => Err(End::GivenUp),
            Err(_) => Err(End::Upstream),
        }
    }

    /// Handles one request; `false`: the gate closed before it could be sent anywhere, so it is still to be done.
    async fn take_or_keep(
        &mut self,
        session: &mut Session,
        header: &RequestHeader,
        frame: &Bytes,
    ) -> Result<bool, End> {
        // In memory of its own: a connection that waits for requests is small.
        match Box::pin(self.take(session, header.clone(), frame.clone())).await {
            Ok(()) => Ok(true),
            Err(End::Gate) => Ok(false),
            Err(end) => Err(end),
        }
    }

    /// Handles one request.
    async fn take(&mut self, session: &mut Session, header: RequestHeader, frame: Bytes) -> Result<(), End> {
        let key = header.api_key;
        let advertised = self.context.advertised.load_full();
        if key == pending::API_VERSIONS {
            self.library = local::library(&header, &frame);
            let reply = local::api_versions(&advertised, &header).map_err(End::Frame)?;
            metrics::request(key, "ApiVersions", RequestResult::Answered);
            self.replies.put(ToReplies::Pending(Pending { header, frame, reply: Reply::Local(reply) })).await;
            return Ok(());
        }
        let row = advertised.accept(key, header.api_version).map_err(|refusal| {
            metrics::request(key, apis::row(key).map_or("other", |row| row.name), RequestResult::Refused);
            End::Refused(refusal.to_string())
        })?;
        if row.how == How::Forward {
            metrics::request(key, row.name, RequestResult::Forwarded);
            let pending = Pending { header, frame, reply: Reply::Forward };
            return self.send_on(session, pending, None).await;
        }
        let body = frame.slice(header.body_offset.min(frame.len())..);
        let bad = |reason: String| {
            metrics::request(key, row.name, RequestResult::Refused);
            End::Request { api: row.name, reason }
        };
        guard::check(guard::Kind::Request, key, header.api_version, &body).map_err(|e| bad(e.to_string()))?;
        match self.rewrite(session, header, frame, body).await {
            Ok(result) => {
                metrics::request(key, row.name, result);
                Ok(())
            }
            Err(Failure::Bad(reason)) => Err(bad(reason)),
            Err(Failure::End(end)) => Err(end),
        }
    }

    /// Says whether the request went on or the proxy answers it.
    async fn rewrite(
        &mut self,
        session: &mut Session,
        header: RequestHeader,
        frame: Bytes,
        body: Bytes,
    ) -> Result<RequestResult, Failure> {
        let view = session.view.clone();
        let (key, version) = (header.api_key, header.api_version);
        let (reply, out) = match key {
            pending::PRODUCE => match produce::request(&self.context, &view, &header, &body).await? {
                produce::Taken::Forward { context, body } => {
                    if context.acks == 0 {
                        self.upstream(session).await?;
                        Self::write_on(session, &header, &frame, body).await?;
                        context.kick_all();
                        return Ok(RequestResult::Rewritten);
                    }
                    (Reply::Produce(Box::new(context)), Some(body))
                }
                produce::Taken::Answered(context) => (Reply::Produce(Box::new(context)), None),
                produce::Taken::Dropped => return Ok(RequestResult::Answered),
                produce::Taken::Held => return Err(Failure::End(End::Gate)),
            },
            pending::FETCH => {
                let (body, plain) = fetch::request(&view, version, &body, self.context.budget.fetch_limit())?;
                (Reply::Fetch { plain }, Some(Some(body)))
            }
            pending::SHARE_FETCH | pending::SHARE_ACKNOWLEDGE => {
                match shares::request(&self.context, &view, self.entrance, &session.owed, &header, &body)? {
                    shares::Taken::Answer(body) => (Reply::Local(local::frame(&header, &body)), None),
                    shares::Taken::Send(body, asked) => (Reply::Share(Box::new(asked)), Some(Some(body))),
                }
            }
            pending::SHARE_GROUP_HEARTBEAT => match shares::heartbeat(&view, version, &body)? {
                Ok(body) => (Reply::Rewrite, Some(Some(body))),
                Err(answer) => (Reply::Local(local::frame(&header, &answer)), None),
            },
            _ if may_wait(key) => match self.held_request(&view, &header, &body).await? {
                Ruling::Answer(body) => (Reply::Local(local::frame(&header, &body)), None),
                Ruling::Send { body, reply } => (reply, Some(body)),
                Ruling::SendAs { version, frame: instead } => {
                    let pending = Pending { header, frame, reply: Reply::Join(version) };
                    self.upstream(session).await?;
                    self.replies.put(ToReplies::Pending(pending)).await;
                    let upstream = session.upstream.as_mut().ok_or(End::Upstream)?;
                    write_frame(upstream, &[&instead]).await.map_err(End::UpstreamIo)?;
                    return Ok(RequestResult::Rewritten);
                }
            },
            _ => (Reply::Rewrite, Some(rewrite::request(key, version, &body, &*view)?)),
        };
        let pending = Pending { header, frame, reply };
        match out {
            Some(body) => self.send_on(session, pending, body).await.map(|()| RequestResult::Rewritten),
            None => {
                self.replies.put(ToReplies::Pending(pending)).await;
                Ok(RequestResult::Answered)
            }
        }
        .map_err(Failure::End)
    }

    /// Sends the client's frame upstream, with another body or as it is. The reply half knows of it first.
    async fn send_on(&mut self, session: &mut Session, pending: Pending, body: Option<Bytes>) -> Result<(), End> {
        self.upstream(session).await?;
        let (header, frame) = (pending.header.clone(), pending.frame.clone());
        self.replies.put(ToReplies::Pending(pending)).await;
        Self::write_on(session, &header, &frame, body).await
    }

    async fn write_on(
        session: &mut Session,
        header: &RequestHeader,
        frame: &Bytes,
        body: Option<Bytes>,
    ) -> Result<(), End> {
        let upstream = session.upstream.as_mut().ok_or(End::Upstream)?;
        let size = body.as_ref().map_or(frame.len(), |body| header.body_offset + body.len());
        metrics::bytes(Direction::ClusterOut).increment(size as u64);
        let written = match body {
            None => write_frame(upstream, &[frame]).await,
            Some(body) => {
                let head = frame.slice(..header.body_offset.min(frame.len()));
                write_frame(upstream, &[&head, &body]).await
            }
        };
        written.map_err(End::UpstreamIo)
    }

    /// The upstream connection of this generation, made at the first request that needs it.
    async fn upstream(&mut self, session: &mut Session) -> Result<(), End> {
        if session.upstream.is_none() {
            let stream = self.connect(&session.view).await?;
            let (read, write) = stream.into_split();
            self.replies.put(ToReplies::Upstream { read, view: session.view.clone() }).await;
            session.upstream = Some(write);
        }
        Ok(())
    }
}

/// Whether the proxy judges a request by what it knows of its sender, and may hold it for that.
fn may_wait(key: i16) -> bool {
    use pending::*;
    let members =
        [JOIN_GROUP, SYNC_GROUP, HEARTBEAT, LEAVE_GROUP, OFFSET_COMMIT, OFFSET_FETCH, CONSUMER_GROUP_HEARTBEAT];
    members.contains(&key) || transactions::is_one(key)
}

/// What belongs to one generation of a connection.
struct Session {
    view: Arc<View>,
    upstream: Option<OwnedWriteHalf>,
    owed: Arc<shares::Owed>,
}

/// A request that could not be handled.
pub enum Failure {
    /// The request itself is at fault.
    Bad(String),
    End(End),
}

impl From<End> for Failure {
    fn from(end: End) -> Self {
        Failure::End(end)
    }
}

impl From<rewrite::RewriteError> for Failure {
    fn from(error: rewrite::RewriteError) -> Self {
        Failure::Bad(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Failure::Bad(reason)
    }
}

/// Resolves when the client has closed its side, also while bytes it sent are still unread.
async fn gone(client: &OwnedReadHalf) -> End {
    const LOOK: Duration = Duration::from_millis(20);
    loop {
        match client.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return End::Client,
            // Readable, not closed: readiness stays set, so look again a little later.
            Ok(_) => tokio::time::sleep(LOOK).await,
            Err(e) => return End::ClientIo(e),
        }
    }
}

/// Writes a length-prefixed frame made of `parts`.
pub async fn write_frame(writer: &mut OwnedWriteHalf, parts: &[&Bytes]) -> std::io::Result<()> {
    let size: usize = parts.iter().map(|p| p.len()).sum();
    let length = u32::try_from(size).map_err(|_| std::io::ErrorKind::InvalidInput)?.to_be_bytes();
    let mut whole = Bytes::copy_from_slice(&length).chain(Bytes::new()).chain(Bytes::new());
    let mut rest = parts.iter();
    *whole.first_mut().last_mut() = rest.next().map_or_else(Bytes::new, |&p| p.clone());
    *whole.last_mut() = rest.next().map_or_else(Bytes::new, |&p| p.clone());
    debug_assert!(rest.next().is_none(), "a frame has a head and a body at most");
    writer.write_all_buf(&mut whole).await
}
