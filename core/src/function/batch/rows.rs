//! Elements as record batches: rows of JSON, and Arrow streams.

use crate::function::{Element, FunctionError, Result};
use crate::op::Payload;
use crate::text::clip;
use crate::time::text::TimeValue;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, LargeStringArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray, new_null_array,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};
use arrow_select::concat::concat_batches;
use serde::Deserialize as _;
use serde_json::Value;
use std::sync::Arc;

/// A record batch as an Arrow IPC stream: the bytes of an element for a
/// [`KeyedBatchFunction`](super::KeyedBatchFunction).
pub fn encode_batch(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(batch)?;
    Ok(writer.into_inner()?)
}

/// The rows of an element, with these columns.
pub(super) fn decode(element: &Element<'_>, schema: &SchemaRef) -> Result<RecordBatch> {
    match element.value {
        Payload::Json(text) => read_json(text, schema),
        Payload::Binary(bytes) => read_stream(bytes, schema),
    }
}

fn read_stream(bytes: &[u8], schema: &SchemaRef) -> Result<RecordBatch> {
    let reader = StreamReader::try_new(bytes, None)?;
    let found = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    let found = concat_batches(&found, &batches)?;
    let columns = schema.fields().iter().map(|field| project(field, &found));
    assemble(schema, columns.collect::<Result<_>>()?, found.num_rows())
}

fn assemble(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    // Without a column, nothing else would say how many rows there are.
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The column of a stream that is meant by a field.
fn project(field: &Field, found: &RecordBatch) -> Result<ArrayRef> {
    let (name, wanted) = (field.name(), field.data_type());
    match found.column_by_name(name) {
        Some(column) if column.data_type() == wanted => Ok(Arc::clone(column)),
        Some(column) => Err(FunctionError::new(format!(
            "the column `{name}` is {}, and the function takes {wanted}",
            column.data_type()
        ))),
        None if field.is_nullable() => Ok(new_null_array(wanted, found.num_rows())),
        None => Err(FunctionError::new(format!("there is no column `{name}`"))),
    }
}

fn read_json(text: &[u8], schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = match serde_json::from_slice(text)? {
        Value::Array(rows) => rows,
        row => vec![row],
    };
    if let Some(place) = rows.iter().position(|row| !row.is_object()) {
        return Err(FunctionError::new(format!("row {place} is no JSON object")));
    }
    let columns = schema.fields().iter().map(|field| Cells { field, rows: &rows }.column());
    assemble(schema, columns.collect::<Result<_>>()?, rows.len())
}

/// What rows of JSON say of one column.
struct Cells<'a> {
    field: &'a Field,
    rows: &'a [Value],
}

impl<'a> Cells<'a> {
    fn column(&self) -> Result<ArrayRef> {
        Ok(match self.field.data_type() {
            DataType::Boolean => Arc::new(BooleanArray::from(self.read(Value::as_bool)?)),
            DataType::Int8 => self.integers::<Int8Type>()?,
            DataType::Int16 => self.integers::<Int16Type>()?,
            DataType::Int32 => self.integers::<Int32Type>()?,
            DataType::Int64 => self.integers::<Int64Type>()?,
            DataType::UInt8 => self.integers::<UInt8Type>()?,
            DataType::UInt16 => self.integers::<UInt16Type>()?,
            DataType::UInt32 => self.integers::<UInt32Type>()?,
            DataType::UInt64 => self.integers::<UInt64Type>()?,
            DataType::Float32 => {
                let numbers = self.read(|value| value.as_f64().map(|it| it as f32))?;
                Arc::new(PrimitiveArray::<Float32Type>::from(numbers))
            }
            DataType::Float64 => {
                Arc::new(PrimitiveArray::<Float64Type>::from(self.read(Value::as_f64)?))
            }
            DataType::Utf8 => Arc::new(StringArray::from(self.read(Value::as_str)?)),
            DataType::LargeUtf8 => Arc::new(LargeStringArray::from(self.read(Value::as_str)?)),
            DataType::Timestamp(TimeUnit::Millisecond, zone) => {
                let millis = self.read(|value| {
                    TimeValue::deserialize(value).ok().map(|time| time.0.as_millis())
                })?;
                let times = PrimitiveArray::<TimestampMillisecondType>::from(millis);
                Arc::new(times.with_timezone_opt(zone.clone()))
            }
            other => {
                let name = self.field.name();
                return Err(FunctionError::new(format!(
                    "the column `{name}` is {other}, which JSON cannot fill: send the rows as an \
                     Arrow stream"
                )));
            }
        })
    }

    fn integers<T: ArrowPrimitiveType>(&self) -> Result<ArrayRef>
    where
        T::Native: TryFrom<i128>,
    {
        let read = |value: &Value| {
            let number =
                value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))?;
            T::Native::try_from(number).ok()
        };
        Ok(Arc::new(self.read(read)?.into_iter().collect::<PrimitiveArray<T>>()))
    }

    /// One value for each row. What is null or not there is none, where the column may have that.
    fn read<T>(&self, read: impl Fn(&'a Value) -> Option<T>) -> Result<Vec<Option<T>>> {
        let cell = |(place, row): (usize, &'a Value)| {
            let name = self.field.name();
            match row.get(name) {
                None | Some(Value::Null) if self.field.is_nullable() => Ok(None),
                None | Some(Value::Null) => {
                    Err(FunctionError::new(format!("row {place} has no `{name}`")))
                }
                Some(value) => read(value).map(Some).ok_or_else(|| {
                    let (value, wanted) = (value.to_string(), self.field.data_type());
                    FunctionError::new(format!(
                        "`{name}` of row {place} is {}, and the column is {wanted}",
                        clip(&value)
                    ))
                }),
            }
        };
        self.rows.iter().enumerate().map(cell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray as _;
    use arrow_schema::Schema;

    fn amounts(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("amount", column)]).unwrap()
    }

    fn decode_bytes(bytes: &[u8]) -> Result<RecordBatch> {
        let field = Field::new("amount", DataType::Int64, true);
        let value = Payload::Binary(bytes);
        let element = Element { timestamp: Timestamp::MIN, input: 0, value };
        decode(&element, &Arc::new(Schema::new(vec![field])))
    }

    #[test]
    fn streams_of_several_batches_are_one_and_nonsense_is_refused() {
        let batch = amounts(&[1, 2]);
        let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&amounts(&[3])).unwrap();
        let found = decode_bytes(&writer.into_inner().unwrap()).unwrap();
        assert_eq!(found.column(0).as_primitive::<Int64Type>().values()[..], [1, 2, 3]);
        let whole = encode_batch(&batch).unwrap();
        assert_eq!(decode_bytes(&whole).unwrap().num_rows(), 2);
        assert!(decode_bytes(b"").is_err() && decode_bytes(b"not arrow").is_err());
        assert!(decode_bytes(&whole[..whole.len() / 2]).is_err());
    }
}
