//! The operator `interval_join`, case by case, and against its definition.

use super::{IntervalJoin, Row, State};
use crate::function::Instance;
use crate::function::host::Host;
use crate::limits::HELD_ELEMENTS_MAX;
use crate::operators::BuiltIn as _;
use crate::operators::seeds::{Rng, for_each_seed, process_on};
use serde_json::{Value, json};

fn host(lower: &Value, upper: &Value) -> Host {
    Host::new(IntervalJoin::from_options(&json!({"lower": lower, "upper": upper})).unwrap())
}

fn taken(host: &mut Host) -> Vec<(i64, String)> {
    let outputs = host.take_outputs().into_iter();
    outputs.map(|output| (output.timestamp.unwrap(), output.value)).collect()
}

#[test]
fn elements_meet_within_the_bounds_both_included() {
    let mut host = host(&json!("-2ms"), &json!("5ms"));
    for (at, value) in [(7, "7"), (8, " {\"r\": 8} "), (15, "15"), (16, "16")] {
        host.element_on(1, "k", at, value).unwrap();
    }
    host.element_on(1, "j", 10, "0").unwrap();
    assert_eq!(taken(&mut host), []);
    host.element_on(0, "k", 10, "\"l\"").unwrap();
    assert_eq!(
        taken(&mut host),
        [
            (10, "{\"left\":\"l\",\"right\":{\"r\": 8}}".to_owned()),
            (15, "{\"left\":\"l\",\"right\":15}".to_owned()),
        ]
    );
    // The right one may come second.
    host.element_on(1, "k", 9, "9").unwrap();
    assert_eq!(taken(&mut host), [(10, "{\"left\":\"l\",\"right\":9}".to_owned())]);
}

#[test]
fn an_element_is_kept_until_nothing_can_come_that_it_meets() {
    let mut host = host(&json!(2), &json!(5));
    host.element_on(0, "k", 10, "1").unwrap();
    // A right one of 12 has come after all that it could meet, once the watermark is at 10.
    host.element_on(1, "j", 12, "2").unwrap();
    host.advance_watermark(9);
    assert_eq!(host.keys(), 2);
    host.advance_watermark(10);
    assert_eq!((host.keys(), host.state("j")), (1, None));
    host.element_on(1, "k", 12, "3").unwrap();
    assert_eq!(taken(&mut host).len(), 1);
    assert_eq!(host.timers("k").len(), 1, "what came second is not needed, nor kept");
    host.advance_watermark(14);
    assert_eq!(host.keys(), 1);
    // At or below the watermark, it is late.
    host.element_on(1, "k", 14, "4").unwrap();
    assert_eq!((host.late(), taken(&mut host)), (1, Vec::new()));
    host.advance_watermark(15);
    assert_eq!(host.keys(), 0);
}

#[test]
fn bounds_reach_to_both_ends_of_time() {
    let mut host = host(&json!(-1_000), &json!(-10));
    host.element_on(0, "k", i64::MIN, "1").unwrap();
    host.element_on(1, "k", i64::MAX, "2").unwrap();
    host.element_on(0, "k", i64::MAX, "3").unwrap();
    assert_eq!(taken(&mut host), []);
    host.element_on(1, "k", i64::MAX - 10, "4").unwrap();
    assert_eq!(taken(&mut host), [(i64::MAX, "{\"left\":3,\"right\":4}".to_owned())]);
    host.advance_watermark(i64::MAX);
    assert_eq!(host.keys(), 0);
}

#[test]
fn what_is_wrong_is_named() {
    let check = |options: Value, expected: &str| {
        let error = IntervalJoin::from_options(&options).err().expect("they are wrong");
        assert_eq!(error.message(), expected);
    };
    check(json!({"upper": 1}), "`lower` is missing, such as \"-5s\"");
    check(json!({"lower": 1}), "`upper` is missing, such as \"10s\"");
    check(json!({"lower": "1s", "upper": "-1s"}), "`lower` is 1s, more than `upper`, -1s");
    check(
        json!({"lower": "-40000d", "upper": 1}),
        "`lower` is -40000d, allowed is -36525d to 36525d",
    );
    let mut host = host(&json!(0), &json!(1));
    let error = host.element_on(2, "k", 0, "1").unwrap_err();
    assert_eq!(error.message(), "the element came on the input 2, and the operator has 0 and 1");
    let operator = IntervalJoin::from_options(&json!({"lower": 0, "upper": 1})).unwrap();
    let mut instance = Instance::of(operator);
    let mut check = |count| {
        let rows = (0..count as i64).map(|at| Row { at, text: "1".into() });
        let state = State { left: rows.collect(), right: Vec::new() };
        process_on(&mut instance, &state, "1")
    };
    assert_eq!(check(HELD_ELEMENTS_MAX - 1), Ok(()));
    let error = check(HELD_ELEMENTS_MAX).unwrap_err();
    assert_eq!(error.message(), "the key keeps 10000 elements, and no more are allowed");
}

/// By its definition: each element with all that ever came on the other side.
fn play(rng: &mut Rng) {
    let lower = rng.between(-10, 10);
    let upper = lower + rng.between(0, 12);
    let mut host = host(&json!(lower), &json!(upper));
    let mut kept: Vec<(bool, &str, i64, i64)> = Vec::new();
    let (mut watermark, mut base, mut late) = (None, rng.between(-30, 5), 0);
    for serial in 0..80 {
        if rng.one_in(5) {
            base += rng.between(0, 12);
            watermark = Some(base);
            host.advance_watermark(base);
        }
        let (is_left, key) = (rng.one_in(2), *rng.pick(&["a", "b"]));
        let at = base + rng.between(-4, 25);
        host.element_on(u8::from(!is_left), key, at, &serial.to_string()).unwrap();
        let mut expected = Vec::new();
        if watermark.is_some_and(|watermark| at <= watermark) {
            late += 1;
        } else {
            let other_side = kept.iter().filter(|it| it.0 != is_left && it.1 == key);
            for (_, _, other_at, other) in other_side {
                let (left_at, right_at) = if is_left { (at, *other_at) } else { (*other_at, at) };
                if (left_at + lower..=left_at + upper).contains(&right_at) {
                    let (left, right) = if is_left { (serial, *other) } else { (*other, serial) };
                    let pair = format!("{{\"left\":{left},\"right\":{right}}}");
                    expected.push((*other_at, *other, (at.max(*other_at), pair)));
                }
            }
            expected.sort();
            kept.push((is_left, key, at, serial));
        }
        let expected: Vec<_> = expected.into_iter().map(|(_, _, pair)| pair).collect();
        assert_eq!(taken(&mut host), expected, "{lower} {upper} {kept:?}");
        assert_eq!((host.late(), host.failed()), (late, 0));
        // A key holds something as long as an element can come, above the watermark, that meets it.
        for key in ["a", "b"] {
            let is_needed = kept.iter().filter(|it| it.1 == key).any(|(is_left, _, at, _)| {
                let last = if *is_left { at + upper } else { at - lower };
                watermark.is_none_or(|watermark| last > watermark)
            });
            assert_eq!(host.state(key).is_some(), is_needed, "{lower} {upper} {kept:?}");
            assert_eq!(host.timers(key).len(), usize::from(is_needed));
        }
    }
    host.advance_watermark(i64::MAX);
    assert_eq!(host.keys(), 0);
}

#[test]
fn it_agrees_with_its_definition() {
    for_each_seed(play);
}
