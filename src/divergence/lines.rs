//! Records as JSON lines, for people and scripts. Pure. Text that is not UTF-8 comes as base64 under another name, so that
//! every line says exactly what was stored.

use serde::Serialize;

use super::Class;
use crate::records::{Batch, Codec, RecordError, Section};

#[derive(Serialize)]
struct Line<'a> {
    /// The retired cluster's.
    offset: i64,
    /// What clients saw before the cutover.
    logical_offset: i64,
    /// Milliseconds since 1970.
    timestamp: i64,
    timestamp_type: &'static str,
    #[serde(flatten)]
    key: Text<'a, Key>,
    #[serde(flatten)]
    value: Text<'a, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderLine<'a>>,
    codec: &'static str,
    #[serde(rename = "kind")]
    class: Class,
}

#[derive(Serialize)]
struct HeaderLine<'a> {
    #[serde(flatten)]
    key: Text<'a, Key>,
    #[serde(flatten)]
    value: Text<'a, Value>,
}

struct Key;
struct Value;

trait Names {
    const TEXT: &'static str;
    const BASE64: &'static str;
}

impl Names for Key {
    const TEXT: &'static str = "key";
    const BASE64: &'static str = "key_base64";
}

impl Names for Value {
    const TEXT: &'static str = "value";
    const BASE64: &'static str = "value_base64";
}

struct Text<'a, N>(Option<&'a [u8]>, std::marker::PhantomData<N>);

fn text<N>(bytes: Option<&[u8]>) -> Text<'_, N> {
    Text(bytes, std::marker::PhantomData)
}

impl<N: Names> Serialize for Text<'_, N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(1))?;
        match self.0.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
            None => map.serialize_entry(N::TEXT, &())?,
            Some(Ok(text)) => map.serialize_entry(N::TEXT, text)?,
            Some(Err(bytes)) => map.serialize_entry(N::BASE64, &base64(bytes))?,
        }
        map.end()
    }
}

/// A line per record of the batch at or above `from`; `logical` is what the record at `from` was called.
pub fn lines(class: Class, batch: &Batch, from: i64, logical: i64) -> Result<String, RecordError> {
    let mut out = String::new();
    if class == Class::Control {
        return Ok(out);
    }
    let header = batch.header();
    let codec = name(header.codec()?);
    let section = Section::open(batch)?;
    for record in section.records() {
        let record = record?;
        let offset = section.offset(&record);
        if offset < from {
            continue;
        }
        let line = Line {
            offset,
            logical_offset: logical.saturating_add(offset - from),
            timestamp: section.timestamp(&record),
            timestamp_type: if header.log_append_time() { "LogAppendTime" } else { "CreateTime" },
            key: text(record.key),
            value: text(record.value),
            headers: record
                .headers
                .clone()
                .map(|h| HeaderLine { key: text(Some(h.key)), value: text(h.value) })
                .collect(),
            codec,
            class,
        };
        // Strings, numbers and lists: this cannot fail.
        out.push_str(&serde_json::to_string(&line).unwrap_or_default());
        out.push('\n');
    }
    Ok(out)
}

/// As Kafka's `compression.type` names them.
fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "none",
        Codec::Gzip => "gzip",
        Codec::Snappy => "snappy",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    }
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &b| word << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::record::Header;
    use crate::records::{NewRecord, Stamp, build};

    #[test]
    fn base64_as_the_rfc_has_it() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn a_line_says_all_of_a_record() {
        let header = Header { key: b"h", value: Some(&[0xff]) };
        let records = [
            NewRecord { value: Some(b"below"), timestamp: 1, ..Default::default() },
            NewRecord { key: Some(b"k"), value: Some(&[0xff, 0]), headers: vec![header], timestamp: 5 },
            NewRecord { key: Some(b"gone"), timestamp: 6, ..Default::default() },
        ];
        let mut bytes = build(&records, Codec::Gzip, Stamp::NONE).unwrap().to_vec();
        bytes[..8].copy_from_slice(&9i64.to_be_bytes());
        let batch = Batch::new(bytes.into()).unwrap();
        let found = lines(Class::Aborted, &batch, 10, 110).unwrap();
        let want = concat!(
            r#"{"offset":10,"logical_offset":110,"timestamp":5,"timestamp_type":"CreateTime","key":"k","value_base64":"/wA=","#,
            r#""headers":[{"key":"h","value_base64":"/w=="}],"codec":"gzip","kind":"aborted"}"#,
            "\n",
            r#"{"offset":11,"logical_offset":111,"timestamp":6,"timestamp_type":"CreateTime","key":"gone","value":null,"#,
            r#""codec":"gzip","kind":"aborted"}"#,
            "\n",
        );
        assert_eq!(found, want);
        assert_eq!(lines(Class::Control, &batch, 0, 0).unwrap(), "");
    }
}
