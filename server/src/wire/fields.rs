//! The fields of an operation or an element, as they were written: one JSON object, or one row of
//! Arrow.
//!
//! [`read`] knows every field, its type and its spelling, and says precisely what is wrong with
//! one. What the fields mean together is the business of `op`. `null` is the same as left out. A
//! field that stands twice, or that nobody knows, is refused.
//!
//! [`scan`] reads the same objects faster, as long as they are plain; it gives up on the rest, and
//! on everything that is wrong, and leaves that to [`read`].

mod scan;
mod set;

pub(crate) use scan::scan;
pub(crate) use set::{Field, FieldSet};

use super::json::depth;
use super::problem::{Problem, kinds};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use stormwheel::duration::DurationValue;
use stormwheel::op::Only;
use stormwheel::text::clip;
use stormwheel::time::text::TimeValue;
use stormwheel::time::{Domain, Timestamp};

/// How deep JSON may be nested, the object that holds the fields included.
pub(crate) const DEPTH_MAX: usize = 32;

/// The fields of one operation, or of one element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fields<'a> {
    /// Which ones were given.
    pub given: FieldSet,
    pub op: Option<OpWord>,
    pub key: Option<KeyField<'a>>,
    pub name: Option<Cow<'a, str>>,
    pub domain: Option<Domain>,
    pub at: Option<Timestamp>,
    pub after_ms: Option<i64>,
    pub payload: Option<PayloadField<'a>>,
    pub payload_base64: Option<Cow<'a, str>>,
    pub spread_ms: Option<i64>,
    pub resolution_ms: Option<i64>,
    pub only: Option<Only>,
    pub fire_at: Option<Timestamp>,
    pub timestamp: Option<Timestamp>,
    /// `null` is a value like any other.
    pub value: Option<PayloadField<'a>>,
    pub value_base64: Option<Cow<'a, str>>,
    pub input: Option<u8>,
    pub watermark: Option<Timestamp>,
}

/// A key as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyField<'a> {
    /// Spelled, to be read by `parse_key`.
    Text(Cow<'a, str>),
    /// The bytes themselves, as Arrow's binary columns have them.
    Raw(&'a [u8]),
}

/// A payload as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadField<'a> {
    /// A JSON text, known to be valid.
    Json(&'a str),
    /// Any bytes.
    Raw(&'a [u8]),
}

/// What an operation is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpWord {
    Register,
    Delete,
    Touch,
    DeleteAll,
}

impl OpWord {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Delete => "delete",
            Self::Touch => "touch",
            Self::DeleteAll => "delete_all",
        }
    }
}

/// Where an object stands, for what its errors say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the body.
    Body,
    /// It is a line of a batch.
    Line,
}

/// Reads one object with these fields, or says what is wrong with it.
pub(crate) fn read(bytes: &[u8], known: FieldSet, place: Place) -> Result<Fields<'_>, Problem> {
    let mut trouble = Trouble::Syntax;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let visitor = FieldsVisitor { known, trouble: &mut trouble };
    let read = deserializer.deserialize_map(visitor).and_then(|fields| {
        let end = deserializer.end();
        end.map(|()| fields)
    });
    let fields = match read {
        Ok(fields) => fields,
        Err(error) => return Err(trouble.tell(bytes, &error, known, place)),
    };
    for (field, json) in [(Field::Payload, fields.payload), (Field::Value, fields.value)] {
        if let Some(PayloadField::Json(json)) = json {
            check_depth(field, json)?;
        }
    }
    Ok(fields)
}

/// Refuses a payload or a value that is nested too deep.
pub(crate) fn check_depth(field: Field, json: &str) -> Result<(), Problem> {
    // Few brackets cannot be nested deep, and counting them is much faster than matching them.
    let bytes = json.as_bytes();
    let opening = bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if opening < DEPTH_MAX {
        return Ok(());
    }
    // The object around it counts too.
    let depth = 1 + depth(bytes);
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    let field = field.as_str();
    let detail = format!("{field} is nested {depth} deep, allowed is {DEPTH_MAX}");
    Err(Problem::new(&kinds::INVALID_JSON, detail)
        .field(field)
        .bound(DEPTH_MAX as u64, depth as u64))
}

/// The domain of this name.
pub fn parse_domain(text: &str) -> Result<Domain, String> {
    match text {
        "processing" => Ok(Domain::Processing),
        "event" => Ok(Domain::Event),
        _ => Err(format!("there is no domain `{}`; there are processing, event", clip(text))),
    }
}

pub(crate) fn parse_only(text: &str) -> Result<Only, String> {
    match text {
        "absent" => Ok(Only::Absent),
        "present" => Ok(Only::Present),
        "earlier" => Ok(Only::Earlier),
        "later" => Ok(Only::Later),
        _ => Err(format!(
            "there is no condition `{}`; there are absent, present, earlier, later",
            clip(text)
        )),
    }
}

pub(crate) fn parse_op(text: &str) -> Result<OpWord, String> {
    match text {
        "register" => Ok(OpWord::Register),
        "delete" => Ok(OpWord::Delete),
        "touch" => Ok(OpWord::Touch),
        "delete_all" => Ok(OpWord::DeleteAll),
        _ => Err(format!(
            "there is no op `{}`; there are register, delete, touch, delete_all",
            clip(text)
        )),
    }
}

/// How far the reading had come when it failed.
enum Trouble {
    /// Between fields.
    Syntax,
    /// In the value of this field.
    Value(Field),
    /// At a field that stood there already.
    Twice(Field),
    /// At a field that is not known.
    Unknown(String),
}

impl Trouble {
    fn tell(
        self,
        bytes: &[u8],
        error: &serde_json::Error,
        known: FieldSet,
        place: Place,
    ) -> Problem {
        if let Err(utf8) = std::str::from_utf8(bytes) {
            let detail = format!("byte {} is not UTF-8", utf8.valid_up_to() + 1);
            return Problem::new(&kinds::INVALID_UTF8, detail);
        }
        match self {
            Self::Unknown(name) => {
                let detail =
                    format!("there is no field `{}`; there are {}", clip(&name), known.list());
                Problem::new(&kinds::UNKNOWN_FIELD, detail).field(clip(&name))
            }
            Self::Twice(field) => {
                let detail = format!("`{}` stands twice", field.as_str());
                Problem::new(&kinds::INVALID_FIELD, detail).field(field.as_str())
            }
            Self::Value(field) if error.classify() == Category::Data => {
                let detail = format!("{}: {}", field.as_str(), message(error));
                Problem::new(field.kind(), detail).field(field.as_str())
            }
            Self::Value(_) | Self::Syntax => {
                Problem::new(&kinds::INVALID_JSON, tell_syntax(bytes, error, place))
            }
        }
    }
}

/// What broke the JSON off, and what it may come from.
fn tell_syntax(bytes: &[u8], error: &serde_json::Error, place: Place) -> String {
    let message = message(error);
    let position = match error.line() {
        0 | 1 => format!("column {}", error.column()),
        line => format!("line {line}, column {}", error.column()),
    };
    let first = bytes.trim_ascii_start().first();
    match (place, first) {
        (Place::Body, None) => "the body is empty; a JSON object was expected".to_owned(),
        (Place::Line, Some(b'[')) => {
            "a batch is one JSON object on each line, not an array".to_owned()
        }
        (Place::Line, _) if message == "trailing characters" => format!(
            "something follows the object at {position}; each line holds one object (with curl, \
             send the file by --data-binary: -d and --data take its newlines out)"
        ),
        (Place::Line, _) if error.is_eof() => {
            format!("{message} at {position}; each object stands on one line of its own")
        }
        _ => format!("{message} at {position}"),
    }
}

/// The message without the position that `serde_json` adds, and not longer than a person reads:
/// it may repeat a text of any length.
pub(crate) fn message(error: &serde_json::Error) -> String {
    const SHOWN_BYTES_MAX: usize = 240;
    let mut text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    if text.ends_with(&position) {
        text.truncate(text.len() - position.len());
    }
    text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
    text
}

struct FieldsVisitor<'t> {
    known: FieldSet,
    trouble: &'t mut Trouble,
}

impl<'de> Visitor<'de> for FieldsVisitor<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        let mut seen = FieldSet::default();
        while let Some(Text(name)) = map.next_key()? {
            let field = Field::named(&name).filter(|field| self.known.has(*field));
            let Some(field) = field else {
                *self.trouble = Trouble::Unknown(name.into_owned());
                return Err(A::Error::custom("unknown field"));
            };
            if seen.has(field) {
                *self.trouble = Trouble::Twice(field);
                return Err(A::Error::custom("duplicate field"));
            }
            seen = seen.with(field);
            *self.trouble = Trouble::Value(field);
            if fields.read_value(field, &mut map)? {
                fields.given = fields.given.with(field);
            }
            *self.trouble = Trouble::Syntax;
        }
        Ok(fields)
    }
}

impl<'de> Fields<'de> {
    /// Reads the value of one field; whether it is more than `null`.
    fn read_value<A: MapAccess<'de>>(
        &mut self,
        field: Field,
        map: &mut A,
    ) -> Result<bool, A::Error> {
        let mut text = || Ok(map.next_value::<Option<Text<'de>>>()?.map(|text| text.0));
        Ok(match field {
            Field::Op => put(&mut self.op, word(text()?, parse_op)?),
            Field::Key => put(&mut self.key, text()?.map(KeyField::Text)),
            Field::Name => put(&mut self.name, text()?),
            Field::Domain => put(&mut self.domain, word(text()?, parse_domain)?),
            Field::Only => put(&mut self.only, word(text()?, parse_only)?),
            Field::PayloadBase64 => put(&mut self.payload_base64, text()?),
            Field::At => put(&mut self.at, time(map)?),
            Field::FireAt => put(&mut self.fire_at, time(map)?),
            Field::After => put(&mut self.after_ms, duration(map)?),
            Field::Spread => put(&mut self.spread_ms, duration(map)?),
            Field::Resolution => put(&mut self.resolution_ms, duration(map)?),
            Field::Payload => {
                let raw = map.next_value::<Option<&'de RawValue>>()?;
                put(&mut self.payload, raw.map(|raw| PayloadField::Json(raw.get())))
            }
            Field::Timestamp => put(&mut self.timestamp, time(map)?),
            Field::Value => {
                let raw = map.next_value::<&'de RawValue>()?;
                put(&mut self.value, Some(PayloadField::Json(raw.get())))
            }
            Field::ValueBase64 => put(&mut self.value_base64, text()?),
            Field::Input => put(&mut self.input, map.next_value()?),
            Field::Watermark => put(&mut self.watermark, time(map)?),
        })
    }
}

fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    *place = value;
    place.is_some()
}

fn word<T, E: serde::de::Error>(
    text: Option<Cow<'_, str>>,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, E> {
    text.map(|text| parse(&text).map_err(E::custom)).transpose()
}

fn time<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Timestamp>, A::Error> {
    Ok(map.next_value::<Option<TimeValue>>()?.map(|time| time.0))
}

fn duration<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<i64>, A::Error> {
    let value = map.next_value::<Option<DurationValue>>()?;
    Ok(value.map(|duration| duration.0))
}

/// A text, borrowed where nothing in it is escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests;
