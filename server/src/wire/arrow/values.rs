//! Columns of any names as the fields of a value: a row becomes one JSON object.

use super::typed::{Bytes, BytesColumn, TextColumn, TimeColumn};
use crate::wire::json::{push_base64, push_int, push_text};
use crate::wire::problem::{Problem, kinds};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
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
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt8(&'a PrimitiveArray<UInt8Type>),
    UInt16(&'a PrimitiveArray<UInt16Type>),
    UInt32(&'a PrimitiveArray<UInt32Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
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
            DataType::Int8 => primitive(array).map(Values::Int8),
            DataType::Int16 => primitive(array).map(Values::Int16),
            DataType::Int32 => primitive(array).map(Values::Int32),
            DataType::Int64 => primitive(array).map(Values::Int64),
            DataType::UInt8 => primitive(array).map(Values::UInt8),
            DataType::UInt16 => primitive(array).map(Values::UInt16),
            DataType::UInt32 => primitive(array).map(Values::UInt32),
            DataType::UInt64 => primitive(array).map(Values::UInt64),
            DataType::Float32 => primitive(array).map(Values::Float32),
            DataType::Float64 => primitive(array).map(Values::Float64),
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
        if self.array.is_null(row) {
            return Ok(());
        }
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.extend_from_slice(&self.name);
        match &self.values {
            Values::Bool(array) => {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
            }
            Values::Int8(array) => push_int(out, array.value(row)),
            Values::Int16(array) => push_int(out, array.value(row)),
            Values::Int32(array) => push_int(out, array.value(row)),
            Values::Int64(array) => push_int(out, array.value(row)),
            Values::UInt8(array) => push_int(out, array.value(row)),
            Values::UInt16(array) => push_int(out, array.value(row)),
            Values::UInt32(array) => push_int(out, array.value(row)),
            Values::UInt64(array) => push_int(out, array.value(row)),
            Values::Float32(array) => self.push_float(array.value(row).is_finite(), || {
                serde_json::to_writer(out, &array.value(row))
            })?,
            Values::Float64(array) => self.push_float(array.value(row).is_finite(), || {
                serde_json::to_writer(out, &array.value(row))
            })?,
            Values::Time(column) => match column.get("timestamp", row) {
                Ok(Some(time)) => push_int(out, time.as_millis()),
                Ok(None) => out.extend_from_slice(b"null"),
                Err(mut problem) => {
                    problem.field = Some(clip(self.plain_name).to_owned());
                    return Err(problem);
                }
            },
            // Rows of a dictionary may be null behind a key that is not.
            Values::Text(column) => match column.get(row) {
                Some(text) => push_text(out, text),
                None => out.extend_from_slice(b"null"),
            },
            Values::Bytes(column) => match column.get(row) {
                Some(Bytes::Raw(bytes)) => push_base64(out, bytes),
                Some(Bytes::Text(text)) => push_text(out, text),
                None => out.extend_from_slice(b"null"),
            },
        }
        Ok(())
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
