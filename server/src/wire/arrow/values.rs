//! Columns of any names as the fields of a value: a row becomes one JSON object.

use super::typed::{Bytes, BytesColumn, IntColumn, TextColumn, TimeColumn};
use crate::wire::json::{push_base64, push_int, push_text};
use crate::wire::problem::{Problem, kinds};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrowPrimitiveType, BooleanArray, PrimitiveArray};
use arrow_schema::DataType;
use stormwheel::text::clip;

/// One column, as a field of values.
pub(super) struct ValueColumn<'a> {
    /// Its name as JSON, with the colon behind it.
    name: Vec<u8>,
    plain_name: &'a str,
    array: &'a dyn Array,
    values: Values<'a>,
}

enum Values<'a> {
    Bool(&'a BooleanArray),
    Int(IntColumn<'a>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Time(TimeColumn<'a>),
    Text(TextColumn<'a>),
    Bytes(BytesColumn<'a>),
}

impl<'a> ValueColumn<'a> {
    /// The column, or what is wrong with its type.
    pub(super) fn open(name: &'a str, array: &'a dyn Array) -> Result<Self, Problem> {
        let values = match array.data_type() {
            DataType::Boolean => array.as_boolean_opt().map(Values::Bool),
            DataType::Float32 => primitive(array).map(Values::Float32),
            DataType::Float64 => primitive(array).map(Values::Float64),
            integer if integer.is_integer() => IntColumn::try_open(array).map(Values::Int),
            DataType::Timestamp(..) => TimeColumn::open(name, array).ok().map(Values::Time),
            _ => match TextColumn::try_open(array) {
                Some(texts) => Some(Values::Text(texts)),
                None => BytesColumn::open(name, array).ok().map(Values::Bytes),
            },
        };
        let Some(values) = values else {
            let name = clip(name);
            let detail = format!(
                "column `{name}` is {}, which cannot be a field of a value: booleans, integers, \
                 floats, texts, binaries and timestamps can; send the rest as JSON in the column \
                 `value`",
                array.data_type()
            );
            return Err(Problem::new(&kinds::INVALID_ARROW, detail).field(name));
        };
        let mut quoted = Vec::with_capacity(name.len() + 3);
        push_text(&mut quoted, name);
        quoted.push(b':');
        Ok(Self { name: quoted, plain_name: name, array, values })
    }

    /// Its name.
    pub(super) const fn name(&self) -> &'a str {
        self.plain_name
    }

    /// Appends the field of a row; a null is left out.
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
        let before = out.len();
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.extend_from_slice(&self.name);
        if !self.write_value(row, out)? {
            out.truncate(before);
        }
        Ok(())
    }

    /// Appends the value of a row. Returns whether there is one: a row of a dictionary may be null behind
    /// a key that is not.
    fn write_value(&self, row: usize, out: &mut Vec<u8>) -> Result<bool, Problem> {
        if self.array.is_null(row) {
            return Ok(false);
        }
        match &self.values {
            Values::Bool(array) => {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
            }
            Values::Int(column) => match column.get(row) {
                Some(value) => push_int(out, value),
                None => return Ok(false),
            },
            Values::Float32(array) => self.push_float(array.value(row).is_finite(), || {
                serde_json::to_writer(out, &array.value(row))
            })?,
            Values::Float64(array) => self.push_float(array.value(row).is_finite(), || {
                serde_json::to_writer(out, &array.value(row))
            })?,
            Values::Time(column) => match column.get("timestamp", row) {
                Ok(Some(time)) => push_int(out, time.as_millis()),
                Ok(None) => return Ok(false),
                Err(mut problem) => {
                    problem.field = Some(clip(self.plain_name).to_owned());
                    return Err(problem);
                }
            },
            Values::Text(column) => match column.get(row) {
                Some(text) => push_text(out, text),
                None => return Ok(false),
            },
            Values::Bytes(column) => match column.get(row) {
                Some(Bytes::Raw(bytes)) => push_base64(out, bytes),
                Some(Bytes::Text(text)) => push_text(out, text),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn push_float(
        &self,
        is_finite: bool,
        write: impl FnOnce() -> serde_json::Result<()>,
    ) -> Result<(), Problem> {
        if is_finite && write().is_ok() {
            return Ok(());
        }
        let name = clip(self.plain_name);
        let detail = format!("`{name}` is not a finite number, and JSON has no other");
        Err(Problem::new(&kinds::INVALID_FIELD, detail).field(name))
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<&PrimitiveArray<T>> {
    array.as_primitive_opt::<T>()
}

/// Writes the object of a row into an empty buffer.
pub(super) fn write_object(
    columns: &[ValueColumn<'_>],
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    out.push(b'{');
    for column in columns {
        column.write(row, out)?;
    }
    out.push(b'}');
    Ok(())
}
