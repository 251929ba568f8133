//! Streams in, operations and the summary out.

use super::*;
use crate::wire::failures::ERRORS_TOLD_MAX;
use crate::wire::ndjson::tests::Recorder;
use crate::wire::problem::Kind;
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, BinaryArray, BinaryViewArray, DictionaryArray, FixedSizeBinaryArray, Float64Array,
    Int64Array, LargeBinaryArray, LargeStringArray, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use arrow_ipc::writer::StreamWriter;
use proptest::prelude::*;
use std::sync::Arc;
use stormwheel::error::Rejection;
use stormwheel::op::Applied;

fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let records = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    stream_of(&[records])
}

fn stream_of(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), batches[0].schema_ref()).unwrap();
    for records in batches {
        writer.write(records).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn push(body: &[u8]) -> (Result<Rows, Problem>, Vec<String>) {
    let mut recorder = Recorder::default();
    let rows = push_rows(body, &NamespaceConfig::default(), &mut recorder);
    (rows, recorder.ops)
}

fn check_ops(columns: Vec<(&str, ArrayRef)>, expected: &[&str]) {
    let (rows, ops) = push(&stream(columns));
    let failures = rows.unwrap().render(&[]).body;
    assert_eq!(ops, expected, "{}", String::from_utf8_lossy(&failures));
}

fn check_refused(body: &[u8], kind: &Kind, field: Option<&str>, part: &str) {
    let (rows, _) = push(body);
    let problem = rows.unwrap_err();
    assert_eq!(problem.kind.slug, kind.slug, "{}", problem.detail);
    assert_eq!(problem.field.as_deref(), field, "{}", problem.detail);
    assert!(problem.detail.contains(part), "{}", problem.detail);
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn at(millis: i64) -> String {
    format!("k register At(Timestamp({millis}))")
}

#[test]
fn keys_come_in_every_encoding() {
    let raw: &[&[u8]] = &[b"k"];
    let keys: [ArrayRef; 8] = [
        texts(&["k"]),
        texts(&["~aw"]),
        Arc::new(LargeStringArray::from(vec!["k"])),
        Arc::new(StringViewArray::from(vec!["k"])),
        Arc::new(BinaryArray::from(raw.to_vec())),
        Arc::new(LargeBinaryArray::from(raw.to_vec())),
        Arc::new(BinaryViewArray::from(raw.to_vec())),
        Arc::new(FixedSizeBinaryArray::try_from_iter(raw.iter()).unwrap()),
    ];
    for key in keys {
        check_ops(vec![("key", key), ("at", ints(&[5]))], &[&at(5)]);
    }
    // Binary columns carry the bytes themselves: a `~` or a dot is one there.
    let raw: ArrayRef = Arc::new(BinaryArray::from(vec![b"~aw".as_slice(), b"."]));
    check_ops(
        vec![("key", raw), ("after_ms", ints(&[1, 2]))],
        &["~aw register After(1)", ". register After(2)"],
    );
}

#[test]
fn times_come_in_every_unit_and_finer_ones_round_up() {
    let times: [(ArrayRef, i64); 8] = [
        (ints(&[i64::MIN]), i64::MIN),
        (Arc::new(TimestampSecondArray::from(vec![-2])), -2_000),
        (Arc::new(TimestampMillisecondArray::from(vec![7]).with_timezone("+01:00")), 7),
        (Arc::new(TimestampMicrosecondArray::from(vec![7_001])), 8),
        (Arc::new(TimestampMicrosecondArray::from(vec![7_000])), 7),
        (Arc::new(TimestampMicrosecondArray::from(vec![-7_001])), -7),
        (Arc::new(TimestampNanosecondArray::from(vec![1])), 1),
        (Arc::new(TimestampNanosecondArray::from(vec![i64::MAX])), 9_223_372_036_855),
    ];
    for (times, expected) in times {
        check_ops(vec![("key", texts(&["k"])), ("at", times)], &[&at(expected)]);
    }
}

#[test]
fn all_operations() {
    let op: DictionaryArray<Int8Type> = vec![
        Some("register"),
        Some("touch"),
        Some("delete"),
        Some("delete_all"),
        None,
        Some("delete"),
    ]
    .into_iter()
    .collect();
    check_ops(
        vec![
            ("op", Arc::new(op)),
            ("key", texts(&["a", "b", "c", "d", "e", "f"])),
            ("at", Arc::new(Int64Array::from(vec![Some(1), None, None, None, None, None]))),
            (
                "after_ms",
                Arc::new(Int64Array::from(vec![None, Some(2), None, None, Some(3), None])),
            ),
            (
                "name",
                Arc::new(StringArray::from(vec![None, Some("n"), Some("m"), None, None, None])),
            ),
            ("fire_at", Arc::new(Int64Array::from(vec![None, None, None, None, None, Some(4)]))),
        ],
        &[
            "a register At(Timestamp(1))",
            "b touch n 2",
            "c delete Name(\"m\")",
            "d delete_all",
            "e register After(3)",
            "f delete FireAt(Timestamp(4))",
        ],
    );
}

#[test]
fn text_payloads_are_json_and_binary_ones_are_bytes() {
    let json = texts(&["{\"n\": 1}", " 5 ", "null", "{n:1}", &"[".repeat(40)]);
    let columns = vec![
        ("key", texts(&["a", "b", "c", "d", "e"])),
        ("at", ints(&[1, 1, 1, 1, 1])),
        ("payload", json),
    ];
    let (rows, ops) = push(&stream(columns));
    assert_eq!(ops.len(), 3);
    let summary = String::from_utf8(rows.unwrap().render(&[]).body).unwrap();
    assert!(summary.contains("payload is not JSON: key must be"), "{summary}");

    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"{n:1}".as_slice()]));
    check_ops(vec![("key", texts(&["k"])), ("at", ints(&[1])), ("payload", bytes)], &[&at(1)]);
}

#[test]
fn a_bad_row_harms_no_other_and_is_summed_up() {
    let created =
        Applied { result: ResultKind::Created, fire_at: None, cancelled: 0, overdue: false };
    let (rows, ops) = push(&stream(vec![
        ("key", texts(&["a", "", "c", "d"])),
        ("after_ms", ints(&[1, 1, -1, 1])),
    ]));
    assert_eq!(ops.len(), 2);
    let rendered = rows.unwrap().render(&[Ok(created), Ok(created)]);
    assert_eq!(rendered.failed, 2);
    assert_eq!(
        String::from_utf8(rendered.body).unwrap(),
        r#"{"rows":4,"results":{"created":2},"failed":2,"errors":[{"index":1,"error":{"type":"/problems/invalid-key","title":"Not a key","status":400,"detail":"key is empty","field":"key"}},{"index":2,"error":{"type":"/problems/invalid-duration","title":"Not a duration","status":400,"detail":"after is negative","field":"after_ms"}}],"errors_omitted":0}"#
    );
}

#[test]
fn only_the_first_errors_are_told() {
    let keys = vec![""; ERRORS_TOLD_MAX + 7];
    let (rows, _) = push(&stream(vec![("key", texts(&keys))]));
    let rendered = rows.unwrap().render(&[]);
    let value: serde_json::Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(value["failed"], 1_007);
    assert_eq!(value["errors"].as_array().unwrap().len(), ERRORS_TOLD_MAX);
    assert_eq!(value["errors_omitted"], 7);
}

#[test]
fn refused_by_load() {
    let (rows, _) = push(&stream(vec![("key", texts(&["a"])), ("at", ints(&[1]))]));
    let rendered = rows.unwrap().render(&[Err(Rejection::QueueFull { retry_after_ms: 9 })]);
    assert_eq!(rendered.all_refused.unwrap().retry_after_ms, Some(9));
    assert!(String::from_utf8(rendered.body).unwrap().contains("queue-full"));
}

#[test]
fn several_record_batches_count_on() {
    let batch = |key: &str| RecordBatch::try_from_iter([("key", texts(&[key]))]).unwrap();
    let (rows, _) = push(&stream_of(&[batch("a"), batch(""), batch("c")]));
    let body = String::from_utf8(rows.unwrap().render(&[]).body).unwrap();
    assert!(body.starts_with("{\"rows\":3,"), "{body}");
    assert!(body.contains("{\"index\":2,\"error\""), "{body}");
}

#[test]
fn a_time_out_of_range_is_the_row_s_error() {
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX, 1]));
    let (rows, ops) = push(&stream(vec![("key", texts(&["a", "b"])), ("at", seconds)]));
    assert_eq!(ops.len(), 1);
    let body = String::from_utf8(rows.unwrap().render(&[]).body).unwrap();
    assert!(body.contains("time-overflow"), "{body}");
}

#[test]
fn wrong_columns_refuse_the_stream_by_name() {
    let key = || ("key", texts(&["k"]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
    check_refused(
        &stream(vec![key(), ("kee", ints(&[1]))]),
        &kinds::UNKNOWN_FIELD,
        Some("kee"),
        "there are `op`",
    );
    check_refused(
        &stream(vec![("at", ints(&[1]))]),
        &kinds::MISSING_FIELD,
        Some("key"),
        "no column `key`",
    );
    check_refused(
        &stream(vec![key(), ("at", floats)]),
        &kinds::INVALID_ARROW,
        Some("at"),
        "is Float64, expected is Int64 or Timestamp",
    );
    check_refused(
        &stream(vec![("key", ints(&[1]))]),
        &kinds::INVALID_ARROW,
        Some("key"),
        "Utf8 or Binary",
    );
    check_refused(
        &stream(vec![key(), ("at", ints(&[1])), ("at", ints(&[1]))]),
        &kinds::INVALID_ARROW,
        Some("at"),
        "two columns",
    );
}

#[test]
fn what_is_no_stream_is_refused() {
    let good = stream(vec![("key", texts(&["k"])), ("at", ints(&[1]))]);
    let half = &good[..good.len() / 2];
    for body in [b"".as_slice(), b"{}", b"ARROW1\0\0", half] {
        check_refused(body, &kinds::INVALID_ARROW, None, "cannot be read");
    }
}

#[test]
fn too_many_rows_refuse_the_stream() {
    let keys = vec!["k"; ROWS_MAX / 2 + 1];
    let records = RecordBatch::try_from_iter([("key", texts(&keys))]).unwrap();
    check_refused(
        &stream_of(&[records.clone(), records]),
        &kinds::TOO_MANY_OPERATIONS,
        None,
        "1048576 rows",
    );
}

proptest! {
    #[test]
    fn damaged_streams_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let op: DictionaryArray<Int8Type> = vec!["register", "delete_all"].into_iter().collect();
        let views: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "a name of many bytes"]));
        let mut body = stream(vec![
            ("op", Arc::new(op)),
            ("key", texts(&["a", "b"])),
            ("at", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("name", views),
        ]);
        for (place, value) in damage {
            let at = place.index(body.len());
            body[at] = value;
        }
        body.truncate(body.len() - cut.index(body.len()) / 8);
        let _ = push(&body);
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = push(&body);
    }
}
