//! Streams in, an element for each key out.

use super::*;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, UInt8Array};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use std::sync::Arc;
use stormwheel::op::{Action, Op, Payload};

/// What was taken: key, timestamp, input, and the column `n` of its rows.
#[derive(Default)]
struct Taken(Vec<(String, i64, u8, Vec<Option<i64>>)>);

impl ElementSink for Taken {
    fn push(&mut self, op: &Op<'_>, timestamp: Timestamp) -> Result<(), Problem> {
        let Action::Element(element) = &op.action else { panic!("{op:?} is no element") };
        let Payload::Binary(bytes) = element.value else { panic!("{op:?} is not binary") };
        let batch = StreamReader::try_new(bytes, None).unwrap().next().unwrap().unwrap();
        assert!(batch.column_by_name("key").is_none() && batch.column_by_name("input").is_none());
        let n = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().iter().collect();
        let key = String::from_utf8(op.key.to_vec()).unwrap();
        self.0.push((key, timestamp.as_millis(), element.input, n));
        Ok(())
    }

    fn watermark(&mut self, _to: Timestamp) -> Result<(), Problem> {
        panic!("an Arrow stream has no watermarks")
    }
}

/// A stream of these batches.
fn stream(batches: Vec<Vec<(&str, ArrayRef)>>) -> Vec<u8> {
    let records = batches.into_iter().map(|columns| {
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    });
    let records: Vec<RecordBatch> = records.collect();
    let mut writer = StreamWriter::try_new(Vec::new(), records[0].schema_ref()).unwrap();
    for records in &records {
        writer.write(records).unwrap();
    }
    writer.into_inner().unwrap()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn numbers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

#[test]
fn rows_of_a_key_are_one_element_within_a_batch() {
    let body = stream(vec![
        vec![
            ("key", texts(&[Some("a"), Some("b"), Some("a"), None, Some("a")])),
            ("timestamp", numbers(&[Some(5), Some(9), Some(7), Some(1), None])),
            ("n", numbers(&[Some(1), Some(2), None, Some(4), Some(5)])),
        ],
        vec![
            ("key", texts(&[Some("a"), Some("~Yg")])),
            ("timestamp", numbers(&[Some(3), None])),
            ("n", numbers(&[Some(6), Some(7)])),
        ],
    ]);
    let mut intake = Intake::new(Taken::default(), Some(Ok(Timestamp::from_millis(99))));
    let elements = push_groups(&body, &mut intake).unwrap().unwrap();
    let expected = [
        ("a".to_owned(), 7, 0, vec![Some(1), None, Some(5)]),
        ("b".to_owned(), 9, 0, vec![Some(2)]),
        ("a".to_owned(), 3, 0, vec![Some(6)]),
        ("b".to_owned(), 99, 0, vec![Some(7)]),
    ];
    assert_eq!(intake.sink.0, expected);
    let rendered = elements.render(&[], None).body;
    let summary: serde_json::Value = serde_json::from_slice(&rendered).unwrap();
    assert_eq!(summary["rows"], 5, "one of them is the row without a key");
    let named = |it: &&serde_json::Value| it["error"]["field"] == "key";
    let nameless = summary["errors"].as_array().unwrap().iter().find(named);
    assert_eq!(nameless.unwrap()["index"], 2);
}

#[test]
fn inputs_part_rows_and_a_row_that_is_wrong_harms_no_other() {
    let inputs: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 300, 0]));
    let body = stream(vec![vec![
        ("key", texts(&[Some("a"), Some("a"), Some("a"), Some("a")])),
        ("timestamp", numbers(&[Some(1), Some(2), Some(3), Some(4)])),
        ("input", inputs),
        ("n", numbers(&[Some(1), Some(2), Some(3), Some(4)])),
    ]]);
    let mut intake = Intake::new(Taken::default(), None);
    push_groups(&body, &mut intake).unwrap().unwrap();
    let expected =
        [("a".to_owned(), 4, 0, vec![Some(1), Some(4)]), ("a".to_owned(), 2, 1, vec![Some(2)])];
    assert_eq!(intake.sink.0, expected);
}

/// The batch that came last.
struct One(Option<RecordBatch>);
impl ElementSink for One {
    fn push(&mut self, op: &Op<'_>, timestamp: Timestamp) -> Result<(), Problem> {
        let Action::Element(element) = &op.action else { panic!("{op:?} is no element") };
        let bytes = element.value.bytes();
        self.0 = StreamReader::try_new(bytes, None).unwrap().next().map(Result::unwrap);
        assert_eq!(timestamp.as_millis(), 3, "the newest, rounded up");
        Ok(())
    }

    fn watermark(&mut self, _to: Timestamp) -> Result<(), Problem> {
        panic!("an Arrow stream has no watermarks")
    }
}

#[test]
fn columns_stay_as_they_are() {
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_500, 2_500]));
    let flags: ArrayRef = Arc::new(UInt8Array::from(vec![7, 8]));
    let body = stream(vec![vec![
        ("key", texts(&[Some("a"), Some("a")])),
        ("timestamp", micros),
        ("flag", flags),
    ]]);
    let mut intake = Intake::new(One(None), None);
    push_groups(&body, &mut intake).unwrap().unwrap();
    let batch = intake.sink.0.unwrap();
    let names: Vec<&str> =
        batch.schema_ref().fields().iter().map(|it| it.name().as_str()).collect();
    assert_eq!(names, ["timestamp", "flag"]);
    assert_eq!(batch.column(0).as_primitive::<TimestampMicrosecondType>().value(1), 2_500);
}

#[test]
fn a_stream_without_keys_is_refused() {
    let body = stream(vec![vec![("n", numbers(&[Some(1)]))]]);
    let mut intake = Intake::new(Taken::default(), None);
    let problem = push_groups(&body, &mut intake).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("key"), "{}", problem.detail);
}
