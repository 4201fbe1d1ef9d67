//! Length-prefixed frames out of a receive buffer.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Largest frame accepted unless configured otherwise, in bytes without the length prefix: a broker's own default
/// (`socket.request.max.bytes`, 100 MiB) and 1 MiB, because a rewritten frame may be a little longer than the sent one.
pub const DEFAULT_MAX_FRAME: usize = 100 * MIB + MIB;

/// Most bytes reserved at once for a frame that is still arriving, so that memory follows what was really sent and not
/// what a length prefix promises. Above the size of ordinary frames (batches of up to 1 MiB): what outgrows a step is moved.
pub const RESERVE_STEP: usize = 4 * MIB;

const MIB: usize = 1024 * 1024;
pub const LENGTH_PREFIX: usize = 4;

/// A length prefix that no sane peer sends; the connection cannot go on.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum FrameError {
    #[error("frame length {0} is negative")]
    Negative(i32),
    #[error("frame of {len} bytes is over the limit of {max}")]
    TooLarge { len: usize, max: usize },
}

/// Length of the frame that starts in front of `buf`, without the prefix; `None` while the prefix is not all there.
pub fn length(buf: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = buf.first_chunk::<LENGTH_PREFIX>() else { return Ok(None) };
    let len = i32::from_be_bytes(*prefix);
    let len = usize::try_from(len).map_err(|_| FrameError::Negative(len))?;
    if len > max { Err(FrameError::TooLarge { len, max }) } else { Ok(Some(len)) }
}

/// Takes the next whole frame, without its 4-byte length, off the front of `buf`; `None` if more bytes are needed.
///
/// Lengths are judged before anything is allocated. The frame shares the buffer's memory (nothing is copied).
pub fn next_frame(buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    next_frame_mut(buf, max).map(|frame| frame.map(BytesMut::freeze))
}

/// As [`next_frame`], for a frame that is to be changed where it lies.
pub fn next_frame_mut(buf: &mut BytesMut, max: usize) -> Result<Option<BytesMut>, FrameError> {
    let Some(len) = length(buf, max)? else { return Ok(None) };
    let missing = (LENGTH_PREFIX + len).saturating_sub(buf.len());
    if missing > 0 {
        buf.reserve(missing.min(RESERVE_STEP));
        return Ok(None);
    }
    buf.advance(LENGTH_PREFIX);
    Ok(Some(buf.split_to(len)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    #[test]
    fn frames_come_out_whole_and_in_order_however_the_bytes_arrive() {
        let mut sent = BytesMut::new();
        for body in [&b"one"[..], b"", b"three"] {
            sent.put_i32(body.len() as i32);
            sent.put_slice(body);
        }
        for chunk in 1..=sent.len() {
            let (mut buf, mut got) = (BytesMut::new(), Vec::new());
            for part in sent.chunks(chunk) {
                buf.put_slice(part);
                while let Some(frame) = next_frame(&mut buf, 100).unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, [&b"one"[..], b"", b"three"], "chunks of {chunk}");
            assert!(buf.is_empty());
        }
    }

    #[test]
    fn bad_lengths_are_errors_as_soon_as_they_are_there() {
        for (len, want) in [
            (-1, FrameError::Negative(-1)),
            (i32::MIN, FrameError::Negative(i32::MIN)),
            (101, FrameError::TooLarge { len: 101, max: 100 }),
            (i32::MAX, FrameError::TooLarge { len: i32::MAX as usize, max: 100 }),
        ] {
            let mut buf = BytesMut::from(&len.to_be_bytes()[..]);
            assert_eq!(next_frame(&mut buf, 100), Err(want));
        }
        assert_eq!(next_frame(&mut BytesMut::from(&100i32.to_be_bytes()[..]), 100), Ok(None));
    }

    #[test]
    fn a_promised_length_reserves_little() {
        let mut buf = BytesMut::from(&(DEFAULT_MAX_FRAME as i32).to_be_bytes()[..]);
        assert_eq!(next_frame(&mut buf, DEFAULT_MAX_FRAME), Ok(None));
        assert!(buf.capacity() <= 2 * RESERVE_STEP, "{}", buf.capacity());
    }
}
