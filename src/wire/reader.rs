//! A cursor over untrusted bytes that never panics and never allocates.

/// Why a read failed; the caller adds where.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum ReadError {
    /// So many bytes were needed, so many were left.
    Truncated { need: usize, left: usize },
    /// A varint of more than 32 bits.
    Varint,
}

/// Bytes and a position in them.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0 }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    pub fn take(&mut self, need: usize) -> Result<&'a [u8], ReadError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = rest.get(..need).ok_or(ReadError::Truncated { need, left: rest.len() })?;
        self.position += need;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let left = self.left();
        let taken = self.take(N)?;
        taken.first_chunk::<N>().copied().ok_or(ReadError::Truncated { need: N, left })
    }

    pub fn i8(&mut self) -> Result<i8, ReadError> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, ReadError> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, ReadError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, ReadError> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Passes tagged fields (KIP-482). The loop is bounded by the bytes that are left: each field takes two at least.
    pub fn skip_tags(&mut self) -> Result<(), ReadError> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let size = self.uvarint()?;
            self.take(size as usize)?;
        }
        Ok(())
    }

    /// An unsigned varint of at most five bytes (KIP-482). The codec silently drops bits above the 32nd; here they
    /// are an error, so that both read the same number.
    pub fn uvarint(&mut self) -> Result<u32, ReadError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(ReadError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ReadError::Varint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        for (bytes, want) in [
            (&[0x00][..], Ok(0)),
            (&[0x7f], Ok(127)),
            (&[0x80, 0x01], Ok(128)),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(ReadError::Varint)),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Err(ReadError::Varint)),
            (&[0x80], Err(ReadError::Truncated { need: 1, left: 0 })),
            (&[], Err(ReadError::Truncated { need: 1, left: 0 })),
        ] {
            assert_eq!(Reader::new(bytes).uvarint(), want, "{bytes:?}");
        }
    }

    #[test]
    fn a_failed_read_moves_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.i32(), Err(ReadError::Truncated { need: 4, left: 3 }));
        assert_eq!(reader.take(usize::MAX), Err(ReadError::Truncated { need: usize::MAX, left: 3 }));
        assert_eq!(reader.i16(), Ok(0x0102));
        assert_eq!((reader.position(), reader.left(), reader.i8()), (2, 1, Ok(3)));
    }
}
