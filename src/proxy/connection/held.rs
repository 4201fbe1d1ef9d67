//! Group requests and those of transactional producers: senders of an earlier generation are brought to the new cluster, all
//! else goes through translated.

use std::sync::Arc;

use bytes::Bytes;

use super::{Connection, End, Failure, gone};
use crate::catalog::View;
use crate::groups::Ruling;
use crate::proxy::{gate, pending, transactions};
use crate::wire::header::RequestHeader;

impl Connection {
    /// Group requests and those of transactional producers: senders of an earlier generation are taken care of, all else goes
    /// through translated.
    pub(super) async fn held_request(
        &mut self,
        view: &Arc<View>,
        header: &RequestHeader,
        body: &Bytes,
    ) -> Result<Ruling, Failure> {
        let mut watch = self.context.gate.watch();
        let rule = tokio::select! {
            biased;
            rule = self.judge(view, header, body) => rule?,
            // What is held here must not hold up the next cutover: it is judged again under the next view.
            _ = gate::closed(&mut watch, view.generation) => return Err(Failure::End(End::Gate)),
            end = gone(self.client.socket()) => return Err(Failure::End(end)),
        };
        if header.api_key == pending::OFFSET_COMMIT
            && let Some(group) = crate::groups::group_of_commit(body, header.api_version)
        {
            self.context.house.group_committed(&group);
        }
        Ok(rule)
    }

    async fn judge(&self, view: &Arc<View>, header: &RequestHeader, body: &Bytes) -> Result<Ruling, String> {
        match transactions::is_one(header.api_key) {
            true => transactions::request(&self.context, view, self.library, header, body).await,
            false => self.judge_member(view, header, body).await,
        }
    }

    /// KIP-848 members first: what is not theirs is a classic member's, or nobody's.
    async fn judge_member(&self, view: &Arc<View>, header: &RequestHeader, body: &Bytes) -> Result<Ruling, String> {
        let cluster = self.context.clusters[view.active.ix()].as_ref();
        match self.context.heartbeats.request(view, cluster, header, body).await? {
            Some(rule) => Ok(rule),
            None => self.context.rehome.request(view, header, body).await,
        }
    }
}
