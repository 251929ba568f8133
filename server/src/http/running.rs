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
use stormwheel::runtime::{DurabilityStatus, EngineStatus, WriterStatus};

/// A shard that has not gone round for so long is stuck: it does at least once a second.
const STUCK_MS: i64 = 5_000;

/// A journal or the output log that is at one write for so long hangs.
const WRITER_STUCK_MS: i64 = 5_000;
/// Nobody waits for a checkpoint, and a store may be far away.
const STORE_STUCK_MS: i64 = 60_000;

/// One thing that was looked at.
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    /// It is not as it should be, and requests make sense all the same.
    is_bearable: bool,
}

impl Check {
    fn new(name: &'static str, ok: bool, detail: impl Into<String>) -> Self {
        Self { name, ok, detail: detail.into(), is_bearable: false }
    }
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
        Check::new(
            "accepting",
            !stopping,
            if stopping { "the service is stopping" } else { "requests are taken" },
        ),
        check_threads(&status),
        check_turns(&status),
        check_writers(&status.writers),
        check_clock(&status),
        check_storage(exchange.app.config.in_memory, &exchange.app.engine.durability()),
    ];
    let unready = if stopping { "stopping" } else { "unready" };
    health(exchange, "ready", unready, &checks)
}

fn check_threads(status: &EngineStatus) -> Check {
    let dead: Vec<_> =
        (0..status.shards.len()).filter(|index| !status.shards[*index].alive).collect();
    let detail = if dead.is_empty() {
        format!("{} shards run", status.shards.len())
    } else {
        format!("the threads of shards {dead:?} are gone")
    };
    // A service that stops joins its threads one by one; that is no failure.
    Check::new("threads", dead.is_empty() || status.stopping, detail)
}

fn check_turns(status: &EngineStatus) -> Check {
    let slowest = status.shards.iter().map(|shard| shard.since_last_turn_ms);
    let slowest = slowest.max().unwrap_or(0);
    let detail = format!("the slowest shard went round {slowest} ms ago, allowed are {STUCK_MS}");
    Check::new("shards", slowest < STUCK_MS, detail)
}

fn check_writers(writers: &[WriterStatus]) -> Check {
    const NAME: &str = "writers";
    let hangs = |it: &&WriterStatus| {
        it.since_ms >= if it.is_waited_for { WRITER_STUCK_MS } else { STORE_STUCK_MS }
    };
    let hanging: Vec<_> = writers.iter().filter(hangs).collect();
    if hanging.is_empty() {
        return Check::new(NAME, true, "what is to be written goes through");
    }
    let each = hanging.iter().map(|it| format!("{} for {} ms", it.name, it.since_ms));
    let each: Vec<_> = each.collect();
    let detail = format!("waiting for the disk or the store: {}", each.join(", "));
    let is_bearable = !hanging.iter().any(|it| it.is_waited_for);
    Check { is_bearable, ..Check::new(NAME, false, detail) }
}

fn check_clock(status: &EngineStatus) -> Check {
    let held = status.clock.held_step_ms;
    let detail = match held {
        Some(step) => format!(
            "the machine's clock leapt by {step} ms, and timers wait; if its time is right, POST \
             /v1/clock/accept"
        ),
        None => format!("{} ms ahead of the machine's", status.clock.offset_ms),
    };
    Check::new("clock", held.is_none(), detail)
}

fn check_storage(in_memory: bool, status: &DurabilityStatus) -> Check {
    const NAME: &str = "storage";
    if let Some(reason) = &status.poisoned {
        let detail = format!("nothing can be written any more, and the process ends: {reason}");
        return Check::new(NAME, false, detail);
    }
    if status.is_disk_full {
        let detail = "there is no room to write down more: what adds is refused with 507 until \
                      there is, and nothing is lost";
        return Check { is_bearable: true, ..Check::new(NAME, false, detail) };
    }
    let detail = if in_memory {
        "nothing is kept: everything is in memory"
    } else {
        "what is acknowledged is written down"
    };
    Check::new(NAME, true, detail)
}

fn health(
    exchange: &Exchange<'_>,
    good: &str,
    bad: &str,
    checks: &[Check],
) -> Result<Response<Body>, Problem> {
    let verbose = exchange.query.flag("verbose")?;
    let is_good = checks.iter().all(|check| check.ok);
    let ok = checks.iter().all(|check| check.ok || check.is_bearable);
    let word = match (is_good, ok) {
        (true, _) => good,
        (false, true) => "degraded",
        (false, false) => bad,
    };
    let mut body = json!({ "status": word });
    // What is wrong is told unasked.
    let shown: Vec<_> = checks
        .iter()
        .filter(|check| verbose || !check.ok)
        .map(|check| json!({ "name": check.name, "ok": check.ok, "detail": check.detail }))
        .collect();
    if verbose || !is_good {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_hangs_is_told_with_since_when() {
        let writer = |name: &str, since_ms, is_waited_for| WriterStatus {
            name: name.to_owned(),
            since_ms,
            is_waited_for,
        };
        let at_work = [writer("journal 0", 4_999, true), writer("checkpoints", 59_999, false)];
        assert!(check_writers(&at_work).ok);
        let check = check_writers(&[writer("checkpoints", 60_000, false)]);
        assert!(!check.ok && check.is_bearable, "{}", check.detail);
        let check = check_writers(&[at_work[1].clone(), writer("journal 3", 5_000, true)]);
        assert!(!check.ok && !check.is_bearable);
        assert!(check.detail.ends_with(": journal 3 for 5000 ms"), "{}", check.detail);
    }

    #[test]
    fn a_full_disk_is_bearable_and_a_poisoned_log_is_not() {
        let check = |change: fn(&mut DurabilityStatus)| {
            let mut status = DurabilityStatus::default();
            change(&mut status);
            let check = check_storage(false, &status);
            (check.ok, check.is_bearable, check.detail)
        };
        assert!(check(|_| {}).0);
        let (ok, is_bearable, detail) = check(|status| status.is_disk_full = true);
        assert!(!ok && is_bearable && detail.contains("507"), "{detail}");
        let (ok, is_bearable, detail) = check(|status| {
            status.is_disk_full = true;
            status.poisoned = Some("cannot sync journal/1".to_owned());
        });
        assert!(!ok && !is_bearable && detail.contains("cannot sync journal/1"), "{detail}");
    }
}
