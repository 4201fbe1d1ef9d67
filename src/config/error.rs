//! What is wrong with a configuration file, and where: file, line, column, and the name that was probably meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Names further away than this (0 to 1, Jaro-Winkler) are not offered as a correction.
const NEAR: f64 = 0.75;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// Everything found wrong, in the order of the file; never empty.
    #[error("{}", Lines(.0))]
    Invalid(Vec<Problem>),
}

/// One thing wrong in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

/// Places a message at a byte range of the file's text.
pub(super) fn problem(file: &Path, text: &str, span: Option<Range<usize>>, message: String) -> Problem {
    let start = span.map_or(0, |span| span.start).min(text.len());
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    Problem { file: file.to_owned(), line: before.matches('\n').count() + 1, column, message }
}

/// An error of the TOML reader in our words. The reader names the known keys only in its message, so that is taken apart;
/// a message of another form is passed on as it is.
pub(super) fn from_toml(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let message = reword(error.message());
    ConfigError::Invalid(vec![problem(file, text, error.span(), message)])
}

fn reword(message: &str) -> String {
    let mut ticked = message.split('`').skip(1).step_by(2);
    let mut name = || ticked.next().unwrap_or_default();
    if message.starts_with("unknown field") {
        let key = name();
        let known: Vec<&str> = ticked.collect();
        format!("unknown key `{key}`{}", suggest(key, &known, "keys here"))
    } else if message.starts_with("unknown variant") {
        let value = name();
        let known: Vec<&str> = ticked.collect();
        format!("unknown value `{value}`{}", suggest(value, &known, "it can be"))
    } else if message.starts_with("missing field") {
        format!("the key `{}` is missing", name())
    } else {
        message.to_owned()
    }
}

/// "; did you mean `x`?" with the nearest of the known names, or all of them when none is near.
pub(super) fn suggest(wrong: &str, known: &[&str], lead: &str) -> String {
    let score = |name: &str| strsim::jaro_winkler(&wrong.to_lowercase(), name);
    let nearest = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    match nearest {
        Some(name) if score(name) >= NEAR => format!("; did you mean `{name}`?"),
        Some(_) => format!("; {lead}: {}", known.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let text = "a = 1\nwörter = 2\n";
        let at = text.find('2').unwrap();
        let found = problem(Path::new("x.toml"), text, Some(at..at + 1), "no".to_owned());
        assert_eq!(found.to_string(), "x.toml:2:10: no");
        assert_eq!(problem(Path::new("x"), "", Some(9..9), String::new()).line, 1);
    }

    #[test]
    fn suggestions() {
        assert_eq!(suggest("lisener", &["listener", "limits"], "keys here"), "; did you mean `listener`?");
        assert_eq!(suggest("zzz", &["listener", "tee"], "keys here"), "; keys here: listener, tee");
        assert_eq!(suggest("zzz", &[], "keys here"), "");
    }
}
