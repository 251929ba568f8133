//! Calls that move time: sources of watermarks, and manual clocks.

use super::app::{Exchange, try_ask};
use super::bound::Segment;
use super::namespaces::misanswered;
use super::respond::json_value;
use crate::wire::document::{message, parse_document};
use crate::wire::problem::{Problem, kinds};
use crate::wire::time::{TimeFormat, write_time};
use axum::body::Body;
use http::Response;
use serde::Deserialize as _;
use serde_json::{Value, json};
use stormwheel::duration::DurationValue;
use stormwheel::namespace::{
    ClockChange, Command, CommandReply, NamespaceStatus, SourceChange, SourceStatus,
};
use stormwheel::text::clip;
use stormwheel::time::Timestamp;
use stormwheel::time::text::TimeValue;

/// `PUT …/watermarks/{source}`.
pub(super) async fn put(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    exchange.namespace()?;
    let body = exchange.read_json().await?;
    let change = parse_source_change(&body)?;
    change_source(&exchange, change).await
}

/// `DELETE …/watermarks/{source}`.
pub(super) async fn delete(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    exchange.namespace()?;
    change_source(&exchange, SourceChange::Forget).await
}

async fn change_source(
    exchange: &Exchange<'_>,
    change: SourceChange,
) -> Result<Response<Body>, Problem> {
    let name = exchange.namespace_name()?;
    let source = exchange.identifier(Segment::Source)?;
    let settle = exchange.query.flag("settle")?;
    let command = Command::Source { source: source.clone().into_owned(), change };
    let reply = try_ask(|reply| exchange.app.engine.command(&name, command, settle, reply)).await?;
    let CommandReply::Source { result, watermark, fired } = reply else {
        return Err(misanswered());
    };
    let mut body = json!({
        "source": source,
        "result": result.as_str(),
        "watermark": time_json(watermark, exchange.query.time_format()),
    });
    if settle {
        body["fired"] = Value::from(fired);
    }
    Ok(exchange.acknowledged_command(json_value(&body)))
}

/// `GET …/watermark`.
pub(super) async fn get(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let status: NamespaceStatus =
        try_ask(|reply| exchange.app.engine.describe(&namespace, reply)).await?;
    let times = exchange.query.time_format();
    Ok(json_value(&json!({
        "watermark": time_json(status.watermark, times),
        "sources": sources_json(&status.sources, times),
    })))
}

/// `PUT /v1/namespaces/{ns}/clock`.
pub(super) async fn put_clock(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let body = exchange.read_json().await?;
    let command = Command::Clock(parse_clock_change(&body)?);
    let name = &namespace.name;
    let reply = try_ask(|reply| exchange.app.engine.command(name, command, true, reply)).await?;
    let CommandReply::Clock { advanced, now, fired } = reply else {
        return Err(misanswered());
    };
    let body = json!({
        "result": if advanced { "advanced" } else { "ignored" },
        "now": time_json(Some(now), exchange.query.time_format()),
        "fired": fired,
    });
    Ok(exchange.acknowledged_command(json_value(&body)))
}

/// A time as JSON; an absent one is null.
pub(super) fn time_json(time: Option<Timestamp>, times: TimeFormat) -> Value {
    let Some(time) = time else {
        return Value::Null;
    };
    let mut text = Vec::new();
    write_time(&mut text, time, times);
    serde_json::from_slice(&text).expect("a time was written as JSON")
}

/// Sources as JSON.
pub(super) fn sources_json(sources: &[SourceStatus], times: TimeFormat) -> Value {
    let shown = sources.iter().map(|source| {
        json!({
            "source": source.source,
            "watermark": time_json(source.watermark, times),
            "idle": source.idle,
            "listed": source.listed,
        })
    });
    Value::Array(shown.collect())
}

/// `{"watermark": …}` or `{"idle": true}`.
fn parse_source_change(body: &[u8]) -> Result<SourceChange, Problem> {
    let (field, value) = only_field(body, &["watermark", "idle"])?;
    if field == "watermark" {
        return parse_time(field, value).map(SourceChange::Watermark);
    }
    if value == Value::Bool(true) {
        return Ok(SourceChange::Idle);
    }
    let detail = "`idle` can only be true; a source that reports a watermark is not idle any more";
    Err(Problem::new(&kinds::INVALID_FIELD, detail).field(field))
}

/// `{"now": …}` or `{"advance": "1h"}`.
fn parse_clock_change(body: &[u8]) -> Result<ClockChange, Problem> {
    let (field, value) = only_field(body, &["now", "advance"])?;
    if field == "now" {
        return parse_time(field, value).map(ClockChange::Set);
    }
    let wrong = |detail: String| {
        Problem::new(&kinds::INVALID_DURATION, format!("{field}: {detail}")).field(field)
    };
    let millis = DurationValue::deserialize(value).map_err(|error| wrong(message(&error)))?.0;
    if millis < 0 {
        return Err(wrong("is negative; a clock does not go back".to_owned()));
    }
    Ok(ClockChange::Advance(millis))
}

/// The body must be an object with exactly one field, one of those that are known.
pub(super) fn only_field(
    body: &[u8],
    known: &'static [&'static str],
) -> Result<(&'static str, Value), Problem> {
    let Value::Object(fields) = parse_document(body)? else {
        let detail = format!("a JSON object with {} was expected", known.join(" or "));
        return Err(Problem::new(&kinds::INVALID_JSON, detail));
    };
    if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        let unknown = clip(unknown);
        let detail = format!("`{unknown}` is not known here; known are {}", known.join(", "));
        return Err(Problem::new(&kinds::UNKNOWN_FIELD, detail).field(unknown));
    }
    let mut given = fields.into_iter();
    let (Some((name, value)), None) = (given.next(), given.next()) else {
        let detail = format!("say exactly one of {}", known.join(" and "));
        return Err(Problem::new(&kinds::MISSING_FIELD, detail).field(known[0]));
    };
    let field = known.iter().copied().find(|known| *known == name).unwrap_or(known[0]);
    Ok((field, value))
}

fn parse_time(field: &str, value: Value) -> Result<Timestamp, Problem> {
    TimeValue::deserialize(value).map(|time| time.0).map_err(|error| {
        let detail = format!("{field}: {}", message(&error));
        Problem::new(&kinds::INVALID_TIME, detail).field(field)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(found: Result<impl std::fmt::Debug, Problem>, field: Option<&str>) {
        let problem = found.unwrap_err();
        assert_eq!(problem.kind.status, 400);
        assert_eq!(problem.field.as_deref(), field, "{}", problem.detail);
    }

    #[test]
    fn source_changes() {
        let parse = |body: &str| parse_source_change(body.as_bytes());
        let at = |millis| SourceChange::Watermark(Timestamp::from_millis(millis));
        assert_eq!(parse("{\"watermark\":-5}").unwrap(), at(-5));
        assert_eq!(parse("{\"watermark\":\"1970-01-01T00:00:01Z\"}").unwrap(), at(1_000));
        assert_eq!(parse("{\"idle\":true}").unwrap(), SourceChange::Idle);
        check_refused(parse("{\"idle\":false}"), Some("idle"));
        check_refused(parse("{\"watermark\":1.5}"), Some("watermark"));
        check_refused(parse("{\"watermark\":9223372036854775808}"), Some("watermark"));
        check_refused(parse("{\"watermark\":null}"), Some("watermark"));
        check_refused(parse("{\"watermark\":1,\"idle\":true}"), Some("watermark"));
        check_refused(parse("{}"), Some("watermark"));
        check_refused(parse("{\"wm\":1}"), Some("wm"));
        check_refused(parse("{\"watermark\":1,\"watermark\":2}"), Some("watermark"));
        let long = parse(&format!("{{\"{}\":1}}", "x".repeat(100_000))).unwrap_err();
        assert!(long.to_json().len() < 1_000, "what is refused is not repeated at length");
        check_refused(parse("[1]"), None);
        check_refused(parse(""), None);
    }

    #[test]
    fn clock_changes() {
        let parse = |body: &str| parse_clock_change(body.as_bytes());
        let set = ClockChange::Set(Timestamp::from_millis(7));
        assert_eq!(parse("{\"now\":7}").unwrap(), set);
        let hour = ClockChange::Advance(3_600_000);
        assert_eq!(parse("{\"advance\":\"1h\"}").unwrap(), hour);
        check_refused(parse("{\"advance\":5}"), Some("advance"));
        check_refused(parse("{\"advance\":\"-1s\"}"), Some("advance"));
        check_refused(parse("{\"advance\":\"x\"}"), Some("advance"));
        check_refused(parse("{\"advance\":\"1h\",\"advance\":\"2h\"}"), Some("advance"));
        check_refused(parse("{\"now\":1,\"advance\":\"1s\"}"), Some("now"));
    }
}
