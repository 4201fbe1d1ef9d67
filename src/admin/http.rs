//! The routes: each takes a request apart, asks [`Control`], and puts the answer together.

mod divergence;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::types::{
    CutoverEvent, CutoverKind, CutoverRequest, Outcome, PhaseDone, Problem, ReloadReport, Report, Status,
    TranslateQuery, Translation, VerifyReport, VerifyRequest,
};
use super::{Admin, Control, ControlError, PROGRESS_CAPACITY, guard, metrics};
use crate::catalog::TEE_BUDGET;
use crate::model::Generation;

/// Request bodies are a few small fields.
const MAX_BODY: usize = 16 << 10;
const NDJSON: &str = "application/x-ndjson";
const OPENAPI: &str = include_str!("openapi.json");

type Shared = State<Arc<Admin>>;
type Reply<T> = Result<Json<T>, Problem>;

pub(super) fn router(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/switchover", post(switchover))
        .route("/v1/failover", post(failover))
        .route("/v1/reports", get(reports))
        .route("/v1/reports/{generation}", get(report))
        .route("/v1/verify", post(verify))
        .route("/v1/translate", get(translate))
        .route("/v1/divergence", get(divergence::list))
        .route("/v1/divergence/export", get(divergence::export))
        .route("/v1/divergence/reinject", post(divergence::reinject))
        .route("/v1/divergence/discard", post(divergence::discard))
        .route("/v1/reload", post(reload))
        .route("/v1/openapi.json", get(openapi))
        .route("/metrics", get(prometheus))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such path; see /v1/openapi.json"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method; see /v1/openapi.json")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(admin.clone(), guarded))
        .with_state(admin)
}

async fn guarded(State(admin): Shared, request: Request, next: Next) -> Response {
    match guard::check(admin.token.as_ref(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn status(State(admin): Shared) -> Reply<Status> {
    Ok(Json(admin.control.status().await?))
}

async fn reports(State(admin): Shared) -> Reply<Vec<Report>> {
    Ok(Json(admin.control.reports().await?))
}

async fn report(State(admin): Shared, Path(generation): Path<String>) -> Reply<Report> {
    let generation: Generation = generation
        .parse()
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, format!("`{generation}` is not a generation")))?;
    Ok(Json(admin.control.report(generation).await?))
}

async fn translate(State(admin): Shared, query: Result<Query<TranslateQuery>, QueryRejection>) -> Reply<Translation> {
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    Ok(Json(admin.control.translate(query).await?))
}

/// The topic may come in the body or in the query; the body wins.
async fn verify(
    State(admin): Shared,
    query: Result<Query<VerifyRequest>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Reply<VerifyReport> {
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let body: VerifyRequest = parse(body)?;
    Ok(Json(admin.control.verify(body.topic.or(query.topic)).await?))
}

async fn reload(State(admin): Shared) -> Reply<ReloadReport> {
    Ok(Json(admin.control.reload().await?))
}

async fn switchover(state: Shared, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    cutover(CutoverKind::Switchover, state, headers, body).await
}

async fn failover(state: Shared, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    cutover(CutoverKind::Failover, state, headers, body).await
}

/// Plain: the report, with 409 unless it is done. Streamed: the phases as they end, then the report, always 200 since the
/// outcome is not known when the answer begins.
async fn cutover(
    kind: CutoverKind,
    State(admin): Shared,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request = match parse(body) {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let (result, progress) = start_cutover(admin.control.clone(), kind, request);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains(NDJSON) {
        return stream(result, progress);
    }
    match finished(result).await {
        Ok(report) if report.outcome == Outcome::Done => Json(report).into_response(),
        Ok(report) => (StatusCode::CONFLICT, Json(report)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

type CutoverResult = oneshot::Receiver<Result<Report, ControlError>>;

/// In a task of its own: a caller that goes away must not stop a cutover halfway.
fn start_cutover(
    control: Arc<dyn Control>,
    kind: CutoverKind,
    request: CutoverRequest,
) -> (CutoverResult, mpsc::Receiver<PhaseDone>) {
    let (progress, phases) = mpsc::channel(PROGRESS_CAPACITY);
    let (done, result) = oneshot::channel();
    tokio::spawn(async move {
        let answer = match kind {
            CutoverKind::Switchover => control.switchover(request, progress).await,
            CutoverKind::Failover => control.failover(request, progress).await,
        };
        // Nobody is left to be told; the report is kept all the same.
        let _ = done.send(answer);
    });
    (result, phases)
}

async fn finished(result: CutoverResult) -> Result<Report, Problem> {
    let gone = |_| ControlError::Internal("the cutover's task ended without a report; see the log".to_owned());
    Ok(result.await.map_err(gone)??)
}

fn stream(result: CutoverResult, phases: mpsc::Receiver<PhaseDone>) -> Response {
    let phases = ReceiverStream::new(phases).map(CutoverEvent::Phase);
    let last = futures_util::stream::once(async move {
        match finished(result).await {
            Ok(report) => CutoverEvent::Report(Box::new(report)),
            Err(problem) => CutoverEvent::Error(problem),
        }
    });
    let lines = phases.chain(last).map(|event| Ok::<_, Infallible>(line(&event)));
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}

fn line(event: &impl Serialize) -> String {
    // Plain structs with string keys always serialize.
    let mut text = serde_json::to_string(event).unwrap_or_default();
    text.push('\n');
    text
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// A proxy that cannot say its status still shows its counters.
async fn prometheus(State(admin): Shared) -> Response {
    let ready = admin.control.ready().is_ok();
    metrics::buffer_bytes(metrics::Pool::Tee).set(TEE_BUDGET.used() as f64);
    let mut page = admin.metrics.render();
    match admin.control.status().await {
        Ok(status) => page.push_str(&metrics::gauges(&status, ready, admin.per_partition)),
        Err(error) => tracing::warn!(%error, "no status for the metrics"),
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn livez() -> Response {
    "ok\n".into_response()
}

async fn readyz(State(admin): Shared) -> Response {
    match admin.control.ready() {
        Ok(()) => "ok\n".into_response(),
        Err(reasons) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, reasons.join("; ")).with_reasons(reasons).into_response()
        }
    }
}

fn parse<T: DeserializeOwned + Default>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let wrong =
        |error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not what is expected here: {error}"));
    serde_json::from_slice(&body).map_err(wrong)
}

#[cfg(test)]
mod tests;
