//! All replies that one read has brought: those that need no more than new values in old places leave together, in one write,
//! from where they lie.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use super::{Answer, Asked, Leaving, REPLY_SLACK, Replies, STUCK, Upstream, bad, leave, name_of};
use crate::admin::metrics::{self, Direction};
use crate::catalog::View;
use crate::proxy::budget::{Held, TIGHT_FETCH};
use crate::proxy::connection::End;
use crate::proxy::intake::{Broken, Intake, Next};
use crate::proxy::pending::{self, Pending, Reply};
use crate::proxy::{fetch, gate, produce};
use crate::rewrite::fetch::Thin;
use crate::wire::frame::LENGTH_PREFIX;
use crate::wire::{guard, header};

/// Replies that leave from where they lie.
struct Run {
    /// Where the first of them lies.
    start: usize,
    replies: usize,
    produced: usize,
    since: Instant,
}

/// What a reply needs.
enum Need {
    /// It is the client's.
    Nothing,
    /// So it is, once the standby has what it says.
    Standby(Vec<produce::Wait>),
    /// To be taken apart.
    More,
}

/// Goes on with the reply that is being thinned; gives it when it has come.
fn thinned(upstream: &mut Upstream) -> Option<BytesMut> {
    let (thin, missing) = upstream.thin.as_mut()?;
    let there = upstream.read.skim(*missing);
    thin.push(there);
    *missing -= there.len();
    let (thin, _) = upstream.thin.take_if(|(_, missing)| *missing == 0)?;
    Some(thin.finish())
}

impl Replies {
    /// Deals with what has been read from upstream.
    pub(super) async fn burst(&mut self) -> Result<(), End> {
        // A request is left in the inbox before it is sent: it is here when its reply is.
        self.look_in();
        let Some(mut upstream) = self.upstream.take() else { return Ok(()) };
        self.deal(&mut upstream).await?;
        self.upstream = Some(upstream);
        Ok(())
    }

    async fn deal(&mut self, upstream: &mut Upstream) -> Result<(), End> {
        let max = self.context.config.limits.max_frame as usize + REPLY_SLACK;
        let view = upstream.view.clone();
        let mut run = Run { start: upstream.read.position(), replies: 0, produced: 0, since: Instant::now() };
        loop {
            // What the proxy answers itself between two replies of the broker.
            self.take_answered();
            if upstream.thin.is_some() {
                let Some(frame) = thinned(upstream) else { return Ok(()) };
                let held = self.context.budget.hold(frame.len());
                self.gathered(&view, frame, Some(held))?;
                run.start = upstream.read.position();
            }
            let next = upstream.read.next(max).map_err(|e| End::Frame(format!("from the broker: {e}")))?;
            match next {
                Next::Nothing => break,
                Next::Gathered(frame) => {
                    let held = upstream.held.take();
                    self.gathered(&view, frame, held)?;
                }
                Next::Part(length) if self.may_pass(&view, upstream.read.frame(length), length) => {
                    self.queue.pop_front();
                    run.replies += 1;
                    let missing = upstream.read.step(length);
                    self.flush(upstream, &mut run).await?;
                    self.pass(upstream, missing).await?;
                }
                Next::Part(length) => {
                    self.flush(upstream, &mut run).await?;
                    if upstream.read.reads_on() {
                        return Ok(());
                    }
                    self.gather(upstream, length);
                    if upstream.thin.is_none() {
                        return Ok(());
                    }
                }
                Next::Whole(length) => {
                    let pending = self.oldest()?;
                    let need = self.need(&view, &pending, upstream.read.frame(length))?;
                    if matches!(need, Need::Nothing) && self.leaving.is_empty() {
                        run.replies += 1;
                        run.produced += usize::from(pending.header.api_key == pending::PRODUCE);
                        upstream.read.step(length);
                        continue;
                    }
                    self.flush(upstream, &mut run).await?;
                    let frame = self.context.budget.count(upstream.read.take(length));
                    self.stay(&view, pending, frame, need)?;
                }
            }
            run.start = upstream.read.position();
        }
        self.flush(upstream, &mut run).await
    }

    fn oldest(&mut self) -> Result<Pending, End> {
        self.queue.pop_front().ok_or_else(|| End::Frame("the broker answered what was not asked".into()))
    }

    /// Begins to gather the frame in front, or to thin it if there is too much already that waits for its clients.
    fn gather(&self, upstream: &mut Upstream, length: usize) {
        if !Intake::gathers(length) {
            return;
        }
        let budget = &self.context.budget;
        upstream.held = budget.try_hold(length);
        match self.queue.front() {
            Some(Pending { header, reply: Reply::Fetch { .. }, .. }) if upstream.held.is_none() => {
                upstream.read.skim(LENGTH_PREFIX);
                upstream.thin = Some((Thin::new(header.api_version, TIGHT_FETCH), length));
            }
            _ => {
                upstream.held.get_or_insert_with(|| budget.hold(length));
                upstream.read.gather(length);
            }
        }
    }

    /// A frame that was gathered: with nothing before it that waits, it leaves at once.
    fn gathered(&mut self, view: &Arc<View>, mut frame: BytesMut, held: Option<Held>) -> Result<(), End> {
        let pending = self.oldest()?;
        let need = self.need(view, &pending, &mut frame)?;
        let frame = match held {
            Some(held) => held.within(frame.freeze()),
            None => frame.freeze(),
        };
        self.stay(view, pending, frame, need)
    }

    /// Does the reply whose front is there belong to the client as it comes? If so, its front is made the client's.
    fn may_pass(&self, view: &View, front: &mut [u8], length: usize) -> bool {
        let Some(Pending { header: asked, reply, .. }) = self.queue.front() else { return false };
        if !self.leaving.is_empty() || header::response_correlation_id(front) != Ok(asked.correlation_id) {
            return false;
        }
        match reply {
            Reply::Forward => true,
            Reply::Fetch { plain: true } => {
                let (key, version) = (asked.api_key, asked.api_version);
                let Ok(offset) = header::response_body_offset(key, version, front) else { return false };
                front.get_mut(offset..).is_some_and(|body| fetch::patched(view, version, body, length - offset))
            }
            _ => false,
        }
    }

    /// Changes a reply where it lies, if that is all it needs.
    fn need(&self, view: &View, pending: &Pending, frame: &mut [u8]) -> Result<Need, End> {
        let (key, version) = (pending.header.api_key, pending.header.api_version);
        let bad = |reason: String| bad(key, &reason);
        match header::response_correlation_id(frame) {
            Ok(id) if id == pending.header.correlation_id => {}
            Ok(id) => return Err(bad(format!("correlation id {id} instead of {}", pending.header.correlation_id))),
            Err(e) => return Err(bad(e.to_string())),
        }
        if !matches!(pending.reply, Reply::Forward | Reply::Fetch { plain: true } | Reply::Produce(_)) {
            return Ok(Need::More);
        }
        if matches!(pending.reply, Reply::Forward) {
            return Ok(Need::Nothing);
        }
        let offset = header::response_body_offset(key, version, frame).map_err(|e| bad(e.to_string()))?;
        let Some(body) = frame.get_mut(offset..) else { return Ok(Need::More) };
        let size = body.len();
        Ok(match &pending.reply {
            Reply::Produce(produced) => match produce::patched(&self.context, view, produced, body) {
                Some(waits) if waits.is_empty() => Need::Nothing,
                Some(waits) => Need::Standby(waits),
                None => Need::More,
            },
            _ if fetch::patched(view, version, body, size) => Need::Nothing,
            _ => Need::More,
        })
    }

    /// Lets a reply wait for its turn and for what it needs.
    fn stay(&mut self, view: &Arc<View>, pending: Pending, frame: Bytes, need: Need) -> Result<(), End> {
        let (key, version) = (pending.header.api_key, pending.header.api_version);
        if matches!(need, Need::Nothing) {
            self.leaving.push_back(Leaving::whole(frame));
            return Ok(());
        }
        let bad = |reason: String| bad(key, &reason);
        let sent = if let Reply::Join(sent) = pending.reply { sent } else { version };
        let offset = header::response_body_offset(key, sent, &frame).map_err(|e| bad(e.to_string()))?;
        let body = frame.slice(offset.min(frame.len())..);
        let started = Instant::now();
        let request = pending.body();
        let answer = match (pending.reply, need) {
            (Reply::Produce(produced), Need::Standby(waits)) => {
                Answer::Produce(produce::Arrived::new(&self.context, &produced, body, waits))
            }
            (reply, _) => {
                guard::check(guard::Kind::Response, key, sent, &body).map_err(|e| bad(e.to_string()))?;
                match reply {
                    Reply::Produce(produced) => {
                        Answer::Produce(produce::arrived(&self.context, view, &produced, &body).map_err(bad)?)
                    }
                    Reply::Fetch { .. } => Answer::Fetch(body),
                    Reply::Transaction(asked) => Answer::Transaction(asked, body),
                    Reply::Join(sent) => Answer::Join(sent, body),
                    Reply::Share(asked) => Answer::Share(asked, body),
                    _ => Answer::Other(body),
                }
            }
        };
        let asked = Asked { header: pending.header, request, view: view.clone(), started };
        self.leaving.push_back(Leaving::Later(Box::pin(leave(self.context.clone(), asked, answer))));
        Ok(())
    }

    /// Sends a run.
    async fn flush(&mut self, upstream: &Upstream, run: &mut Run) -> Result<(), End> {
        let there = run.start..upstream.read.position();
        run.start = there.end;
        if there.is_empty() {
            return Ok(());
        }
        metrics::bytes(Direction::ClientOut).increment(there.len() as u64);
        tokio::select! {
            biased;
            written = self.client.write_all(upstream.read.slice(there)) => written.map_err(End::ClientIo)?,
            () = gate::held_for(&mut self.gate, STUCK) => return Err(End::Stuck),
        }
        self.inbox.make_room(std::mem::take(&mut run.replies));
        if run.produced > 0 {
            let seconds = &metrics::api(pending::PRODUCE, name_of(pending::PRODUCE)).seconds;
            seconds.record_many(run.since.elapsed(), std::mem::take(&mut run.produced));
        }
        Ok(())
    }

    /// Passes the rest of a frame on as it comes. The client has its front: a cutover waits for the rest, though not for long.
    async fn pass(&mut self, upstream: &mut Upstream, missing: usize) -> Result<(), End> {
        metrics::bytes(Direction::ClusterIn).increment(missing as u64);
        metrics::bytes(Direction::ClientOut).increment(missing as u64);
        let passed = tokio::select! {
            biased;
            passed = upstream.read.pass(missing, &mut self.client) => passed,
            () = gate::held_for(&mut self.gate, STUCK) => return Err(End::Stuck),
        };
        passed.map_err(|broken| match broken {
            Broken::Closed => End::Upstream,
            Broken::From(e) => End::UpstreamIo(e),
            Broken::To(e) => End::ClientIo(e),
        })
    }
}
