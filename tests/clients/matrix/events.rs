//! What a client program writes to its standard output: one JSON object a line. tests/clients/README.md has the contract.

use serde::Deserialize;

use crate::support::checker::{RecordId, Seen};
use crate::support::load::decode_value;

/// The three things that each program does, each with a client object of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Producer,
    /// Subscribed in a group, commits by itself.
    Group,
    /// Given its partitions, keeps its positions itself.
    Assigned,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Producer, Role::Group, Role::Assigned];

    pub fn name(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Group => "group",
            Role::Assigned => "assigned",
        }
    }
}

/// One line. `ms`: the program's own clock, milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// First of all: what it is.
    Hello { version: String, idempotent: bool },
    /// The producer was told that a record is stored.
    Ack(Line),
    /// A reader got a record.
    Read {
        by: Role,
        #[serde(flatten)]
        line: Line,
    },
    /// The application was handed an error. `fatal`: what `by` does has ended, or a record was given up.
    Error { by: Role, fatal: bool, text: String, ms: u64 },
    /// Something for the reader of the table.
    Note { text: String },
    /// After `stop`: everything sent is acknowledged or given up.
    Flushed,
}

/// A record with its place. `id` is the first word of its value, `KEY-SEQUENCE`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Line {
    pub partition: i32,
    pub offset: i64,
    pub id: String,
    pub ms: u64,
}

/// A record as one role saw it, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    pub ms: u64,
    pub seen: Seen,
}

/// An error that reached the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppError {
    pub by: Role,
    pub fatal: bool,
    pub text: String,
    pub ms: u64,
}

/// Everything that one program said.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub version: String,
    pub idempotent: bool,
    pub acknowledged: Vec<Sighting>,
    pub group: Vec<Sighting>,
    pub assigned: Vec<Sighting>,
    pub errors: Vec<AppError>,
    pub notes: Vec<String>,
    pub flushed: bool,
}

impl Told {
    /// Adds a line; an error says what is wrong with it.
    pub fn hear(&mut self, line: &str) -> Result<(), String> {
        let event: Event = serde_json::from_str(line).map_err(|e| format!("{e} in {line:?}"))?;
        match event {
            Event::Hello { version, idempotent } => (self.version, self.idempotent) = (version, idempotent),
            Event::Ack(line) => self.acknowledged.push(sighting(&line)?),
            Event::Read { by: Role::Group, line } => self.group.push(sighting(&line)?),
            Event::Read { by: Role::Assigned, line } => self.assigned.push(sighting(&line)?),
            Event::Read { by: Role::Producer, .. } => return Err(format!("a producer does not read: {line:?}")),
            Event::Error { by, fatal, text, ms } => self.errors.push(AppError { by, fatal, text, ms }),
            Event::Note { text } => self.notes.push(text),
            Event::Flushed => self.flushed = true,
        }
        Ok(())
    }

    pub fn of(&self, role: Role) -> &[Sighting] {
        match role {
            Role::Producer => &self.acknowledged,
            Role::Group => &self.group,
            Role::Assigned => &self.assigned,
        }
    }
}

fn sighting(line: &Line) -> Result<Sighting, String> {
    let id: RecordId = decode_value(line.id.as_bytes()).ok_or_else(|| format!("not a record's name: {:?}", line.id))?;
    Ok(Sighting { ms: line.ms, seen: Seen { partition: line.partition, offset: line.offset, id } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_contract_are_understood() {
        let mut told = Told::default();
        for line in [
            r#"{"event":"hello","version":"4.3.1","idempotent":true}"#,
            r#"{"event":"ack","partition":1,"offset":7,"id":"5-0","ms":1000}"#,
            r#"{"event":"read","by":"group","partition":1,"offset":7,"id":"5-0","ms":1001}"#,
            r#"{"event":"read","by":"assigned","partition":1,"offset":7,"id":"5-0","ms":1002}"#,
            r#"{"event":"error","by":"group","fatal":false,"text":"it says so","ms":1003}"#,
            r#"{"event":"flushed"}"#,
        ] {
            told.hear(line).unwrap();
        }
        let seen = Seen { partition: 1, offset: 7, id: RecordId { key: 5, seq: 0 } };
        assert_eq!(told.acknowledged, [Sighting { ms: 1000, seen }]);
        assert_eq!((told.group[0].ms, told.assigned[0].ms), (1001, 1002));
        assert_eq!((told.errors.len(), told.flushed, told.idempotent), (1, true, true));
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "WARN something",
            r#"{"event":"surprise"}"#,
            r#"{"event":"ack","partition":1,"offset":7,"id":"five","ms":1000}"#,
            r#"{"event":"read","by":"producer","partition":1,"offset":7,"id":"5-0","ms":1000}"#,
        ] {
            assert!(Told::default().hear(line).is_err(), "{line}");
        }
    }
}
