//! Answers: bodies with their headers, and problems as RFC 9457 has them.

use super::manners::Media;
use crate::wire::problem::Problem;
use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

/// The header value of a content type.
const fn content_type(media: Media) -> HeaderValue {
    HeaderValue::from_static(match media {
        Media::Html => "text/html; charset=utf-8",
        Media::Text => "text/plain; charset=utf-8",
        other => other.as_str(),
    })
}

/// An answer of this form.
pub(super) fn answer(status: StatusCode, media: Media, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type(media));
    response
}

/// 200 with JSON.
pub(super) fn json(body: impl Into<Bytes>) -> Response<Body> {
    answer(StatusCode::OK, Media::Json, body)
}

/// 200 with JSON made of a value.
pub(super) fn json_value(value: &serde_json::Value) -> Response<Body> {
    json(value.to_string())
}

/// A problem as an answer.
pub(super) fn problem(problem: &Problem) -> Response<Body> {
    let status =
        StatusCode::from_u16(problem.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, Media::Json, problem.to_json());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(millis) = problem.retry_after_ms {
        // Seconds, rounded up: to come back too early would be in vain.
        headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000).max(1)));
    }
    response
}
