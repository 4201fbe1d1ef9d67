//! What is kept of runs: a file for each client, so that one can be run again without the others, and the tables of all.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::known::CLIENTS;
use super::table::{Row, markdown};
use crate::support::process::first_line;

/// Where results are kept.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results")
}

/// Keeps these clients' runs instead of earlier ones, and makes the tables of all that have been kept anew. A client that
/// was not run keeps what it had.
pub fn keep(rows: &[Row], directory: &Path) -> io::Result<()> {
    let each = directory.join("clients");
    fs::create_dir_all(&each)?;
    for row in rows.iter().filter(|row| row.outcome.is_ok()) {
        fs::write(each.join(format!("{}.json", row.known.name)), format!("{:#}\n", row.json()))?;
    }
    let mut all = Vec::new();
    for known in &CLIENTS {
        match fs::read(each.join(format!("{}.json", known.name))) {
            Ok(kept) => all.push(Row::read(known, &kept)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    fs::write(directory.join("clients.md"), markdown(&all))
}

/// When it is now, and of what commit this source is: `2026-11-29 21:40 UTC, e86953f`.
pub fn stamp() -> String {
    let date = first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    format!("{date}, {}", first_line("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::judge::Judgement;
    use crate::matrix::known::find;
    use crate::matrix::table::{NoRuns, Runs};
    use crate::support::temp::TempDir;

    fn row(name: &str, acknowledged: usize) -> Row {
        let proxied = Judgement { acknowledged, version: "1.0".into(), ..Judgement::default() };
        let runs = Runs { stamp: "today, c0ffee".into(), rate: 200, proxied, direct: Judgement::default() };
        Row { known: find(name).expect("a client"), outcome: Ok(runs) }
    }

    #[test]
    fn a_run_replaces_its_own_clients_only() {
        let directory = TempDir::new("results");
        keep(&[row("sarama", 100), row("franz-go", 200)], directory.path()).expect("kept");
        let none = NoRuns { reason: "no Go".into(), is_failure: false };
        let not_run = Row { known: find("franz-go").expect("a client"), outcome: Err(none) };
        keep(&[row("sarama", 300), not_run], directory.path()).expect("kept");
        let tables = fs::read_to_string(directory.path().join("clients.md")).expect("tables");
        for shown in ["| sarama (Go) | 1.0 | 300 |", "| franz-go (Go) | 1.0 | 200 |", "today, c0ffee"] {
            assert!(tables.contains(shown), "{shown}: {tables}");
        }
        assert!(!tables.contains("| 100 |"), "{tables}");
    }
}
