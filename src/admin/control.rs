//! What the API asks of the proxy. The proxy implements [`Control`]; this room only speaks HTTP around it.

use std::future::Future;
use std::pin::Pin;

use axum::body::Bytes;
use tokio::sync::mpsc;

use super::types::{
    CutoverRequest, Divergence, DivergenceRequest, ExportQuery, PhaseDone, ReloadReport, Report, Status,
    TranslateQuery, Translation, VerifyReport,
};
use crate::model::Generation;

/// An answer to come.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ControlError>> + Send + 'a>>;

/// More than the phases of a cutover, so that sending one never has to wait for a slow reader.
pub const PROGRESS_CAPACITY: usize = 16;

/// Why something asked for was not done. The texts are shown to operators.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ControlError {
    /// No such topic, partition, cluster or report.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense as it is.
    #[error("{0}")]
    Invalid(String),
    /// Another cutover is under way.
    #[error("{0}")]
    Busy(String),
    /// A cluster that is needed cannot be reached, or the proxy is not ready.
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

/// The proxy as operators see it.
///
/// A cutover runs to its end even if the caller goes away: callers spawn it. `progress` is a courtesy: use `try_send` and
/// ignore its errors.
pub trait Control: Send + Sync + 'static {
    fn status(&self) -> Answer<'_, Status>;
    fn switchover(&self, request: CutoverRequest, progress: mpsc::Sender<PhaseDone>) -> Answer<'_, Report>;
    fn failover(&self, request: CutoverRequest, progress: mpsc::Sender<PhaseDone>) -> Answer<'_, Report>;
    /// Newest first.
    fn reports(&self) -> Answer<'_, Vec<Report>>;
    /// The cutover that began `generation`.
    fn report(&self, generation: Generation) -> Answer<'_, Report>;
    /// `None`: every teed topic.
    fn verify(&self, topic: Option<String>) -> Answer<'_, VerifyReport>;
    fn translate(&self, query: TranslateQuery) -> Answer<'_, Translation>;
    /// What failovers left behind on the clusters that they retired.
    fn divergence(&self) -> Answer<'_, Divergence>;
    /// The bytes of [`super::types::ExportFrame`]s, as the reader takes them.
    fn export(&self, query: ExportQuery) -> Answer<'_, mpsc::Receiver<Bytes>>;
    /// Writes the records of ranges to the active cluster as new ones, each once however often this is asked.
    fn reinject(&self, request: DivergenceRequest) -> Answer<'_, Divergence>;
    /// Nothing is to be done about these ranges.
    fn discard(&self, request: DivergenceRequest) -> Answer<'_, Divergence>;
    fn reload(&self) -> Answer<'_, ReloadReport>;
    /// `Err`: why clients should not be sent here, one sentence each.
    fn ready(&self) -> Result<(), Vec<String>>;
}
