//! A [`Control`] for tests of the API and of the command line: canned answers, and a note of what was asked.

use std::sync::Arc;

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::types::tests::{report, status, verify_report};
use super::types::*;
use super::{Admin, Answer, Control, ControlError, bind, metrics, serve};
use crate::config::Secret;
use crate::model::Generation;

#[derive(Default)]
pub(crate) struct Fake {
    /// What was asked, oldest first.
    pub asked: Mutex<Vec<String>>,
    /// `None`: done.
    pub outcome: Mutex<Option<Outcome>>,
    pub not_ready: Mutex<Vec<String>>,
    pub divergence: Mutex<Divergence>,
    /// What an export sends.
    pub exported: Mutex<Vec<Bytes>>,
}

impl Fake {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().push(what.into());
    }

    fn cutover(&self, kind: CutoverKind, request: CutoverRequest, progress: &mpsc::Sender<PhaseDone>) -> Report {
        self.note(format!("{} {} {:?}", kind.name(), request.dry_run, request.timeout_ms));
        let outcome = self.outcome.lock().unwrap_or(Outcome::Done);
        let mut report = Report { kind, outcome, dry_run: request.dry_run, ..report() };
        if outcome != Outcome::Done {
            report.reasons = vec!["west is not in sync".to_owned()];
        }
        report.phases.iter().for_each(|phase| progress.try_send(*phase).unwrap_or_default());
        report
    }
}

impl Control for Fake {
    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async { Ok(status()) })
    }

    fn switchover(&self, request: CutoverRequest, progress: mpsc::Sender<PhaseDone>) -> Answer<'_, Report> {
        Box::pin(async move { Ok(self.cutover(CutoverKind::Switchover, request, &progress)) })
    }

    fn failover(&self, request: CutoverRequest, progress: mpsc::Sender<PhaseDone>) -> Answer<'_, Report> {
        Box::pin(async move { Ok(self.cutover(CutoverKind::Failover, request, &progress)) })
    }

    fn reports(&self) -> Answer<'_, Vec<Report>> {
        Box::pin(async { Ok(vec![report()]) })
    }

    fn report(&self, generation: Generation) -> Answer<'_, Report> {
        Box::pin(async move {
            let missing = || ControlError::NotFound(format!("no cutover began generation {generation}"));
            (generation == 1).then(report).ok_or_else(missing)
        })
    }

    fn verify(&self, topic: Option<String>) -> Answer<'_, VerifyReport> {
        self.note(format!("verify {topic:?}"));
        Box::pin(async { Ok(verify_report()) })
    }

    fn translate(&self, query: TranslateQuery) -> Answer<'_, Translation> {
        self.note(format!("translate {query:?}"));
        Box::pin(async move {
            if query.topic == "gone" {
                return Err(ControlError::Unavailable("east cannot be reached".to_owned()));
            }
            let known = query.offset < 42;
            Ok(Translation {
                topic: query.topic,
                partition: query.partition,
                logical_offset: Some(query.offset),
                cluster_offsets: [("west".to_owned(), known.then_some(query.offset - 1))].into(),
                detail: (!known).then(|| "not copied yet".to_owned()),
            })
        })
    }

    fn divergence(&self) -> Answer<'_, Divergence> {
        Box::pin(async { Ok(self.divergence.lock().clone()) })
    }

    fn export(&self, query: ExportQuery) -> Answer<'_, mpsc::Receiver<Bytes>> {
        self.note(format!("export {}-{} {}", query.topic, query.partition, query.generation));
        Box::pin(async {
            let (tx, rx) = mpsc::channel(16);
            self.exported.lock().iter().for_each(|part| tx.try_send(part.clone()).unwrap());
            Ok(rx)
        })
    }

    fn reinject(&self, request: DivergenceRequest) -> Answer<'_, Divergence> {
        self.note(format!("reinject {:?} {:?} {:?}", request.topic, request.partition, request.generation));
        Box::pin(async { Ok(self.divergence.lock().clone()) })
    }

    fn discard(&self, request: DivergenceRequest) -> Answer<'_, Divergence> {
        self.note(format!("discard {:?} {:?} {:?}", request.topic, request.partition, request.generation));
        Box::pin(async { Ok(self.divergence.lock().clone()) })
    }

    fn reload(&self) -> Answer<'_, ReloadReport> {
        Box::pin(async { Err(ControlError::Invalid("k.toml:1:1: unknown key `x`".to_owned())) })
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        let reasons = self.not_ready.lock().clone();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

/// Serves `fake` on a free port; the URL. It ends with the test's runtime.
pub(crate) async fn served(fake: &Arc<Fake>, token: Option<&str>) -> String {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let admin = Admin {
        control: fake.clone(),
        metrics: metrics::install().unwrap(),
        token: token.map(|token| Secret::new(token.to_owned())),
        per_partition: true,
    };
    tokio::spawn(serve(listener, admin, std::future::pending()));
    url
}
