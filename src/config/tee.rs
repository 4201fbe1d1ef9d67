//! Which topics are teed, and how: the patterns of `[tee]` made ready to ask per topic.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What an acknowledgement of a produce means for the standby.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TeeMode {
    /// The active cluster and, while it is in sync, the standby have the batch.
    Sync,
    /// The active cluster has the batch; the standby follows.
    Async,
    /// The topic is not copied.
    Off,
}

/// What a sync topic does while the standby is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossPolicy {
    /// Raise an alarm and go on as async.
    Degrade,
    /// Answer produce requests with a retriable error.
    Block,
}

/// The rules of `[tee]`. Equal rules are written the same way.
#[derive(Clone, Debug)]
pub struct TeeRules {
    pub default_mode: TeeMode,
    /// A standby silent for this long leaves the in-sync state.
    pub sync_timeout: Duration,
    pub on_standby_loss: LossPolicy,
    include: Patterns,
    exclude: Patterns,
    overrides: Vec<(Patterns, TeeMode)>,
}

/// A set of glob patterns; keeps its source, since a compiled set cannot be compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    source: Vec<String>,
    compiled: GlobSet,
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Patterns {
    pub(super) fn new(source: Vec<String>) -> Result<Patterns, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for pattern in &source {
            set.add(GlobBuilder::new(pattern).build()?);
        }
        Ok(Patterns { compiled: set.build()?, source })
    }
}

impl PartialEq for TeeRules {
    fn eq(&self, other: &Self) -> bool {
        let plain = |rules: &TeeRules| (rules.default_mode, rules.sync_timeout, rules.on_standby_loss);
        plain(self) == plain(other)
            && self.include == other.include
            && self.exclude == other.exclude
            && self.overrides == other.overrides
    }
}

impl TeeRules {
    pub(super) fn new(
        default_mode: TeeMode,
        sync_timeout: Duration,
        on_standby_loss: LossPolicy,
        include: Patterns,
        exclude: Patterns,
        overrides: Vec<(Patterns, TeeMode)>,
    ) -> TeeRules {
        TeeRules { default_mode, sync_timeout, on_standby_loss, include, exclude, overrides }
    }

    /// How `topic` is teed. Internal topics (`__*`) never are; then `exclude` and `include` decide whether it is teed at
    /// all, then the first override that matches, then the default.
    pub fn mode(&self, topic: &str) -> TeeMode {
        let internal = topic.starts_with("__");
        if internal || self.exclude.compiled.is_match(topic) || !self.include.compiled.is_match(topic) {
            return TeeMode::Off;
        }
        let chosen = self.overrides.iter().find(|(patterns, _)| patterns.compiled.is_match(topic));
        chosen.map_or(self.default_mode, |(_, mode)| *mode)
    }

    /// Whether any topic could be teed in this mode.
    pub fn uses(&self, mode: TeeMode) -> bool {
        self.default_mode == mode || self.overrides.iter().any(|(_, chosen)| *chosen == mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(source: &[&str]) -> Patterns {
        Patterns::new(source.iter().map(|pattern| (*pattern).to_owned()).collect()).unwrap()
    }

    #[test]
    fn first_match_wins_and_internal_topics_stay() {
        let rules = TeeRules::new(
            TeeMode::Async,
            Duration::from_secs(1),
            LossPolicy::Degrade,
            patterns(&["*"]),
            patterns(&["tmp.*", "payments-scratch"]),
            vec![
                (patterns(&["payments-eu"]), TeeMode::Off),
                (patterns(&["payments-*", "{a,b}?"]), TeeMode::Sync),
                (patterns(&["payments-us"]), TeeMode::Async),
                (patterns(&["__*"]), TeeMode::Sync),
            ],
        );
        for (topic, mode) in [
            ("orders", TeeMode::Async),
            ("payments-us", TeeMode::Sync),
            ("payments-eu", TeeMode::Off),
            ("payments-scratch", TeeMode::Off),
            ("payments-a.b_c", TeeMode::Sync),
            ("tmp.x", TeeMode::Off),
            ("b1", TeeMode::Sync),
            ("__consumer_offsets", TeeMode::Off),
            ("_schemas", TeeMode::Async),
        ] {
            assert_eq!(rules.mode(topic), mode, "{topic}");
        }
        assert!(rules.uses(TeeMode::Sync));
    }

    #[test]
    fn nothing_included_is_nothing_teed() {
        let only =
            |include| TeeRules::new(TeeMode::Sync, Duration::ZERO, LossPolicy::Block, include, patterns(&[]), vec![]);
        assert_eq!(only(patterns(&[])).mode("t"), TeeMode::Off);
        assert_eq!(only(patterns(&["t*"])).mode("u"), TeeMode::Off);
        assert_eq!(only(patterns(&["t*"])).mode("t1"), TeeMode::Sync);
    }
}
