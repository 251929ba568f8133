//! The shapes of elements and of the answer to them.

use super::{Problem, SourceChanged, Time};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One element, a line; or only `watermark`, which moves the request's source between the elements.
#[derive(ToSchema)]
pub struct ElementLine {
    pub key: Option<String>,
    /// When it happened; the namespace's now unless said, as long as it has no event time.
    pub timestamp: Option<Time>,
    /// Any JSON, `null` too.
    pub value: Option<Value>,
    /// Any bytes, in base64; instead of `value`.
    pub value_base64: Option<String>,
    /// Which of the function's inputs it is for, from 0.
    pub input: Option<u8>,
    pub watermark: Option<Time>,
}

/// What became of a body of elements; `rows` is the sum of the results and `failed`.
#[derive(ToSchema)]
pub struct ElementsTaken {
    /// Lines or rows, blank lines not counted.
    pub rows: u64,
    /// How many came to what: `processed`, `late`, `repeated`, and `watermark` for lines of these.
    pub results: BTreeMap<String, u64>,
    /// How many were late.
    pub late: u64,
    /// The source, if the request moved it.
    pub watermark: Option<SourceChanged>,
    /// How many were refused, or made the function fail.
    pub failed: u64,
    /// The first thousand of these.
    pub errors: Vec<ElementError>,
    pub errors_omitted: u64,
}

#[derive(ToSchema)]
pub struct ElementError {
    /// The number of the line or row, blank lines not counted.
    pub index: u64,
    pub error: Problem,
}

/// One element for all keys.
#[derive(ToSchema)]
pub struct BroadcastElement {
    /// Any JSON, `null` too.
    pub value: Value,
    /// When it happened; the namespace's now unless said, as long as it has no event time.
    pub timestamp: Option<Time>,
}

#[derive(ToSchema)]
pub struct BroadcastTaken {
    pub result: BroadcastResult,
    /// How many visits of keys it has brought about, if it was asked to settle.
    pub visited: Option<u64>,
}

/// `repeated`: its producer sent it before.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum BroadcastResult {
    Processed,
    Repeated,
}
