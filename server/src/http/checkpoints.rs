//! Checkpoints: begin one, and look at those there were.

use super::app::Exchange;
use super::bound::Segment;
use super::kinds::query_problem;
use super::manners::Media;
use super::respond::{answer, json_value};
use super::watermarks::time_json;
use crate::wire::problem::{Problem, kinds};
use crate::wire::time::TimeFormat;
use axum::body::Body;
use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use std::time::Duration;
use stormwheel::error::Rejection;
use stormwheel::runtime::{CheckpointInfo, Engine};
use stormwheel::time::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// The longest that a request waits for the end of a checkpoint.
const WAIT_MAX: Duration = Duration::from_mins(10);
/// How long a checkpoint may take to be seen after it was asked for, and how often it is looked for.
pub(super) const BEGIN_MAX: Duration = Duration::from_secs(5);
pub(super) const BEGIN_LOOK: Duration = Duration::from_millis(5);

/// `POST /v1/checkpoints`.
pub(super) async fn begin(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    check_durable(&exchange)?;
    let wait = wait_of(&exchange)?;
    let engine = &exchange.app.engine;
    let last = engine.checkpoints().first().map_or(0, |checkpoint| checkpoint.number);
    let (sender, mut ended) = oneshot::channel();
    engine.checkpoint(Box::new(move |answer| {
        // A client that went away in the meantime does not want the answer.
        drop(sender.send(answer));
    }));
    if !wait.is_zero()
        && let Ok(answer) = timeout(wait, &mut ended).await
    {
        return told_end(&exchange, answer);
    }
    match begun(engine, last, &mut ended).await {
        Begun::Ended(answer) => {
            let info = answer.map_err(|_| Problem::from(Rejection::Stopping))??;
            Ok(accepted(&exchange, Some(&info)))
        }
        Begun::UnderWay(info) => Ok(accepted(&exchange, Some(&info))),
        Begun::Unseen => Ok(accepted(&exchange, None)),
    }
}

/// How long the caller wants to wait for the end.
pub(super) fn wait_of(exchange: &Exchange<'_>) -> Result<Duration, Problem> {
    let wait = exchange
        .query
        .duration_ms("wait")?
        .map_or(Duration::ZERO, |millis| Duration::from_millis(millis.unsigned_abs()));
    if wait > WAIT_MAX {
        let detail = format!("is longer than {} s", WAIT_MAX.as_secs());
        return Err(query_problem("wait", &detail));
    }
    Ok(wait)
}

type End = Result<Result<CheckpointInfo, Rejection>, oneshot::error::RecvError>;

enum Begun {
    Ended(End),
    UnderWay(CheckpointInfo),
    Unseen,
}

/// Waits until the checkpoint that was asked for can be seen.
async fn begun(
    engine: &Engine,
    last: u64,
    ended: &mut oneshot::Receiver<Result<CheckpointInfo, Rejection>>,
) -> Begun {
    let started = Instant::now();
    loop {
        let newest = engine.checkpoints().into_iter().next();
        // One that was under way already is joined, or is the one before: its number holds either way.
        let seen = newest.filter(|newest| newest.number > last || newest.ended_ms.is_none());
        if let Some(info) = seen {
            return Begun::UnderWay(info);
        }
        tokio::select! {
            answer = &mut *ended => return Begun::Ended(answer),
            () = sleep(BEGIN_LOOK) => {}
        }
        if started.elapsed() > BEGIN_MAX {
            return Begun::Unseen;
        }
    }
}

fn told_end(exchange: &Exchange<'_>, end: End) -> Result<Response<Body>, Problem> {
    // An engine that drops the question without an answer has stopped.
    let info = end.map_err(|_| Problem::from(Rejection::Stopping))??;
    let mut response = json_value(&shown(&info, exchange.query.time_format()));
    locate(&mut response, info.number);
    Ok(response)
}

fn accepted(exchange: &Exchange<'_>, info: Option<&CheckpointInfo>) -> Response<Body> {
    let times = exchange.query.time_format();
    let body = info.map_or_else(|| json!({ "status": "asked" }), |info| shown(info, times));
    let mut response = answer(StatusCode::ACCEPTED, Media::Json, body.to_string());
    if let Some(info) = info {
        locate(&mut response, info.number);
    }
    response
}

fn locate(response: &mut Response<Body>, number: u64) {
    if let Ok(location) = HeaderValue::try_from(format!("/v1/checkpoints/{number}")) {
        response.headers_mut().insert(LOCATION, location);
    }
}

/// `GET /v1/checkpoints`.
pub(super) fn list(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    check_durable(exchange)?;
    let times = exchange.query.time_format();
    let all = exchange.app.engine.checkpoints();
    let all: Vec<_> = all.iter().map(|info| shown(info, times)).collect();
    Ok(json_value(&json!({ "checkpoints": all })))
}

/// `GET /v1/checkpoints/{n}`.
pub(super) fn get(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    check_durable(exchange)?;
    let text = exchange.segment(Segment::Number)?;
    let all = exchange.app.engine.checkpoints();
    let number: Option<u64> = text.parse().ok();
    let Some(info) = all.iter().find(|info| Some(info.number) == number) else {
        let detail = format!("there is no checkpoint `{text}` among the last ones");
        return Err(Problem::new(&kinds::CHECKPOINT_NOT_FOUND, detail).field("n"));
    };
    Ok(json_value(&shown(info, exchange.query.time_format())))
}

pub(super) fn check_durable(exchange: &Exchange<'_>) -> Result<(), Problem> {
    if !exchange.app.config.in_memory {
        return Ok(());
    }
    let detail = "the service was started with in_memory: nothing is written down, so there are no \
                  checkpoints and no savepoints";
    Err(Problem::new(&kinds::NOT_DURABLE, detail))
}

fn shown(info: &CheckpointInfo, times: TimeFormat) -> Value {
    // One that is kept from going on is tried again, and runs until it is done.
    let status = if info.ended_ms.is_some() { "done" } else { "running" };
    let time = |millis: i64| time_json(Some(Timestamp::from_millis(millis)), times);
    let mut body = Map::new();
    body.insert("checkpoint".to_owned(), Value::from(info.number));
    body.insert("status".to_owned(), Value::from(status));
    body.insert("began_at".to_owned(), time(info.began_ms));
    if let Some(ended_ms) = info.ended_ms {
        body.insert("ended_at".to_owned(), time(ended_ms));
        let took_ms = ended_ms.saturating_sub(info.began_ms);
        body.insert("duration_ms".to_owned(), Value::from(took_ms));
    }
    for (name, count) in [
        ("total_bytes", info.total_bytes),
        ("written_bytes", info.written_bytes),
        ("written_keys", info.written_keys),
        ("written_partitions", info.written_partitions),
    ] {
        body.insert(name.to_owned(), Value::from(count));
    }
    if let Some(failure) = &info.failure {
        body.insert("failure".to_owned(), Value::from(failure.as_str()));
    }
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_left_out() {
        let mut info = CheckpointInfo { number: 7, began_ms: 1_000, ..CheckpointInfo::default() };
        let running = shown(&info, TimeFormat::Millis);
        assert_eq!((&running["status"], running.get("ended_at")), (&json!("running"), None));
        info.failure = Some("no room".to_owned());
        let held = shown(&info, TimeFormat::Millis);
        assert_eq!((&held["status"], &held["failure"]), (&json!("running"), &json!("no room")));
        info.failure = None;
        info.ended_ms = Some(3_500);
        let done = shown(&info, TimeFormat::Rfc3339);
        assert_eq!((&done["status"], &done["duration_ms"]), (&json!("done"), &json!(2_500)));
        assert_eq!(done["began_at"], "1970-01-01T00:00:01Z");
    }
}
