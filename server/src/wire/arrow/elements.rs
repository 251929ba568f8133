//! Elements as an Arrow IPC stream: `key`, `timestamp`, `input`, and either `value` or a column for
//! each field of the values.

use super::each_batch;
use super::typed::{BytesColumn, IntColumn, TimeColumn, read_json};
use super::values::{ValueColumn, write_object};
use crate::wire::elements::{ElementSink, Elements, Intake};
use crate::wire::fields::{Field, Fields, PayloadField};
use crate::wire::problem::{Problem, kinds};
use arrow_array::RecordBatch;

/// Decodes a stream of elements. If it refuses, nothing may be made of what was taken. `None`: see
/// [`Intake::read_lines`].
pub fn push_elements<S: ElementSink>(
    body: &[u8],
    intake: &mut Intake<S>,
) -> Result<Option<Elements>, Problem> {
    let check = |records: &RecordBatch| ElementColumns::open(records).map(drop);
    let mut object = Vec::new();
    let rows = each_batch(body, check, |records, fail| {
        let columns = ElementColumns::open(records)?;
        for row in 0..records.num_rows() {
            object.clear();
            let taken = columns.fields(row, &mut object).and_then(|fields| intake.take(&fields));
            if let Err(problem) = taken {
                fail(row, problem);
            }
        }
        Ok(())
    })?;
    Ok(intake.read(rows.count, rows.failures))
}

/// The columns of one record batch.
#[derive(Default)]
struct ElementColumns<'a> {
    key: Option<BytesColumn<'a>>,
    timestamp: Option<TimeColumn<'a>>,
    value: Option<BytesColumn<'a>>,
    input: Option<IntColumn<'a>>,
    /// The other columns: the fields of values, if there is no column `value`.
    fields: Vec<ValueColumn<'a>>,
}

impl<'a> ElementColumns<'a> {
    /// Finds the columns, or names the one that is missing, unwanted or of a wrong type.
    fn open(records: &'a RecordBatch) -> Result<Self, Problem> {
        let mut columns = Self::default();
        let schema = records.schema_ref();
        for (place, (field, array)) in schema.fields().iter().zip(records.columns()).enumerate() {
            let (name, array) = (field.name().as_str(), array.as_ref());
            if schema.fields()[..place].iter().any(|other| other.name() == name) {
                let detail = format!("there are two columns `{name}`");
                return Err(Problem::new(&kinds::INVALID_ARROW, detail).field(name));
            }
            match name {
                "key" => columns.key = Some(BytesColumn::open(name, array)?),
                "timestamp" => columns.timestamp = Some(TimeColumn::open(name, array)?),
                "value" => columns.value = Some(BytesColumn::open(name, array)?),
                "input" => columns.input = Some(IntColumn::open(name, array)?),
                other => columns.fields.push(ValueColumn::open(other, array)?),
            }
        }
        let missing =
            |name: &str, detail: &str| Err(Problem::new(&kinds::MISSING_FIELD, detail).field(name));
        if columns.key.is_none() {
            return missing("key", "there is no column `key`, and every element needs one");
        }
        match (&columns.value, &columns.fields[..]) {
            (Some(_), []) | (None, [_, ..]) => Ok(columns),
            (None, []) => {
                let detail = "there is no column `value`, nor one for a field of the values";
                missing("value", detail)
            }
            (Some(_), [other, ..]) => {
                let name = other.name();
                let detail = format!(
                    "there is a column `value`, and a column `{name}` besides: say the whole \
                     value, or a column for each of its fields"
                );
                Err(Problem::new(&kinds::UNKNOWN_FIELD, detail).field(name))
            }
        }
    }

    /// What a row says; `object` has the value if it is made of columns.
    fn fields<'o>(&'o self, row: usize, object: &'o mut Vec<u8>) -> Result<Fields<'o>, Problem> {
        let mut fields = Fields::default();
        if let Some(key) = self.key.as_ref().and_then(|column| column.get(row)) {
            fields.given = fields.given.with(Field::Key);
            fields.key = Some(key.as_key());
        }
        if let Some(column) = &self.timestamp
            && let Some(timestamp) = column.get("timestamp", row)?
        {
            fields.given = fields.given.with(Field::Timestamp);
            fields.timestamp = Some(timestamp);
        }
        if let Some(input) = self.input.as_ref().and_then(|column| column.get(row)) {
            fields.given = fields.given.with(Field::Input);
            fields.input = Some(read_input(input)?);
        }
        fields.given = fields.given.with(Field::Value);
        fields.value = if let Some(column) = &self.value {
            let value = column.get(row);
            value.map(|value| read_json(Field::Value, &value)).transpose()?
        } else {
            write_object(&self.fields, row, object)?;
            let text = std::str::from_utf8(object);
            Some(PayloadField::Json(text.expect("JSON was written, and that is UTF-8")))
        };
        Ok(fields)
    }
}

/// Which input a row is for.
pub(super) fn read_input(number: i128) -> Result<u8, Problem> {
    u8::try_from(number).map_err(|_| {
        let detail = format!("input is {number}; inputs are counted from 0, and they are few");
        Problem::new(&kinds::INVALID_FIELD, detail).field("input")
    })
}

#[cfg(test)]
mod tests;
