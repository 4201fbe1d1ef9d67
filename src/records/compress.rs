//! The five codecs of record batches, in the framings that brokers and all clients accept, with a bounded output.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression as GzipLevel;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use thiserror::Error;

/// Most bytes that one batch may inflate to. A broker's largest sensible `max.message.bytes` is some tens of MiB; a batch
/// beyond this is a bomb or a fault, whatever its ratio, and is refused before it takes the memory.
pub const MAX_INFLATED: usize = 256 << 20;

/// Snappy's densest element copies 64 bytes for 3: a declared size beyond this ratio cannot be honest, so it does not get
/// to size an allocation.
const SNAPPY_MAX_RATIO: usize = 22;
/// First bytes of the framing that `snappy-java` ("xerial") and every Kafka client write.
const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The magic, a version and the lowest compatible version, both int32.
const XERIAL_HEADER: usize = 16;
/// Input bytes per snappy block: what `snappy-java` uses, readers size their buffers for it.
const XERIAL_BLOCK: usize = 32 << 10;
/// Kafka's own default level (`compression.zstd.level`).
const ZSTD_LEVEL: i32 = 3;

/// Compression of a batch's record section: bits 0 to 2 of its attributes (Kafka class `CompressionType`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Why bytes could not be inflated or deflated.
#[derive(Debug, Error)]
pub enum CompressError {
    #[error("unknown compression codec {0}")]
    UnknownCodec(u8),
    #[error("record section inflates to more than {0} bytes")]
    TooLarge(usize),
    #[error("corrupt {codec:?} data: {what}")]
    Corrupt { codec: Codec, what: String },
}

impl Codec {
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec with this number in a batch's attributes; 5 to 7 are not assigned.
    pub fn from_id(id: u8) -> Result<Codec, CompressError> {
        match id {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(CompressError::UnknownCodec(other)),
        }
    }

    /// The number in a batch's attributes.
    pub fn id(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    fn corrupt(self, what: impl ToString) -> CompressError {
        CompressError::Corrupt { codec: self, what: what.to_string() }
    }
}

/// Inflates a record section; without compression the same bytes come back. At most [`MAX_INFLATED`] bytes.
pub fn inflate(codec: Codec, data: &Bytes) -> Result<Bytes, CompressError> {
    inflate_capped(codec, data, MAX_INFLATED)
}

/// As [`inflate`], with a limit on the output in bytes that the caller chooses.
pub fn inflate_capped(codec: Codec, data: &Bytes, cap: usize) -> Result<Bytes, CompressError> {
    let out = match codec {
        Codec::None if data.len() > cap => return Err(CompressError::TooLarge(cap)),
        Codec::None => return Ok(data.clone()),
        Codec::Gzip => drain(codec, MultiGzDecoder::new(data.as_ref()), cap)?,
        Codec::Snappy => inflate_snappy(data, cap)?,
        Codec::Lz4 => drain(codec, FrameDecoder::new(data.as_ref()), cap)?,
        Codec::Zstd => {
            let reader = zstd::stream::read::Decoder::with_buffer(data.as_ref()).map_err(|e| codec.corrupt(e))?;
            drain(codec, reader, cap)?
        }
    };
    Ok(Bytes::from(out))
}

/// Deflates a record section: snappy in xerial framing, lz4 as a frame of independent 64 KiB blocks (Kafka's reader
/// refuses linked ones), gzip and zstd as plain streams. Levels are Kafka's defaults.
pub fn deflate(codec: Codec, data: &Bytes) -> Result<Bytes, CompressError> {
    let out = match codec {
        Codec::None => return Ok(data.clone()),
        Codec::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), GzipLevel::default());
            encoder.write_all(data).and_then(|()| encoder.finish()).map_err(|e| codec.corrupt(e))?
        }
        Codec::Snappy => deflate_snappy(data)?,
        Codec::Lz4 => {
            let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(data).map_err(|e| codec.corrupt(e))?;
            encoder.finish().map_err(|e| codec.corrupt(e))?
        }
        Codec::Zstd => zstd::stream::encode_all(data.as_ref(), ZSTD_LEVEL).map_err(|e| codec.corrupt(e))?,
    };
    Ok(Bytes::from(out))
}

/// Reads to the end, but never more than one byte over `cap`: the vector grows with what really came out.
fn drain(codec: Codec, reader: impl Read, cap: usize) -> Result<Vec<u8>, CompressError> {
    let mut out = Vec::new();
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit).read_to_end(&mut out).map_err(|e: io::Error| codec.corrupt(e))?;
    if out.len() > cap { Err(CompressError::TooLarge(cap)) } else { Ok(out) }
}

/// Snappy as Java writes it (blocks behind a 16-byte header) or as one raw block, as some old clients do.
fn inflate_snappy(data: &[u8], cap: usize) -> Result<Vec<u8>, CompressError> {
    let corrupt = |what: &str| Codec::Snappy.corrupt(what);
    let mut out = Vec::new();
    if !data.starts_with(&XERIAL_MAGIC) {
        append_snappy_block(data, cap, &mut out)?;
        return Ok(out);
    }
    let mut rest = data.get(XERIAL_HEADER..).ok_or_else(|| corrupt("framing header cut short"))?;
    while !rest.is_empty() {
        // Concatenated streams are legal: snappy-java skips a header in the place of a block length.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER..).ok_or_else(|| corrupt("framing header cut short"))?;
            continue;
        }
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("block length cut short"))?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| corrupt("negative block length"))?;
        let (block, tail) = tail.split_at_checked(length).ok_or_else(|| corrupt("block cut short"))?;
        append_snappy_block(block, cap, &mut out)?;
        rest = tail;
    }
    Ok(out)
}

fn append_snappy_block(block: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    let size = snap::raw::decompress_len(block).map_err(|e| Codec::Snappy.corrupt(e))?;
    if size > cap.saturating_sub(out.len()) {
        return Err(CompressError::TooLarge(cap));
    }
    if size > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(Codec::Snappy.corrupt("declared size is out of proportion"));
    }
    let start = out.len();
    out.resize(start + size, 0);
    let written =
        snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|e| Codec::Snappy.corrupt(e))?;
    out.truncate(start + written);
    Ok(())
}

fn deflate_snappy(data: &[u8]) -> Result<Vec<u8>, CompressError> {
    let mut out = Vec::with_capacity(XERIAL_HEADER + data.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in data.chunks(XERIAL_BLOCK) {
        let block = encoder.compress_vec(chunk).map_err(|e| Codec::Snappy.corrupt(e))?;
        let length = i32::try_from(block.len()).map_err(|e| Codec::Snappy.corrupt(e))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::fixtures;

    fn text(bytes: usize) -> Bytes {
        b"key=value;".iter().copied().cycle().take(bytes).collect()
    }

    #[test]
    fn every_codec_round_trips_every_size() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_id(codec.id()).ok(), Some(codec));
            for size in [0, 1, 10, XERIAL_BLOCK - 1, XERIAL_BLOCK, XERIAL_BLOCK + 1, 300_000] {
                let plain = text(size);
                let packed = deflate(codec, &plain).unwrap();
                assert_eq!(inflate(codec, &packed).unwrap(), plain, "{codec:?} {size}");
                if codec != Codec::None && size > 1000 {
                    assert!(packed.len() < size / 2, "{codec:?} does not compress");
                }
            }
        }
        assert!(matches!(Codec::from_id(5), Err(CompressError::UnknownCodec(5))));
    }

    #[test]
    fn a_bomb_is_refused_at_the_cap() {
        let cap = 100_000;
        for codec in Codec::ALL {
            let fits = deflate(codec, &text(cap)).unwrap();
            assert_eq!(inflate_capped(codec, &fits, cap).unwrap().len(), cap);
            let bomb = deflate(codec, &text(cap + 1)).unwrap();
            assert!(matches!(inflate_capped(codec, &bomb, cap), Err(CompressError::TooLarge(_))), "{codec:?}");
        }
    }

    #[test]
    fn a_snappy_block_cannot_declare_its_way_to_memory() {
        // Varint 200 MiB, then nothing that could yield it; and 4 GiB, which is over the cap.
        let lies = [(200u32 << 20, false), (u32::MAX, true)];
        for (declared, over_cap) in lies {
            let mut block = Vec::new();
            let mut left = declared;
            while left >= 0x80 {
                block.push((left & 0x7f) as u8 | 0x80);
                left >>= 7;
            }
            block.push(left as u8);
            block.extend_from_slice(&[0; 16]);
            match inflate(Codec::Snappy, &Bytes::from(block)) {
                Err(CompressError::TooLarge(_)) => assert!(over_cap),
                // Refused for the declaration itself, before anything is allocated for it.
                Err(CompressError::Corrupt { what, .. }) => assert!(!over_cap && what.contains("proportion")),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn snappy_is_read_raw_framed_concatenated_and_as_java_wrote_it() {
        let plain = text(50);
        let raw = Bytes::from(snap::raw::Encoder::new().compress_vec(&plain).unwrap());
        assert_eq!(inflate(Codec::Snappy, &raw).unwrap(), plain);

        let framed = deflate(Codec::Snappy, &plain).unwrap();
        let twice = Bytes::from([framed.as_ref(), framed.as_ref()].concat());
        assert_eq!(inflate(Codec::Snappy, &twice).unwrap(), text(100));

        let java = fixtures::batch(fixtures::JAVA_SNAPPY);
        let plain = fixtures::batch(fixtures::JAVA_NONE);
        assert_eq!(inflate(Codec::Snappy, &java.payload()).unwrap(), plain.payload());
    }

    #[test]
    fn multi_block_snappy_has_blocks_of_at_most_32_kib() {
        let framed = deflate(Codec::Snappy, &text(3 * XERIAL_BLOCK + 1)).unwrap();
        let mut rest = &framed[XERIAL_HEADER..];
        let mut sizes = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let (block, tail) = tail.split_at(i32::from_be_bytes(*length) as usize);
            sizes.push(snap::raw::decompress_len(block).unwrap());
            rest = tail;
        }
        assert_eq!(sizes, [XERIAL_BLOCK, XERIAL_BLOCK, XERIAL_BLOCK, 1]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(id in 0u8..5, data in proptest::collection::vec(any::<u8>(), 0..200), framed: bool) {
            let mut bytes = if framed { XERIAL_MAGIC.to_vec() } else { Vec::new() };
            bytes.extend(data);
            let codec = Codec::from_id(id).unwrap();
            let _ = inflate_capped(codec, &Bytes::from(bytes), 1 << 20);
        }

        #[test]
        fn damage_never_panics(id in 1u8..5, at in 0usize..200, value: u8, cut in 0usize..200) {
            let codec = Codec::from_id(id).unwrap();
            let mut packed = deflate(codec, &text(500)).unwrap().to_vec();
            let len = packed.len();
            packed[at % len] = value;
            packed.truncate(len - cut % len);
            let _ = inflate_capped(codec, &Bytes::from(packed), 1 << 20);
        }
    }
}
