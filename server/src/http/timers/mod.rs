//! Calls on the timers of one key: register, look, cancel, touch.

pub(super) mod forecast;
pub(super) mod list;

use super::app::{Exchange, ask, try_ask};
use super::bound::Segment;
use super::kinds::query_problem;
use super::respond::{answer, json};
use crate::wire::key::format_key;
use crate::wire::op::{RegisterBody, applied_json, parse_touch, write_timer};
use crate::wire::problem::{Problem, kinds};
use axum::body::Body;
use http::{Response, StatusCode};
use std::sync::Arc;
use stormwheel::error::Rejection;
use stormwheel::op::{Action, Applied, Op, Outcome, ResultKind, Target, TimerView};
use stormwheel::runtime::NamespaceEntry;
use stormwheel::time::Domain;

use super::manners::Media;

/// `PUT …/timers/{name}` and `POST …/timers`.
pub(super) async fn register(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let key = exchange.key()?;
    let bytes = exchange.read_json().await?;
    let mut body = RegisterBody::parse(&bytes, &namespace.config)?;
    if let Some(domain) = exchange.query.domain() {
        body.set_domain(domain)?;
    }
    if exchange.head.only_absent {
        body.set_only_absent()?;
    }
    let named = exchange.bound.has(Segment::Name);
    let name = named.then(|| exchange.timer_name()).transpose()?;
    let op = body.with_key(&key, name.as_deref());
    let applied = apply(&exchange, &namespace, &op).await?;
    if exchange.head.only_absent && applied.result == ResultKind::Kept {
        let detail = match applied.fire_at {
            Some(fire_at) => format!("the timer is registered already, for {fire_at}"),
            None => "the timer is registered already".to_owned(),
        };
        return Err(Problem::new(&kinds::PRECONDITION_FAILED, detail).field("If-None-Match"));
    }
    Ok(told(&exchange, &key, name.as_deref(), Some(body.domain()), &applied))
}

/// `POST …/keys/{key}/touch`.
pub(super) async fn touch(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let key = exchange.key()?;
    let bytes = exchange.read_json().await?;
    let (name, domain, after_ms) = parse_touch(&bytes, &namespace.config)?;
    let op = Op { key: &key, action: Action::Touch { name: &name, domain, after_ms } };
    let applied = apply(&exchange, &namespace, &op).await?;
    Ok(told(&exchange, &key, Some(&name), Some(domain), &applied))
}

/// `DELETE …/timers/{name}`.
pub(super) async fn delete(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let key = exchange.key()?;
    let name = exchange.timer_name()?;
    let domain = exchange.query.domain().unwrap_or_default();
    let op = Op { key: &key, action: Action::Delete { domain, target: Target::Name(&name) } };
    let applied = apply(&exchange, &namespace, &op).await?;
    Ok(told(&exchange, &key, Some(&name), Some(domain), &applied))
}

/// `DELETE …/timers`, with `at`, with `fire_at`, or of the whole key.
pub(super) async fn delete_of_key(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let key = exchange.key()?;
    let domain = exchange.query.domain();
    let action = match deleted_target(&exchange)? {
        Some(target) => Action::Delete { domain: domain.unwrap_or_default(), target },
        None => Action::DeleteAll,
    };
    let op = Op { key: &key, action };
    let applied = apply(&exchange, &namespace, &op).await?;
    let domain = matches!(action, Action::Delete { .. }).then(|| domain.unwrap_or_default());
    Ok(told(&exchange, &key, None, domain, &applied))
}

fn deleted_target(exchange: &Exchange<'_>) -> Result<Option<Target<'static>>, Problem> {
    let query = &exchange.query;
    let resolution_ms = query.duration_ms("resolution")?;
    let spread_ms = query.duration_ms("spread")?;
    match (query.time("at")?, query.time("fire_at")?) {
        (Some(_), Some(_)) => Err(query_problem("fire_at", "and `at` exclude each other")),
        (Some(at), None) => Ok(Some(Target::At { at, resolution_ms, spread_ms })),
        (None, fire_at) => {
            // Without `at` these would widen what is deleted instead of narrowing it down.
            let mut idle = vec!["resolution", "spread"];
            if fire_at.is_none() {
                idle.push("domain");
            }
            for name in idle {
                if query.text(name).is_some() {
                    let wanted = if name == "domain" {
                        "needs `at` or `fire_at`: all timers of a key are those of both domains"
                    } else {
                        "needs `at`"
                    };
                    return Err(query_problem(name, wanted));
                }
            }
            Ok(fire_at.map(Target::FireAt))
        }
    }
}

/// `GET …/timers/{name}`.
pub(super) async fn get(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let key = exchange.key()?;
    let name = exchange.timer_name()?;
    let domain = exchange.query.domain().unwrap_or_default();
    let timers = timers_of(&exchange, &namespace, &key).await?;
    let timer =
        timers.iter().find(|timer| timer.domain == domain && timer.name.as_deref() == Some(&*name));
    let Some(timer) = timer else {
        let other = timers.iter().any(|timer| timer.name.as_deref() == Some(&*name));
        let hint = match (other, domain) {
            (false, _) => "",
            (true, Domain::Processing) => "; there is one in event time: ?domain=event",
            (true, Domain::Event) => "; there is one in processing time: ?domain=processing",
        };
        let detail = format!("the key has no timer of this name in {} time{hint}", domain.as_str());
        return Err(Problem::new(&kinds::TIMER_NOT_FOUND, detail).field("name"));
    };
    let mut body = Vec::with_capacity(128);
    write_timer(&mut body, timer, &namespace.config, exchange.query.time_format());
    Ok(json(body))
}

/// `GET …/timers`.
pub(super) async fn get_all(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let key = exchange.key()?;
    let domain = exchange.query.domain();
    let timers = timers_of(&exchange, &namespace, &key).await?;
    let mut body = b"{\"key\":".to_vec();
    write_text(&mut body, &format_key(&key));
    body.extend_from_slice(b",\"timers\":[");
    let mut first = true;
    for timer in &timers {
        if domain.is_none_or(|domain| timer.domain == domain) {
            if !std::mem::take(&mut first) {
                body.push(b',');
            }
            write_timer(&mut body, timer, &namespace.config, exchange.query.time_format());
        }
    }
    body.extend_from_slice(b"]}");
    Ok(json(body))
}

async fn timers_of(
    exchange: &Exchange<'_>,
    namespace: &Arc<NamespaceEntry>,
    key: &[u8],
) -> Result<Vec<TimerView>, Problem> {
    try_ask(|reply| exchange.app.engine.key_timers(namespace, key, reply)).await
}

/// Sends one operation to its shard and waits for what came of it.
async fn apply(
    exchange: &Exchange<'_>,
    namespace: &Arc<NamespaceEntry>,
    op: &Op<'_>,
) -> Result<Applied, Problem> {
    let engine = &exchange.app.engine;
    let mut batch = engine.batch(namespace);
    exchange.mark(&mut batch)?;
    batch.push(op)?;
    let outcomes: Vec<Outcome> = ask(|reply| engine.submit(batch, reply)).await?;
    let outcome = outcomes.into_iter().next().unwrap_or(Err(Rejection::Stopping));
    Ok(outcome?)
}

/// The answer to an operation.
fn told(
    exchange: &Exchange<'_>,
    key: &[u8],
    name: Option<&str>,
    domain: Option<Domain>,
    applied: &Applied,
) -> Response<Body> {
    let status =
        if applied.result == ResultKind::Created { StatusCode::CREATED } else { StatusCode::OK };
    let times = exchange.query.time_format();
    let body = applied_json(Some(key), name, domain, applied, times);
    exchange.acknowledged(answer(status, Media::Json, body))
}

/// Appends a JSON string.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text becomes JSON, and a vector takes it");
}
