//! The routes about what failovers left behind.

use std::convert::Infallible;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{Reply, Shared, parse};
use crate::admin::ControlError;
use crate::admin::types::{Divergence, DivergenceRequest, ExportQuery, Problem};

pub(super) async fn list(State(admin): Shared) -> Reply<Divergence> {
    Ok(Json(admin.control.divergence().await?))
}

/// Lines of JSON with the batches' bytes between them, in the reader's pace.
pub(super) async fn export(
    State(admin): Shared,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let parts = ReceiverStream::new(admin.control.export(query).await?).map(Ok::<_, Infallible>);
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(parts)).into_response())
}

/// Goes on to its end if the caller goes away.
pub(super) async fn reinject(State(admin): Shared, body: Result<Bytes, BytesRejection>) -> Reply<Divergence> {
    let request: DivergenceRequest = parse(body)?;
    let control = admin.control.clone();
    let work = tokio::spawn(async move { control.reinject(request).await });
    let gone = |_| ControlError::Internal("the work was broken off".into());
    Ok(Json(work.await.map_err(gone)??))
}

pub(super) async fn discard(State(admin): Shared, body: Result<Bytes, BytesRejection>) -> Reply<Divergence> {
    Ok(Json(admin.control.discard(parse(body)?).await?))
}
