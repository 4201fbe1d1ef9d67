//! A request as pieces of memory, written to the socket as they lie: record batches are never copied into it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Less than this is copied: a piece of its own costs more.
const SHARED_FROM: usize = 1024;

/// Bytes to be written one behind the other.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: VecDeque<Bytes>,
    left: usize,
    /// What is being put together behind them.
    tail: BytesMut,
}

impl From<Bytes> for Parts {
    fn from(bytes: Bytes) -> Self {
        Parts { left: bytes.len(), parts: VecDeque::from([bytes]), tail: BytesMut::new() }
    }
}

impl Parts {
    /// Room for `small` bytes that are put in, not shared.
    pub fn with_capacity(small: usize) -> Self {
        Parts { tail: BytesMut::with_capacity(small), ..Default::default() }
    }

    /// For what is written, not shared; closed by [`Parts::share`] and [`Parts::finish`].
    pub fn put(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_FROM {
            self.tail.extend_from_slice(bytes);
        } else {
            self.close();
            self.left += bytes.len();
            self.parts.push_back(bytes.clone());
        }
    }

    fn close(&mut self) {
        if !self.tail.is_empty() {
            self.left += self.tail.len();
            self.parts.push_back(self.tail.split().freeze());
        }
    }

    /// The frame, its length in front. `None`: longer than a length can say.
    pub fn finish(mut self) -> Option<Self> {
        self.close();
        let length = i32::try_from(self.left).ok()?;
        self.parts.push_front(Bytes::copy_from_slice(&length.to_be_bytes()));
        self.left += size_of::<i32>();
        Some(self)
    }
}

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let pairs = to.iter_mut().zip(&self.parts);
        pairs.map(|(to, part)| *to = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.left -= count;
        while let Some(first) = self.parts.front_mut() {
            if count < first.len() {
                return first.advance(count);
            }
            count -= first.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    #[test]
    fn a_frame_is_its_pieces_in_order_and_large_ones_are_shared() {
        let large = Bytes::from(vec![7; SHARED_FROM]);
        let mut parts = Parts::with_capacity(16);
        parts.put().put_u8(1);
        parts.share(&Bytes::from_static(b"ab"));
        parts.share(&large);
        parts.put().put_u8(2);
        let mut frame = parts.finish().unwrap();
        let want = [&(SHARED_FROM as i32 + 4).to_be_bytes()[..], b"\x01ab", &large, b"\x02"].concat();
        assert_eq!(frame.remaining(), want.len());
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(frame.chunks_vectored(&mut slices), 4);
        assert_eq!(slices[2].as_ptr(), large.as_ptr());
        // In whatever steps it is written.
        for step in [1, 3, 500, 2000] {
            let mut frame = Parts::from(Bytes::from(want.clone()));
            let mut got = Vec::new();
            while frame.has_remaining() {
                let count = step.min(frame.chunk().len());
                got.extend_from_slice(&frame.chunk()[..count]);
                frame.advance(count);
            }
            assert_eq!(got, want);
        }
        frame.advance(5);
        assert_eq!(frame.chunk(), b"ab");
        frame.advance(2 + SHARED_FROM);
        assert_eq!((frame.chunk(), frame.remaining()), (&b"\x02"[..], 1));
    }
}
