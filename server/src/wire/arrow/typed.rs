//! Columns of the types that rows are read from, downcast once.

use crate::wire::fields::{Field, KeyField, PayloadField, check_depth, message};
use crate::wire::problem::{Problem, kinds};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{
    Array, ArrowPrimitiveType, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, Int8Array,
    Int16Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, PrimitiveArray,
    StringArray, StringViewArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, TimeUnit};
use serde_json::value::RawValue;
use std::borrow::Cow;
use stormwheel::error::Rejection;
use stormwheel::time::Timestamp;

pub(super) fn wrong_type(name: &str, expected: &str, array: &dyn Array) -> Problem {
    let detail = format!("column `{name}` is {}, expected is {expected}", array.data_type());
    Problem::new(&kinds::INVALID_ARROW, detail).field(name)
}

/// A payload or a value: text is JSON and must be; all else is bytes.
pub(super) fn read_json<'a>(field: Field, bytes: &Bytes<'a>) -> Result<PayloadField<'a>, Problem> {
    let text = match *bytes {
        Bytes::Raw(bytes) => return Ok(PayloadField::Raw(bytes)),
        Bytes::Text(text) => text,
    };
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let detail = format!(
            "{} is not JSON: {} at column {}; bytes go in a Binary column",
            field.as_str(),
            message(&error),
            error.column()
        );
        Problem::new(&kinds::INVALID_JSON, detail).field(field.as_str())
    })?;
    check_depth(field, raw.get())?;
    Ok(PayloadField::Json(raw.get()))
}

pub(super) fn millis<'a>(name: &str, array: &'a dyn Array) -> Result<&'a Int64Array, Problem> {
    array.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(name, "Int64", array))
}

pub(super) fn get_millis(column: Option<&Int64Array>, row: usize) -> Option<i64> {
    column.filter(|array| array.is_valid(row)).map(|array| array.value(row))
}

/// Whole numbers of any type.
pub(super) enum IntColumn<'a> {
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    UInt8(&'a UInt8Array),
    UInt16(&'a UInt16Array),
    UInt32(&'a UInt32Array),
    UInt64(&'a UInt64Array),
}

impl<'a> IntColumn<'a> {
    pub(super) fn open(name: &str, array: &'a dyn Array) -> Result<Self, Problem> {
        Self::try_open(array).ok_or_else(|| wrong_type(name, "an integer", array))
    }

    pub(super) fn try_open(array: &'a dyn Array) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Int8 => Self::Int8(array.as_primitive_opt()?),
            DataType::Int16 => Self::Int16(array.as_primitive_opt()?),
            DataType::Int32 => Self::Int32(array.as_primitive_opt()?),
            DataType::Int64 => Self::Int64(array.as_primitive_opt()?),
            DataType::UInt8 => Self::UInt8(array.as_primitive_opt()?),
            DataType::UInt16 => Self::UInt16(array.as_primitive_opt()?),
            DataType::UInt32 => Self::UInt32(array.as_primitive_opt()?),
            DataType::UInt64 => Self::UInt64(array.as_primitive_opt()?),
            _ => return None,
        })
    }

    pub(super) fn get(&self, row: usize) -> Option<i128> {
        match self {
            Self::Int8(array) => at(array, row),
            Self::Int16(array) => at(array, row),
            Self::Int32(array) => at(array, row),
            Self::Int64(array) => at(array, row),
            Self::UInt8(array) => at(array, row),
            Self::UInt16(array) => at(array, row),
            Self::UInt32(array) => at(array, row),
            Self::UInt64(array) => at(array, row),
        }
    }
}

fn at<T: ArrowPrimitiveType<Native: Into<i128>>>(
    array: &PrimitiveArray<T>,
    row: usize,
) -> Option<i128> {
    array.is_valid(row).then(|| array.value(row).into())
}

/// Points in time.
pub(super) struct TimeColumn<'a> {
    values: &'a [i64],
    array: &'a dyn Array,
    unit: TimeUnit,
}

impl<'a> TimeColumn<'a> {
    pub(super) fn open(name: &str, array: &'a dyn Array) -> Result<Self, Problem> {
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

    pub(super) fn get(&self, name: &'static str, row: usize) -> Result<Option<Timestamp>, Problem> {
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
pub(super) enum TextColumn<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Dictionary { keys: &'a dyn Array, indices: Vec<usize>, values: Box<TextColumn<'a>> },
}

impl<'a> TextColumn<'a> {
    pub(super) fn open(name: &str, array: &'a dyn Array) -> Result<Self, Problem> {
        Self::try_open(array).ok_or_else(|| wrong_type(name, "Utf8", array))
    }

    pub(super) fn try_open(array: &'a dyn Array) -> Option<Self> {
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

    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
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
pub(super) enum BytesColumn<'a> {
    Text(TextColumn<'a>),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Fixed(&'a FixedSizeBinaryArray),
}

/// A text or bytes.
pub(super) enum Bytes<'a> {
    Text(&'a str),
    Raw(&'a [u8]),
}

impl<'a> Bytes<'a> {
    /// As a key: text is spelled, all else are the bytes themselves.
    pub(super) fn as_key(&self) -> KeyField<'a> {
        match *self {
            Self::Text(text) => KeyField::Text(Cow::Borrowed(text)),
            Self::Raw(bytes) => KeyField::Raw(bytes),
        }
    }

    /// As they stand there.
    pub(super) fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::Text(text) => text.as_bytes(),
            Self::Raw(bytes) => bytes,
        }
    }
}

impl<'a> BytesColumn<'a> {
    pub(super) fn open(name: &str, array: &'a dyn Array) -> Result<Self, Problem> {
        let column = match array.data_type() {
            DataType::Binary => array.as_binary_opt().map(Self::Binary),
            DataType::LargeBinary => array.as_binary_opt().map(Self::LargeBinary),
            DataType::BinaryView => array.as_binary_view_opt().map(Self::BinaryView),
            DataType::FixedSizeBinary(_) => array.as_fixed_size_binary_opt().map(Self::Fixed),
            _ => TextColumn::try_open(array).map(Self::Text),
        };
        column.ok_or_else(|| wrong_type(name, "Utf8 or Binary", array))
    }

    pub(super) fn get(&self, row: usize) -> Option<Bytes<'a>> {
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
