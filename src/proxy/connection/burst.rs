//! All requests that one read has brought: those that go on as they came leave together, in one write, from where they lie.

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use super::{Connection, End, Session};
use crate::admin::metrics::{self, Direction, RequestResult};
use crate::proxy::intake::{Broken, Next};
use crate::proxy::pending::{self, Pending, Reply};
use crate::proxy::produce::{self, Quick};
use crate::proxy::{gate, replies};
use crate::wire::apis::How;
use crate::wire::{header::RequestHeader, schema};

/// Requests that go on as they came.
struct Run {
    /// Where the first of them lies.
    start: usize,
    requests: Vec<Pending>,
}

impl Connection {
    /// Deals with what has been read. `Some`: the gate closed, and this was cut.
    pub(super) async fn burst(&mut self, session: &mut Session) -> Result<Option<Vec<Pending>>, End> {
        let max = self.context.config.limits.max_frame as usize;
        let mut run = Run { start: self.client.position(), requests: Vec::new() };
        loop {
            let next = self.client.next(max).map_err(|e| End::Frame(e.to_string()))?;
            let (length, whole) = match next {
                Next::Nothing => break,
                Next::Whole(length) => (length, true),
                Next::Part(length) => (length, false),
                Next::Gathered(frame) => {
                    if let Some(cut) = self.one(session, frame.freeze()).await? {
                        return Ok(Some(cut));
                    }
                    run.start = self.client.position();
                    continue;
                }
            };
            if let Some((header, quick)) = self.quick(session, length).filter(|(_, quick)| whole || !quick.copied) {
                self.join(session, &mut run, header, quick, length).await?;
                let missing = self.client.step(length);
                if missing > 0 {
                    self.flush(session, &mut run).await?;
                    self.pass(session, missing).await?;
                    run.start = self.client.position();
                }
                continue;
            }
            self.flush(session, &mut run).await?;
            if !whole {
                if !self.client.reads_on() {
                    self.client.gather(length);
                }
                return Ok(None);
            }
            let frame = self.client.take(length);
            if let Some(cut) = self.one(session, frame).await? {
                return Ok(Some(cut));
            }
            run.start = self.client.position();
        }
        self.flush(session, &mut run).await?;
        Ok(None)
    }

    /// Is the frame in front, or what is there of it, a produce request that goes on as it is?
    fn quick(&mut self, session: &Session, length: usize) -> Option<(RequestHeader, Quick)> {
        session.upstream.as_ref()?;
        let front = &*self.client.frame(length);
        let header = RequestHeader::parse_front(front, schema::is_flexible).ok()?;
        let (key, version) = (header.api_key, header.api_version);
        if key != pending::PRODUCE || self.context.advertised.load().accept(key, version).ok()?.how != How::Rewrite {
            return None;
        }
        let size = length.checked_sub(header.body_offset)?;
        let quick = produce::look(&session.view, version, front.get(header.body_offset..)?, size)?;
        Some((header, quick))
    }

    /// Adds the request in front to a run.
    async fn join(
        &mut self,
        session: &mut Session,
        run: &mut Run,
        header: RequestHeader,
        quick: Quick,
        length: usize,
    ) -> Result<(), End> {
        if !self.replies.try_room() {
            self.flush(session, run).await?;
            self.replies.room().await;
        }
        let context = match quick.copied {
            true => {
                let frame = Bytes::copy_from_slice(self.client.frame(length));
                quick.keep(&frame.slice(header.body_offset..))
            }
            false => quick.forget(),
        };
        // A produce request is never sent a second time: its frame is not kept.
        let (frame, reply) = (Bytes::new(), Reply::Produce(Box::new(context)));
        run.requests.push(Pending { header, frame, reply });
        Ok(())
    }

    /// Sends a run. The reply half knows of it first.
    async fn flush(&mut self, session: &mut Session, run: &mut Run) -> Result<(), End> {
        let there = run.start..self.client.position();
        run.start = there.end;
        if there.is_empty() {
            return Ok(());
        }
        let upstream = session.upstream.as_mut().ok_or(End::Upstream)?;
        metrics::api(pending::PRODUCE, "Produce").count_many(RequestResult::Rewritten, run.requests.len());
        metrics::bytes(Direction::ClusterOut).increment(there.len() as u64);
        self.replies.leave(run.requests.drain(..));
        upstream.write_all(self.client.slice(there)).await.map_err(End::UpstreamIo)
    }

    /// Passes the rest of a frame on as it comes. Its front is at the broker: a cutover waits for the rest, though not for
    /// long if the client does not send it.
    async fn pass(&mut self, session: &mut Session, missing: usize) -> Result<(), End> {
        let upstream = session.upstream.as_mut().ok_or(End::Upstream)?;
        metrics::bytes(Direction::ClientIn).increment(missing as u64);
        metrics::bytes(Direction::ClusterOut).increment(missing as u64);
        let mut watch = self.context.gate.watch();
        let passed = tokio::select! {
            biased;
            passed = self.client.pass(missing, upstream) => passed,
            () = gate::held_for(&mut watch, replies::STUCK) => return Err(End::Stuck),
        };
        passed.map_err(|broken| match broken {
            Broken::Closed => End::Client,
            Broken::From(e) => End::ClientIo(e),
            Broken::To(e) => End::UpstreamIo(e),
        })
    }

    /// Deals with one request by the long way.
    async fn one(&mut self, session: &mut Session, frame: Bytes) -> Result<Option<Vec<Pending>>, End> {
        let header = RequestHeader::parse(&frame, schema::is_flexible).map_err(|e| End::Frame(e.to_string()))?;
        if !self.take_or_keep(session, &header, &frame).await? {
            let mut cut = self.quieten().await?;
            cut.push(Pending { header, frame, reply: Reply::Forward });
            return Ok(Some(cut));
        }
        let generation = session.view.generation;
        if self.context.gate.view().is_none_or(|v| v.generation != generation) {
            return self.quieten().await.map(Some);
        }
        Ok(None)
    }
}
