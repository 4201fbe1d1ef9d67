//! One request to one broker of a cluster, one attempt.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::protocol::{Request, VersionRange};
use tokio::time::Instant;

use super::cluster::{Cluster, Lane, Target};
use super::error::{Kind, UpstreamError};
use super::parts::Parts;
use super::reply::{self, Head, ReplyError};

impl Cluster {
    /// Sends one request to its target and waits for the reply, connecting first where needed, all within `timeout`.
    /// One attempt: an error code inside the reply is the caller's to judge.
    pub async fn call<R: Request>(
        &self,
        target: Target<'_>,
        lane: Lane,
        req: &R,
        timeout: Duration,
    ) -> Result<R::Response, UpstreamError> {
        self.call_within(target, lane, req, R::VERSIONS, timeout).await
    }

    /// As [`Cluster::call`], for a request whose content fits only some versions.
    pub async fn call_within<R: Request>(
        &self,
        target: Target<'_>,
        lane: Lane,
        req: &R,
        versions: VersionRange,
        timeout: Duration,
    ) -> Result<R::Response, UpstreamError> {
        self.call_by::<R, _>(target, lane, versions, timeout, |head| head.encode(req), reply::read::<R>).await
    }

    /// As [`Cluster::call_within`], for a request that `encode` writes and a reply of which `read` reads the body, in the version
    /// that it is given.
    pub(super) async fn call_by<R: Request, T>(
        &self,
        target: Target<'_>,
        lane: Lane,
        versions: VersionRange,
        timeout: Duration,
        encode: impl FnOnce(Head<'_>) -> Result<Parts, ReplyError>,
        read: impl FnOnce(i16, Bytes) -> Result<T, ReplyError>,
    ) -> Result<T, UpstreamError> {
        let deadline = Instant::now() + timeout;
        let left = |now: Instant| deadline.saturating_duration_since(now);
        let result = match self.connection(target, lane, deadline).await {
            Ok(conn) => conn.call_by::<R, T>(versions, left(Instant::now()), encode, read).await,
            Err(e) => Err(e),
        };
        if let Err(e) = &result
            && matches!(e.kind(), Kind::Unreachable(_) | Kind::Timeout(_) | Kind::Closed(_))
        {
            self.mark_stale();
            if let Target::Coordinator(group) = target {
                self.forget_coordinator(group);
            }
        }
        result
    }
}
