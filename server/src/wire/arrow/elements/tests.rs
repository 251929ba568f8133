//! Streams in, elements out.

use super::*;
use crate::wire::elements::tests::Recorder;
use crate::wire::problem::Kind;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
    UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_ipc::writer::StreamWriter;
use std::sync::Arc;
use stormwheel::time::Timestamp;

fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let records = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), records.schema_ref()).unwrap();
    writer.write(&records).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn push(columns: Vec<(&str, ArrayRef)>) -> (Result<Option<Elements>, Problem>, Vec<String>) {
    let now = Timestamp::from_millis(99);
    let mut intake = Intake::new(Recorder::default(), Some(Ok(now)));
    let elements = push_elements(&stream(columns), &mut intake);
    (elements, intake.sink.taken)
}

fn check(columns: Vec<(&str, ArrayRef)>, taken: &[&str], errors: &[(usize, &str)]) {
    let (elements, found) = push(columns);
    let rendered = elements.unwrap().unwrap().render(&[], None).body;
    let summary: serde_json::Value = serde_json::from_slice(&rendered).unwrap();
    assert_eq!(found, taken, "{summary}");
    // Those that were taken have no outcome here, and count as errors too.
    let told = summary["errors"].as_array().unwrap().iter();
    let told = told.filter(|it| it["error"]["type"] != "/problems/internal");
    let told: Vec<_> = told
        .map(|it| {
            let field = it["error"]["field"].as_str().unwrap_or_default();
            (it["index"].as_u64().unwrap() as usize, field)
        })
        .collect();
    assert_eq!(told, errors, "{summary}");
}

fn check_refused(columns: Vec<(&str, ArrayRef)>, kind: &Kind, field: &str, part: &str) {
    let problem = push(columns).0.unwrap_err();
    assert_eq!(problem.kind.slug, kind.slug, "{}", problem.detail);
    assert_eq!(problem.field.as_deref(), Some(field), "{}", problem.detail);
    assert!(problem.detail.contains(part), "{}", problem.detail);
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn values_come_whole() {
    let keys = texts(&[Some("a"), Some("b"), None, Some("d"), Some("e")]);
    let times: ArrayRef =
        Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4), Some(5)]));
    let values = texts(&[Some("{\"n\": 1}"), Some("null"), Some("1"), Some("{"), None]);
    let inputs: ArrayRef = Arc::new(UInt8Array::from(vec![Some(1), None, None, None, None]));
    check(
        vec![("key", keys), ("timestamp", times), ("value", values), ("input", inputs)],
        &["a 1 {\"n\": 1} to 1", "b 99 null"],
        &[(2, "key"), (3, "value"), (4, "value")],
    );
    let keys: ArrayRef = Arc::new(BinaryArray::from(vec![&b"k"[..]]));
    let values: ArrayRef = Arc::new(BinaryArray::from(vec![&b"\xff"[..]]));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_500]));
    check(vec![("key", keys), ("timestamp", times), ("value", values)], &["k 2 [255]"], &[]);
}

#[test]
fn values_come_by_their_fields() {
    let keys = texts(&[Some("a"), Some("b"), Some("c")]);
    let names = texts(&[Some("x\"y"), None, Some("z")]);
    let counts: ArrayRef = Arc::new(Int32Array::from(vec![Some(-3), None, Some(7)]));
    let sizes: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.5), None, Some(f64::NAN)]));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"\x01\x02"[..]), None, None]));
    check(
        vec![
            ("key", keys),
            ("name \"", names),
            ("count", counts),
            ("size", sizes),
            ("flag", flags),
            ("raw", bytes),
        ],
        &[
            "a 99 {\"name \\\"\":\"x\\\"y\",\"count\":-3,\"size\":0.5,\"flag\":true,\"raw\":\"AQI=\"}",
            "b 99 {\"flag\":false}",
        ],
        &[(2, "size")],
    );
}

#[test]
fn a_null_of_a_dictionary_is_left_out_as_any_other() {
    let keys = || texts(&[Some("a"), Some("b"), Some("c")]);
    let of = |rows: Vec<Option<i32>>| -> ArrayRef {
        let values = texts(&[Some("x"), None]);
        Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from(rows), values))
    };
    let counts = || -> ArrayRef { Arc::new(Int32Array::from(vec![1, 2, 3])) };
    check(
        vec![("key", keys()), ("name", of(vec![Some(1), Some(0), None])), ("n", counts())],
        &["a 99 {\"n\":1}", "b 99 {\"name\":\"x\",\"n\":2}", "c 99 {\"n\":3}"],
        &[],
    );
}

#[test]
fn inputs_and_fields_are_integers_of_any_type() {
    let columns: [(ArrayRef, &str); 8] = [
        (Arc::new(Int8Array::from(vec![1, i8::MIN])), "-128"),
        (Arc::new(Int16Array::from(vec![1, i16::MIN])), "-32768"),
        (Arc::new(Int32Array::from(vec![1, i32::MIN])), "-2147483648"),
        (Arc::new(Int64Array::from(vec![1, i64::MIN])), "-9223372036854775808"),
        (Arc::new(UInt8Array::from(vec![1, u8::MAX])), "255"),
        (Arc::new(UInt16Array::from(vec![1, u16::MAX])), "65535"),
        (Arc::new(UInt32Array::from(vec![1, u32::MAX])), "4294967295"),
        (Arc::new(UInt64Array::from(vec![1, u64::MAX])), "18446744073709551615"),
    ];
    for (array, last) in columns {
        let input = array.slice(0, 1);
        let keys = texts(&[Some("a")]);
        let columns = vec![("key", keys.clone()), ("n", input.clone()), ("input", input)];
        check(columns, &["a 99 {\"n\":1} to 1"], &[]);
        let columns = vec![("key", keys), ("n", array.slice(1, 1))];
        check(columns, &[&format!("a 99 {{\"n\":{last}}}")], &[]);
    }
}

#[test]
fn what_is_wrong_with_the_columns_refuses_the_stream() {
    let keys = || texts(&[Some("a")]);
    let ints = || -> ArrayRef { Arc::new(Int64Array::from(vec![300])) };
    check_refused(vec![("value", keys())], &kinds::MISSING_FIELD, "key", "no column `key`");
    check_refused(vec![("key", keys())], &kinds::MISSING_FIELD, "value", "no column `value`");
    check_refused(
        vec![("key", keys()), ("value", keys()), ("n", ints())],
        &kinds::UNKNOWN_FIELD,
        "n",
        "`n` besides",
    );
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    check_refused(vec![("key", keys()), ("day", dates)], &kinds::INVALID_ARROW, "day", "Date32");
    check_refused(
        vec![("key", keys()), ("value", keys()), ("input", keys())],
        &kinds::INVALID_ARROW,
        "input",
        "an integer",
    );
    check(vec![("key", keys()), ("n", ints()), ("input", ints())], &[], &[(0, "input")]);
}
