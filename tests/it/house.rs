//! The house rules that a machine can check: pure rooms stay pure, the map names every room and every limit, files stay
//! short, nothing is left half done.

use std::fs;
use std::path::{Path, PathBuf};

/// Files and directories under `src` whose code takes time and entropy as arguments.
const PURE: [&str; 22] = [
    "model.rs",
    "wire",
    "records",
    "rewrite",
    "offsets",
    "stream",
    "cutover",
    "transactions",
    "state/records.rs",
    "state/image.rs",
    "divergence/again.rs",
    "divergence/lines.rs",
    "divergence/tally.rs",
    "groups/members.rs",
    "groups/members/memory.rs",
    "groups/consumers.rs",
    "groups/consumers/memory.rs",
    "groups/translate.rs",
    "groups/bodies.rs",
    "verify/bounds.rs",
    "verify/chunk.rs",
    "verify/compare.rs",
];
/// What they may import; those in `groups` and `verify` see plain data of I/O rooms too.
const PURE_ROOMS: [&str; 8] = ["model", "wire", "records", "rewrite", "offsets", "stream", "cutover", "transactions"];
/// Imports against the order of the rooms; ARCHITECTURE.md says why.
const AGAINST_THE_ORDER: [(&str, &str); 2] = [("groups", "proxy"), ("verify", "admin")];
/// Any room that does I/O may count.
const METRICS: &str = "admin::metrics";
/// Runtime, clock, randomness, and the rest of the outside world.
const OUTSIDE: [&str; 9] =
    ["tokio", "Instant", "SystemTime", "rand::", "std::fs", "std::net", "std::thread", "std::env", METRICS];
const LONGEST_FILE: usize = 450;
/// Longer ones, each for its reason.
const LONG_FILES: [(&str, &str); 0] = [];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All Rust files under a file or directory.
fn rust_files(under: &Path) -> Vec<PathBuf> {
    if under.is_file() {
        return vec![under.to_owned()];
    }
    let entries = fs::read_dir(under).unwrap_or_else(|e| panic!("{}: {e}", under.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The code of a file without comments and unit tests.
fn code(path: &Path) -> String {
    let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
    if matches!(name, "tests" | "fixtures" | "fake") {
        return String::new();
    }
    let text = read(path);
    let untested = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    untested.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a file's code names, metrics aside.
fn imports(file: &Path) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    code(file).split("crate::").skip(1).filter(|path| !path.starts_with(METRICS)).map(word).collect()
}

#[test]
fn pure_rooms_know_no_runtime_clock_or_randomness() {
    for room in PURE {
        for file in rust_files(&root().join("src").join(room)) {
            let code = code(&file);
            for word in OUTSIDE {
                assert!(!code.contains(word), "{} is pure, but names {word}", file.display());
            }
        }
    }
}

#[test]
fn pure_rooms_import_only_pure_rooms() {
    for room in PURE.iter().filter(|room| !room.starts_with("groups") && !room.starts_with("verify")) {
        for file in rust_files(&root().join("src").join(room)) {
            for import in imports(&file) {
                assert!(PURE_ROOMS.contains(&import.as_str()), "{} is pure, but imports {import}", file.display());
            }
        }
    }
}

#[test]
fn rooms_import_only_what_stands_above_them_in_the_map() {
    let map = read(&root().join("ARCHITECTURE.md"));
    let table = map.split("\n## ").find(|section| section.starts_with("Rooms")).expect("a section on rooms");
    let rooms: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(room, _)| room).collect();
    for (place, room) in rooms.iter().enumerate() {
        let directory = root().join("src").join(room);
        let under = if directory.is_dir() { directory } else { directory.with_extension("rs") };
        for file in rust_files(&under) {
            for import in imports(&file) {
                let above = rooms.iter().position(|r| *r == import).is_some_and(|other| other <= place);
                let allowed = above || AGAINST_THE_ORDER.contains(&(room, &import));
                assert!(allowed, "{} imports {import}, which stands below {room}", file.display());
            }
        }
    }
}

#[test]
fn the_map_names_every_room() {
    let map = read(&root().join("ARCHITECTURE.md"));
    for entry in fs::read_dir(root().join("src")).expect("src") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if !matches!(name.as_str(), "lib" | "main") {
            assert!(map.contains(&format!("\n| `{name}` |")), "ARCHITECTURE.md has no line for the room {name}");
        }
    }
}

#[test]
fn the_map_names_limits_where_they_are() {
    let map = read(&root().join("ARCHITECTURE.md"));
    let table = map.split("\n## ").find(|section| section.starts_with("Limits")).expect("a section on limits");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut checked = 0;
    for row in rows {
        let mut cells = row.split('|').skip(1);
        let names = cells.next().unwrap_or_default();
        let file = cells.next().unwrap_or_default().trim().trim_matches('`');
        let text = read(&root().join("src").join(file));
        for name in names.split('`').filter(|name| name.chars().any(|c| c.is_ascii_uppercase())) {
            assert!(text.contains(&format!("const {name}:")), "src/{file} has no constant {name}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} limits found: is it still a table?");
}

#[test]
fn files_are_short_and_whole() {
    let unfinished = [concat!("todo", "!("), concat!("unimplemented", "!(")];
    for directory in ["src", "tests", "bench"] {
        for file in rust_files(&root().join(directory)) {
            let text = read(&file);
            let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
            for word in unfinished {
                assert!(!text.contains(word), "{name} has a {word}");
            }
            let long = text.lines().count() > LONGEST_FILE;
            let allowed = LONG_FILES.iter().any(|(path, _)| *path == name);
            assert_eq!(long, allowed, "{name}: {} lines", text.lines().count());
            assert!(name.ends_with("tests.rs") || text.starts_with("//!"), "{name} does not say what it is for");
        }
    }
}
