//! Replies out of a connection's socket, frame by frame. Large ones are read into memory of their own size: growing it while
//! they come would copy each of them once more.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::admin::metrics::{self, Direction};
use crate::wire::frame::{self, LENGTH_PREFIX, RESERVE_STEP};

/// Free space asked for before a read while no length is known: a few small replies, or the front of a large one.
const READ_CHUNK: usize = 64 << 10;
/// As much behind a reply that was larger: the next one is likely to be so too, and its front is moved once its length is known.
const PEEKED: usize = 4 << 10;

pub(super) struct Frames<R> {
    socket: R,
    buf: BytesMut,
    chunk: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(socket: R) -> Self {
        Frames { socket, buf: BytesMut::new(), chunk: READ_CHUNK }
    }

    /// The next frame of at most `max` bytes, without its length; an error says why there is none.
    pub async fn next(&mut self, max: usize) -> Result<Bytes, String> {
        loop {
            // Has room made for what is missing of a frame whose length is known, a step at a time.
            if let Some(frame) = frame::next_frame(&mut self.buf, max).map_err(|e| e.to_string())? {
                self.chunk = if frame.len() > READ_CHUNK { PEEKED } else { READ_CHUNK };
                return Ok(frame);
            }
            let wanted = match frame::length(&self.buf, max).map_err(|e| e.to_string())? {
                // No more than that: what lies behind it is moved if it is part of a large one.
                Some(length) => (LENGTH_PREFIX + length).saturating_sub(self.buf.len()).min(RESERVE_STEP),
                None => {
                    if self.chunk == PEEKED && self.buf.is_empty() {
                        // What the last one has left would be made as large as it was.
                        self.buf = BytesMut::new();
                    }
                    self.buf.reserve(self.chunk);
                    self.chunk
                }
            };
            match self.socket.read_buf(&mut (&mut self.buf).limit(wanted)).await {
                Ok(0) if self.buf.is_empty() => return Err("closed by the broker".into()),
                Ok(0) => return Err("closed by the broker inside a reply".into()),
                Ok(n) => metrics::bytes(Direction::ClusterIn).increment(n as u64),
                Err(e) => return Err(format!("read: {e}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const MAX: usize = 16 << 20;

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        bodies.iter().flat_map(|b| [&(b.len() as u32).to_be_bytes()[..], b].concat()).collect()
    }

    #[tokio::test]
    async fn frames_come_out_whole_and_in_order_however_the_bytes_arrive() {
        let sizes = [0, 3, 70_000, 9, READ_CHUNK - 4, READ_CHUNK, 1 << 20, PEEKED - 4, 2 << 20, 1, RESERVE_STEP + 9, 5];
        let bodies: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(n, &size)| (0..size).map(|i| (i * 7 + n) as u8).collect()).collect();
        for pipe in [1000, 100_000, 64 << 20] {
            let (mut broker, ours) = tokio::io::duplex(pipe);
            let sent = framed(&bodies);
            let writer = tokio::spawn(async move { broker.write_all(&sent).await });
            let mut frames = Frames::new(ours);
            for body in &bodies {
                assert!(frames.next(MAX).await.unwrap() == body[..], "{} bytes, {pipe} at a time", body.len());
            }
            writer.await.unwrap().unwrap();
            assert_eq!(frames.next(MAX).await.unwrap_err(), "closed by the broker");
        }
    }

    #[tokio::test]
    async fn a_large_frame_has_memory_of_its_own_size() {
        let size = 1 << 20;
        let (mut broker, ours) = tokio::io::duplex(50_000);
        let sent = framed(&vec![vec![7; size]; 4]);
        let writer = tokio::spawn(async move { broker.write_all(&sent).await });
        let (mut frames, mut taken) = (Frames::new(ours), Vec::new());
        for _ in 0..4 {
            taken.push(frames.next(MAX).await.unwrap());
        }
        drop(frames);
        for frame in taken {
            let memory = frame.try_into_mut().map_or(0, |frame| frame.capacity());
            assert!((size..=size + 2 * PEEKED).contains(&memory), "{memory} bytes; 0: shared with another frame");
        }
        writer.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error() {
        for (sent, why) in [
            (&b"\0\0\0\x05abc"[..], "closed by the broker inside a reply"),
            (b"\0\0", "closed by the broker inside a reply"),
            (b"\x01\0\0\0", "frame of 16777216 bytes is over the limit of 1000"),
        ] {
            let (mut broker, ours) = tokio::io::duplex(100);
            broker.write_all(sent).await.unwrap();
            drop(broker);
            assert_eq!(Frames::new(ours).next(1000).await.unwrap_err(), why);
        }
    }
}
