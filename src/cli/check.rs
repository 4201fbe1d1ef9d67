//! `check`: is the configuration valid and, with `--online`, could the two clusters be cut over?

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Exit, Failure, Terminal};
use crate::config::{Config, TeeMode};
use crate::model::ClusterIx;
use crate::replicate::is_user_topic;
use crate::upstream::{ClientOptions, Cluster, Snapshot, UpstreamError};
use crate::wire::versions::{Advertised, ClusterVersions};

/// One thing that the online check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// `false`: a cutover would be refused for it.
    pub fine: bool,
    /// One sentence.
    pub text: String,
}

pub(super) fn check(file: &Path, online: bool, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let config = Config::load(file).map_err(|error| Failure::new(Exit::Usage, error))?;
    let standby =
        config.standby.as_ref().map_or("no standby".to_owned(), |standby| format!("standby {}", standby.name));
    writeln!(terminal.out, "{} is valid: active {}, {standby}", file.display(), config.active.name)?;
    if !online {
        return Ok(Exit::Done);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let findings = runtime.block_on(preflight(&config)).map_err(|error| Failure::new(Exit::Failed, error))?;
    for finding in &findings {
        writeln!(terminal.out, "{}: {}", if finding.fine { "ok" } else { "NOT OK" }, finding.text)?;
    }
    Ok(if findings.iter().all(|finding| finding.fine) { Exit::Done } else { Exit::Failed })
}

/// How long one cluster may take to answer all that is asked of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The preflight of a cutover against both clusters, without a running proxy.
async fn preflight(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for ix in ClusterIx::BOTH {
        let Some(named) = config.cluster(ix) else { continue };
        let bootstrap = named.bootstrap.iter().map(ToString::to_string).collect();
        let cluster =
            Cluster::new(named.name.as_str(), bootstrap, ClientOptions { timeout: PATIENCE, ..Default::default() });
        match look(&cluster).await {
            Ok(found) => {
                let (brokers, topics) = (found.0.brokers.len(), user_topics(&found.0).len());
                let text =
                    format!("{}: {brokers} brokers, {topics} topics, cluster id {}", named.name, found.0.cluster_id);
                findings.push(Finding { fine: true, text });
                seen.push((named.name.clone(), found));
            }
            Err(error) => findings.push(Finding { fine: false, text: format!("{}: {error}", named.name) }),
        }
    }
    if let [(first, (from, from_versions)), (second, (to, to_versions))] = seen.as_slice() {
        findings.push(Finding {
            fine: from.cluster_id != to.cluster_id,
            text: match from.cluster_id == to.cluster_id {
                true => format!("{first} and {second} are the same cluster ({})", from.cluster_id),
                false => format!("{first} and {second} are different clusters"),
            },
        });
        let common = Advertised::of(&[from_versions, to_versions]);
        let missing: Vec<&str> =
            NEEDED.iter().filter(|(key, _)| common.served(*key).is_none()).map(|(_, name)| *name).collect();
        findings.push(Finding {
            fine: missing.is_empty(),
            text: match missing.is_empty() {
                true => "both clusters have the APIs that clients need in common".to_owned(),
                false => format!("no common version of {}", missing.join(", ")),
            },
        });
        findings.extend(topics(config, (first, from), (second, to)));
    }
    Ok(findings)
}

/// APIs without which no client works.
const NEEDED: [(i16, &str); 6] =
    [(0, "Produce"), (1, "Fetch"), (2, "ListOffsets"), (3, "Metadata"), (8, "OffsetCommit"), (10, "FindCoordinator")];

async fn look(cluster: &Cluster) -> Result<(Arc<Snapshot>, ClusterVersions), UpstreamError> {
    let snapshot = cluster.refresh().await?;
    let versions = cluster.api_versions().await?;
    Ok((snapshot, ClusterVersions::from(&versions)))
}

fn user_topics(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.topics.keys().map(|name| &**name).filter(|name| is_user_topic(name)).collect()
}

/// What the copies look like beside their originals.
fn topics(config: &Config, from: (&str, &Snapshot), to: (&str, &Snapshot)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut missing = 0;
    for name in user_topics(from.1).into_iter().filter(|name| config.tee.mode(name) != TeeMode::Off) {
        let (Some(source), Some(copy)) = (from.1.topic(name), to.1.topic(name)) else {
            missing += 1;
            continue;
        };
        let (have, want) = (copy.partitions.len(), source.partitions.len());
        if have > want {
            let text = format!("topic {name}: {have} partitions on {}, {want} on {}", to.0, from.0);
            findings.push(Finding { fine: false, text });
        }
    }
    if missing > 0 {
        let text = format!("{missing} topics are not on {} yet: the proxy creates them", to.0);
        findings.push(Finding { fine: true, text });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal =
            Terminal { out: &mut out, err: &mut err, input: &mut std::io::empty(), answers: false, screen: false };
        assert_eq!(check(&folder.join("config/minimal.toml"), false, &mut terminal), Ok(Exit::Done));
        let failure = check(&folder.join("rustfmt.toml"), false, &mut terminal).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("rustfmt.toml:1:1: unknown key `max_width`"), "{failure}");
        assert!(String::from_utf8(out).unwrap().ends_with("minimal.toml is valid: active east, standby west\n"));
    }
}
