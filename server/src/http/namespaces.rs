//! Calls on namespaces as a whole: make, change, list, show, remove.

use super::app::{DEFAULT_NAMESPACE, Exchange, try_ask};
use super::bound::Segment;
use super::manners::Media;
use super::respond::{answer, json_value};
use super::watermarks::{only_field, sources_json, time_json};
use crate::wire::key::format_key;
use crate::wire::namespace::{config_json, merge_config, parse_config};
use crate::wire::problem::{Problem, kinds};
use crate::wire::time::TimeFormat;
use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::ops::Bound;
use stormwheel::error::Rejection;
use stormwheel::namespace::{
    ClockKind, Closing, Command, CommandReply, NamespaceConfig, NamespaceStatus, ProcessingTimers,
    Stop, StopAt,
};

/// Namespaces in a page unless asked otherwise.
const LIMIT_DEFAULT: u64 = 100;
/// Namespaces in a page at most.
const LIMIT_MAX: u64 = 1_000;
/// How often a merge starts again because somebody else changed the configuration in between.
const MERGE_ATTEMPTS: usize = 8;

/// `PUT /v1/namespaces/{ns}`.
pub(super) async fn put(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let name = exchange.identifier(Segment::Namespace)?.into_owned();
    let body = exchange.read_json().await?;
    let config = parse_config(&body)?;
    configure(&exchange, &name, config, None).await
}

/// `PATCH /v1/namespaces/{ns}`.
pub(super) async fn patch(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    exchange.namespace()?;
    let body = exchange.read_json().await?;
    let mut attempt = 1;
    loop {
        let standing = exchange.namespace()?;
        let config = merge_config(&standing.config, &body)?;
        let changed = configure(&exchange, &standing.name, config, Some(standing.version)).await;
        let lost = changed
            .as_ref()
            .is_err_and(|problem| problem.kind.slug == kinds::VERSION_CONFLICT.slug);
        if !lost || attempt == MERGE_ATTEMPTS {
            return changed;
        }
        attempt += 1;
    }
}

async fn configure(
    exchange: &Exchange<'_>,
    name: &str,
    config: NamespaceConfig,
    expected_version: Option<u64>,
) -> Result<Response<Body>, Problem> {
    let shown = config_json(&config);
    let command = Command::Put { config, expected_version };
    let reply = try_ask(|reply| exchange.app.engine.command(name, command, false, reply)).await?;
    let CommandReply::Configured { created, version } = reply else {
        return Err(misanswered());
    };
    let (status, result) =
        if created { (StatusCode::CREATED, "created") } else { (StatusCode::OK, "configured") };
    let body = json!({
        "namespace": name,
        "result": result,
        "version": version,
        "config": shown,
    });
    Ok(exchange.acknowledged_command(answer(status, Media::Json, body.to_string())))
}

/// `GET /v1/namespaces`.
pub(super) fn list(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let limit = exchange.query.integer("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize;
    let directory = exchange.app.engine.directory();
    // The token of a page is the last name on it: names are no secret, and need no coding.
    let start = exchange.query.text("page_token").map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest =
        directory.by_name.range::<str, _>((start, Bound::Unbounded)).map(|(_, entry)| entry);
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let mut body = Map::new();
    let shown = page.iter().map(|entry| {
        json!({
            "namespace": &*entry.name,
            "operator": entry.config.operator,
            "clock": clock_name(entry.config.clock),
            "version": entry.version,
        })
    });
    body.insert("namespaces".to_owned(), Value::Array(shown.collect()));
    if rest.next().is_some()
        && let Some(last) = page.last()
    {
        body.insert("next_page_token".to_owned(), Value::from(&*last.name));
    }
    Ok(json_value(&Value::Object(body)))
}

/// `GET /v1/namespaces/{ns}`.
pub(super) async fn get(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let status: NamespaceStatus =
        try_ask(|reply| exchange.app.engine.describe(&namespace, reply)).await?;
    let times = exchange.query.time_format();
    let failures = status.failures.iter().map(|stop| stop_json(stop, times));
    Ok(json_value(&json!({
        "namespace": &*namespace.name,
        "version": namespace.version,
        "config": config_json(&namespace.config),
        "status": {
            "now": time_json(status.now, times),
            "state": state_name(status.closing),
            "processing_timers": status.closing.map(|it| it.processing_timers.as_str()),
            "paused": status.paused,
            "stopped": status.stopped.as_deref().map(|stop| stop_json(stop, times)),
            "failures": failures.collect::<Vec<_>>(),
            "failures_omitted": status.failures_omitted,
            "watermark": time_json(status.watermark, times),
            "sources": sources_json(&status.sources, times),
            "keys": status.keys,
            "timers": {
                "event": status.pending_event,
                "processing": status.pending_processing,
            },
        },
    })))
}

/// `DELETE /v1/namespaces/{ns}`.
pub(super) async fn delete(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let name = exchange.identifier(Segment::Namespace)?;
    let force = exchange.query.flag("force")?;
    let command = Command::Delete { force };
    let reply = try_ask(|reply| exchange.app.engine.command(&name, command, false, reply))
        .await
        .map_err(|mut problem| {
            if problem.kind.slug == Rejection::NamespaceUnknown.slug() {
                problem.detail = format!("there is no namespace `{name}`");
            }
            problem
        })?;
    let CommandReply::Deleted { timers } = reply else {
        return Err(misanswered());
    };
    let result = if name == DEFAULT_NAMESPACE { "emptied" } else { "deleted" };
    let body = json!({ "namespace": name, "result": result, "timers": timers });
    Ok(exchange.acknowledged_command(json_value(&body)))
}

/// `POST /v1/namespaces/{ns}/pause`.
pub(super) async fn pause(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let name = exchange.namespace()?.name.clone();
    let paused = |reply| exchange.app.engine.command(&name, Command::Pause, true, reply);
    let CommandReply::Paused { changed } = try_ask(paused).await? else {
        return Err(misanswered());
    };
    Ok(stands(&exchange, &name, if changed { "paused" } else { "ignored" }, true))
}

/// `POST /v1/namespaces/{ns}/resume`.
pub(super) async fn resume(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let name = exchange.namespace()?.name.clone();
    let resumed = |reply| exchange.app.engine.command(&name, Command::Resume, true, reply);
    let CommandReply::Resumed { changed } = try_ask(resumed).await? else {
        return Err(misanswered());
    };
    let namespace = exchange.namespace()?;
    let status = try_ask(|reply| exchange.app.engine.describe(&namespace, reply)).await?;
    if let Some(stop) = status.stopped {
        // It went on, and has not come far.
        return Err(Rejection::NamespaceStopped { detail: stop.to_string() }.into());
    }
    Ok(stands(&exchange, &name, if changed { "resumed" } else { "ignored" }, false))
}

/// `POST /v1/namespaces/{ns}/close`.
pub(super) async fn close(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let name = exchange.namespace()?.name.clone();
    let body = exchange.read_json().await?;
    let timers = parse_close(&body)?;
    let closed = |reply| exchange.app.engine.command(&name, Command::Close(timers), true, reply);
    let CommandReply::Closed { changed, closing, timers } = try_ask(closed).await? else {
        return Err(misanswered());
    };
    let state = state_name(Some(closing));
    let mut body = json!({
        "namespace": &*name,
        "result": if changed { state } else { "ignored" },
        "state": state,
        "processing_timers": closing.processing_timers.as_str(),
    });
    let counted = match closing.processing_timers {
        ProcessingTimers::Drain => Some("drained"),
        ProcessingTimers::Discard => Some("discarded"),
        ProcessingTimers::Wait => None,
    };
    if let Some(counted) = counted.filter(|_| changed) {
        body[counted] = Value::from(timers);
    }
    Ok(exchange.acknowledged_command(json_value(&body)))
}

/// `{"processing_timers": "drain" | "wait" | "discard"}`.
fn parse_close(body: &[u8]) -> Result<ProcessingTimers, Problem> {
    let (field, value) = only_field(body, &["processing_timers"])?;
    let mut known = ProcessingTimers::ALL.into_iter();
    known.find(|it| value == it.as_str()).ok_or_else(|| {
        let detail = "`processing_timers` is `drain` (those that are pending fire now), `wait` (they \
                      fire at their times) or `discard` (they go)";
        Problem::new(&kinds::INVALID_FIELD, detail).field(field)
    })
}

/// How far a namespace is with its end.
const fn state_name(closing: Option<Closing>) -> &'static str {
    match closing {
        None => "open",
        Some(Closing { is_closed: false, .. }) => "closing",
        Some(Closing { is_closed: true, .. }) => "closed",
    }
}

fn stop_json(stop: &Stop, times: TimeFormat) -> Value {
    let mut it = json!({
        "since": time_json(Some(stop.since), times),
        "key": format_key(&stop.key),
        "error": stop.error,
    });
    match &stop.at {
        StopAt::Element { timestamp, input } => {
            let timestamp = time_json(Some(*timestamp), times);
            it["element"] = json!({ "timestamp": timestamp, "input": input });
        }
        StopAt::Timer { domain, fire_at, name, namespace } => {
            let fire_at = time_json(Some(*fire_at), times);
            it["timer"] = json!({ "domain": domain.as_str(), "fire_at": fire_at });
            if let Some(name) = name {
                it["timer"]["name"] = json!(name);
            }
            if let Some(namespace) = namespace {
                let hex = namespace.iter().fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                });
                it["timer"]["namespace_hex"] = json!(hex);
            }
        }
    }
    it
}

fn stands(exchange: &Exchange<'_>, name: &str, result: &str, is_paused: bool) -> Response<Body> {
    let body = json!({ "namespace": name, "result": result, "paused": is_paused });
    exchange.acknowledged_command(json_value(&body))
}

const fn clock_name(clock: ClockKind) -> &'static str {
    match clock {
        ClockKind::System => "system",
        ClockKind::Manual => "manual",
    }
}

/// The engine answered a command with the reply to another one.
pub(super) fn misanswered() -> Problem {
    Problem::new(&kinds::INTERNAL, "the engine answered another question")
}
