//! What a case is, as it stands in a line of `cases/*.jsonl`.
//!
//! Nothing that is not understood is passed over: a field with a slip in its name would be a case
//! that tests something else than it says.

use crate::command;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::fmt;

/// What happens to a system, and what comes out of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The rules that it is about.
    pub(crate) rules: Vec<String>,
    #[serde(default)]
    pub(crate) config: Config,
    /// The outputs of a step have an order over all keys, not only for each.
    #[serde(default)]
    pub(crate) ordered: bool,
    pub(crate) steps: Vec<Step>,
}

/// What the system is made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What each key runs: `script`, or an operator of the system.
    pub(crate) operator: String,
    pub(crate) options: Value,
    /// Inputs of the script.
    pub(crate) inputs: u8,
    /// The script takes broadcasts.
    pub(crate) broadcasts: bool,
    /// What the clock reads before the first step.
    #[serde(deserialize_with = "time")]
    pub(crate) clock: i64,
    /// Sources that hold time back until each has reported.
    pub(crate) sources: Vec<String>,
    pub(crate) late_timers: LateTimers,
    pub(crate) late_elements: LateElements,
    pub(crate) lateness_ms: i64,
    /// How often a callback that fails is called again.
    pub(crate) retry: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            operator: SCRIPT.to_owned(),
            options: Value::Null,
            inputs: 1,
            broadcasts: false,
            clock: 0,
            sources: Vec::new(),
            late_timers: LateTimers::Fire,
            late_elements: LateElements::Process,
            lateness_ms: 0,
            retry: 0,
        }
    }
}

/// The operator whose callbacks do as they are told.
pub(crate) const SCRIPT: &str = "script";

/// The same, over two inputs.
pub(crate) const SCRIPT_OF_TWO: &str = "script-of-two-inputs";

/// The same, with broadcasts.
pub(crate) const SCRIPT_WITH_BROADCASTS: &str = "script-with-broadcasts";

impl Config {
    /// The operator by the name under which the players have it.
    pub(crate) fn operator(&self) -> &str {
        match (&*self.operator, self.inputs, self.broadcasts) {
            (SCRIPT, _, true) => SCRIPT_WITH_BROADCASTS,
            (SCRIPT, 2, _) => SCRIPT_OF_TWO,
            (operator, ..) => operator,
        }
    }
}

/// What becomes of an event timer that is registered at or below the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LateTimers {
    Fire,
    NextWatermark,
}

/// What becomes of an element that is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LateElements {
    Drop,
    SideOutput,
    Process,
}

/// One thing that happens, and what comes of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawStep")]
pub(crate) struct Step {
    pub(crate) operation: Operation,
    pub(crate) result: String,
    pub(crate) expect: Vec<Expected>,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Element(Element),
    /// An element for all keys.
    Broadcast(Broadcast),
    /// A source reports a watermark.
    Watermark {
        source: String,
        to: i64,
    },
    /// A source goes idle.
    Idle(String),
    /// The clock is set.
    Clock(i64),
    /// The input ends; what becomes of the processing timers.
    Close(String),
    /// Everything is written down under a name.
    Snapshot(String),
    /// Everything goes back to what was written down.
    Restore(String),
    /// From now on so many shards do the work.
    Rescale(u16),
}

/// An element of a key.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    pub(crate) key: String,
    pub(crate) timestamp: i64,
    pub(crate) input: u8,
    /// For a script `{"do": […]}`.
    pub(crate) value: Value,
}

/// An element for all keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Broadcast {
    #[serde(default, deserialize_with = "time")]
    pub(crate) timestamp: i64,
    /// What it does to the broadcast state.
    #[serde(rename = "do")]
    pub(crate) script: Value,
    /// What is done to each key.
    pub(crate) visit: Option<Value>,
}

/// What has to come out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    #[serde(default = "default_key")]
    pub(crate) key: String,
    /// `None`: whatever it is.
    #[serde(default, deserialize_with = "present")]
    pub(crate) value: Option<Value>,
    #[serde(default, deserialize_with = "some_time")]
    pub(crate) timestamp: Option<i64>,
    #[serde(default)]
    pub(crate) tag: Option<String>,
}

/// What has come out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) timestamp: Option<i64>,
    pub(crate) tag: Option<String>,
}

impl Expected {
    /// Whether an output is the one that has to come.
    pub(crate) fn fits(&self, output: &Output) -> bool {
        self.key == output.key
            && self.timestamp == output.timestamp
            && self.tag == output.tag
            && self.value.as_ref().is_none_or(|value| *value == output.value)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}: {value}", self.key)?,
            None => write!(f, "{}: anything", self.key)?,
        }
        rest(f, self.timestamp, self.tag.as_deref())
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.value)?;
        rest(f, self.timestamp, self.tag.as_deref())
    }
}

fn rest(f: &mut fmt::Formatter<'_>, timestamp: Option<i64>, tag: Option<&str>) -> fmt::Result {
    if let Some(timestamp) = timestamp {
        write!(f, " @{timestamp}")?;
    }
    tag.map_or(Ok(()), |tag| write!(f, " [{tag}]"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    element: Option<RawElement>,
    broadcast: Option<Broadcast>,
    #[serde(default, deserialize_with = "some_time")]
    watermark: Option<i64>,
    source: Option<String>,
    idle: Option<String>,
    #[serde(default, deserialize_with = "some_time")]
    clock: Option<i64>,
    close: Option<String>,
    snapshot: Option<String>,
    restore: Option<String>,
    rescale: Option<u16>,
    result: Option<String>,
    #[serde(default)]
    expect: Vec<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawElement {
    #[serde(default = "default_key")]
    key: String,
    #[serde(default, deserialize_with = "time")]
    timestamp: i64,
    #[serde(default)]
    input: u8,
    #[serde(rename = "do")]
    script: Option<Value>,
    #[serde(default, deserialize_with = "any")]
    value: Option<Value>,
}

impl TryFrom<RawStep> for Step {
    type Error = String;

    fn try_from(raw: RawStep) -> Result<Self, String> {
        let mut found = Vec::new();
        if let Some(element) = raw.element {
            found.push(("processed", Operation::Element(element.try_into()?)));
        }
        if let Some(broadcast) = raw.broadcast {
            command::check(&broadcast.script)?;
            broadcast.visit.as_ref().map_or(Ok(()), command::check)?;
            found.push(("processed", Operation::Broadcast(broadcast)));
        }
        if let Some(to) = raw.watermark {
            let source = raw.source.unwrap_or_else(|| "default".to_owned());
            found.push(("advanced", Operation::Watermark { source, to }));
        } else if raw.source.is_some() {
            return Err("a `source` without a `watermark`".to_owned());
        }
        found.extend(raw.idle.map(|source| ("idle", Operation::Idle(source))));
        found.extend(raw.clock.map(|to| ("advanced", Operation::Clock(to))));
        found.extend(raw.close.map(|timers| ("closed", Operation::Close(timers))));
        found.extend(raw.snapshot.map(|name| ("done", Operation::Snapshot(name))));
        found.extend(raw.restore.map(|name| ("done", Operation::Restore(name))));
        found.extend(raw.rescale.map(|shards| ("done", Operation::Rescale(shards))));
        if found.len() != 1 {
            return Err(format!("a step is one thing that happens, and not {}", found.len()));
        }
        let (usual, operation) = found.remove(0);
        let result = raw.result.unwrap_or_else(|| usual.to_owned());
        Ok(Self { operation, result, expect: raw.expect })
    }
}

impl TryFrom<RawElement> for Element {
    type Error = String;

    fn try_from(raw: RawElement) -> Result<Self, String> {
        let value = match (raw.script, raw.value) {
            (Some(script), None) => {
                command::check(&script)?;
                serde_json::json!({ "do": script })
            }
            (None, Some(value)) => value,
            _ => return Err("an element has one of `do` and `value`".to_owned()),
        };
        Ok(Self { key: raw.key, timestamp: raw.timestamp, input: raw.input, value })
    }
}

fn default_key() -> String {
    "k".to_owned()
}

/// A time: a number, or one of the ends of the range.
pub(crate) fn time_of(value: &Value) -> Result<i64, String> {
    match value.as_str() {
        Some("min") => Ok(i64::MIN),
        Some("max") => Ok(i64::MAX),
        _ => value.as_i64().ok_or_else(|| format!("{value} is no time")),
    }
}

fn time<'de, D: Deserializer<'de>>(source: D) -> Result<i64, D::Error> {
    time_of(&Value::deserialize(source)?).map_err(serde::de::Error::custom)
}

fn some_time<'de, D: Deserializer<'de>>(source: D) -> Result<Option<i64>, D::Error> {
    time(source).map(Some)
}

/// A value that is there, be it `null`.
fn any<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(source).map(Some)
}

/// A value that is there, be it `null`, with the ends of the range spelled out.
fn present<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(source).map(|value| Some(with_ends(value)))
}

/// Spells out the ends of the range, which stand as texts in what is expected.
fn with_ends(value: Value) -> Value {
    match value {
        Value::String(text) if text == "min" => i64::MIN.into(),
        Value::String(text) if text == "max" => i64::MAX.into(),
        Value::Array(values) => values.into_iter().map(with_ends).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, with_ends(value))).collect()
        }
        other => other,
    }
}
