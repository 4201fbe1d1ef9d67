//! The field layout of every request and response of Kafka 4.3, read once from the generated `schema.txt`.
//!
//! `gen_schema.py` writes that file from the message definitions inside a kafka-clients jar and describes its format.

use std::ops::Range;
use std::sync::LazyLock;

const TEXT: &str = include_str!("schema.txt");

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| match Schema::parse(TEXT) {
    Ok(schema) => schema,
    // The text is part of this binary; a unit test reads it.
    Err(line) => panic!("src/wire/schema.txt: cannot read {line:?}"),
});

/// An inclusive range of versions; empty if the first is above the second.
pub type Versions = (i16, i16);

/// No version at all.
pub const NO_VERSION: Versions = (0, -1);

/// Is `version` in `versions`?
pub fn contains(versions: Versions, version: i16) -> bool {
    versions.0 <= version && version <= versions.1
}

/// Keys of every API in the schema, rising. The dead ones (4 to 7) are there, without versions.
pub fn keys() -> impl Iterator<Item = i16> {
    SCHEMA.apis.iter().map(|api| api.key)
}

/// Kafka's name of an API without "Request", as in `Metadata`.
pub fn name(key: i16) -> Option<&'static str> {
    api(key).map(|api| api.name)
}

/// Versions of an API in Kafka 4.3, stable ones only; `None` for an unknown API and for one that was removed.
pub fn versions(key: i16) -> Option<Versions> {
    api(key).map(|api| api.versions).filter(|versions| versions.0 <= versions.1)
}

/// Has this version tagged fields and compact lengths (KIP-482)? Holds for versions above the known ones too, which a
/// newer client's ApiVersions request has; false for an unknown API.
pub fn is_flexible(key: i16, version: i16) -> bool {
    api(key).is_some_and(|api| version >= api.flexible_from)
}

pub(super) fn api(key: i16) -> Option<&'static Api> {
    // Keys start at 0 and have no gaps.
    SCHEMA.apis.get(usize::try_from(key).ok()?).filter(|api| api.key == key)
}

/// All fields of all messages in depth-first order; [`Api`] and [`Field::end`] point into it.
pub(super) fn fields() -> &'static [Field] {
    &SCHEMA.fields
}

/// One API: where its two messages start and end among the fields.
#[derive(Debug)]
pub(super) struct Api {
    pub key: i16,
    pub name: &'static str,
    pub versions: Versions,
    pub flexible_from: i16,
    pub request: Range<usize>,
    pub response: Range<usize>,
}

/// One field. The fields of a structure follow it directly, up to `end`; the next field beside it is at `end`.
#[derive(Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub array: bool,
    pub versions: Versions,
    pub nullable: Versions,
    pub tag: Option<u32>,
    pub end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    String,
    /// `bytes` and `records`, whose content is not looked at.
    Bytes,
    Structure,
}

struct Schema {
    apis: Vec<Api>,
    fields: Vec<Field>,
}

impl Schema {
    /// Err: the line that cannot be read.
    fn parse(text: &'static str) -> Result<Self, &'static str> {
        let (mut apis, mut fields) = (Vec::<Api>::new(), Vec::<Field>::new());
        // Indices of the structures around the current line, outermost first.
        let mut open = Vec::<usize>::new();
        let mut in_response = false;
        for line in text.lines() {
            let depth = line.len() - line.trim_start().len();
            if let Some(depth) = depth.checked_sub(1) {
                if depth > open.len() {
                    return Err(line);
                }
                open.truncate(depth);
                let index = fields.len();
                let field = Field::parse(line, index + 1).ok_or(line)?;
                let structure = field.kind == Kind::Structure;
                fields.push(field);
                for &outer in &open {
                    fields.get_mut(outer).ok_or(line)?.end = index + 1;
                }
                if structure {
                    open.push(index);
                }
                let api = apis.last_mut().ok_or(line)?;
                let message = if in_response { &mut api.response } else { &mut api.request };
                message.end = index + 1;
            } else if line == ">" || line == "<" {
                open.clear();
                in_response = line == "<";
                let api = apis.last_mut().ok_or(line)?;
                let message = if in_response { &mut api.response } else { &mut api.request };
                *message = fields.len()..fields.len();
            } else {
                apis.push(Api::parse(line).ok_or(line)?);
            }
        }
        Ok(Schema { apis, fields })
    }
}

impl Api {
    fn parse(line: &'static str) -> Option<Api> {
        let mut words = line.split(' ');
        let key = words.next()?.parse().ok()?;
        let name = words.next()?;
        let versions = parse_versions(words.next()?)?;
        let flexible_from = match words.next()? {
            "none" => i16::MAX,
            version => version.parse().ok()?,
        };
        words.next().is_none().then_some(Api { key, name, versions, flexible_from, request: 0..0, response: 0..0 })
    }
}

impl Field {
    fn parse(line: &'static str, end: usize) -> Option<Field> {
        let mut words = line.trim_start().split(' ');
        let name = words.next()?;
        let kind = words.next()?;
        let (array, kind) = kind.strip_prefix("[]").map_or((false, kind), |element| (true, element));
        let kind = match kind {
            "bool" | "int8" => Kind::Fixed(1),
            "int16" | "uint16" => Kind::Fixed(2),
            "int32" => Kind::Fixed(4),
            "int64" | "float64" => Kind::Fixed(8),
            "uuid" => Kind::Fixed(16),
            "string" => Kind::String,
            "bytes" | "records" => Kind::Bytes,
            "{}" => Kind::Structure,
            _ => return None,
        };
        let mut field = Field { name, kind, array, versions: (0, i16::MAX), nullable: NO_VERSION, tag: None, end };
        for word in words {
            if let Some(nullable) = word.strip_prefix('?') {
                field.nullable = parse_versions(nullable)?;
            } else if let Some(tag) = word.strip_prefix('#') {
                field.tag = Some(tag.parse().ok()?);
            } else {
                field.versions = parse_versions(word)?;
            }
        }
        Some(field)
    }
}

/// "3", "3+", "3-13" or "none".
fn parse_versions(text: &str) -> Option<Versions> {
    if text == "none" {
        Some(NO_VERSION)
    } else if let Some(low) = text.strip_suffix('+') {
        Some((low.parse().ok()?, i16::MAX))
    } else if let Some((low, high)) = text.split_once('-') {
        Some((low.parse().ok()?, high.parse().ok()?))
    } else {
        let only = text.parse().ok()?;
        Some((only, only))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_text_is_whole() {
        assert_eq!(keys().collect::<Vec<_>>(), (0..=92).collect::<Vec<_>>());
        for (key, want_name, want_versions, flexible_from) in [
            (0, "Produce", Some((3, 13)), 9),
            (1, "Fetch", Some((4, 18)), 12),
            (4, "LeaderAndIsr", None, i16::MAX),
            (17, "SaslHandshake", Some((0, 1)), i16::MAX),
            (18, "ApiVersions", Some((0, 4)), 3),
            (22, "InitProducerId", Some((0, 5)), 2),
            (92, "DeleteShareGroupOffsets", Some((0, 0)), 0),
        ] {
            assert_eq!((name(key), versions(key)), (Some(want_name), want_versions));
            assert!(!is_flexible(key, flexible_from - 1) && is_flexible(key, flexible_from), "{want_name}");
        }
        assert_eq!((name(93), versions(-1), is_flexible(93, 5)), (None, None, false));
        assert!(is_flexible(18, 127) && !is_flexible(18, -1));
    }

    #[test]
    fn nesting_is_kept() {
        let produce = api(0).unwrap();
        let mut beside = Vec::new();
        let mut at = produce.request.start;
        while at < produce.request.end {
            beside.push(fields()[at].name);
            at = fields()[at].end;
        }
        assert_eq!(beside, ["TransactionalId", "Acks", "TimeoutMs", "TopicData"]);
        assert_eq!(at, produce.request.end);
        assert_eq!(produce.request.end, produce.response.start);
        let topic_data = &fields()[produce.request.start + 3];
        assert!(topic_data.array && topic_data.kind == Kind::Structure);
        assert_eq!(fields()[produce.request.end - 1].name, "Records");
        assert_eq!(fields()[produce.request.end - 1].nullable, (0, i16::MAX));
    }

    #[test]
    fn broken_text_is_named() {
        for text in
            ["x", "1 A 0", ">", " A int32", "1 A 0 0\n>\n  A int32", "1 A 0 0\n>\n A int33", "1 A 0 0\n>\n A int8 x"]
        {
            let bad = text.lines().last();
            assert_eq!(Schema::parse(text).err(), bad, "{text:?}");
        }
    }
}
