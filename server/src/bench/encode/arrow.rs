//! Units as Arrow IPC streams of one record batch; the columns are built directly.

use super::{KEY_BYTES, key_bytes, push_decimal};
use crate::bench::due::DueTimes;
use crate::bench::plan::{Plan, Unit, Verb};
use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use std::sync::Arc;

/// Replaces `out` by the stream of a unit; returns how many rows it has.
pub(crate) fn write_body(
    out: &mut Vec<u8>,
    plan: &Plan,
    unit: &Unit,
    verb: Verb,
    due: &DueTimes,
) -> Result<u32, ArrowError> {
    out.clear();
    let rows = match verb {
        Verb::Delete => unit.numbers().filter(|number| !Plan::is_spared(*number)).count(),
        Verb::Register | Verb::Touch => unit.rows as usize,
    };
    let is_taken = |number: &u64| verb != Verb::Delete || !Plan::is_spared(*number);
    let mut columns: Vec<(&str, DataType, ArrayRef)> = Vec::with_capacity(4);
    if let Some(op) = op_text(verb) {
        let ops = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(op, rows)));
        columns.push(("op", DataType::Utf8, ops));
    }
    columns.push(("key", DataType::Binary, keys(plan, unit.numbers().filter(is_taken), rows)));
    if plan.is_named() {
        columns.push(("name", DataType::Utf8, names(plan, unit.numbers().filter(is_taken))?));
    }
    match verb {
        Verb::Touch => {
            let after = Int64Array::from(vec![plan.over_ms; rows]);
            columns.push(("after_ms", DataType::Int64, Arc::new(after)));
        }
        Verb::Delete if plan.is_named() => {}
        Verb::Register | Verb::Delete => {
            let at = unit.numbers().filter(is_taken).map(|number| due.due_ms(number));
            let at = Int64Array::from_iter_values(at);
            columns.push(("at", DataType::Int64, Arc::new(at)));
        }
    }
    write_stream(out, columns)?;
    Ok(rows as u32)
}

/// The `op` column's value; registrations need none.
fn op_text(verb: Verb) -> Option<&'static str> {
    match verb {
        Verb::Register => None,
        Verb::Touch => Some("touch"),
        Verb::Delete => Some("delete"),
    }
}

fn keys(plan: &Plan, numbers: impl Iterator<Item = u64>, rows: usize) -> ArrayRef {
    let mut bytes = Vec::with_capacity(rows * KEY_BYTES);
    for number in numbers {
        bytes.extend_from_slice(&key_bytes(plan.identity(number).0));
    }
    let offsets = OffsetBuffer::from_repeated_length(KEY_BYTES, rows);
    Arc::new(BinaryArray::new(offsets, Buffer::from_vec(bytes), None))
}

fn names(plan: &Plan, numbers: impl Iterator<Item = u64>) -> Result<ArrayRef, ArrowError> {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for number in numbers {
        let begin = bytes.len();
        bytes.push(super::NAME_PREFIX[0]);
        push_decimal(&mut bytes, plan.identity(number).1 as i64);
        ends.push(bytes.len() - begin);
    }
    let offsets = OffsetBuffer::from_lengths(ends);
    Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(bytes), None)?))
}

/// Replaces `out` by a stream of one batch of these columns.
pub(crate) fn write_stream(
    out: &mut Vec<u8>,
    columns: Vec<(&str, DataType, ArrayRef)>,
) -> Result<(), ArrowError> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns
        .into_iter()
        .map(|(name, kind, array)| (Field::new(name, kind, false), array))
        .unzip();
    let schema = Arc::new(Schema::new(fields));
    let mut writer = StreamWriter::try_new(out, &schema)?;
    writer.write(&RecordBatch::try_new(schema, arrays)?)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::{Workload, tests::plan};
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_ipc::reader::StreamReader;

    const ORIGIN: i64 = 1_767_225_600_000;

    /// The decoded batch of the unit, and its due times.
    fn encode(plan: &Plan, unit: u64, verb: Verb) -> (RecordBatch, DueTimes) {
        let due = DueTimes::new(plan, ORIGIN);
        let unit = plan.unit(unit);
        due.note_sent(&unit, ORIGIN);
        let mut body = Vec::new();
        let rows = write_body(&mut body, plan, &unit, verb, &due).unwrap();
        let mut batches: Vec<_> =
            StreamReader::try_new(body.as_slice(), None).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].num_rows(), rows as usize);
        (batches.remove(0), due)
    }

    #[test]
    fn registrations_have_keys_and_times() {
        let plan = plan(Workload::Uniform, 100, 100, 30);
        let (batch, due) = encode(&plan, 1, Verb::Register);
        let keys = batch.column_by_name("key").unwrap().as_binary::<i32>();
        let at = batch.column_by_name("at").unwrap().as_primitive::<Int64Type>();
        for row in 0..30 {
            let number = 30 + row as u64;
            assert_eq!(keys.value(row), key_bytes(number));
            assert_eq!(at.value(row), due.due_ms(number));
        }
        assert!(batch.column_by_name("op").is_none() && batch.column_by_name("name").is_none());
    }

    #[test]
    fn deletes_of_named_timers_have_names_and_no_times() {
        let plan = plan(Workload::Cancel, 100, 10, 50);
        let (batch, _) = encode(&plan, 0, Verb::Delete);
        assert_eq!(batch.num_rows(), 44, "six of fifty are spared");
        let names = batch.column_by_name("name").unwrap().as_string::<i32>();
        assert_eq!((names.value(0), names.value(43)), ("t0", "t4"));
        assert!(batch.column_by_name("at").is_none());
        assert_eq!(batch.column_by_name("op").unwrap().as_string::<i32>().value(9), "delete");
    }

    #[test]
    fn touches_have_a_duration() {
        let (batch, _) = encode(&plan(Workload::Heartbeat, 40, 20, 20), 1, Verb::Touch);
        let after = batch.column_by_name("after_ms").unwrap().as_primitive::<Int64Type>();
        assert_eq!((after.value(0), after.value(19)), (5000, 5000));
    }
}
