//! `POST …/timers/batch`: many operations in one request, as NDJSON lines or as an Arrow stream.
//!
//! The body is read whole before anything is carried out; then every good line goes ahead, whatever
//! is wrong with its neighbours. The parsing runs on the worker that read the body: at most 8 MiB,
//! some milliseconds.

use super::app::{Exchange, ask};
use super::manners::Media;
use super::respond::{answer, problem};
use crate::wire::arrow::push_rows;
use crate::wire::ndjson::{Rendered, push_lines};
use crate::wire::problem::Problem;
use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use stormwheel::op::Outcome;
use stormwheel::runtime::Batch;

/// How many lines or rows failed.
const FAILED_HEADER: &str = "stormwheel-failed";

/// Carries out a batch.
pub(super) async fn run(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let media = exchange.head.body_media(exchange.bound.route.reads.media())?;
    // Lines are answered by lines, rows by a summary: who takes only the other is told before
    // anything is done.
    let gives: &[Media] = if media == Media::Arrow { &[Media::Json] } else { &[Media::Ndjson] };
    exchange.head.answer_media(gives)?;
    let body = exchange.read_body().await?;
    namespace.check_open()?;
    let mut batch = exchange.app.engine.batch(&namespace);
    exchange.mark(&mut batch)?;
    if media == Media::Arrow {
        let rows = push_rows(&body, &namespace.config, &mut batch)?;
        drop(body);
        let outcomes = submit(&exchange, batch).await?;
        return Ok(exchange.acknowledged(told(rows.render(&outcomes), Media::Json)));
    }
    let lines = push_lines(&body, &namespace.config, &mut batch);
    drop(body);
    let outcomes = submit(&exchange, batch).await?;
    let rendered = lines.render(&outcomes, exchange.query.time_format());
    Ok(exchange.acknowledged(told(rendered, Media::Ndjson)))
}

async fn submit(exchange: &Exchange<'_>, batch: Batch) -> Result<Vec<Outcome>, Problem> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    ask(|reply| exchange.app.engine.submit(batch, reply)).await
}

/// The answer to a batch.
pub(super) fn told(rendered: Rendered, media: Media) -> Response<Body> {
    let mut response = match &rendered.all_refused {
        // Nothing was taken: the status and its headers are the problem's, the lines stand as ever.
        Some(refusal) => {
            let mut response = problem(refusal).map(|_| Body::from(rendered.body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media.as_str()));
            response
        }
        None => answer(StatusCode::OK, media, rendered.body),
    };
    response.headers_mut().insert(FAILED_HEADER, HeaderValue::from(rendered.failed));
    response
}
