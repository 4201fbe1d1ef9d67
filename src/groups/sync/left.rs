//! What members left behind on the standby when it was the active cluster. A coordinator waits for them whenever somebody
//! joins, until their sessions end: a cutover would make the group stand still for as long.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;

use super::{AT_ONCE, GroupSync, Named, shares};
use crate::groups::standby;
use crate::upstream::ListedGroup;

/// Of one generation.
#[derive(Default)]
pub(super) struct Left {
    /// Groups that had members on the standby when this was first asked; `None`: not yet.
    manned: Mutex<Option<Vec<Named>>>,
    /// Member ids, by group, for which the standby waits although nobody will join by them there.
    unjoined: Mutex<HashMap<String, Vec<String>>>,
}

/// Groups that may have members.
pub(super) fn manned(groups: Vec<ListedGroup>) -> impl Iterator<Item = Named> {
    groups.into_iter().filter(|group| standby::has_members(&group.state)).map(Named::from)
}

impl GroupSync {
    /// Removes members left behind in groups that are in use on the active cluster, which has these, or among the proxy's
    /// clients. What fails is tried again at the next pass.
    pub(super) async fn remove_left(&self, active: &[Named]) {
        if self.generation == 0 {
            return;
        }
        if self.left.manned.lock().is_none() {
            match self.standby.list_groups().await {
                Ok(groups) => *self.left.manned.lock() = Some(manned(groups).collect()),
                Err(error) => return tracing::debug!(%error, "the standby's groups cannot be listed"),
            }
        }
        if self.left.manned.lock().as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        let active: HashSet<&Named> = active.iter().collect();
        let in_use = |named: &Named| active.contains(named) || !named.share && self.rehome.is_known(&named.group);
        let (due, later): (Vec<_>, Vec<_>) =
            self.left.manned.lock().take().unwrap_or_default().into_iter().partition(in_use);
        let failed = self.remove_ghosts(due).await;
        for (Named { group, .. }, reason) in &failed {
            tracing::warn!(group, reason, "members that have moved are left on the standby");
        }
        *self.left.manned.lock() = Some(failed.into_iter().map(|(named, _)| named).chain(later).collect());
    }

    /// Removes the members of these groups on the standby; answers what failed, with the reason.
    pub(super) async fn remove_ghosts(&self, groups: Vec<Named>) -> Vec<(Named, String)> {
        let removals = stream::iter(groups).map(|named| async move {
            let removed = match named.share {
                true => shares::remove_members(&self.standby, &named.group).await,
                false => standby::remove_members(&self.standby, &named.group).await,
            };
            removed.err().map(|e| (named, e.to_string()))
        });
        removals.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// Takes back the ids that the standby gave to members which left for the active cluster before they joined by them. What
    /// fails is tried again at the next pass.
    pub(super) async fn remove_unjoined(&self) {
        let groups: Vec<_> = {
            let mut unjoined = self.left.unjoined.lock();
            unjoined.extend(self.rehome.take_unjoined(self.generation));
            unjoined.drain().collect()
        };
        let removals = stream::iter(groups).map(|(group, members)| async move {
            match standby::remove_unjoined(&self.standby, &group, &members).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(group, %error, "ids of members that have moved are left on the standby");
                    Some((group, members))
                }
            }
        });
        let failed: Vec<_> = removals.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
        self.left.unjoined.lock().extend(failed);
    }
}
