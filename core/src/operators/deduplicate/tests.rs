//! The operator `deduplicate`, case by case, and against its definition.

use super::{Deduplicate, Seen, State};
use crate::function::Instance;
use crate::function::host::Host;
use crate::limits::SEEN_PER_KEY_MAX;
use crate::operators::BuiltIn as _;
use crate::operators::seeds::{Rng, for_each_seed, process_on};
use serde_json::{Value, json};

fn host(options: &Value) -> Host {
    Host::new(Deduplicate::from_options(options).unwrap())
}

fn taken(host: &mut Host) -> Vec<(Option<i64>, String)> {
    host.take_outputs().into_iter().map(|output| (output.timestamp, output.value)).collect()
}

#[test]
fn the_first_goes_out_as_it_came_and_those_within_the_ttl_do_not() {
    let mut host = host(&json!({"ttl": 10}));
    host.element("k", 7, "{\"a\": 1, \"b\": 2.0}").unwrap();
    host.advance_clock(9);
    host.element("k", 8, "{\"b\":2.0,\"a\":1}").unwrap();
    host.element("k", 9, "{\"b\":2,\"a\":1}").unwrap();
    host.element("j", 9, "{\"b\":2,\"a\":1}").unwrap();
    assert_eq!(
        taken(&mut host),
        [
            (Some(7), "{\"a\": 1, \"b\": 2.0}".to_owned()),
            (Some(9), "{\"b\":2,\"a\":1}".to_owned()),
            (Some(9), "{\"b\":2,\"a\":1}".to_owned()),
        ]
    );
    // The time runs from the first.
    host.advance_clock(10);
    host.element("k", 0, "{\"a\":1,\"b\":2.0}").unwrap();
    assert_eq!(taken(&mut host).len(), 1);
    host.advance_clock(20);
    assert_eq!(host.keys(), 0);
}

#[test]
fn with_refresh_the_time_runs_from_the_last() {
    let mut host = host(&json!({"by": "/id", "ttl": 10, "refresh": true}));
    let mut check = |clock, expected| {
        host.advance_clock(clock);
        host.element("k", 0, &json!({"id": "x", "clock": clock}).to_string()).unwrap();
        assert_eq!(host.take_outputs().len(), expected, "at {clock}");
    };
    check(0, 1);
    check(9, 0);
    check(18, 0);
    check(28, 1);
    host.advance_clock(38);
    assert_eq!(host.keys(), 0);
}

#[test]
fn by_key_the_value_does_not_matter() {
    let mut host = host(&json!({"by": "key", "ttl": 10}));
    for (key, value) in [("k", "1"), ("k", "2"), ("j", "1")] {
        host.element(key, 0, value).unwrap();
    }
    assert_eq!(taken(&mut host), [(Some(0), "1".to_owned()), (Some(0), "1".to_owned())]);
    assert!(host.state("k").is_some_and(|state| state.len() <= 8), "{:?}", host.state("k"));
}

#[test]
fn in_event_time_what_comes_late_cannot_be_told() {
    let mut host = host(&json!({"ttl": 10, "domain": "event"}));
    host.element("k", 20, "1").unwrap();
    // Nearer than the ttl, though before it; and one that is not.
    host.element("k", 11, "1").unwrap();
    host.element("k", 10, "1").unwrap();
    assert_eq!(taken(&mut host).iter().map(|it| it.0).collect::<Vec<_>>(), [Some(20), Some(10)]);
    host.advance_watermark(15);
    host.element("k", 15, "1").unwrap();
    assert_eq!((host.late(), host.keys()), (1, 1));
    host.advance_watermark(30);
    assert_eq!(host.keys(), 0);
}

#[test]
fn long_values_are_remembered_by_their_hash() {
    let mut host = host(&json!({"ttl": 10}));
    let long = |last: &str| format!("\"{}{last}\"", "x".repeat(1_000));
    for value in [long("a"), long("b"), long("a")] {
        host.element("k", 0, &value).unwrap();
    }
    assert_eq!(taken(&mut host), [(Some(0), long("a")), (Some(0), long("b"))]);
    assert!(host.state("k").is_some_and(|state| state.len() < 60));
}

#[test]
fn a_key_has_its_bounds() {
    let operator = Deduplicate::from_options(&json!({"ttl": 10})).unwrap();
    let mut instance = Instance::of(operator);
    let mut check = |count: usize, value| {
        let identity = |n: usize| (10_000 + n).to_string().into_bytes().into();
        let seen = |n| Seen { identity: identity(n), from: 0, to: 0 };
        process_on(&mut instance, &State { seen: (0..count).map(seen).collect() }, value)
    };
    assert_eq!(check(SEEN_PER_KEY_MAX - 1, "5"), Ok(()));
    let error = check(SEEN_PER_KEY_MAX, "5").unwrap_err();
    assert_eq!(error.message(), "the key remembers 10000 elements, and no more are allowed");
    // One that is known needs no room.
    assert_eq!(check(SEEN_PER_KEY_MAX, "10005"), Ok(()));
}

#[test]
fn options_that_are_wrong_are_named() {
    let check = |options: Value, expected: &str| {
        let error = Deduplicate::from_options(&options).err().expect("they are wrong");
        assert_eq!(error.message(), expected);
    };
    check(json!({}), "`ttl` is missing, such as \"10m\"");
    check(json!({"ttl": 0}), "`ttl` is 0s, allowed is 1ms to 36525d");
    let no_pointer = "`by`: `id` is no JSON pointer: it begins with `/`, or is empty";
    check(json!({"ttl": 1, "by": "id"}), no_pointer);
    check(
        json!({"ttl": 1, "key": "/id"}),
        "there is no option `key`; there are by, by, ttl, domain, refresh",
    );
}

/// By its definition: all that has ever come is remembered, and looked through.
fn play(rng: &mut Rng) {
    let (is_event, is_refreshed) = (rng.one_in(2), rng.one_in(2));
    let ttl = rng.between(1, 12);
    let domain = if is_event { "event" } else { "processing" };
    let by = if rng.one_in(2) { json!("/id") } else { Value::Null };
    let options = json!({"by": by, "ttl": ttl, "domain": domain, "refresh": is_refreshed});
    let mut host = host(&options);
    let mut seen: Vec<(&str, i64, i64)> = Vec::new();
    let (mut watermark, mut base, mut clock, mut late) = (None, rng.between(-30, 5), 0, 0);
    for _ in 0..80 {
        if rng.one_in(5) {
            base += rng.between(0, 10);
            watermark = Some(base);
            host.advance_watermark(base);
        }
        if rng.one_in(3) {
            clock += rng.between(0, 5);
            host.advance_clock(clock);
        }
        let key = *rng.pick(&["a", "b"]);
        let timestamp = base + rng.between(-5, 30);
        let id = rng.between(0, 3);
        host.element(key, timestamp, &json!({"id": id}).to_string()).unwrap();
        let outputs = host.take_outputs().len();
        let at = if is_event { timestamp } else { clock };
        if is_event && watermark.is_some_and(|watermark| at <= watermark) {
            late += 1;
            assert_eq!(outputs, 0);
        } else {
            let same = |it: &(&str, i64, i64)| it.0 == key && it.1 == id && (at - it.2).abs() < ttl;
            let is_first = !seen.iter().any(same);
            assert_eq!(outputs, usize::from(is_first), "{key} {id} at {at}: {options} {seen:?}");
            if is_first || is_refreshed {
                seen.push((key, id, at));
            }
        }
        assert_eq!((host.late(), host.failed()), (late, 0));
        let reached = if is_event { watermark } else { Some(clock) };
        let is_kept = |key| {
            let mut of_key = seen.iter().filter(|it| it.0 == key);
            of_key.any(|it| reached.is_none_or(|reached| it.2 + ttl > reached))
        };
        assert_eq!(["a", "b"].map(|key| host.state(key).is_some()), ["a", "b"].map(is_kept));
        assert!(["a", "b"].iter().all(|key| host.timers(key).len() <= 1));
    }
    host.advance_watermark(i64::MAX);
    host.advance_clock(clock + ttl);
    assert_eq!(host.keys(), 0);
}

#[test]
fn it_agrees_with_its_definition() {
    for_each_seed(play);
}
