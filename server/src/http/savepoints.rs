//! Savepoints: make one, and look at those there are.

use super::app::Exchange;
use super::bound::Segment;
use super::checkpoints::{BEGIN_LOOK, BEGIN_MAX, check_durable, wait_of};
use super::manners::Media;
use super::respond::{answer, json_value};
use super::watermarks::time_json;
use crate::wire::document::parse_document;
use crate::wire::problem::{Problem, kinds};
use crate::wire::time::TimeFormat;
use axum::body::Body;
use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use stormwheel::error::Rejection;
use stormwheel::runtime::SavepointInfo;
use stormwheel::text::clip;
use stormwheel::time::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// `POST /v1/savepoints`.
pub(super) async fn make(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    check_durable(&exchange)?;
    let wait = wait_of(&exchange)?;
    let body = exchange.read_json().await?;
    let namespaces = parse_request(&body)?;
    let engine = &exchange.app.engine;
    let known: BTreeSet<String> = engine.savepoints().into_iter().map(|info| info.id).collect();
    let (sender, mut ended) = oneshot::channel();
    engine.savepoint(
        namespaces,
        Box::new(move |answer| {
            // A client that went away in the meantime does not want the answer.
            drop(sender.send(answer));
        }),
    );
    if !wait.is_zero()
        && let Ok(end) = timeout(wait, &mut ended).await
    {
        return told(&exchange, StatusCode::OK, end);
    }
    let started = Instant::now();
    loop {
        let all = engine.savepoints();
        if let Some(info) = all.iter().find(|info| !known.contains(&info.id)) {
            return Ok(shown_with(&exchange, StatusCode::ACCEPTED, info));
        }
        tokio::select! {
            end = &mut ended => return told(&exchange, StatusCode::ACCEPTED, end),
            () = sleep(BEGIN_LOOK) => {}
        }
        if started.elapsed() > BEGIN_MAX {
            // It waits for a checkpoint, or for one before it.
            let body = json!({ "status": "asked" }).to_string();
            return Ok(answer(StatusCode::ACCEPTED, Media::Json, body));
        }
    }
}

type End = Result<Result<SavepointInfo, Rejection>, oneshot::error::RecvError>;

fn told(exchange: &Exchange<'_>, status: StatusCode, end: End) -> Result<Response<Body>, Problem> {
    // An engine that drops the question without an answer has stopped.
    let info = end.map_err(|_| Problem::from(Rejection::Stopping))??;
    Ok(shown_with(exchange, status, &info))
}

fn shown_with(exchange: &Exchange<'_>, status: StatusCode, info: &SavepointInfo) -> Response<Body> {
    let body = shown(info, exchange.query.time_format()).to_string();
    let mut response = answer(status, Media::Json, body);
    if let Ok(location) = HeaderValue::try_from(format!("/v1/savepoints/{}", info.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// `GET /v1/savepoints`.
pub(super) fn list(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    check_durable(exchange)?;
    let times = exchange.query.time_format();
    let all = exchange.app.engine.savepoints();
    let all: Vec<_> = all.iter().map(|info| shown(info, times)).collect();
    Ok(json_value(&json!({ "savepoints": all })))
}

/// `GET /v1/savepoints/{id}`.
pub(super) fn get(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    check_durable(exchange)?;
    let id = exchange.segment(Segment::Savepoint)?;
    let all = exchange.app.engine.savepoints();
    let Some(info) = all.iter().find(|info| info.id == id) else {
        return Err(unknown(&id));
    };
    Ok(json_value(&shown(info, exchange.query.time_format())))
}

/// `DELETE /v1/savepoints/{id}`.
pub(super) async fn remove(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    check_durable(exchange)?;
    let id = exchange.segment(Segment::Savepoint)?;
    let (sender, removed) = oneshot::channel();
    exchange.app.engine.remove_savepoint(
        &id,
        Box::new(move |answer| {
            // A client that went away in the meantime does not want the answer.
            drop(sender.send(answer));
        }),
    );
    // An engine that drops the question without an answer has stopped.
    let removed = removed.await.map_err(|_| Problem::from(Rejection::Stopping))?;
    removed.map_err(|rejection| match rejection {
        Rejection::SavepointUnknown => unknown(&id),
        rejection => Problem::from(rejection),
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn unknown(id: &str) -> Problem {
    let detail = format!("there is no savepoint `{}`", clip(id));
    Problem::new(&kinds::SAVEPOINT_NOT_FOUND, detail).field("id")
}

/// Nothing, or `{"namespaces": ["a", "b"]}`.
fn parse_request(body: &[u8]) -> Result<Option<Vec<String>>, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let Value::Object(members) = parse_document(body)? else {
        return Err(Problem::new(&kinds::INVALID_JSON, "a JSON object was expected"));
    };
    let mut namespaces = None;
    for (field, value) in members {
        if field != "namespaces" {
            let field = clip(&field);
            let detail = format!("`{field}` is not known; there is `namespaces`");
            return Err(Problem::new(&kinds::UNKNOWN_FIELD, detail).field(field));
        }
        let wrong = || {
            let detail = "`namespaces` is a list of names, not an empty one; left out, it is all";
            Problem::new(&kinds::INVALID_FIELD, detail).field("namespaces")
        };
        let Value::Array(names) = value else { return Err(wrong()) };
        let names: Option<Vec<String>> =
            names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        namespaces = Some(names.filter(|names| !names.is_empty()).ok_or_else(wrong)?);
    }
    Ok(namespaces)
}

fn shown(info: &SavepointInfo, times: TimeFormat) -> Value {
    let status = match (info.ended_ms, &info.failure) {
        (_, Some(_)) => "failed",
        (Some(_), None) => "done",
        (None, None) => "running",
    };
    let time = |millis: i64| time_json(Some(Timestamp::from_millis(millis)), times);
    let mut body = Map::new();
    body.insert("savepoint".to_owned(), Value::from(info.id.as_str()));
    body.insert("status".to_owned(), Value::from(status));
    body.insert("began_at".to_owned(), time(info.began_ms));
    if let Some(ended_ms) = info.ended_ms {
        body.insert("ended_at".to_owned(), time(ended_ms));
        body.insert("bytes".to_owned(), Value::from(info.bytes));
        let namespaces = info.namespaces.iter().map(|it| {
            json!({
                "namespace": it.name,
                "keys": it.keys,
                "timers": it.timers,
                "outputs": it.outputs,
            })
        });
        body.insert("namespaces".to_owned(), namespaces.collect());
    }
    if let Some(failure) = &info.failure {
        body.insert("failure".to_owned(), Value::from(failure.as_str()));
    }
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(body: &str, slug: &str, field: Option<&str>) {
        let problem = parse_request(body.as_bytes()).unwrap_err();
        assert_eq!((problem.kind.slug, problem.field.as_deref()), (slug, field), "{body}");
    }

    #[test]
    fn nothing_means_all_and_what_is_asked_for_is_named() {
        for all in ["", " \n", "{}"] {
            assert_eq!(parse_request(all.as_bytes()).unwrap(), None);
        }
        let two = parse_request(br#"{"namespaces":["a","b"]}"#).unwrap();
        assert_eq!(two, Some(vec!["a".to_owned(), "b".to_owned()]));
        check_refused("[]", "invalid-json", None);
        check_refused(r#"{"namespace":"a"}"#, "unknown-field", Some("namespace"));
        for wrong in ["[]", "[1]", "\"a\"", "null"] {
            let body = format!("{{\"namespaces\":{wrong}}}");
            check_refused(&body, "invalid-field", Some("namespaces"));
        }
    }

    #[test]
    fn what_is_not_there_yet_is_left_out() {
        let id = "sp-19700101T000001Z-0001".to_owned();
        let mut info = SavepointInfo { id, began_ms: 1_000, ..SavepointInfo::default() };
        let running = shown(&info, TimeFormat::Rfc3339);
        assert_eq!((&running["status"], running.get("bytes")), (&json!("running"), None));
        info.failure = Some("no room".to_owned());
        assert_eq!(shown(&info, TimeFormat::Millis)["status"], "failed");
        info.failure = None;
        info.ended_ms = Some(3_000);
        let done = shown(&info, TimeFormat::Millis);
        assert_eq!((&done["status"], &done["ended_at"]), (&json!("done"), &json!(3_000)));
    }
}
