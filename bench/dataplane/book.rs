//! The book of measured values: medians and ranges over the rounds, percentiles, ratios between contestants.

use serde_json::{Value, json};

/// What was measured of whom, round by round.
#[derive(Default)]
pub struct Book {
    rows: Vec<Row>,
}

/// One measure of one contestant in one part of the bench. The measure's name ends in its unit.
pub struct Row {
    pub part: String,
    pub peer: String,
    pub measure: String,
    pub values: Vec<f64>,
}

/// The rounds' values in one: what the tables show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Book {
    /// Notes the value of one round.
    pub fn note(&mut self, part: &str, peer: &str, measure: &str, value: f64) {
        let same = |row: &&mut Row| row.part == part && row.peer == peer && row.measure == measure;
        match self.rows.iter_mut().find(same) {
            Some(row) => row.values.push(value),
            None => {
                let (part, peer, measure) = (part.into(), peer.into(), measure.into());
                self.rows.push(Row { part, peer, measure, values: vec![value] });
            }
        }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn figure(&self, part: &str, peer: &str, measure: &str) -> Option<Figure> {
        let row = self.rows.iter().find(|r| r.part == part && r.peer == peer && r.measure == measure)?;
        row.figure()
    }

    pub fn median(&self, part: &str, peer: &str, measure: &str) -> Option<f64> {
        self.figure(part, peer, measure).map(|figure| figure.median)
    }

    /// The value of the last round.
    pub fn last(&self, part: &str, peer: &str, measure: &str) -> Option<f64> {
        let row = self.rows.iter().find(|r| r.part == part && r.peer == peer && r.measure == measure)?;
        row.values.last().copied()
    }

    /// The median of the ratios round by round: what disturbs the machine for a whole round disturbs both.
    pub fn ratio(&self, part: &str, measure: &str, peer: &str, to: &str) -> Option<f64> {
        let values = |peer: &str| {
            self.rows.iter().find(|r| r.part == part && r.peer == peer && r.measure == measure).map(|r| &r.values)
        };
        let ratios = values(peer)?.iter().zip(values(to)?).filter(|(_, to)| **to > 0.0).map(|(one, to)| one / to);
        figure(&ratios.collect::<Vec<_>>()).map(|figure| figure.median)
    }

    /// The parts that something was noted of.
    pub fn parts(&self) -> Vec<String> {
        let mut parts: Vec<String> = self.rows.iter().map(|row| row.part.clone()).collect();
        parts.dedup();
        parts
    }

    pub fn json(&self, part: &str) -> Value {
        let row = |row: &Row| {
            let figure = row.figure();
            json!({
                "part": row.part, "peer": row.peer, "measure": row.measure,
                "median": figure.map(|f| f.median), "min": figure.map(|f| f.min), "max": figure.map(|f| f.max),
                "rounds": row.values,
            })
        };
        self.rows.iter().filter(|row| row.part == part).map(row).collect()
    }

    /// Takes in what [`Book::json`] gave.
    pub fn read(&mut self, rows: &Value) {
        for row in rows.as_array().into_iter().flatten() {
            let word = |key: &str| row[key].as_str().unwrap_or_default();
            for value in row["rounds"].as_array().into_iter().flatten().filter_map(Value::as_f64) {
                self.note(word("part"), word("peer"), word("measure"), value);
            }
        }
    }
}

impl Row {
    pub fn figure(&self) -> Option<Figure> {
        figure(&self.values)
    }
}

fn figure(values: &[f64]) -> Option<Figure> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    Some(Figure { median, min, max })
}

/// The nearest rank of per mille: a value that was measured, never one in between. NaN without values.
pub fn percentile(values: &[f64], per_mille: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Three significant digits, as tables want them.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "-".into(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

// A bench is built with its unit tests' helpers, but without the tests: those run in the integration tests' binary.
#[cfg(test)]
#[allow(dead_code, unused_imports)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_with_their_range() {
        let mut book = Book::default();
        for value in [3.0, 1.0, 2.0, 10.0] {
            book.note("produce", "plain", "mb_per_s", value);
        }
        let figure = book.figure("produce", "plain", "mb_per_s");
        assert_eq!(figure, Some(Figure { median: 2.5, min: 1.0, max: 10.0 }));
        assert_eq!(book.median("produce", "haproxy", "mb_per_s"), None);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let mut book = Book::default();
        for value in [3.0, 1.0] {
            book.note("produce", "plain", "mb_per_s", value);
        }
        book.note("small", "plain", "mb_per_s", 7.0);
        let mut again = Book::default();
        book.parts().iter().for_each(|part| again.read(&book.json(part)));
        assert_eq!(again.json("produce"), book.json("produce"));
        assert_eq!((again.parts(), again.median("small", "plain", "mb_per_s")), (book.parts(), Some(7.0)));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut book = Book::default();
        // The second round was slow for both.
        for (plain, haproxy) in [(1.0, 2.0), (10.0, 20.0), (0.4, 1.0)] {
            book.note("small", "plain", "cpu", plain);
            book.note("small", "haproxy", "cpu", haproxy);
        }
        assert_eq!(book.ratio("small", "cpu", "plain", "haproxy"), Some(0.5));
        assert_eq!(book.ratio("small", "cpu", "plain", "mm2"), None);
        book.note("small", "idle", "cpu", 0.0);
        assert_eq!(book.ratio("small", "cpu", "plain", "idle"), None, "nothing is divided by nothing");
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 500), 100.0);
        assert_eq!(percentile(&values, 990), 198.0);
        assert_eq!(percentile(&values, 1000), 200.0);
        assert!(percentile(&[], 500).is_nan());
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [1234.5, 12.34, 1.234, 0.01234, 0.0, f64::NAN].into_iter().map(short).collect();
        assert_eq!(shown, ["1234", "12.3", "1.23", "0.012", "0.00", "-"]);
    }
}
