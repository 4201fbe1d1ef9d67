//! The guard in front of the codec: walks a message by its schema and refuses what the codec must not see.
//!
//! kafka_protocol allocates for every array what its count says before it reads an element (twelve bytes can abort the
//! process), ignores the declared sizes of tagged fields that it knows, and leaves trailing bytes unread. A body that
//! passed [`check`] has none of that: every length and count is backed by bytes that are there, so what the codec
//! allocates is bounded by [`MAX_ELEMENTS`] and the frame.

use super::reader::{ReadError, Reader};
use super::schema::{self, Field};
use std::ops::Range;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Most elements of arrays of structures, strings or byte fields, and unknown tagged fields, in one message, all nesting
/// levels counted together. Such an element can be a byte or two on the wire and some hundred bytes in memory, so that a
/// frame at the size limit could take tens of GB decoded; this keeps it to some hundred MB. A topic listing of a million
/// partitions fits.
pub const MAX_ELEMENTS: usize = 2_000_000;

/// Longest string in bytes; Kafka's own decoder (`MessageGenerator`, `readString`) has the same limit.
pub const MAX_STRING: usize = i16::MAX as usize;

/// Which of the two messages of an API.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Kind {
    Request,
    Response,
}

/// Why a message is refused. `field` is the name in Kafka's message definition.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum GuardError {
    #[error("no schema for API {key} version {version}")]
    UnknownVersion { key: i16, version: i16 },
    #[error("{field}: {need} bytes needed, {left} left")]
    Truncated { field: &'static str, need: usize, left: usize },
    #[error("{field}: varint of more than 32 bits")]
    Varint { field: &'static str },
    #[error("{field}: length {len}")]
    Length { field: &'static str, len: i64 },
    #[error("{field}: null is not allowed")]
    Null { field: &'static str },
    #[error("{field}: {count} elements in {left} bytes")]
    Count { field: &'static str, count: usize, left: usize },
    #[error("{field}: more than {MAX_ELEMENTS} elements in one message")]
    TooMany { field: &'static str },
    #[error("{field}: not UTF-8")]
    NotUtf8 { field: &'static str },
    #[error("{field}: tagged field of {size} bytes has a value of {value}")]
    TagSize { field: &'static str, size: usize, value: usize },
    #[error("{field}: marker {marker} of an optional structure")]
    Marker { field: &'static str, marker: i8 },
    #[error("{0} bytes behind the end of the message")]
    Trailing(usize),
}

/// Checks the body (no header) of a request or response before it is decoded.
///
/// Allocates nothing; takes time in proportion to the number of fields in the body; `records` are skipped, not looked at.
pub fn check(kind: Kind, api_key: i16, version: i16, body: &[u8]) -> Result<(), GuardError> {
    let api = schema::api(api_key)
        .filter(|api| schema::contains(api.versions, version))
        .ok_or(GuardError::UnknownVersion { key: api_key, version })?;
    let message = match kind {
        Kind::Request => &api.request,
        Kind::Response => &api.response,
    };
    let mut walk = Walk {
        fields: schema::fields(),
        reader: Reader::new(body),
        version,
        flexible: version >= api.flexible_from,
        elements: 0,
    };
    walk.structure(api.name, message.clone())?;
    match walk.reader.left() {
        0 => Ok(()),
        left => Err(GuardError::Trailing(left)),
    }
}

/// One pass over a body. Recursion is as deep as the schema nests, whatever the bytes say.
struct Walk<'a> {
    fields: &'static [Field],
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, name: &'static str, range: Range<usize>) -> Result<(), GuardError> {
        let mut at = range.start;
        while at < range.end {
            let Some(field) = self.fields.get(at) else { break };
            if field.tag.is_none() && schema::contains(field.versions, self.version) {
                self.value(at, field)?;
            }
            at = field.end;
        }
        if self.flexible { self.tagged_fields(name, range) } else { Ok(()) }
    }

    /// The tagged fields at the end of a structure. The codec reads a known one by its type and never looks at the size,
    /// so the two must agree.
    fn tagged_fields(&mut self, name: &'static str, range: Range<usize>) -> Result<(), GuardError> {
        for _ in 0..self.uvarint(name)? {
            let tag = self.uvarint(name)?;
            let size = self.uvarint(name)? as usize;
            match self.tagged(range.clone(), tag) {
                Some((at, field)) => {
                    let start = self.reader.position();
                    self.value(at, field)?;
                    let value = self.reader.position() - start;
                    if value != size {
                        return Err(GuardError::TagSize { field: field.name, size, value });
                    }
                }
                None => {
                    self.count_elements(name, 1)?;
                    self.skip(name, size)?;
                }
            }
        }
        Ok(())
    }

    fn tagged(&self, range: Range<usize>, tag: u32) -> Option<(usize, &'static Field)> {
        let mut at = range.start;
        while at < range.end {
            let field = self.fields.get(at)?;
            if field.tag == Some(tag) && schema::contains(field.versions, self.version) {
                return Some((at, field));
            }
            at = field.end;
        }
        None
    }

    fn value(&mut self, at: usize, field: &'static Field) -> Result<(), GuardError> {
        if !field.array {
            return self.element(at, field, schema::contains(field.nullable, self.version));
        }
        let Some(count) = self.array_count(field)? else { return self.null(field) };
        let left = self.reader.left();
        if count > left {
            return Err(GuardError::Count { field: field.name, count, left });
        }
        if let schema::Kind::Fixed(size) = field.kind {
            // No overflow: a count is at most the frame's length, a size at most 16.
            return self.skip(field.name, count.saturating_mul(size));
        }
        self.count_elements(field.name, count)?;
        for _ in 0..count {
            self.element(at, field, false)?;
        }
        Ok(())
    }

    /// One value that is no array, or one element of an array (which is never null).
    fn element(&mut self, at: usize, field: &'static Field, nullable: bool) -> Result<(), GuardError> {
        match field.kind {
            schema::Kind::Fixed(size) => self.skip(field.name, size),
            schema::Kind::String => self.string(field, nullable),
            schema::Kind::Bytes => {
                let len = if self.flexible { self.compact_length(field)? } else { self.long_length(field)? };
                match len {
                    Some(len) => self.skip(field.name, len),
                    None if nullable => Ok(()),
                    None => Err(GuardError::Null { field: field.name }),
                }
            }
            schema::Kind::Structure => {
                // Only a structure that may be null has a marker in front, and only outside of arrays.
                if nullable {
                    match self.read(field.name, Reader::i8)? {
                        1 => {}
                        -1 => return Ok(()),
                        marker => return Err(GuardError::Marker { field: field.name, marker }),
                    }
                }
                self.structure(field.name, at + 1..field.end)
            }
        }
    }

    fn string(&mut self, field: &'static Field, nullable: bool) -> Result<(), GuardError> {
        let len = if self.flexible {
            self.compact_length(field)?
        } else {
            signed_length(field, i64::from(self.read(field.name, Reader::i16)?))?
        };
        let Some(len) = len else {
            return if nullable { Ok(()) } else { Err(GuardError::Null { field: field.name }) };
        };
        if len > MAX_STRING {
            return Err(GuardError::Length { field: field.name, len: len as i64 });
        }
        let text = self.read(field.name, |reader| reader.take(len))?;
        if std::str::from_utf8(text).is_err() {
            return Err(GuardError::NotUtf8 { field: field.name });
        }
        Ok(())
    }

    fn array_count(&mut self, field: &'static Field) -> Result<Option<usize>, GuardError> {
        if self.flexible { self.compact_length(field) } else { self.long_length(field) }
    }

    fn long_length(&mut self, field: &'static Field) -> Result<Option<usize>, GuardError> {
        signed_length(field, i64::from(self.read(field.name, Reader::i32)?))
    }

    /// A compact length is one more than it says, 0 is null.
    fn compact_length(&mut self, field: &'static Field) -> Result<Option<usize>, GuardError> {
        Ok((self.uvarint(field.name)? as usize).checked_sub(1))
    }

    fn null(&self, field: &'static Field) -> Result<(), GuardError> {
        if schema::contains(field.nullable, self.version) {
            Ok(())
        } else {
            Err(GuardError::Null { field: field.name })
        }
    }

    fn count_elements(&mut self, name: &'static str, count: usize) -> Result<(), GuardError> {
        self.elements = self.elements.saturating_add(count);
        if self.elements > MAX_ELEMENTS { Err(GuardError::TooMany { field: name }) } else { Ok(()) }
    }

    fn uvarint(&mut self, name: &'static str) -> Result<u32, GuardError> {
        self.read(name, Reader::uvarint)
    }

    fn skip(&mut self, name: &'static str, len: usize) -> Result<(), GuardError> {
        self.read(name, |reader| reader.take(len)).map(drop)
    }
}

impl<'a> Walk<'a> {
    fn read<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, ReadError>,
    ) -> Result<T, GuardError> {
        read(&mut self.reader).map_err(|error| match error {
            ReadError::Truncated { need, left } => GuardError::Truncated { field, need, left },
            ReadError::Varint => GuardError::Varint { field },
        })
    }
}

/// -1 is null; whether that is allowed is the caller's question.
fn signed_length(field: &'static Field, len: i64) -> Result<Option<usize>, GuardError> {
    match len {
        -1 => Ok(None),
        len => usize::try_from(len).map(Some).map_err(|_| GuardError::Length { field: field.name, len }),
    }
}
