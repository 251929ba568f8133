//! Calls for those who run the service: health, figures, problems, and where to start.

use super::app::Exchange;
use super::bound::Segment;
use super::manners::Media;
use super::respond::{self, answer, json_value};
use super::{kinds, pages};
use crate::metrics::Metrics;
use crate::wire::problem::{Problem, kinds as wire_kinds};
use axum::body::Body;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use stormwheel::runtime::EngineStatus;

/// A shard that has not gone round for so long is stuck: it does at least once a second.
const STUCK_MS: i64 = 5_000;

/// One thing that was looked at.
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// `GET /livez`.
pub(super) fn livez(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let status = exchange.app.engine.status();
    health(exchange, "ok", "failed", &[check_threads(&status)])
}

/// `GET /readyz`.
pub(super) fn readyz(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let status = exchange.app.engine.status();
    let stopping = status.stopping || exchange.app.stopping.is_said();
    let checks = [
        Check {
            name: "accepting",
            ok: !stopping,
            detail: if stopping {
                "the service is stopping".to_owned()
            } else {
                "requests are taken".to_owned()
            },
        },
        check_threads(&status),
        check_turns(&status),
        check_clock(&status),
    ];
    let unready = if stopping { "stopping" } else { "unready" };
    health(exchange, "ready", unready, &checks)
}

fn check_threads(status: &EngineStatus) -> Check {
    let dead: Vec<_> =
        (0..status.shards.len()).filter(|index| !status.shards[*index].alive).collect();
    Check {
        name: "threads",
        // A service that stops joins its threads one by one; that is no failure.
        ok: dead.is_empty() || status.stopping,
        detail: if dead.is_empty() {
            format!("{} shards run", status.shards.len())
        } else {
            format!("the threads of shards {dead:?} are gone")
        },
    }
}

fn check_turns(status: &EngineStatus) -> Check {
    let slowest = status.shards.iter().map(|shard| shard.since_last_turn_ms);
    let slowest = slowest.max().unwrap_or(0);
    Check {
        name: "shards",
        ok: slowest < STUCK_MS,
        detail: format!("the slowest shard went round {slowest} ms ago, allowed are {STUCK_MS}"),
    }
}

fn check_clock(status: &EngineStatus) -> Check {
    let held = status.clock.held_step_ms;
    Check {
        name: "clock",
        ok: held.is_none(),
        detail: match held {
            Some(step) => format!(
                "the machine's clock leapt by {step} ms, and timers wait; if its time is right, \
                 POST /v1/clock/accept"
            ),
            None => format!("{} ms ahead of the machine's", status.clock.offset_ms),
        },
    }
}

fn health(
    exchange: &Exchange<'_>,
    good: &str,
    bad: &str,
    checks: &[Check],
) -> Result<Response<Body>, Problem> {
    let verbose = exchange.query.flag("verbose")?;
    let ok = checks.iter().all(|check| check.ok);
    let mut body = json!({ "status": if ok { good } else { bad } });
    // What is wrong is told unasked.
    let shown: Vec<_> = checks
        .iter()
        .filter(|check| verbose || !check.ok)
        .map(|check| json!({ "name": check.name, "ok": check.ok, "detail": check.detail }))
        .collect();
    if verbose || !ok {
        body["checks"] = Value::Array(shown);
    }
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = answer(status, Media::Json, body.to_string());
    if !ok {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// `GET /metrics`.
pub(super) fn metrics(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let text = exchange
        .app
        .metrics
        .render()
        .map_err(|error| Problem::new(&wire_kinds::INTERNAL, error.to_string()))?;
    let mut response = answer(StatusCode::OK, Media::Text, text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Metrics::CONTENT_TYPE));
    Ok(response)
}

/// `POST /v1/clock/accept`.
pub(super) fn accept_clock(exchange: &Exchange<'_>) -> Response<Body> {
    let engine = &exchange.app.engine;
    let held = engine.status().clock.held_step_ms;
    engine.accept_clock();
    if let Some(step_ms) = held {
        tracing::warn!(step_ms, "the leap of the clock was accepted");
    }
    json_value(&json!({
        "result": if held.is_some() { "accepted" } else { "nothing held" },
        "step_ms": held,
    }))
}

/// `GET /problems`.
pub(super) fn problems(exchange: &Exchange<'_>) -> Response<Body> {
    let all = kinds::all();
    let body = if exchange.media == Media::Html {
        pages::problems_html(&all)
    } else {
        pages::problems_text(&all)
    };
    answer(StatusCode::OK, exchange.media, body)
}

/// `GET /problems/{slug}`.
pub(super) fn problem(exchange: &Exchange<'_>) -> Response<Body> {
    let slug = exchange.segment(Segment::Slug).unwrap_or_default();
    let Some(kind) = kinds::all().into_iter().find(|kind| kind.slug == slug) else {
        let detail = format!("there is no problem `{slug}`; /problems lists all there are");
        return respond::problem(&Problem::new(&wire_kinds::NOT_FOUND, detail));
    };
    let body = if exchange.media == Media::Html {
        pages::problem_html(kind)
    } else {
        pages::problem_text(kind)
    };
    answer(StatusCode::OK, exchange.media, body)
}

/// `GET /`.
pub(super) fn home(exchange: &Exchange<'_>) -> Response<Body> {
    let body = if exchange.media == Media::Html {
        pages::home_html(exchange.app.local)
    } else {
        pages::home_text(exchange.app.local)
    };
    answer(StatusCode::OK, exchange.media, body)
}
