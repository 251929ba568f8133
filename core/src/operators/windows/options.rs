//! What a namespace says about its windows.

use super::aggregate::{Aggregate, Field};
use super::assign::Assigner;
use crate::duration::format_duration;
use crate::function::{FunctionError, Result};
use crate::limits::{
    IDENTIFIER_BYTES_MAX, SPAN_MS_MAX, WINDOW_FIELDS_MAX, WINDOWS_PER_ELEMENT_MAX,
};
use crate::operators::options::Options;
use crate::operators::value::Pointer;
use crate::text::clip;
use crate::time::Domain;
use serde_json::Value;

/// What every pane says; no field has such a name.
const RESERVED: [&str; 3] = ["start", "end", "pane"];

/// See the module.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) assigner: Assigner,
    pub(super) domain: Domain,
    /// How long a window stays open for late elements.
    pub(super) lateness: i64,
    pub(super) fields: Vec<Field>,
    pub(super) early: Early,
    /// Each pane holds only what has come since the one before it.
    pub(super) is_discarding: bool,
}

/// When a window shows what it holds before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Early {
    Never,
    /// So long after the first element that has not been shown, by the clock.
    Every(i64),
    /// Once so many elements have not been shown.
    Elements(u64),
}

impl Settings {
    pub(super) fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let window = options.section("window")?;
        let example = "{\"tumbling\":{\"size\":\"1m\"}}";
        let assigner = read_assigner(options.required("window", window, example)?)?;
        let domain = options.domain(Domain::Event)?;
        let lateness = options.duration("lateness")?.unwrap_or(0);
        options.within("lateness", lateness, 0..=SPAN_MS_MAX, |ms| format_duration(*ms))?;
        if lateness > 0 && domain == Domain::Processing {
            return Err(
                options.wrong("lateness", "is for event time: by the clock, nothing is late")
            );
        }
        let fields = read_fields(&mut options)?;
        let early = match options.section("early")? {
            None => Early::Never,
            Some(early) => read_early(early)?,
        };
        let is_discarding = options.flag("discard", false)?;
        options.close()?;
        Ok(Self { assigner, domain, lateness, fields, early, is_discarding })
    }
}

fn read_assigner(mut window: Options<'_>) -> Result<Assigner> {
    let tumbling = window.section("tumbling")?;
    let sliding = window.section("sliding")?;
    let session = window.section("session")?;
    window.close()?;
    match (tumbling, sliding, session) {
        (Some(mut options), None, None) => {
            let size = span(&mut options, "size")?;
            let offset = offset(&mut options, size, "the size")?;
            options.close()?;
            Ok(Assigner::Aligned { size, slide: size, offset })
        }
        (None, Some(mut options), None) => {
            let size = span(&mut options, "size")?;
            let slide = span(&mut options, "slide")?;
            if slide > size {
                let detail = "is longer than the size: what comes in between would be in no window";
                return Err(options.wrong("slide", detail));
            }
            if size / slide > WINDOWS_PER_ELEMENT_MAX {
                return Err(options.wrong(
                    "slide",
                    format!(
                        "is so short that an element is in {} windows, allowed are \
                         {WINDOWS_PER_ELEMENT_MAX}",
                        size / slide
                    ),
                ));
            }
            let offset = offset(&mut options, slide, "the slide")?;
            options.close()?;
            Ok(Assigner::Aligned { size, slide, offset })
        }
        (None, None, Some(mut options)) => {
            let gap = span(&mut options, "gap")?;
            options.close()?;
            Ok(Assigner::Session { gap })
        }
        _ => {
            Err(FunctionError::new("`window` has one of tumbling, sliding, session, and only one"))
        }
    }
}

fn span(options: &mut Options<'_>, name: &'static str) -> Result<i64> {
    let span = options.span(name)?;
    options.required(name, span, "\"1m\"")
}

/// How far windows begin off the multiples of `step`.
fn offset(options: &mut Options<'_>, step: i64, what: &str) -> Result<i64> {
    let offset = options.duration("offset")?.unwrap_or(0);
    if offset.unsigned_abs() >= step.unsigned_abs() {
        let (offset, step) = (format_duration(offset), format_duration(step));
        let detail = format!("is {offset}, and has to be shorter than {what}, {step}");
        return Err(options.wrong("offset", detail));
    }
    Ok(offset)
}

fn read_early(mut early: Options<'_>) -> Result<Early> {
    let every = early.span("every")?;
    let elements = early.count("elements", 1..=u64::from(u32::MAX))?;
    early.close()?;
    match (every, elements) {
        (Some(every), None) => Ok(Early::Every(every)),
        (None, Some(elements)) => Ok(Early::Elements(elements)),
        _ => Err(FunctionError::new("`early` has one of every, elements, and only one")),
    }
}

fn read_fields(options: &mut Options<'_>) -> Result<Vec<Field>> {
    let value = options.value("aggregate");
    let value = options.required("aggregate", value, "{\"count\":\"count\"}")?;
    let Value::Object(members) = value else {
        return Err(options.wrong("aggregate", "is not an object"));
    };
    if members.is_empty() || members.len() > WINDOW_FIELDS_MAX {
        let detail = format!("has {} fields, allowed is 1 to {WINDOW_FIELDS_MAX}", members.len());
        return Err(options.wrong("aggregate", detail));
    }
    let mut fields = Vec::with_capacity(members.len());
    for (name, value) in members {
        let path = format!("aggregate.{}", clip(name));
        if RESERVED.contains(&&**name) {
            return Err(options.wrong(&path, "has a name that every pane has already"));
        }
        if name.len() > IDENTIFIER_BYTES_MAX {
            let detail =
                format!("has a name of {} bytes, allowed are {IDENTIFIER_BYTES_MAX}", name.len());
            return Err(options.wrong(&path, detail));
        }
        let aggregate = read_aggregate(value).map_err(|flaw| options.wrong(&path, flaw))?;
        fields.push((name, Field::new(name, aggregate)?));
    }
    // Whatever order JSON's objects are read in.
    fields.sort_by_key(|(name, _)| *name);
    Ok(fields.into_iter().map(|(_, field)| field).collect())
}

fn read_aggregate(value: &Value) -> Result<Aggregate, String> {
    let members = match value {
        Value::String(word) if word == "count" => return Ok(Aggregate::Count),
        Value::Object(members) if members.len() == 1 => members,
        _ => {
            return Err("is \"count\", or one of sum, min, max, avg, first, last, collect with a \
                        pointer, such as {\"sum\":\"/amount\"}"
                .to_owned());
        }
    };
    let (word, pointer) = members.iter().next().expect("it has one member");
    let make = match &**word {
        "sum" => Aggregate::Sum,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "avg" => Aggregate::Avg,
        "first" => Aggregate::First,
        "last" => Aggregate::Last,
        "collect" => Aggregate::Collect,
        other => {
            let other = clip(other);
            return Err(format!(
                "is `{other}`, allowed are \"count\", sum, min, max, avg, first, last, collect"
            ));
        }
    };
    let pointer = pointer.as_str().ok_or("has no JSON pointer, such as {\"sum\":\"/amount\"}")?;
    Pointer::parse(pointer).map(make).map_err(|flaw| format!(": {flaw}"))
}
