//! Batches in, the same things out however they were written down, and after a crash again.

use super::BatchHarness;
use super::tests::skipping;
use crate::function::{
    Context, KeyedBatchFunction, OnTimerContext, OutputTag, Result, arrow_array, arrow_schema,
};
use crate::op::ResultKind;
use crate::time::Timestamp;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, TimestampMillisecondType, UInt8Type, UInt64Type};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde_json::{Value, json};
use std::sync::Arc;

fn of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn amounts(values: &[i64]) -> RecordBatch {
    of(vec![("amount", Arc::new(Int64Array::from(values.to_vec())))])
}

fn errors(harness: &mut BatchHarness<impl KeyedBatchFunction>) -> Vec<String> {
    let told = harness.take_side_outputs(&OutputTag::<Value>::new("errors"));
    told.into_iter().map(|it| it.value["error"].as_str().unwrap().to_owned()).collect()
}

/// Emits how many rows came and what they sum up to with all before; a minute of event time after the
/// last of them, the sum once more.
struct Total;

impl KeyedBatchFunction for Total {
    type State = (i64, Timestamp);
    type Output = (usize, i64);

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("amount", DataType::Int64, true)]))
    }

    fn process_batch(
        &mut self,
        batch: &RecordBatch,
        (sum, last): &mut (i64, Timestamp),
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        *sum += batch.column(0).as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        *last = (*last).max(ctx.timestamp());
        ctx.timers().register_event_time(*last + 60_000);
        ctx.emit((batch.num_rows(), *sum));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        (sum, last): &mut (i64, Timestamp),
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        if time == *last + 60_000 {
            ctx.emit((0, *sum));
            ctx.clear_state();
        }
        Ok(())
    }
}

#[test]
fn a_batch_is_an_element_of_its_key() {
    let mut harness = BatchHarness::new(|| Total);
    let result = harness.process_batch("a", &amounts(&[1, 2, 3]), 1_000).unwrap();
    assert_eq!(result, ResultKind::Processed);
    harness.process_batch("b", &amounts(&[]), 1_000).unwrap();
    harness.process_rows("a", json!([{"amount": 4}, {"amount": null}, {}]), 2_000).unwrap();
    harness.process_rows("a", json!({"amount": 5, "more": "is left out"}), 3_000).unwrap();
    assert_eq!(harness.state("a").unwrap().unwrap().0, 15);
    harness.advance_watermark(63_000);
    let outputs = harness.take_outputs().into_iter();
    let outputs = outputs.map(|it| (it.key, it.timestamp.unwrap().as_millis(), it.value));
    let mut outputs: Vec<_> = outputs.collect();
    outputs.sort();
    let (a, b) = (b"a".to_vec(), b"b".to_vec());
    let expected = [
        (a.clone(), 1_000, (3, 6)),
        (a.clone(), 2_000, (3, 10)),
        (a.clone(), 3_000, (1, 15)),
        (a, 63_000, (0, 15)),
        (b.clone(), 1_000, (0, 0)),
        (b, 61_000, (0, 0)),
    ];
    assert_eq!(outputs, expected);
    assert_eq!(harness.keys(), 0);
}

#[test]
fn after_a_crash_the_same_batches_come_again() {
    let play = |crash: bool| {
        let mut harness = BatchHarness::new(|| Total);
        for n in 0..20 {
            let key = format!("k{}", n % 5);
            let rows: Vec<i64> = (0..n).collect();
            harness.process_batch(&key, &amounts(&rows), n * 1_000).unwrap();
            if crash && n % 6 == 5 {
                harness.crash();
            }
        }
        if crash {
            let snapshot = harness.snapshot();
            harness.process_batch("k0", &amounts(&[1_000]), 30_000).unwrap();
            harness.restore(&snapshot);
            harness.rescale(4);
        }
        harness.advance_watermark(77_000);
        let outputs = harness.take_outputs().into_iter();
        let mut outputs: Vec<_> =
            outputs.map(|it| (it.key, it.timestamp.map(Timestamp::as_millis), it.value)).collect();
        // Across keys their order is free.
        outputs.sort_by(|one, other| one.0.cmp(&other.0));
        outputs
    };
    let plain = play(false);
    assert_eq!(plain.len(), 20 + 3, "the batches, and the keys that came last at 15, 16 and 17 s");
    assert_eq!(play(true), plain);
}

/// Takes a column of many types, and says what it was given.
struct Typed;

impl KeyedBatchFunction for Typed {
    type State = ();
    type Output = Value;

    fn schema(&self) -> SchemaRef {
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("flag", DataType::Boolean, true),
            Field::new("small", DataType::UInt8, false),
            Field::new("large", DataType::UInt64, true),
            Field::new("ratio", DataType::Float32, true),
            Field::new("text", DataType::Utf8, true),
            Field::new("at", time, true),
        ]))
    }

    fn process_batch(
        &mut self,
        batch: &RecordBatch,
        (): &mut (),
        ctx: &mut Context<Value>,
    ) -> Result<()> {
        assert_eq!(batch.schema(), self.schema());
        for row in 0..batch.num_rows() {
            let column = |place: usize| Some(batch.column(place)).filter(|it| it.is_valid(row));
            ctx.emit(json!([
                column(0).map(|it| it.as_boolean().value(row)),
                column(1).map(|it| it.as_primitive::<UInt8Type>().value(row)),
                column(2).map(|it| it.as_primitive::<UInt64Type>().value(row)),
                column(3).map(|it| it.as_primitive::<Float32Type>().value(row)),
                column(4).map(|it| it.as_string::<i32>().value(row).to_owned()),
                column(5).map(|it| it.as_primitive::<TimestampMillisecondType>().value(row)),
            ]));
        }
        Ok(())
    }
}

#[test]
fn rows_of_json_fill_columns() {
    let mut harness = BatchHarness::with_config(|| Typed, skipping()).unwrap();
    let rows = json!([
        {"flag": true, "small": 255, "large": u64::MAX, "ratio": 0.5, "text": "x", "at": -1},
        {"small": 0, "at": "2026-01-01T00:00:00Z", "ratio": 2},
    ]);
    harness.process_rows("a", rows, 1).unwrap();
    let expected = [
        json!([true, 255, u64::MAX, 0.5, "x", -1]),
        json!([null, 0, null, 2.0, null, 1_767_225_600_000_i64]),
    ];
    assert_eq!(harness.take_values(), expected);
    for (rows, why) in [
        (json!([{"small": 1}, {"flag": true}]), "row 1 has no `small`"),
        (json!({"small": 256}), "`small` of row 0 is 256, and the column is UInt8"),
        (
            json!({"small": 1, "flag": "yes"}),
            "`flag` of row 0 is \"yes\", and the column is Boolean",
        ),
        (json!({"small": 1.5}), "`small` of row 0 is 1.5, and the column is UInt8"),
        (json!([{"small": 1}, 2]), "row 1 is no JSON object"),
        (json!("text"), "row 0 is no JSON object"),
    ] {
        assert_eq!(harness.process_rows("a", rows, 2).unwrap(), ResultKind::Failed);
        assert_eq!(
            errors(&mut harness),
            [format!("the element is not what the function takes: {why}")]
        );
    }
}

#[test]
fn streams_are_brought_to_the_columns_that_the_function_takes() {
    let mut harness = BatchHarness::with_config(|| Typed, skipping()).unwrap();
    let small: ArrayRef = Arc::new(arrow_array::UInt8Array::from(vec![1, 2]));
    let more: ArrayRef = Arc::new(StringArray::from(vec!["not", "wanted"]));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
    let batch = of(vec![("more", more), ("small", Arc::clone(&small)), ("flag", flags)]);
    harness.process_batch("a", &batch, 1).unwrap();
    let expected =
        [json!([true, 1, null, null, null, null]), json!([null, 2, null, null, null, null])];
    assert_eq!(harness.take_values(), expected);
    let wide: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let holes: ArrayRef = Arc::new(arrow_array::UInt8Array::from(vec![None]));
    for (batch, why) in [
        (of(vec![("small", wide)]), "the column `small` is Int32, and the function takes UInt8"),
        (amounts(&[1]), "there is no column `small`"),
        (of(vec![("small", holes)]), "small"),
    ] {
        assert_eq!(harness.process_batch("a", &batch, 2).unwrap(), ResultKind::Failed);
        let told = errors(&mut harness).remove(0);
        assert!(told.starts_with("the element is not what the function takes: "), "{told}");
        assert!(told.contains(why), "{told}");
    }
}

/// Wants what JSON cannot say.
struct Nested;

impl KeyedBatchFunction for Nested {
    type State = ();
    type Output = usize;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("bytes", DataType::Binary, true)]))
    }

    fn process_batch(
        &mut self,
        batch: &RecordBatch,
        (): &mut (),
        ctx: &mut Context<usize>,
    ) -> Result<()> {
        ctx.emit(batch.column(0).as_binary::<i32>().value(0).len());
        Ok(())
    }
}

#[test]
fn what_json_cannot_say_comes_as_a_stream() {
    let mut harness = BatchHarness::with_config(|| Nested, skipping()).unwrap();
    harness.process_rows("a", json!({"bytes": "AAA"}), 1).unwrap();
    let told = errors(&mut harness).remove(0);
    assert!(told.contains("`bytes` is Binary, which JSON cannot fill"), "{told}");
    let bytes: ArrayRef = Arc::new(arrow_array::BinaryArray::from(vec![&b"abc"[..]]));
    harness.process_batch("a", &of(vec![("bytes", bytes)]), 1).unwrap();
    assert_eq!(harness.take_values(), [3]);
}
