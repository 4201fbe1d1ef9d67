//! What a reload of the configuration can change while the proxy runs, and what waits for a restart.

use super::Config;

/// The keys (or whole sections) in which two configurations differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Taken over at once.
    pub live: Vec<&'static str>,
    /// Take effect at the next start.
    pub restart: Vec<&'static str>,
}

pub(super) fn changes(old: &Config, new: &Config) -> Changes {
    let live = [
        ("tee", old.tee != new.tee),
        ("topics.on_delete", old.topics.on_delete != new.topics.on_delete),
        ("topics.replication_factor", old.topics.replication_factor != new.topics.replication_factor),
        ("cutover", old.cutover != new.cutover),
        ("limits.hold_deadline", old.limits.hold_deadline != new.limits.hold_deadline),
    ];
    let restart = [
        ("active", old.active.name != new.active.name),
        ("standby", old.standby.as_ref().map(|c| &c.name) != new.standby.as_ref().map(|c| &c.name)),
        ("state_file", old.state_file != new.state_file),
        ("clusters", bootstraps(old) != bootstraps(new)),
        ("listener", old.listener != new.listener),
        ("admin", old.admin != new.admin),
        ("metrics", old.metrics != new.metrics),
        ("groups", old.groups != new.groups),
        ("topics.refresh_interval", old.topics.refresh_interval != new.topics.refresh_interval),
        ("topics.state_replication_factor", old.topics.state_replication_factor != new.topics.state_replication_factor),
        ("limits.max_frame", old.limits.max_frame != new.limits.max_frame),
        ("limits.max_connections", old.limits.max_connections != new.limits.max_connections),
        ("limits.tee_buffer", old.limits.tee_buffer != new.limits.tee_buffer),
        ("limits.reply_buffer", old.limits.reply_buffer != new.limits.reply_buffer),
        ("limits.in_flight_per_connection", old.limits.in_flight_per_connection != new.limits.in_flight_per_connection),
    ];
    let differing =
        |keys: &[(&'static str, bool)]| keys.iter().filter(|(_, differs)| *differs).map(|(k, _)| *k).collect();
    Changes { live: differing(&live), restart: differing(&restart) }
}

/// The addresses by cluster name: a change of roles alone is no change of the clusters.
fn bootstraps(config: &Config) -> std::collections::BTreeMap<&str, &[super::HostPort]> {
    let clusters = std::iter::once(&config.active).chain(&config.standby);
    clusters.map(|cluster| (cluster.name.as_str(), cluster.bootstrap.as_slice())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const BASE: &str =
        "active = \"a\"\nstandby = \"b\"\n[clusters.a]\nbootstrap = [\"a:1\"]\n[clusters.b]\nbootstrap = [\"b:1\"]\n";

    #[test]
    fn keys_are_sorted_into_live_and_restart() {
        let old = Config::parse(Path::new("x"), BASE).unwrap();
        assert_eq!(old.changes(&old.clone()), Changes::default());
        for (changed, live, restart) in [
            (format!("{BASE}[tee]\nmode = \"sync\""), vec!["tee"], vec![]),
            (format!("{BASE}[tee]\nexclude = [\"x\"]"), vec!["tee"], vec![]),
            (format!("{BASE}[limits]\nhold_deadline = \"5s\""), vec!["limits.hold_deadline"], vec![]),
            (format!("{BASE}[limits]\ntee_buffer = \"1MiB\""), vec![], vec!["limits.tee_buffer"]),
            (BASE.replace("b:1", "b:2"), vec![], vec!["clusters"]),
            (
                BASE.replace("active = \"a\"\nstandby = \"b\"", "active = \"b\"\nstandby = \"a\""),
                vec![],
                vec!["active", "standby"],
            ),
        ] {
            let new = Config::parse(Path::new("x"), &changed).unwrap();
            assert_eq!(old.changes(&new), Changes { live, restart }, "{changed}");
        }
    }
}
