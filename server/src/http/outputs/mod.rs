//! `GET …/outputs`: the output log, read by a cursor, at once or as an endless stream.
//!
//! A reader is nothing but a position: it holds no buffer in the log, and one that stops reading
//! holds up nobody. What it has not read when the log's bound passes over it is a gap, and a gap is
//! always told, never skipped in silence.

mod format;
mod stream;

pub(super) use stream::Streaming;

use super::app::Exchange;
use super::kinds::query_problem;
use super::query::with_plus;
use super::respond::{self, problem};
use crate::wire::output::Filter;
use crate::wire::problem::{Problem, kinds};
use axum::body::Body;
use format::Format;
use http::{HeaderValue, Response, StatusCode};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use stormwheel::output::{Cursor, NamespaceId, OutputFault};
use stormwheel::runtime::{OutputLog, ReadRejection};
use stormwheel::time::text::parse_time_text;
use stream::OutputStream;

/// The header with the cursor: where an endless stream starts, where a bounded answer ends.
const CURSOR_HEADER: &str = "stormwheel-cursor";
/// Records of a bounded answer unless asked otherwise.
const LIMIT_DEFAULT: u64 = 1_000;
/// Records of a bounded answer at most.
const LIMIT_MAX: u64 = 10_000;
/// Longest wait of a bounded answer.
const WAIT_MS_MAX: i64 = 60_000;
/// How long a bounded answer may look through records that its filters pass over, whatever its wait.
const LOOK_MIN: Duration = Duration::from_secs(5);
/// Bytes of records that are taken from the log at a time.
const READ_BYTES: usize = 256 << 10;
/// Bytes after which a bounded answer ends, whatever its limit.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What a reader wants and where it stands.
pub(crate) struct Reader {
    log: Arc<OutputLog>,
    namespace: NamespaceId,
    position: Cursor,
    filter: Filter,
    format: Format,
    skips_gaps: bool,
}

/// What one look into the log found.
enum Found {
    /// Records were behind the position (they may all have been filtered out).
    Some,
    /// There are none for now.
    Nothing,
    /// Nothing will ever come.
    Ended,
}

impl Reader {
    /// Appends what lies behind the position and moves it, up to `records_max` records.
    ///
    /// A gap is either skipped, with a line that says so, or a problem.
    fn read(&mut self, out: &mut Vec<u8>, records_max: &mut u64) -> Result<Found, Problem> {
        // Asked first: what was appended before the end is still read.
        let ended = self.log.is_ended(self.namespace);
        let read = match self.log.read(self.namespace, self.position, READ_BYTES) {
            Ok(read) => read,
            Err(ReadRejection::Gap { earliest }) if self.skips_gaps => {
                self.format.write_gap(out, self.position, earliest);
                self.position = earliest;
                return Ok(Found::Some);
            }
            Err(rejection) => return Err(self.refuse(rejection)),
        };
        if read.blocks.is_empty() {
            return Ok(if ended { Found::Ended } else { Found::Nothing });
        }
        for block in &read.blocks {
            for (cursor, record) in block.after(self.position) {
                if *records_max == 0 {
                    return Ok(Found::Some);
                }
                self.position = cursor;
                if self.filter.accepts(&record) {
                    self.format.write_record(out, cursor, &record);
                    *records_max -= 1;
                }
            }
        }
        Ok(Found::Some)
    }

    fn refuse(&self, rejection: ReadRejection) -> Problem {
        let position = self.position.0;
        match rejection {
            ReadRejection::Gap { earliest } => {
                let detail = format!(
                    "records after {position} are gone; {} can be read from, and on_gap=skip goes \
                     on from there by itself",
                    earliest.0
                );
                let mut problem = Problem::new(&kinds::CURSOR_GONE, detail);
                problem.earliest = Some(earliest.0);
                problem.field("cursor")
            }
            ReadRejection::Foreign { born } => {
                let detail = format!(
                    "outputs of this namespace stand behind {}, and the cursor is {position}: it \
                     is of an earlier namespace of this name, or of another log",
                    born.0
                );
                Problem::new(&kinds::CURSOR_AHEAD, detail).field("cursor")
            }
            ReadRejection::Ahead { latest } => {
                let detail = format!(
                    "the log has come to {}, and the cursor is {position}: it is of another log",
                    latest.0
                );
                Problem::new(&kinds::CURSOR_AHEAD, detail).field("cursor")
            }
            ReadRejection::Fault(fault) => damaged(&fault, self.namespace, self.position),
        }
    }
}

/// Answers with what there is, or with an endless stream.
pub(super) async fn read(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let query = &exchange.query;
    let limit = query.integer("limit", 1, LIMIT_MAX)?;
    let wait_ms = query.duration_ms("wait")?;
    if let Some(wait_ms) = wait_ms.filter(|wait_ms| *wait_ms > WAIT_MS_MAX) {
        let detail = format!("is {wait_ms} ms; allowed are {WAIT_MS_MAX} ms");
        let mut problem = query_problem("wait", &detail);
        (problem.limit, problem.actual) = (Some(WAIT_MS_MAX as u64), Some(wait_ms as u64));
        return Err(problem);
    }
    let log = exchange.app.engine.outputs().clone();
    let reader = Reader {
        position: start_of(&exchange, &log, namespace.id)?,
        log,
        namespace: namespace.id,
        filter: Filter::parse(&filters(&exchange))?,
        format: Format::new(exchange.media, query.time_format()),
        skips_gaps: query.text("on_gap") == Some("skip"),
    };
    if limit.is_some() || wait_ms.is_some() {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        let wait = Duration::from_millis(wait_ms.unwrap_or(0).unsigned_abs());
        return read_bounded(reader, limit, wait, &exchange).await;
    }
    start_stream(reader, &exchange)
}

fn filters(exchange: &Exchange<'_>) -> Vec<(String, String)> {
    const NAMES: [&str; 5] = ["tag", "key", "key_prefix", "name", "domain"];
    let pairs = exchange.query.pairs().iter();
    pairs.filter(|(name, _)| NAMES.contains(&name.as_str())).cloned().collect()
}

/// Where to read from: `Last-Event-ID` (a reader that comes back), else `cursor`, else the earliest.
fn start_of(
    exchange: &Exchange<'_>,
    log: &OutputLog,
    namespace: NamespaceId,
) -> Result<Cursor, Problem> {
    if let Some(id) = exchange.head.last_event_id.filter(|id| !id.is_empty()) {
        let number = id.to_str().ok().and_then(|id| id.parse().ok());
        return number.map(Cursor).ok_or_else(|| {
            let detail = "Last-Event-ID is not a cursor; cursors are whole numbers";
            Problem::new(&kinds::UNSUPPORTED_HEADER, detail).field("Last-Event-ID")
        });
    }
    match exchange.query.text("cursor") {
        None | Some("earliest") => Ok(log.earliest(namespace)),
        Some("latest") => Ok(log.latest()),
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text
            .parse()
            .map(Cursor)
            .map_err(|_| query_problem("cursor", "is larger than any cursor can be")),
        // A bare number is a cursor, so a time in milliseconds cannot be meant, nor a negative one.
        Some(text) => parse_time_text(&with_plus(text))
            .ok()
            .filter(|_| text.parse::<i64>().is_err())
            .map(|time| log.at_time(namespace, time.as_millis()))
            .ok_or_else(|| {
                let detail = format!(
                    "is `{text}`; it can be the number of a record, `earliest`, `latest`, or an \
                     RFC 3339 time"
                );
                query_problem("cursor", &detail)
            }),
    }
}

async fn read_bounded(
    mut reader: Reader,
    limit: u64,
    wait: Duration,
    exchange: &Exchange<'_>,
) -> Result<Response<Body>, Problem> {
    let mut body = Vec::new();
    let mut left = limit;
    // Reading what is there takes no part of the wait: that is for what is not there yet.
    let mut waiting = pin!(tokio::time::sleep(wait));
    let gathering = async {
        loop {
            match reader.read(&mut body, &mut left)? {
                Found::Some if left > 0 && body.len() < ANSWER_BYTES_MAX => {
                    tokio::task::yield_now().await;
                }
                Found::Nothing if left == limit && !wait.is_zero() => {
                    let mut waiter = reader.log.waiter(reader.namespace);
                    let position = reader.position;
                    let mut stopping = exchange.app.stopping.clone();
                    tokio::select! {
                        () = poll_fn(|cx| waiter.poll_ready(position, cx)) => {}
                        () = &mut waiting => return Ok(()),
                        () = stopping.wait() => return Ok::<(), Problem>(()),
                    }
                }
                Found::Some | Found::Nothing | Found::Ended => return Ok(()),
            }
        }
    };
    // Time out or not: what was gathered is the answer, and the cursor says how far it looked.
    if let Ok(gathered) = tokio::time::timeout(wait.max(LOOK_MIN), gathering).await {
        gathered?;
    }
    let mut response = respond::answer(StatusCode::OK, exchange.media, body);
    let cursor = HeaderValue::from(reader.position.0);
    response.headers_mut().insert(CURSOR_HEADER, cursor);
    Ok(response)
}

fn start_stream(mut reader: Reader, exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let cursor = HeaderValue::from(reader.position.0);
    // The first look decides between a stream and a problem: later there is no status any more.
    let mut first = Vec::new();
    let mut left = u64::MAX;
    reader.read(&mut first, &mut left)?;
    let streaming = Streaming::default();
    let stream = OutputStream::new(reader, first, exchange.app.stopping.clone(), streaming.clone());
    let mut response = respond::answer(StatusCode::OK, exchange.media, "");
    *response.body_mut() = Body::new(stream);
    response.extensions_mut().insert(streaming);
    let headers = response.headers_mut();
    headers.insert(CURSOR_HEADER, cursor);
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Asks proxies in front not to hold the stream back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What a reader is told of damage. Where it is stands in the log of the service: a reader can do
/// nothing with the name of a file.
fn damaged(fault: &OutputFault, namespace: NamespaceId, after: Cursor) -> Problem {
    tracing::error!(
        file = fault.file,
        offset = fault.offset,
        detail = fault.detail,
        namespace = namespace.0,
        after = after.0,
        "outputs cannot be read"
    );
    let detail = format!("the records after {} cannot be read", after.0);
    Problem::new(&kinds::OUTPUTS_DAMAGED, detail)
}

/// The last words of a stream that cannot go on.
fn last_words(reader: &Reader, out: &mut Vec<u8>, refusal: &Problem) {
    reader.format.write_problem(out, refusal);
    tracing::debug!(
        status = problem(refusal).status().as_u16(),
        slug = refusal.kind.slug,
        "a stream ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_of_damage_learns_nothing_of_the_files() {
        let (file, detail) = ("outputs/0000000001.out".to_owned(), "checksum".to_owned());
        let fault = OutputFault { file, offset: 4_096, detail };
        let problem = damaged(&fault, NamespaceId(1), Cursor(7));
        assert_eq!(problem.kind.status, 500);
        let text = String::from_utf8(problem.to_json()).unwrap();
        assert!(text.contains("after 7"), "{text}");
        assert!(
            !text.contains("0000000001") && !text.contains("4096") && !text.contains("checksum")
        );
    }
}
