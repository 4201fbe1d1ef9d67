//! The errors that reached an application, in short.

use serde::{Deserialize, Serialize};

use super::events::AppError;

/// All errors of a run, as its results keep them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Errors {
    pub total: usize,
    /// `ROLE: TEXT` of each that ended something.
    pub fatal: Vec<String>,
    /// Equal ones counted once, numbers (partitions, ports) aside; the most frequent first.
    kinds: Vec<String>,
}

impl Errors {
    pub fn of(errors: &[AppError]) -> Errors {
        let fatal = errors.iter().filter(|e| e.fatal).map(|e| format!("{}: {}", e.by.name(), e.text)).collect();
        Errors { total: errors.len(), fatal, kinds: kinds(errors) }
    }

    /// The most frequent kinds, a few.
    pub fn kinds(&self) -> Vec<String> {
        /// Kinds of errors of one run; the rest is in the JSON.
        const MOST: usize = 3;
        let mut lines: Vec<String> = self.kinds.iter().take(MOST).cloned().collect();
        if let rest @ 1.. = self.kinds.len().saturating_sub(MOST) {
            lines.push(format!("{rest} more kinds of errors"));
        }
        lines
    }
}

fn kinds(errors: &[AppError]) -> Vec<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for error in errors {
        let fatal = if error.fatal { "fatal, " } else { "" };
        let kind = format!("{fatal}{}: `{}`", error.by.name(), one_line(&without_numbers(&error.text)));
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    kinds.into_iter().map(|(kind, count)| format!("{count} × {kind}")).collect()
}

fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            other => plain.push(other),
        }
    }
    plain
}

/// Short and without what would end a table's cell, a list's line or a piece of code.
pub fn one_line(text: &str) -> String {
    /// Enough to recognise an error.
    const LENGTH: usize = 160;
    let line: String = text.replace('|', "/").replace('`', "'").split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(LENGTH).collect::<String>().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::events::Role;

    #[test]
    fn equal_errors_are_counted_once_whatever_their_numbers() {
        let error = |text: &str, fatal| AppError { by: Role::Group, fatal, text: text.into(), ms: 0 };
        let errors = [
            error("once", false),
            error("port 9092 |\n`x`", false),
            error("port 17 |\n`x`", false),
            error("dead", true),
        ];
        let errors = Errors::of(&errors);
        assert_eq!((errors.total, errors.fatal.as_slice()), (4, ["group: dead".to_owned()].as_slice()));
        assert_eq!(errors.kinds(), ["2 × group: `port # / 'x'`", "1 × group: `once`", "1 × fatal, group: `dead`"]);
    }
}
