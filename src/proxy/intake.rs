//! What comes from a socket, frame by frame. Memory to read into is borrowed only while bytes are there: a connection that
//! waits holds no more than the bytes of a frame that has not come whole.
//!
//! Small frames are looked at where they were read, several at a time. A large one is passed on as it comes, if nobody needs
//! it whole, most of it without its being read ([`splice`]), or gathered in memory of its own.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::splice;
use crate::wire::frame::{self, FrameError, LENGTH_PREFIX, RESERVE_STEP};

/// Bytes asked of a socket at a time. Fewer make more system calls, more do not fit into a core's cache.
const CHUNK: usize = 256 << 10;
/// A frame of this size or less is copied where it must be kept; a larger one is gathered apart, if it is not there yet.
const COPIED: usize = 16 << 10;
/// Bytes asked for where the last frame was gathered or spliced: the next one will be as well, and what is read here is copied.
const PEEKED: usize = 4 << 10;
/// Chunks that a thread keeps for its next connections.
const SPARE: usize = 4;

thread_local! {
    static CHUNKS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What is in front.
pub enum Next {
    /// Not even a length.
    Nothing,
    /// A whole frame of this length, see [`Intake::frame`].
    Whole(usize),
    /// The front of a frame of this length.
    Part(usize),
    /// A frame that was gathered.
    Gathered(BytesMut),
}

/// Why a frame was not passed on to its end.
pub enum Broken {
    /// The side that it comes from has closed.
    Closed,
    From(std::io::Error),
    To(std::io::Error),
}

pub struct Intake {
    socket: OwnedReadHalf,
    /// Empty while it is not borrowed.
    chunk: Vec<u8>,
    /// What of the chunk is to be dealt with.
    start: usize,
    end: usize,
    /// That, while the chunk is given back.
    parked: Vec<u8>,
    /// A frame that is being gathered, and its length.
    gathered: Option<(BytesMut, usize)>,
    /// The last frame was.
    gathers: bool,
    /// The rest of the last frame never was in the chunk.
    spliced: bool,
}

impl Intake {
    pub fn new(socket: OwnedReadHalf) -> Self {
        let (chunk, parked) = (Vec::new(), Vec::new());
        Intake { socket, chunk, start: 0, end: 0, parked, gathered: None, gathers: false, spliced: false }
    }

    pub fn socket(&self) -> &OwnedReadHalf {
        &self.socket
    }

    /// Bytes that have been read and not been dealt with.
    pub fn len(&self) -> usize {
        self.end - self.start + self.parked.len() + self.gathered.as_ref().map_or(0, |(frame, _)| frame.len())
    }

    /// Reads what is there; 0 at the end. Cancel-safe.
    pub async fn read(&mut self) -> std::io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let socket: &tokio::net::TcpStream = self.socket.as_ref();
        if socket.poll_read_ready(cx)?.is_pending() {
            self.park();
            return Poll::Pending;
        }
        if let Some((frame, length)) = &mut self.gathered {
            frame.reserve((*length - frame.len()).min(RESERVE_STEP));
            let left = *length - frame.len();
            let mut room = frame.limit(left);
            return pin!(self.socket.read_buf(&mut room)).poll(cx);
        }
        self.borrow();
        let limit = if self.gathers || self.spliced { (self.end + PEEKED).min(CHUNK) } else { CHUNK };
        let mut room = ReadBuf::new(self.chunk.get_mut(self.end..limit).unwrap_or_default());
        let read = Pin::new(&mut self.socket).poll_read(cx, &mut room);
        let n = room.filled().len();
        self.end += n;
        if read.is_pending() {
            self.park();
        }
        read.map_ok(|()| n)
    }

    /// Has a chunk at hand, what was read before in front of it.
    fn borrow(&mut self) {
        if self.chunk.is_empty() {
            self.chunk = CHUNKS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; CHUNK]);
            let parked = std::mem::take(&mut self.parked);
            if let Some(front) = self.chunk.get_mut(..parked.len()) {
                front.copy_from_slice(&parked);
            }
            (self.start, self.end) = (0, parked.len());
        } else if self.start > 0 {
            self.chunk.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Gives the chunk back.
    pub fn park(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.parked.extend_from_slice(chunk.get(self.start..self.end).unwrap_or_default());
        (self.start, self.end) = (0, 0);
        CHUNKS.with_borrow_mut(|spare| {
            if spare.len() < SPARE {
                spare.push(chunk);
            }
        });
    }

    /// The next frame, of at most `max` bytes.
    pub fn next(&mut self, max: usize) -> Result<Next, FrameError> {
        if let Some((frame, _)) = self.gathered.take_if(|(frame, length)| frame.len() == *length) {
            return Ok(Next::Gathered(frame));
        }
        if self.gathered.is_some() {
            return Ok(Next::Nothing);
        }
        if !self.parked.is_empty() {
            self.borrow();
        }
        let there = self.slice(self.start..self.end);
        let Some(length) = frame::length(there, max)? else { return Ok(Next::Nothing) };
        Ok(if there.len() >= LENGTH_PREFIX + length { Next::Whole(length) } else { Next::Part(length) })
    }

    /// The frame in front, or what is there of it, without its length.
    pub fn frame(&mut self, length: usize) -> &mut [u8] {
        let start = self.start + LENGTH_PREFIX;
        self.chunk.get_mut(start..self.end.min(start + length)).unwrap_or_default()
    }

    /// Steps over the frame in front, or what is there of it; gives what is missing.
    pub fn step(&mut self, length: usize) -> usize {
        let end = self.start + LENGTH_PREFIX + length;
        self.start = end.min(self.end);
        (self.gathers, self.spliced) = (false, false);
        end - self.start
    }

    /// Takes the frame in front out.
    pub fn take(&mut self, length: usize) -> Bytes {
        let frame = Bytes::copy_from_slice(self.frame(length));
        self.step(length);
        frame
    }

    /// Steps over what is there of the next `most` bytes, and gives it.
    pub fn skim(&mut self, most: usize) -> &[u8] {
        if !self.parked.is_empty() {
            self.borrow();
        }
        let there = self.start..self.end.min(self.start + most);
        self.start = there.end;
        (self.gathers, self.spliced) = (false, false);
        self.slice(there)
    }

    /// Whether the frame in front would be gathered in memory of its own.
    pub fn gathers(length: usize) -> bool {
        length > COPIED
    }

    /// Whether the frame in front is to be looked at again when more of it is there: little was asked for, since the last one
    /// went past, and it may be one that nobody needs whole, too. Once for each frame.
    pub fn reads_on(&mut self) -> bool {
        std::mem::take(&mut self.spliced)
    }

    /// Gets the frame in front whole before it is looked at again.
    pub fn gather(&mut self, length: usize) {
        if Self::gathers(length) {
            let mut frame = BytesMut::with_capacity(length.min(RESERVE_STEP));
            frame.put_slice(self.frame(length));
            self.step(length);
            self.gathered = Some((frame, length));
            self.gathers = true;
        }
    }

    /// Where the frame in front lies, with its length.
    pub fn position(&self) -> usize {
        self.start
    }

    /// What was stepped over since the last read.
    pub fn slice(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.chunk.get(range).unwrap_or_default()
    }

    /// Passes the next `left` bytes on, which are the rest of a frame: none of them has been read.
    pub async fn pass(&mut self, mut left: usize, to: &mut OwnedWriteHalf) -> Result<(), Broken> {
        if left >= splice::LEAST {
            self.park();
            left = splice::pass(self.socket.as_ref(), to.as_ref(), left).await?;
            self.spliced = left == 0;
        }
        while left > 0 {
            if self.start == self.end && self.read().await.map_err(Broken::From)? == 0 {
                return Err(Broken::Closed);
            }
            let there = self.start..self.end.min(self.start + left);
            to.write_all(self.slice(there.clone())).await.map_err(Broken::To)?;
            left -= there.len();
            self.start = there.end;
        }
        Ok(())
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    /// Two connections: what is written to the first is taken in, what is passed on comes out of the second.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        bodies.iter().flat_map(|b| [&(b.len() as u32).to_be_bytes()[..], b].concat()).collect()
    }

    fn bodies() -> Vec<Vec<u8>> {
        let sizes = [3, 0, 70, COPIED, COPIED + 1, 5, CHUNK - 4, CHUNK, 9, 3 * CHUNK, 1, 2, RESERVE_STEP + 7, 20];
        sizes.iter().enumerate().map(|(n, &size)| (0..size).map(|i| (i + n) as u8).collect()).collect()
    }

    /// Frames as they come out when large ones are gathered.
    async fn gathered(mut intake: Intake, count: usize) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        while got.len() < count {
            match intake.next(1 << 30).unwrap() {
                Next::Gathered(frame) => got.push(frame.to_vec()),
                Next::Whole(length) => got.push(intake.take(length).to_vec()),
                next => {
                    if let Next::Part(length) = next {
                        intake.gather(length);
                    }
                    assert!(intake.read().await.unwrap() > 0);
                }
            }
        }
        assert_eq!(intake.len(), 0);
        got
    }

    #[tokio::test]
    async fn frames_come_out_whole_and_in_order_however_the_bytes_arrive() {
        let (bodies, sizes) = (bodies(), [usize::MAX, 70_000, 1_000_003]);
        for size in sizes {
            let (mut client, server) = pair().await;
            let sent = framed(&bodies);
            let writer = tokio::spawn(async move {
                for part in sent.chunks(size.min(sent.len())) {
                    client.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client
            });
            let (read, _write) = server.into_split();
            assert_eq!(gathered(Intake::new(read), bodies.len()).await, bodies, "{size} at a time");
            writer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_passed_on_arrives_and_what_lies_behind_it_stays() {
        let (mut client, server) = pair().await;
        let (out, mut broker) = pair().await;
        let bodies = bodies();
        let sent = framed(&bodies);
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client
        });
        let (count, total) = (bodies.len(), expected.len());
        let passing = tokio::spawn(async move {
            let ((read, _write), (_read, mut to)) = (server.into_split(), out.into_split());
            let mut intake = Intake::new(read);
            let mut passed = 0;
            while passed < count {
                match intake.next(1 << 30).unwrap() {
                    Next::Gathered(_) => panic!("nothing is gathered"),
                    Next::Whole(length) | Next::Part(length) => {
                        let start = intake.position();
                        let missing = intake.step(length);
                        let there = intake.slice(start..intake.position()).to_vec();
                        to.write_all(&there).await.unwrap();
                        assert!(intake.pass(missing, &mut to).await.is_ok());
                        passed += 1;
                    }
                    Next::Nothing => assert!(intake.read().await.unwrap() > 0),
                }
            }
        });
        let mut got = vec![0; total];
        broker.read_exact(&mut got).await.unwrap();
        assert!(got == expected);
        passing.await.unwrap();
        writer.await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn little_is_read_behind_a_frame_that_went_past_until_the_next_one_needs_more() {
        let (mut client, server) = pair().await;
        let (out, mut broker) = pair().await;
        let ((read, _write), (_read, mut to)) = (server.into_split(), out.into_split());
        let (large, next) = (vec![1; 3 * CHUNK], vec![2; COPIED + 1]);
        let sent = framed(&[large, next.clone()]);
        let writer = tokio::spawn(async move { client.write_all(&sent).await.map(|()| client) });
        let reader = tokio::spawn(async move { broker.read_exact(&mut vec![0; 2 * CHUNK]).await.map(|_| broker) });
        let mut intake = Intake::new(read);
        assert!(intake.read().await.unwrap() > LENGTH_PREFIX);
        let Ok(Next::Part(length)) = intake.next(1 << 30) else { panic!("a part of the first") };
        let missing = intake.step(length);
        assert!(intake.pass(missing, &mut to).await.is_ok());
        assert!(intake.read().await.unwrap() <= PEEKED);
        let mut reads = 0;
        while !matches!(intake.next(1 << 30), Ok(Next::Whole(_))) {
            // After the first look the rest is read where it can be looked at.
            assert_eq!(intake.reads_on(), reads == 0);
            reads += 1;
            assert!(intake.read().await.unwrap() > 0);
        }
        assert_eq!(intake.take(COPIED + 1), next[..]);
        writer.await.unwrap().unwrap();
        reader.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_waits_holds_only_what_it_was_sent() {
        let (mut client, server) = pair().await;
        let (read, _write) = server.into_split();
        let mut intake = Intake::new(read);
        let sent = framed(&[vec![1; 10], vec![2; 100]]);
        client.write_all(&sent[..60]).await.unwrap();
        while intake.len() < 60 {
            assert!(intake.read().await.unwrap() > 0);
        }
        assert!(matches!(intake.next(100), Ok(Next::Whole(10))));
        assert_eq!(intake.take(10), [1; 10][..]);
        assert!(matches!(intake.next(100), Ok(Next::Part(100))));
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), intake.read()).await;
        assert!(waiting.is_err() && intake.chunk.is_empty(), "the chunk is given back");
        assert_eq!((intake.parked.len(), intake.len()), (46, 46));
        client.write_all(&sent[60..]).await.unwrap();
        assert_eq!(gathered(intake, 1).await, [vec![2; 100]]);
    }

    #[tokio::test]
    async fn a_length_that_nobody_sends_is_an_error_before_anything_is_read() {
        let (mut client, server) = pair().await;
        client.write_all(&101u32.to_be_bytes()).await.unwrap();
        let (read, _write) = server.into_split();
        let mut intake = Intake::new(read);
        assert_eq!(intake.read().await.unwrap(), 4);
        assert!(intake.next(100).is_err());
        assert!(matches!(intake.next(101), Ok(Next::Part(101))));
        drop(client);
        assert_eq!(intake.read().await.unwrap(), 0);
    }
}
