//! Share groups (KIP-932): where they begin to read, and their settings, kept on the standby. What of a partition is done with
//! behind its start offset is not copied: it is delivered again after a cutover, nothing is skipped.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{GroupSync, MAX_REMEMBERED};
use crate::catalog::StreamState;
use crate::config::TeeMode;
use crate::groups::starts::{Met, Starts};
use crate::groups::{standby, translate};
use crate::model::TopicPartition;
use crate::upstream::{Cluster, Configs, Kind, UpstreamError, code};

/// The setting that says where a group begins; at the end of the log without it.
const RESET: &str = "share.auto.offset.reset";
const LATEST: &str = "latest";
/// The group may have to be made, and members left from an earlier generation removed.
const ATTEMPTS: usize = 3;

type Places = BTreeMap<TopicPartition, i64>;

/// What this process knows of share groups in this generation.
#[derive(Default)]
pub(super) struct Shares {
    /// Start offsets on the standby, by group.
    known: HashMap<String, Places>,
    settings: HashMap<String, Configs>,
    starts: Starts,
}

impl GroupSync {
    /// A share group's member asked for records or got some.
    pub fn share_read(&self, group: &str, partition: &TopicPartition, met: Met) {
        self.shares.lock().starts.meet(group, partition, met);
    }

    /// Brings one share group up to date: (partitions written, partitions that wait).
    pub(super) async fn copy_share(&self, group: &str) -> Result<(usize, usize), String> {
        let _turn = self.turn(group).await;
        let known = self.shares.lock().known.remove(group);
        let mut known = match known {
            Some(known) => known,
            None => match self.standbys_own(group).await {
                Ok(known) => known,
                Err(error) if is_not_served(&error) => return Ok((0, 0)),
                Err(error) => return Err(error.to_string()),
            },
        };
        let Some(starts) = self.read(self.active.share_starts(group)).await? else { return Ok((0, 0)) };
        let settings = self.read(self.active.group_configs(group)).await?;
        let latest = settings.get(RESET).is_none_or(|reset| reset.eq_ignore_ascii_case(LATEST));
        self.put_settings(group, settings).await.map_err(|e| e.to_string())?;
        let (wanted, waiting) = self.wanted(group, &starts, &known, latest);
        let absent = self.write_share(group, &wanted).await?;
        let (mut written, all) = (0, wanted.len());
        for (tp, start) in wanted.into_iter().filter(|(tp, _)| !absent.contains(tp)) {
            known.insert(tp, start);
            written += 1;
        }
        self.forget_topics(group, &starts, &mut known).await?;
        let mut shares = self.shares.lock();
        if shares.known.len() >= MAX_REMEMBERED {
            shares.known.clear();
            shares.settings.clear();
        }
        shares.known.insert(group.to_owned(), known);
        Ok((written, waiting + all - written))
    }

    /// Where the group begins on the standby. Members left there from an earlier generation would be dealt partitions after a
    /// cutover: they are removed.
    async fn standbys_own(&self, group: &str) -> Result<Places, UpstreamError> {
        remove_members(&self.standby, group).await?;
        Ok(self.standby.share_starts(group).await?.unwrap_or_default())
    }

    /// What the standby lacks, and how many partitions cannot be translated yet.
    fn wanted(
        &self,
        group: &str,
        starts: &Places,
        known: &Places,
        latest: bool,
    ) -> (Vec<(TopicPartition, i64)>, usize) {
        let (mut wanted, mut waiting) = (Vec::new(), 0);
        let shares = self.shares.lock();
        for (tp, &start) in starts {
            let Some(partition) = self.catalog.partition(&tp.topic, tp.partition) else { continue };
            if partition.mode() == TeeMode::Off {
                continue;
            }
            let there = known.get(tp).copied().unwrap_or(-1);
            let noted = shares.starts.of(group, tp, latest);
            if start < 0 && (there >= 0 || noted.is_none()) {
                continue;
            }
            // Before the maps, so that they cover it.
            let progress = partition.progress();
            let offsets = partition.offsets.read();
            let place = match (partition.state(), noted) {
                (StreamState::Diverged(_), _) => None,
                (_, Some(began)) if start < 0 && progress.standby_end >= 0 => {
                    Some(offsets.map(self.active_ix.other()).position_in(began).min(progress.standby_end))
                }
                _ => translate::standby_offset(&offsets, self.active_ix, progress, start),
            };
            match place {
                Some(place) if place == there => {}
                Some(place) => wanted.push((tp.clone(), place)),
                None => waiting += 1,
            }
        }
        (wanted, waiting)
    }

    /// Writes start offsets to the standby; answers the partitions that it does not have yet.
    async fn write_share(
        &self,
        group: &str,
        wanted: &[(TopicPartition, i64)],
    ) -> Result<HashSet<TopicPartition>, String> {
        if wanted.is_empty() {
            return Ok(HashSet::new());
        }
        let mut left = ATTEMPTS;
        let refused = loop {
            left -= 1;
            let error = match self.standby.alter_share_starts(group, wanted).await {
                Ok(refused) => break refused,
                Err(error) if left == 0 => return Err(error.to_string()),
                Err(error) => error,
            };
            let mended = match error.kafka_code() {
                Some(code::NON_EMPTY_GROUP) => remove_members(&self.standby, group).await,
                Some(code::GROUP_ID_NOT_FOUND) => {
                    let topics: HashSet<&str> = wanted.iter().map(|(tp, _)| &*tp.topic).collect();
                    let member = uuid::Uuid::from_u128(rand::random()).to_string();
                    self.standby.create_share_group(group, &member, &topics.into_iter().collect::<Vec<_>>()).await
                }
                _ => return Err(error.to_string()),
            };
            mended.map_err(|e| e.to_string())?;
        };
        let mut absent = HashSet::new();
        for (tp, code) in refused {
            if !matches!(code, code::UNKNOWN_TOPIC_OR_PARTITION | code::UNKNOWN_TOPIC_ID) {
                return Err(format!("{tp}: error code {code}"));
            }
            absent.insert(tp);
        }
        Ok(absent)
    }

    /// Topics that the group has been told to forget on the active cluster.
    async fn forget_topics(&self, group: &str, starts: &Places, known: &mut Places) -> Result<(), String> {
        let read: HashSet<&str> = starts.keys().map(|tp| &*tp.topic).collect();
        let gone: HashSet<&str> = known.keys().map(|tp| &*tp.topic).filter(|topic| !read.contains(topic)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let topics: Vec<&str> = gone.into_iter().collect();
        match self.standby.delete_share_starts(group, &topics).await {
            Err(error) if error.kafka_code() != Some(code::GROUP_ID_NOT_FOUND) => return Err(error.to_string()),
            _ => tracing::info!(group, ?topics, "start offsets deleted on the standby, as on the active cluster"),
        }
        known.retain(|tp, _| read.contains(&*tp.topic));
        Ok(())
    }

    async fn put_settings(&self, group: &str, settings: Configs) -> Result<(), UpstreamError> {
        let known = self.shares.lock().settings.get(group).cloned();
        if known.as_ref() == Some(&settings) {
            return Ok(());
        }
        let there = match known {
            Some(there) => there,
            None => self.standby.group_configs(group).await?,
        };
        let gone: Vec<&str> = there.keys().filter(|key| !settings.contains_key(*key)).map(String::as_str).collect();
        let new = settings.iter().filter(|(key, value)| there.get(*key) != Some(value));
        let new: Configs = new.map(|(key, value)| (key.clone(), value.clone())).collect();
        self.standby.alter_group_configs(group, &new, &gone).await?;
        self.shares.lock().settings.insert(group.to_owned(), settings);
        Ok(())
    }

    /// Deletes share groups on the standby that were written in this generation and are no more on the active cluster.
    pub(super) async fn follow_share_deletions(&self, listed: &HashSet<&str>) {
        let missing: Vec<String> = {
            let shares = self.shares.lock();
            shares.known.keys().filter(|group| !listed.contains(group.as_str())).cloned().collect()
        };
        for group in missing {
            if !matches!(self.active.share_starts(&group).await, Ok(None)) {
                continue;
            }
            match standby::delete_group(&self.standby, &group).await {
                Ok(()) => {
                    tracing::info!(group, "deleted on the standby, as on the active cluster");
                    self.shares.lock().known.remove(&group);
                }
                Err(error) => self.failed(&group, &error.to_string()),
            }
        }
    }
}

/// The cluster knows no share groups, or they are switched off: those of the other one are read around the proxy.
fn is_not_served(error: &UpstreamError) -> bool {
    matches!(error.kind(), Kind::Unsupported(_)) || error.kafka_code() == Some(code::UNSUPPORTED_VERSION)
}

/// Removes the members that a share group has on the standby: they were left behind when it was the active cluster.
pub(super) async fn remove_members(standby: &Cluster, group: &str) -> Result<(), UpstreamError> {
    let members = standby.share_members(group).await?;
    if !members.is_empty() {
        tracing::info!(group, members = members.len(), "removing share consumers left behind on the standby");
    }
    for member in members {
        standby.leave_share_group(group, &member).await?;
    }
    Ok(())
}
