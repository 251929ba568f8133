//! What a namespace says about its windows.

use super::aggregate::{Aggregate, Field};
use super::assign::Assigner;
use super::state::State;
use crate::duration::{DurationValue, format_duration};
use crate::function::{FunctionError, Operator, Result};
use crate::limits::{
    IDENTIFIER_BYTES_MAX, SPAN_MS_MAX, WINDOW_FIELDS_MAX, WINDOWS_PER_ELEMENT_MAX,
};
use crate::operators::built_in::sealed::Read;
use crate::operators::built_in::{BuiltIn, read_by_serde, span};
use crate::operators::options::Options;
use crate::operators::state::as_json;
use crate::operators::value::Pointer;
use crate::text::clip;
use crate::time::Domain;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::time::Duration;

/// What every pane says; no field has such a name.
const RESERVED: [&str; 3] = ["start", "end", "pane"];

/// The options of `windows`: aggregates of a key's elements over spans of time.
///
/// ```
/// use std::time::Duration;
/// use stormwheel::operators::{BuiltIn, Windows};
///
/// let minutes = Windows::tumbling(Duration::from_secs(60)).count("n").sum("total", "/amount");
/// assert_eq!(minutes.config()?.operator, "windows");
/// # Ok::<(), stormwheel::function::FunctionError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Windows {
    #[serde(rename = "window")]
    pub(super) assigner: Assigner,
    pub(super) domain: Domain,
    /// How long a window stays open for late elements.
    pub(super) lateness: DurationValue,
    #[serde(rename = "aggregate", serialize_with = "by_name")]
    pub(super) fields: Vec<Field>,
    #[serde(skip_serializing_if = "Early::is_never")]
    pub(super) early: Early,
    /// Each pane holds only what has come since the one before it.
    #[serde(rename = "discard")]
    pub(super) is_discarding: bool,
}

/// When a window shows what it holds before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Early {
    Never,
    /// So long after the first element that has not been shown, by the clock.
    Every(DurationValue),
    /// Once so many elements have not been shown.
    Elements(u64),
}

impl Early {
    fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

fn by_name<S: Serializer>(fields: &[Field], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|field| (&field.name, &field.aggregate)))
}

impl Windows {
    fn over(assigner: Assigner) -> Self {
        Self {
            assigner,
            domain: Domain::Event,
            lateness: DurationValue(0),
            fields: Vec::new(),
            early: Early::Never,
            is_discarding: false,
        }
    }

    /// Windows of one size, each beginning where the one before it ends.
    pub fn tumbling(size: Duration) -> Self {
        Self::sliding(size, size)
    }

    /// Windows of one size, of which one begins at each multiple of `slide`.
    pub fn sliding(size: Duration, slide: Duration) -> Self {
        let (size, slide) = (span(size).0, span(slide).0);
        Self::over(Assigner::Aligned { size, slide, offset: 0 })
    }

    /// Windows of elements of which no two that follow one another are further apart than this.
    pub fn session(gap: Duration) -> Self {
        Self::over(Assigner::Session { gap: span(gap).0 })
    }

    /// How many milliseconds off those multiples windows begin. Sessions begin with an element.
    #[must_use]
    pub fn offset(mut self, offset_ms: i64) -> Self {
        if let Assigner::Aligned { offset, .. } = &mut self.assigner {
            *offset = offset_ms;
        }
        self
    }

    /// Which clock they follow: event time unless said.
    #[must_use]
    pub fn domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }

    /// How long a window of event time stays open behind its end.
    #[must_use]
    pub fn lateness(self, lateness: Duration) -> Self {
        Self { lateness: span(lateness), ..self }
    }

    /// A pane before the end, so long after the first element that no pane has shown.
    #[must_use]
    pub fn early_every(self, every: Duration) -> Self {
        Self { early: Early::Every(span(every)), ..self }
    }

    /// A pane before the end, once so many elements were shown by none.
    #[must_use]
    pub fn early_elements(self, elements: u64) -> Self {
        Self { early: Early::Elements(elements), ..self }
    }

    /// Each pane holds only what has come since the one before it.
    #[must_use]
    pub fn discard(self, discard: bool) -> Self {
        Self { is_discarding: discard, ..self }
    }

    /// A field of each pane: how many elements there are.
    #[must_use]
    pub fn count(self, field: &str) -> Self {
        self.field(field, Aggregate::Count)
    }

    /// A field of each pane: the sum of what this JSON pointer finds.
    #[must_use]
    pub fn sum(self, field: &str, pointer: &str) -> Self {
        self.field(field, Aggregate::Sum(Pointer::of(pointer)))
    }

    /// A field of each pane: the least.
    #[must_use]
    pub fn min(self, field: &str, pointer: &str) -> Self {
        self.field(field, Aggregate::Min(Pointer::of(pointer)))
    }

    /// A field of each pane: the greatest.
    #[must_use]
    pub fn max(self, field: &str, pointer: &str) -> Self {
        self.field(field, Aggregate::Max(Pointer::of(pointer)))
    }

    /// A field of each pane: the mean.
    #[must_use]
    pub fn avg(self, field: &str, pointer: &str) -> Self {
        self.field(field, Aggregate::Avg(Pointer::of(pointer)))
    }

    /// A field of each pane: that of the earliest element.
    #[must_use]
    pub fn first(self, field: &str, pointer: &str) -> Self {
        self.field(field, Aggregate::First(Pointer::of(pointer)))
    }

    /// A field of each pane: that of the latest element.
    #[must_use]
    pub fn last(self, field: &str, pointer: &str) -> Self {
        self.field(field, Aggregate::Last(Pointer::of(pointer)))
    }

    /// A field of each pane: the list of all, in the order of their times.
    #[must_use]
    pub fn collect(self, field: &str, pointer: &str) -> Self {
        self.field(field, Aggregate::Collect(Pointer::of(pointer)))
    }

    /// In the order of the names; the last one of a name counts.
    fn field(mut self, name: &str, aggregate: Aggregate) -> Self {
        let field = Field::new(name, aggregate);
        match self.fields.binary_search_by(|it| it.name.as_str().cmp(name)) {
            Ok(place) => self.fields[place] = field,
            Err(place) => self.fields.insert(place, field),
        }
        self
    }
}

impl BuiltIn for Windows {
    const NAME: &'static str = "windows";
}

read_by_serde!(Windows);

impl Read for Windows {
    fn run(self) -> Box<dyn Operator> {
        Box::new(self)
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        as_json::<State<'_>>(state)
    }

    fn read(options: &Value) -> Result<Self> {
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
        let lateness = DurationValue(lateness);
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
            let size = read_span(&mut options, "size")?;
            let offset = offset(&mut options, size, "the size")?;
            options.close()?;
            Ok(Assigner::Aligned { size, slide: size, offset })
        }
        (None, Some(mut options), None) => {
            let size = read_span(&mut options, "size")?;
            let slide = read_span(&mut options, "slide")?;
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
            let gap = read_span(&mut options, "gap")?;
            options.close()?;
            Ok(Assigner::Session { gap })
        }
        _ => {
            Err(FunctionError::new("`window` has one of tumbling, sliding, session, and only one"))
        }
    }
}

fn read_span(options: &mut Options<'_>, name: &'static str) -> Result<i64> {
    let span = options.span(name)?;
    options.required(name, span, "\"1m\"").map(|span| span.0)
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
        fields.push(Field::new(name, aggregate));
    }
    // Whatever order JSON's objects are read in.
    fields.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(fields)
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
