//! The shapes of bodies, for the `OpenAPI` document only.
//!
//! Bodies are read and written by `wire`, by hand where speed asks for it; these types say the same
//! in a form that tools read. The end-to-end tests hold both together.
#![allow(
    missing_docs,
    dead_code,
    reason = "the fields are described in the document that is made from them"
)]

use crate::wire::problem;
use serde_json::{Value, json};
use stormwheel::op::ResultKind;
use stormwheel::time;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Milliseconds since 1970-01-01T00:00:00Z, or RFC 3339 with an offset. Answers are integers unless
/// `times=rfc3339` is asked for.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Time {
    Millis(i64),
    Rfc3339(String),
}

/// Whose clock a timer follows.
pub struct Domain;

impl PartialSchema for Domain {
    fn schema() -> RefOr<Schema> {
        let words = time::Domain::ALL.map(time::Domain::as_str);
        let about = "Whose clock a timer follows.";
        Schema::Object(string().description(Some(about)).enum_values(Some(words)).build()).into()
    }
}

impl ToSchema for Domain {}

/// A timer to register: exactly one of `at` and `after`.
#[derive(ToSchema)]
pub struct Registration {
    /// When it is due.
    pub at: Option<Time>,
    /// From now ("60s", "PT60S"); in event time from the watermark.
    #[schema(example = "60s")]
    pub after: Option<String>,
    pub domain: Option<Domain>,
    /// Any JSON, handed back byte for byte.
    pub payload: Option<Value>,
    /// Any bytes, in base64; instead of `payload`.
    pub payload_base64: Option<String>,
    /// May fire up to so much later.
    #[schema(example = "30s")]
    pub spread: Option<String>,
    /// The time is rounded down to a multiple of this.
    #[schema(example = "1s")]
    pub resolution: Option<String>,
    /// A condition on the timer that stands; unmet, the answer is `kept`.
    pub only: Option<Only>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Only {
    Absent,
    Present,
    Earlier,
    Later,
}

/// A heartbeat.
#[derive(ToSchema)]
pub struct Touch {
    /// Which timer of the key; `timeout` unless said otherwise.
    pub name: Option<String>,
    pub domain: Option<Domain>,
    /// From now; the namespace's `touch_after` unless said otherwise.
    #[schema(example = "60s")]
    pub after: Option<String>,
}

/// What became of an operation, in one word.
pub struct Outcome;

impl PartialSchema for Outcome {
    fn schema() -> RefOr<Schema> {
        let of_timers = ResultKind::ALL.into_iter().filter(|result| !result.is_of_element());
        let words: Vec<&str> = of_timers.map(ResultKind::as_str).collect();
        Schema::Object(string().enum_values(Some(words)).build()).into()
    }
}

impl ToSchema for Outcome {}

/// What an operation did.
#[derive(ToSchema)]
pub struct Applied {
    pub key: Option<String>,
    pub name: Option<String>,
    pub domain: Option<Domain>,
    pub fire_at: Option<Time>,
    pub result: Outcome,
    /// How many timers were cancelled; 1 promises that it never fires.
    pub cancelled: Option<u32>,
    /// Only if true: the time had passed already.
    pub overdue: Option<bool>,
}

/// One operation of a batch, a line.
#[derive(ToSchema)]
pub struct BatchOperation {
    pub op: BatchVerb,
    pub key: String,
    pub name: Option<String>,
    pub domain: Option<Domain>,
    pub at: Option<Time>,
    pub after: Option<String>,
    pub fire_at: Option<Time>,
    pub payload: Option<Value>,
    pub payload_base64: Option<String>,
    pub spread: Option<String>,
    pub resolution: Option<String>,
    pub only: Option<Only>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum BatchVerb {
    Register,
    Delete,
    Touch,
    DeleteAll,
}

/// What became of one line of a batch.
#[derive(ToSchema)]
pub struct BatchLine {
    /// The number of the line, blank ones not counted.
    pub index: u64,
    pub result: Option<Outcome>,
    pub fire_at: Option<Time>,
    pub cancelled: Option<u32>,
    pub overdue: Option<bool>,
    pub error: Option<Problem>,
}

/// A timer that is pending.
#[derive(ToSchema)]
pub struct Timer {
    pub key: String,
    pub name: Option<String>,
    /// Of a function's timer that is in a namespace of its own, as those of windows are (theirs is the
    /// window's start): spelled as keys are. Such a timer has no name.
    pub timer_namespace: Option<String>,
    pub domain: Domain,
    pub fire_at: Time,
    pub payload: Option<Value>,
    pub payload_base64: Option<String>,
}

#[derive(ToSchema)]
pub struct KeyTimers {
    pub key: String,
    pub timers: Vec<Timer>,
}

#[derive(ToSchema)]
pub struct TimerPage {
    pub timers: Vec<Timer>,
    /// Absent on the last page.
    pub next_page_token: Option<String>,
}

/// How many timers fall due in each step.
#[derive(ToSchema)]
pub struct Forecast {
    pub domain: Domain,
    pub from: Time,
    pub to: Time,
    /// The step that was used; a finer one than is kept is widened.
    pub step_ms: i64,
    pub counts: Vec<u64>,
    pub before: u64,
    pub after: u64,
}

/// A fire; or a value of a function, which has `value`, and of the other fields none but `id`,
/// `cursor` and `key`.
#[derive(ToSchema)]
pub struct Output {
    /// The same if the record is ever handed out again.
    pub id: String,
    /// Read after this number to go on from here.
    pub cursor: u64,
    /// Absent where a function has emitted a value while it processed a broadcast.
    pub key: Option<String>,
    pub name: Option<String>,
    pub domain: Option<Domain>,
    pub fire_at: Option<Time>,
    /// Processing time only: the clock when it fired.
    pub fired_at: Option<Time>,
    pub lateness_ms: Option<i64>,
    /// Event time only: the watermark that made it due.
    pub watermark: Option<Time>,
    pub payload: Option<Value>,
    pub payload_base64: Option<String>,
    /// The side output that a value went to; absent for the main one.
    pub tag: Option<String>,
    pub timestamp: Option<Time>,
    pub value: Option<Value>,
    pub value_base64: Option<String>,
}

#[derive(ToSchema)]
pub struct NamespaceChange {
    pub namespace: String,
    /// `created` or `configured`.
    pub result: String,
    pub version: u64,
    pub config: NamespaceConfig,
}

#[derive(ToSchema)]
pub struct NamespaceSummary {
    pub namespace: String,
    pub operator: String,
    pub clock: String,
    pub version: u64,
}

#[derive(ToSchema)]
pub struct NamespacePage {
    pub namespaces: Vec<NamespaceSummary>,
    /// Absent on the last page.
    pub next_page_token: Option<String>,
}

#[derive(ToSchema)]
pub struct Namespace {
    pub namespace: String,
    pub version: u64,
    pub config: NamespaceConfig,
    pub status: NamespaceStatus,
}

#[derive(ToSchema)]
pub struct NamespaceStatus {
    /// What its clock reads; null: a manual clock that was never set.
    pub now: Option<Time>,
    /// `open`; `closing`: it takes nothing more in, and has timers still; `closed`: nothing more will
    /// come of it.
    pub state: String,
    /// What becomes of its processing timers: `drain`, `wait` or `discard`; null: it is open.
    pub processing_timers: Option<String>,
    /// No time passes in it until it is resumed.
    pub paused: bool,
    /// Why it has stopped; null: it has not. It is paused then, and takes no elements.
    pub stopped: Option<NamespaceStop>,
    /// Where its function has failed, one for each lane on which it has: that of `stopped` first, the
    /// others by time. At most eight; empty: it has not stopped.
    pub failures: Vec<NamespaceStop>,
    /// How many lanes more it has failed on.
    pub failures_omitted: u64,
    /// The combined watermark; null: none yet.
    pub watermark: Option<Time>,
    pub sources: Vec<Source>,
    pub keys: u64,
    pub timers: PendingTimers,
}

/// Where the function of a namespace has failed for good.
#[derive(ToSchema)]
pub struct NamespaceStop {
    pub since: Time,
    pub key: String,
    /// The element that was not taken.
    pub element: Option<StoppedElement>,
    /// The timer that is due still.
    pub timer: Option<StoppedTimer>,
    /// What the function said.
    pub error: String,
}

#[derive(ToSchema)]
pub struct StoppedElement {
    pub timestamp: Time,
    pub input: u8,
}

#[derive(ToSchema)]
pub struct StoppedTimer {
    /// `event` or `processing`.
    pub domain: String,
    pub fire_at: Time,
    pub name: Option<String>,
    /// The bytes of the namespace of the timer: a window, for one.
    pub namespace_hex: Option<String>,
}

#[derive(ToSchema)]
pub struct PendingTimers {
    pub event: u64,
    pub processing: u64,
}

#[derive(ToSchema)]
pub struct NamespaceDeleted {
    pub namespace: String,
    /// `deleted`, or `emptied` for `default`.
    pub result: String,
    pub timers: u64,
}

#[derive(ToSchema)]
pub struct NamespacePaused {
    pub namespace: String,
    /// `paused` or `resumed`; `ignored` if it was so already.
    pub result: String,
    /// What holds now.
    pub paused: bool,
}

#[derive(ToSchema)]
pub struct NamespaceClose {
    /// Those that are pending fire now (`drain`), at their times (`wait`), or go (`discard`).
    pub processing_timers: String,
}

#[derive(ToSchema)]
pub struct NamespaceClosed {
    pub namespace: String,
    /// `closing` or `closed`; `ignored` if it was closed before.
    pub result: String,
    /// How it stands: `closing` or `closed`.
    pub state: String,
    /// What becomes of its processing timers.
    pub processing_timers: String,
    /// How many of them have fired now; only of a drain.
    pub drained: Option<u64>,
    /// How many of them are gone.
    pub discarded: Option<u64>,
}

/// A source of watermarks.
#[derive(ToSchema)]
pub struct Source {
    pub source: String,
    pub watermark: Option<Time>,
    pub idle: bool,
    /// It stands in the configuration.
    pub listed: bool,
}

/// Either `watermark` or `"idle": true`.
#[derive(ToSchema)]
pub struct SourceChange {
    pub watermark: Option<Time>,
    pub idle: Option<bool>,
}

#[derive(ToSchema)]
pub struct SourceChanged {
    pub source: String,
    /// `advanced`, `ignored`, `idle` or `forgotten`.
    pub result: String,
    /// The combined watermark after it.
    pub watermark: Option<Time>,
    /// With `settle`: how many timers fired of it.
    pub fired: Option<u64>,
}

#[derive(ToSchema)]
pub struct Watermark {
    /// The combined watermark; null: none yet.
    pub watermark: Option<Time>,
    pub sources: Vec<Source>,
}

/// Either `now` or `advance`.
#[derive(ToSchema)]
pub struct ClockChange {
    pub now: Option<Time>,
    #[schema(example = "1h")]
    pub advance: Option<String>,
}

#[derive(ToSchema)]
pub struct ClockChanged {
    /// `advanced`, or `ignored` for a step back.
    pub result: String,
    pub now: Time,
    /// How many timers fired of it, all of them readable.
    pub fired: u64,
}

#[derive(ToSchema)]
pub struct ClockStatus {
    /// `accepted` or `nothing held`.
    pub result: String,
    /// The leap that was accepted.
    pub step_ms: Option<i64>,
}

/// What a start can begin from.
#[derive(ToSchema)]
pub struct Checkpoint {
    pub checkpoint: Option<u64>,
    /// `running` or `done`; `asked`: it has not begun yet.
    pub status: String,
    pub began_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub duration_ms: Option<i64>,
    /// Bytes of all objects that it stands on.
    pub total_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    pub written_keys: Option<u64>,
    pub written_partitions: Option<u64>,
    /// What kept it from going on when it was last tried; it is tried again.
    pub failure: Option<String>,
}

#[derive(ToSchema)]
pub struct Checkpoints {
    pub checkpoints: Vec<Checkpoint>,
}

mod config;
mod elements;
mod savepoints;
pub use config::{NamespaceConfig, NamespaceLimits, OnError, Overdue, Retention, WatermarkConfig};
pub use elements::{
    BroadcastElement, BroadcastResult, BroadcastTaken, ElementError, ElementLine, ElementsTaken,
};
pub use savepoints::{Savepoint, SavepointNamespace, SavepointRequest, Savepoints};

#[derive(ToSchema)]
pub struct Health {
    /// `ok`, `ready`, `degraded` (requests are taken as far as that goes), `starting`, `stopping`,
    /// `unready` or `failed`.
    pub status: String,
    /// With `verbose`, and where something is wrong.
    pub checks: Option<Vec<Check>>,
}

#[derive(ToSchema)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}

/// An error.
pub struct Problem;

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        let about = "An error as RFC 9457 has it; its `type` is a page that says what to do.";
        let kind = string().examples([json!("/problems/invalid-query")]);
        let status = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(400));
        let detail = string().description(Some(
            "What is wrong here. Left out where a batch has more errors than are told in full.",
        ));
        let field = string().description(Some("The field, parameter or header that is wrong."));
        let mut object = ObjectBuilder::new()
            .description(Some(about))
            .property("type", kind)
            .required("type")
            .property("title", string())
            .required("title")
            .property("status", status)
            .required("status")
            .property("detail", detail)
            .property("field", field);
        for (name, _) in problem::Problem::NUMBERS {
            let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
            object = object.property(name, number);
        }
        Schema::Object(object.build()).into()
    }
}

impl ToSchema for Problem {}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::problem::kinds;
    use std::collections::BTreeSet;

    #[test]
    fn a_problem_has_the_members_that_it_is_written_with() {
        let mut problem = problem::Problem::new(&kinds::CURSOR_GONE, "gone").field("cursor");
        problem = problem.bound(1, 2).retry_after_ms(3);
        problem.earliest = Some(4);
        let written: Value = serde_json::from_slice(&problem.to_json()).unwrap();
        let schema = serde_json::to_value(Problem::schema()).unwrap();
        let names = |object: &Value| -> BTreeSet<String> {
            object.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&written), names(&schema["properties"]));
        // What a brief problem is written with must not be more than is promised.
        let mut brief = Vec::new();
        problem::write_brief(&mut brief, &kinds::QUEUE_FULL, None);
        let brief: Value = serde_json::from_slice(&brief).unwrap();
        let required = schema["required"].as_array().unwrap();
        assert!(required.iter().all(|name| names(&brief).contains(name.as_str().unwrap())));
    }
}
