//! The rows of one key as one element, for functions that want columns: what the sender asks for, and
//! what the log keeps.
//!
//! Rows are put together within a record batch of the stream, for each key (and input) in the order of
//! its first row. Such an element is an Arrow stream itself, of all columns but these two, and is as
//! new as its newest row.

use super::elements::read_input;
use super::typed::{BytesColumn, IntColumn, TimeColumn};
use super::{Rows, each_batch};
use crate::wire::elements::{ElementSink, Elements, Intake};
use crate::wire::fields::{Field, Fields, PayloadField};
use crate::wire::problem::{Problem, kinds};
use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use std::collections::HashMap;
use stormwheel::function::encode_batch;
use stormwheel::time::Timestamp;

/// Decodes a stream, the rows of each key as one element. If it refuses, nothing may be made of what
/// was taken. `None`: see [`Intake::read_lines`].
pub fn push_groups<S: ElementSink>(
    body: &[u8],
    intake: &mut Intake<S>,
) -> Result<Option<Elements>, Problem> {
    let check = |records: &RecordBatch| Columns::open(records).map(drop);
    let mut elements = Rows::default();
    each_batch(body, check, |records, _| {
        let columns = Columns::open(records)?;
        for group in columns.groups(records.num_rows()) {
            let element = group.and_then(|group| columns.element(group));
            let taken =
                element.and_then(|(group, value)| intake.take(&columns.fields(&group, &value)));
            if let Err(problem) = taken {
                elements.failures.push(elements.count, problem);
            }
            elements.count += 1;
        }
        Ok(())
    })?;
    Ok(intake.read(elements.count, elements.failures))
}

/// The columns of one record batch.
struct Columns<'a> {
    key: BytesColumn<'a>,
    timestamp: Option<TimeColumn<'a>>,
    input: Option<IntColumn<'a>>,
    /// What elements are made of: the times as well.
    rest: RecordBatch,
}

/// Rows that are one element.
struct Group {
    rows: Vec<u32>,
    newest: Option<Timestamp>,
    input: Option<u8>,
}

impl<'a> Columns<'a> {
    fn open(records: &'a RecordBatch) -> Result<Self, Problem> {
        let schema = records.schema_ref();
        let (mut key, mut timestamp, mut input, mut rest) = (None, None, None, Vec::new());
        for (place, (field, array)) in schema.fields().iter().zip(records.columns()).enumerate() {
            let (name, array) = (field.name().as_str(), array.as_ref());
            if schema.fields()[..place].iter().any(|other| other.name() == name) {
                let detail = format!("there are two columns `{name}`");
                return Err(Problem::new(&kinds::INVALID_ARROW, detail).field(name));
            }
            match name {
                "key" => key = Some(BytesColumn::open(name, array)?),
                "input" => input = Some(IntColumn::open(name, array)?),
                _ => rest.push(place),
            }
            if name == "timestamp" {
                timestamp = Some(TimeColumn::open(name, array)?);
            }
        }
        let key = key.ok_or_else(|| {
            let detail = "there is no column `key`, and every element needs one";
            Problem::new(&kinds::MISSING_FIELD, detail).field("key")
        })?;
        let rest = records.project(&rest).map_err(unreadable)?;
        Ok(Self { key, timestamp, input, rest })
    }

    /// Which rows belong together. What is wrong with a row is its own.
    fn groups(&self, rows: usize) -> Vec<Result<Group, Problem>> {
        let mut groups: Vec<Result<Group, Problem>> = Vec::new();
        let mut places = HashMap::new();
        for row in 0..rows {
            let (newest, input) = match self.read(row) {
                Ok(read) => read,
                Err(problem) => {
                    groups.push(Err(problem));
                    continue;
                }
            };
            let key = self.key.get(row).map(|key| key.bytes().to_vec());
            let place = *places.entry((key, input)).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(Ok(group)) => {
                    group.rows.push(row as u32);
                    group.newest = group.newest.max(newest);
                }
                _ => groups.push(Ok(Group { rows: vec![row as u32], newest, input })),
            }
        }
        groups
    }

    fn read(&self, row: usize) -> Result<(Option<Timestamp>, Option<u8>), Problem> {
        let timestamp = self.timestamp.as_ref().map(|column| column.get("timestamp", row));
        let input = self.input.as_ref().and_then(|column| column.get(row));
        let input = input.map(read_input).transpose()?;
        Ok((timestamp.transpose()?.flatten(), input))
    }

    /// The value of the element that these rows are.
    fn element(&self, group: Group) -> Result<(Group, Vec<u8>), Problem> {
        let rows = UInt32Array::from(group.rows.clone());
        let batch = take_record_batch(&self.rest, &rows).map_err(unreadable)?;
        let value = encode_batch(&batch).map_err(unreadable)?;
        Ok((group, value))
    }

    fn fields<'o>(&'o self, group: &Group, value: &'o [u8]) -> Fields<'o> {
        let mut fields = Fields::default();
        let first = group.rows.first().and_then(|row| self.key.get(*row as usize));
        if let Some(key) = first {
            fields.given = fields.given.with(Field::Key);
            fields.key = Some(key.as_key());
        }
        if let Some(newest) = group.newest {
            fields.given = fields.given.with(Field::Timestamp);
            fields.timestamp = Some(newest);
        }
        if let Some(input) = group.input {
            fields.given = fields.given.with(Field::Input);
            fields.input = Some(input);
        }
        fields.given = fields.given.with(Field::Value);
        fields.value = Some(PayloadField::Raw(value));
        fields
    }
}

fn unreadable(error: impl std::fmt::Display) -> Problem {
    let detail = format!("the rows of a key cannot be put together: {error}");
    Problem::new(&kinds::INVALID_ARROW, detail)
}

#[cfg(test)]
mod tests;
