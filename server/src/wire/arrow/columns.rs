//! The columns of a record batch, found and downcast once, then read row by row.
//!
//! Reading a row branches on the column's encoding, which is the same for all rows, and never goes
//! through a virtual call.

use crate::wire::fields::{
    Field, Fields, KeyField, OpWord, PayloadField, check_depth, message, parse_domain, parse_only,
    parse_op,
};
use crate::wire::problem::{Problem, kinds};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, Int64Array, LargeBinaryArray,
    LargeStringArray, RecordBatch, StringArray, StringViewArray,
};
use arrow_schema::{DataType, TimeUnit};
use serde_json::value::RawValue;
use std::borrow::Cow;
use stormwheel::error::Rejection;
use stormwheel::text::clip;
use stormwheel::time::Timestamp;

const KNOWN: &str = "`op`, `key`, `at`, `after_ms`, `name`, `domain`, `payload`, `spread_ms`, \
                     `resolution_ms`, `only`, `fire_at`";

/// The columns of one record batch.
#[derive(Default)]
pub(super) struct Columns<'a> {
    op: Option<TextColumn<'a>>,
    key: Option<BytesColumn<'a>>,
    at: Option<TimeColumn<'a>>,
    after_ms: Option<&'a Int64Array>,
    name: Option<TextColumn<'a>>,
    domain: Option<TextColumn<'a>>,
    payload: Option<BytesColumn<'a>>,
    spread_ms: Option<&'a Int64Array>,
    resolution_ms: Option<&'a Int64Array>,
    only: Option<TextColumn<'a>>,
    fire_at: Option<TimeColumn<'a>>,
}

impl<'a> Columns<'a> {
    /// Finds the columns, or names the one that is unknown, missing or of a wrong type.
    pub(super) fn open(records: &'a RecordBatch) -> Result<Self, Problem> {
        let mut columns = Self::default();
        for (field, array) in records.schema_ref().fields().iter().zip(records.columns()) {
            let (name, array) = (field.name().as_str(), array.as_ref());
            let twice = match name {
                "op" => columns.op.replace(TextColumn::open(name, array)?).is_some(),
                "key" => columns.key.replace(BytesColumn::open(name, array)?).is_some(),
                "at" => columns.at.replace(TimeColumn::open(name, array)?).is_some(),
                "after_ms" => columns.after_ms.replace(millis(name, array)?).is_some(),
                "name" => columns.name.replace(TextColumn::open(name, array)?).is_some(),
                "domain" => columns.domain.replace(TextColumn::open(name, array)?).is_some(),
                "payload" => columns.payload.replace(BytesColumn::open(name, array)?).is_some(),
                "spread_ms" => columns.spread_ms.replace(millis(name, array)?).is_some(),
                "resolution_ms" => columns.resolution_ms.replace(millis(name, array)?).is_some(),
                "only" => columns.only.replace(TextColumn::open(name, array)?).is_some(),
                "fire_at" => columns.fire_at.replace(TimeColumn::open(name, array)?).is_some(),
                unknown => {
                    let unknown = clip(unknown);
                    let detail = format!("there is no column `{unknown}`; there are {KNOWN}");
                    return Err(Problem::new(&kinds::UNKNOWN_FIELD, detail).field(unknown));
                }
            };
            if twice {
                let detail = format!("there are two columns `{name}`");
                return Err(Problem::new(&kinds::INVALID_ARROW, detail).field(name));
            }
        }
        if columns.key.is_none() {
            let detail = "there is no column `key`, and every operation needs one";
            return Err(Problem::new(&kinds::MISSING_FIELD, detail).field("key"));
        }
        Ok(columns)
    }

    /// What a row says. A null is the same as a column that is not there.
    pub(super) fn fields(&self, row: usize) -> Result<Fields<'_>, Problem> {
        let mut fields = Fields { op: Some(OpWord::Register), ..Fields::default() };
        let mut given = fields.given;
        if let Some(text) = self.op.as_ref().and_then(|column| column.get(row)) {
            fields.op = Some(parse_op(text).map_err(|detail| invalid("op", detail))?);
        }
        if let Some(key) = self.key.as_ref().and_then(|column| column.get(row)) {
            given = given.with(Field::Key);
            fields.key = Some(match key {
                Bytes::Text(text) => KeyField::Text(Cow::Borrowed(text)),
                Bytes::Raw(bytes) => KeyField::Raw(bytes),
            });
        }
        if let Some(column) = &self.at
            && let Some(at) = column.get("at", row)?
        {
            given = given.with(Field::At);
            fields.at = Some(at);
        }
        if let Some(after_ms) = get_millis(self.after_ms, row) {
            given = given.with(Field::After);
            fields.after_ms = Some(after_ms);
        }
        if let Some(name) = self.name.as_ref().and_then(|column| column.get(row)) {
            given = given.with(Field::Name);
            fields.name = Some(Cow::Borrowed(name));
        }
        if let Some(text) = self.domain.as_ref().and_then(|column| column.get(row)) {
            given = given.with(Field::Domain);
            fields.domain = Some(parse_domain(text).map_err(|detail| invalid("domain", detail))?);
        }
        if let Some(payload) = self.payload.as_ref().and_then(|column| column.get(row)) {
            fields.payload = read_payload(&payload)?;
            if fields.payload.is_some() {
                given = given.with(Field::Payload);
            }
        }
        if let Some(spread_ms) = get_millis(self.spread_ms, row) {
            given = given.with(Field::Spread);
            fields.spread_ms = Some(spread_ms);
        }
        if let Some(resolution_ms) = get_millis(self.resolution_ms, row) {
            given = given.with(Field::Resolution);
            fields.resolution_ms = Some(resolution_ms);
        }
        if let Some(text) = self.only.as_ref().and_then(|column| column.get(row)) {
            given = given.with(Field::Only);
            fields.only = Some(parse_only(text).map_err(|detail| invalid("only", detail))?);
        }
        if let Some(column) = &self.fire_at
            && let Some(fire_at) = column.get("fire_at", row)?
        {
            given = given.with(Field::FireAt);
            fields.fire_at = Some(fire_at);
        }
        fields.given = given;
        Ok(fields)
    }
}

/// Names the column where it is spelled otherwise than the field.
pub(super) fn rename(mut problem: Problem) -> Problem {
    if let Some(field) = &mut problem.field
        && matches!(field.as_str(), "after" | "spread" | "resolution")
    {
        field.push_str("_ms");
    }
    problem
}

fn invalid(field: &str, detail: String) -> Problem {
    Problem::new(&kinds::INVALID_FIELD, detail).field(field)
}

fn wrong_type(name: &str, expected: &str, array: &dyn Array) -> Problem {
    let detail = format!("column `{name}` is {}, expected is {expected}", array.data_type());
    Problem::new(&kinds::INVALID_ARROW, detail).field(name)
}

/// Text is JSON and must be; all else is bytes.
fn read_payload<'a>(payload: &Bytes<'a>) -> Result<Option<PayloadField<'a>>, Problem> {
    let text = match *payload {
        Bytes::Raw(bytes) => return Ok(Some(PayloadField::Raw(bytes))),
        Bytes::Text(text) => text,
    };
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let detail = format!(
            "payload is not JSON: {} at column {}; bytes go in a Binary column",
            message(&error),
            error.column()
        );
        Problem::new(&kinds::INVALID_JSON, detail).field("payload")
    })?;
    check_depth(raw.get())?;
    Ok((raw.get() != "null").then_some(PayloadField::Json(raw.get())))
}

fn millis<'a>(name: &str, array: &'a dyn Array) -> Result<&'a Int64Array, Problem> {
    array.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(name, "Int64", array))
}

fn get_millis(column: Option<&Int64Array>, row: usize) -> Option<i64> {
    column.filter(|array| array.is_valid(row)).map(|array| array.value(row))
}

/// Points in time.
struct TimeColumn<'a> {
    values: &'a [i64],
    array: &'a dyn Array,
    unit: TimeUnit,
}

impl<'a> TimeColumn<'a> {
    fn open(name: &str, array: &'a dyn Array) -> Result<Self, Problem> {
        let (values, unit) = match array.data_type() {
            DataType::Int64 => {
                (&array.as_primitive::<Int64Type>().values()[..], TimeUnit::Millisecond)
            }
            DataType::Timestamp(unit, _) => {
                let values = match unit {
                    TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                    TimeUnit::Millisecond => {
                        array.as_primitive::<TimestampMillisecondType>().values()
                    }
                    TimeUnit::Microsecond => {
                        array.as_primitive::<TimestampMicrosecondType>().values()
                    }
                    TimeUnit::Nanosecond => {
                        array.as_primitive::<TimestampNanosecondType>().values()
                    }
                };
                (&values[..], *unit)
            }
            _ => return Err(wrong_type(name, "Int64 or Timestamp", array)),
        };
        Ok(Self { values, array, unit })
    }

    fn get(&self, name: &'static str, row: usize) -> Result<Option<Timestamp>, Problem> {
        if self.array.nulls().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        let value = self.values[row];
        let up = |per_ms: i64| value.div_euclid(per_ms) + i64::from(value.rem_euclid(per_ms) != 0);
        let millis = match self.unit {
            TimeUnit::Millisecond => value,
            TimeUnit::Microsecond => up(1_000),
            TimeUnit::Nanosecond => up(1_000_000),
            TimeUnit::Second => {
                value.checked_mul(1_000).ok_or(Rejection::TimeOverflow { field: name })?
            }
        };
        Ok(Some(Timestamp::from_millis(millis)))
    }
}

/// Texts, plain or by a dictionary.
enum TextColumn<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Dictionary { keys: &'a dyn Array, indices: Vec<usize>, values: Box<TextColumn<'a>> },
}

impl<'a> TextColumn<'a> {
    fn open(name: &str, array: &'a dyn Array) -> Result<Self, Problem> {
        Self::try_open(array).ok_or_else(|| wrong_type(name, "Utf8", array))
    }

    fn try_open(array: &'a dyn Array) -> Option<Self> {
        match array.data_type() {
            DataType::Utf8 => array.as_string_opt().map(Self::Utf8),
            DataType::LargeUtf8 => array.as_string_opt().map(Self::LargeUtf8),
            DataType::Utf8View => array.as_string_view_opt().map(Self::Utf8View),
            DataType::Dictionary(_, values) if !matches!(**values, DataType::Dictionary(..)) => {
                let dictionary = array.as_any_dictionary_opt()?;
                let values = Self::try_open(dictionary.values().as_ref())?;
                // An empty dictionary has no indices; then all rows are null.
                let indices = if dictionary.values().is_empty() {
                    Vec::new()
                } else {
                    dictionary.normalized_keys()
                };
                Some(Self::Dictionary {
                    keys: dictionary.keys(),
                    indices,
                    values: Box::new(values),
                })
            }
            _ => None,
        }
    }

    fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Utf8(array) => array.is_valid(row).then(|| array.value(row)),
            Self::LargeUtf8(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Utf8View(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Dictionary { keys, indices, values } => {
                if keys.nulls().is_some_and(|nulls| nulls.is_null(row)) {
                    return None;
                }
                values.get(*indices.get(row)?)
            }
        }
    }
}

/// Texts or bytes.
enum BytesColumn<'a> {
    Text(TextColumn<'a>),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Fixed(&'a FixedSizeBinaryArray),
}

/// A text or bytes.
enum Bytes<'a> {
    Text(&'a str),
    Raw(&'a [u8]),
}

impl<'a> BytesColumn<'a> {
    fn open(name: &str, array: &'a dyn Array) -> Result<Self, Problem> {
        let column = match array.data_type() {
            DataType::Binary => array.as_binary_opt().map(Self::Binary),
            DataType::LargeBinary => array.as_binary_opt().map(Self::LargeBinary),
            DataType::BinaryView => array.as_binary_view_opt().map(Self::BinaryView),
            DataType::FixedSizeBinary(_) => array.as_fixed_size_binary_opt().map(Self::Fixed),
            _ => TextColumn::try_open(array).map(Self::Text),
        };
        column.ok_or_else(|| wrong_type(name, "Utf8 or Binary", array))
    }

    fn get(&self, row: usize) -> Option<Bytes<'a>> {
        let raw = match self {
            Self::Text(column) => return column.get(row).map(Bytes::Text),
            Self::Binary(array) => array.is_valid(row).then(|| array.value(row)),
            Self::LargeBinary(array) => array.is_valid(row).then(|| array.value(row)),
            Self::BinaryView(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Fixed(array) => array.is_valid(row).then(|| array.value(row)),
        };
        raw.map(Bytes::Raw)
    }
}
