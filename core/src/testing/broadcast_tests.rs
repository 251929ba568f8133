//! Functions with broadcasts in the engine: whatever happens in between, and however slowly keys are
//! visited.

mod oracle;

use super::*;
use crate::function::{
    BroadcastContext, Context, FunctionError, OnTimerContext, VisitContext, broadcast_operator,
};
use crate::namespace::{Broadcast, ErrorPolicy, OnError};
use crate::output::OutputId;
use crate::runtime::EngineOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ERRORS: OutputTag<Value> = OutputTag::new("errors");
const SIDE: OutputTag<Value> = OutputTag::new("side");

/// Adds up what a key gets, times the factor that holds for all keys. Does all that can be done.
struct Scale;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Factor {
    factor: i64,
    changes: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Say {
    /// The factor is this.
    Factor(i64),
    /// Every sum grows by this.
    Grow(i64),
    /// Every sum tells what it is.
    Tell,
    /// Sums that are a multiple of this go.
    Clear(i64),
    /// A visit fails at sums that are a multiple of this, after another one that did not.
    FailAt(i64),
    /// The broadcast fails, having asked for all sorts of things.
    Fail,
    Panic,
}

impl KeyedBroadcastProcessFunction for Scale {
    type Input = i64;
    type Broadcast = Say;
    type State = i64;
    type BroadcastState = Factor;
    type Output = Value;

    fn process_element(
        &mut self,
        n: i64,
        sum: &mut i64,
        broadcast: &Factor,
        ctx: &mut Context<Value>,
    ) -> FunctionResult<()> {
        *sum += n * broadcast.factor;
        ctx.emit(json!(["element", *sum, broadcast.factor]));
        let time = ctx.timestamp() + 10;
        ctx.timers().register_event_time(time);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        say: Say,
        broadcast: &mut Factor,
        ctx: &mut BroadcastContext<Self>,
    ) -> FunctionResult<()> {
        broadcast.changes += 1;
        match say {
            Say::Factor(factor) => {
                ctx.emit(json!(["factor", broadcast.factor, factor, ctx.processing_time()]));
                broadcast.factor = factor;
            }
            Say::Grow(by) => ctx.apply_to_keyed_state(move |sum, _| {
                *sum += by;
                Ok(())
            }),
            Say::Tell => {
                let factor = broadcast.factor;
                ctx.apply_to_keyed_state(move |sum, ctx: &mut VisitContext<Value>| {
                    ctx.emit(json!(["tell", *sum, factor, ctx.key_str()?]));
                    Ok(())
                });
                ctx.emit_to(&SIDE, json!(ctx.watermark()));
            }
            Say::Clear(of) => ctx.apply_to_keyed_state(move |sum, ctx| {
                if *sum % of == 0 {
                    ctx.clear_state();
                }
                Ok(())
            }),
            Say::FailAt(of) => {
                ctx.apply_to_keyed_state(|sum, _| {
                    *sum += 1;
                    Ok(())
                });
                ctx.apply_to_keyed_state(move |sum, ctx| {
                    *sum += 100;
                    ctx.emit(json!(["through", *sum]));
                    if (*sum - 100) % of == 0 {
                        return Err(FunctionError::new(format!("not {sum}")));
                    }
                    Ok(())
                });
            }
            Say::Fail => {
                broadcast.factor = 1_000;
                ctx.emit(json!("never"));
                ctx.apply_to_keyed_state(|_, _| panic!("it is never called"));
                return Err(FunctionError::new("as asked"));
            }
            Say::Panic => panic!("as asked"),
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        sum: &mut i64,
        broadcast: &Factor,
        ctx: &mut OnTimerContext<Value>,
    ) -> FunctionResult<()> {
        *sum += broadcast.factor;
        ctx.emit(json!(["timer", time, *sum, broadcast.factor]));
        Ok(())
    }
}

fn harness() -> BroadcastHarness<Scale> {
    let on_error = OnError { retry: 1, backoff_ms: 0, then: ErrorPolicy::Skip };
    let config = NamespaceConfig { on_error, ..NamespaceConfig::default() };
    BroadcastHarness::with_config(|| Scale, config).expect("a legal configuration")
}

fn many(options: &EngineOptions, keys: usize) -> OperatorHarness {
    let operators = Operators::default().with_broadcast_function("scale", || Scale);
    let config = NamespaceConfig { operator: "scale".to_owned(), ..NamespaceConfig::default() };
    let options = EngineOptions { operators, max_parallelism: 32, ..options.clone() };
    let mut harness = OperatorHarness::with_options(options, config).expect("it is legal");
    harness.broadcast(r#"{"factor":1}"#, Timestamp::from_millis(0)).expect("taken");
    for n in 0..keys {
        add(&mut harness, n, 1);
    }
    harness.take_all();
    harness
}

fn add(harness: &mut OperatorHarness, key: usize, n: i64) {
    let (key, value) = (format!("key-{key}"), n.to_string());
    let (value, at) = (Payload::Json(value.as_bytes()), Timestamp::from_millis(100));
    let result = harness.process(key.as_bytes(), 0, value, at);
    assert_eq!(result, Ok(ResultKind::Processed));
}

/// Lets a visit go by in slices of one, with records in between that touch keys that were visited,
/// keys that were not, and keys that are new; a crash or a snapshot comes at any moment of it.
fn interrupt(stop: impl Fn(&mut OperatorHarness, usize) -> bool) -> (BTreeMap<String, i64>, usize) {
    const KEYS: usize = 300;
    let options = EngineOptions { shards: 1, lanes: 1, slice: 1, ..EngineOptions::default() };
    let mut harness = many(&options, KEYS);
    harness.go_ahead();
    let at = Timestamp::from_millis(5);
    harness.broadcast(r#"{"grow":1000}"#, at).expect("taken");
    let mut touched = 0;
    for n in (0..KEYS + 50).step_by(7) {
        // 2 and 1000 of the visit; new ones have the 2 alone.
        add(&mut harness, n, 2);
        touched += 1;
        if stop(&mut harness, n) {
            break;
        }
    }
    harness.broadcast(r#""tell""#, at).expect("taken");
    let told = harness.take_all().into_iter().filter_map(|it| {
        let value: Value = serde_json::from_slice(&it.value).expect("JSON");
        (value[0] == "tell").then(|| {
            let key = String::from_utf8(it.key).expect("text");
            (key, value[1].as_i64().expect("a sum"))
        })
    });
    (told.collect(), touched)
}

fn check_interrupted(stop: impl Fn(&mut OperatorHarness, usize) -> bool) {
    let (told, touched) = interrupt(stop);
    for n in 0..300 {
        let was_touched = n % 7 == 0 && n / 7 < touched;
        let expected = 1_001 + if was_touched { 2 } else { 0 };
        assert_eq!(told.get(&format!("key-{n}")), Some(&expected), "key-{n}");
    }
    for n in (300..350).filter(|n| n % 7 == 0 && n / 7 < touched) {
        assert_eq!(told.get(&format!("key-{n}")), Some(&2), "key-{n} came behind the broadcast");
    }
}

#[test]
fn a_record_that_comes_while_keys_are_visited_finds_its_key_visited() {
    check_interrupted(|_, _| false);
}

#[test]
fn a_crash_while_keys_are_visited_leaves_no_trace() {
    for last in (0..350).step_by(35) {
        check_interrupted(move |harness, n| {
            if n >= last {
                harness.crash_now();
            }
            n >= last
        });
    }
}

#[test]
fn a_checkpoint_that_begins_while_keys_are_visited_holds_all_or_nothing_of_it() {
    for at in (0..350).step_by(35) {
        check_interrupted(move |harness, n| {
            if n == at {
                harness.checkpoint();
                harness.crash_now();
            }
            false
        });
    }
}

#[test]
fn a_crash_at_any_step_leaves_all_of_a_broadcast_or_nothing() {
    const KEYS: usize = 12;
    let broadcast = |value: &str| {
        let timestamp = Timestamp::from_millis(5);
        Broadcast { timestamp, value: value.into(), producer: None }
    };
    let (mut sums, mut told) = (BTreeSet::new(), BTreeSet::new());
    for steps in 0..40 {
        let options = EngineOptions { shards: 2, lanes: 4, slice: 1, ..EngineOptions::default() };
        let mut harness = many(&options, KEYS);
        harness.go_ahead();
        harness.broadcast_and_leave(broadcast(r#"{"grow":10}"#), steps);
        harness.crash_now();
        let states = (0..KEYS).map(|n| harness.state(format!("key-{n}").as_bytes()));
        let states = states.map(|state| state.expect("each key has one")).collect::<BTreeSet<_>>();
        assert_eq!(states.len(), 1, "after {steps} steps");
        sums.extend(states);
        assert!(harness.take_all().is_empty());
        harness.broadcast_and_leave(broadcast("\"tell\""), steps);
        harness.crash_now();
        let came = harness.take_all();
        let ids: BTreeSet<OutputId> = came.iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), came.len(), "after {steps} steps");
        told.insert(came.len());
    }
    assert_eq!(sums.len(), 2, "some crashes came before it was durable, and some after");
    assert_eq!(told, [0, KEYS + 1].into());
}

#[test]
fn what_a_broadcast_emits_comes_once_however_many_lanes_there_are() {
    for lanes in [1, 2, 8] {
        let options = EngineOptions { shards: 1, lanes, ..EngineOptions::default() };
        let mut harness = many(&options, 20);
        let at = Timestamp::from_millis(7);
        harness.broadcast(r#"{"factor":3}"#, at).expect("taken");
        let came = harness.take_all();
        let found: Vec<_> = came.iter().map(|it| (&it.key[..], &it.value[..])).collect();
        assert_eq!(found, [(&b""[..], &br#"["factor",1,3,0]"#[..])], "{lanes}");
        assert_eq!(came[0].timestamp, Some(at));
        let it = Broadcast { timestamp: at, value: "\"tell\"".into(), producer: None };
        assert_eq!(harness.send_broadcast(it), Ok((BroadcastResult::Processed, 20)));
        let ids: Vec<OutputId> = harness.take_all().into_iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), 21);
        harness.crash();
        assert!(harness.take_all().is_empty(), "a replay emits nothing anew");
    }
}

#[test]
fn a_producers_broadcast_is_taken_once() {
    let options = EngineOptions { shards: 1, lanes: 4, ..EngineOptions::default() };
    let mut harness = many(&options, 3);
    let send = |harness: &mut OperatorHarness, producer: &str, sequence| {
        let producer = Some((producer.to_owned(), sequence));
        let timestamp = Timestamp::from_millis(0);
        let it = Broadcast { timestamp, value: r#"{"grow":10}"#.into(), producer };
        harness.send_broadcast(it).expect("the operator takes it").0
    };
    assert_eq!(send(&mut harness, "a", 5), BroadcastResult::Processed);
    assert_eq!(send(&mut harness, "a", 5), BroadcastResult::Repeated);
    harness.crash();
    assert_eq!(send(&mut harness, "a", 4), BroadcastResult::Repeated);
    assert_eq!(send(&mut harness, "b", 4), BroadcastResult::Processed);
    harness.restart();
    assert_eq!(send(&mut harness, "b", 4), BroadcastResult::Repeated);
    assert_eq!(send(&mut harness, "a", 6), BroadcastResult::Processed);
    let state = harness.state(b"key-1").expect("it has one");
    assert_eq!(decode_broadcast_process_state::<Scale>(&state), Ok(31));
}

#[test]
fn another_layout_goes_on_with_the_same_broadcast_state() {
    for (groups, lanes) in [(16, 1), (32, 4), (64, 8)] {
        let options = EngineOptions { shards: 1, lanes: 4, ..EngineOptions::default() };
        let mut harness = many(&options, 30);
        let at = Timestamp::from_millis(9);
        let send = |harness: &mut OperatorHarness| {
            let producer = Some(("p".to_owned(), 1));
            let it = Broadcast { timestamp: at, value: r#"{"grow":10}"#.into(), producer };
            harness.send_broadcast(it).expect("the operator takes it").0
        };
        harness.broadcast(r#"{"factor":5}"#, at).expect("taken");
        assert_eq!(send(&mut harness), BroadcastResult::Processed);
        let state = harness.broadcast_state();
        harness.take_all();
        harness.restore_elsewhere(groups, lanes);
        assert_eq!(harness.broadcast_state(), state);
        assert_eq!(send(&mut harness), BroadcastResult::Repeated);
        add(&mut harness, 3, 2);
        harness.crash();
        harness.broadcast(r#""tell""#, at).expect("taken");
        let mut told: Vec<Value> = harness
            .take_outputs(None)
            .into_iter()
            .map(|it| serde_json::from_slice(&it.value).expect("JSON"))
            .collect();
        assert_eq!(told.remove(0), json!(["element", 21, 5]));
        assert_eq!(told.len(), 30);
        for it in told {
            let expected = if it[3] == "key-3" { 21 } else { 11 };
            assert_eq!((&it[1], &it[2]), (&json!(expected), &json!(5)), "{it}");
        }
    }
}

#[test]
fn what_cannot_be_taken_is_refused_and_what_fails_is_passed_over() {
    let mut harness = harness();
    let value = "x".repeat(70_000);
    let refused = harness.process_broadcast(&value, 0).expect_err("too large");
    assert_eq!(refused.slug(), "payload-too-large");
    // It is no broadcast of the function's.
    assert_eq!(harness.process_broadcast("x", 3), Ok(BroadcastResult::Failed));
    let error = harness.take_side_outputs(&ERRORS).remove(0);
    let message = error.value["error"].as_str().expect("a text");
    assert!(message.starts_with("the element is not what the function takes"), "{message}");
    assert_eq!((error.key.len(), error.value["broadcast"].as_str()), (0, Some("x")));
    assert_eq!(harness.broadcast_state(), Ok(Factor::default()));

    let options = EngineOptions { shards: 1, lanes: 2, ..EngineOptions::default() };
    let mut timers = OperatorHarness::with_options(options, NamespaceConfig::default()).unwrap();
    let refused = timers.broadcast("1", Timestamp::from_millis(0));
    assert_eq!(refused, Err(Rejection::BroadcastUnwanted));
}

/// The state of [`Scale`], for the next version.
struct Scale2;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Factors(Vec<i64>);

impl KeyedBroadcastProcessFunction for Scale2 {
    type Input = i64;
    type Broadcast = i64;
    type State = i64;
    type BroadcastState = Factors;
    type Output = i64;

    const BROADCAST_STATE_VERSION: u32 = 2;

    fn migrate_broadcast_state(version: u32, bytes: &[u8]) -> FunctionResult<Factors> {
        let (factor, _): (i64, _) = postcard::take_from_bytes(bytes)?;
        if version == 1 { Ok(Factors(vec![factor])) } else { Err(FunctionError::new("too old")) }
    }

    fn process_element(
        &mut self,
        _: i64,
        _: &mut i64,
        broadcast: &Factors,
        ctx: &mut Context<i64>,
    ) -> FunctionResult<()> {
        ctx.emit(broadcast.0.iter().sum());
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        factor: i64,
        broadcast: &mut Factors,
        _: &mut BroadcastContext<Self>,
    ) -> FunctionResult<()> {
        broadcast.0.push(factor);
        if factor < 0 {
            broadcast.0 = vec![i64::MIN; 200_000];
        }
        Ok(())
    }
}

#[test]
fn a_new_version_takes_the_broadcast_state_over_and_none_outgrows_its_bound() {
    let mut harness = harness();
    harness.process_broadcast(Say::Factor(4), 0).expect("taken");
    assert_eq!(harness.take_values(), [json!(["factor", 0, 4, 0])]);
    let mut harness = harness.upgrade(|| Scale2).expect("it opens");
    assert_eq!(harness.broadcast_state(), Ok(Factors(vec![4])));
    assert_eq!(harness.process_broadcast(5, 0), Ok(BroadcastResult::Processed));
    assert_eq!(harness.process_broadcast(-1, 0), Ok(BroadcastResult::Failed));
    let error = harness.take_side_outputs(&ERRORS).remove(0).value["error"].to_string();
    assert!(error.contains("the broadcast state has ") && error.contains("1048576"), "{error}");
    harness.take_values();
    harness.process_element("k", 0, 0).expect("taken");
    assert_eq!(harness.take_values(), [9]);
    // The old version can make nothing of it: what needs it fails, and it stays as it is.
    let mut harness = harness.upgrade(|| Scale).expect("it opens");
    assert_eq!(harness.process_element("k", 1, 0), Ok(ResultKind::Failed));
    assert_eq!(harness.process_broadcast(Say::Tell, 0), Ok(BroadcastResult::Failed));
    let mut harness = harness.upgrade(|| Scale2).expect("it opens");
    assert_eq!(harness.broadcast_state(), Ok(Factors(vec![4, 5])));
}

#[test]
fn other_options_keep_the_broadcast_state_and_another_operator_does_not() {
    let make = |_: &Value| broadcast_operator(Scale);
    let operators = Operators::default().with("a", make).with("b", make);
    let config = |operator: &str, options: Value| NamespaceConfig {
        operator: operator.to_owned(),
        options,
        ..NamespaceConfig::default()
    };
    let mut harness = OperatorHarness::new(operators, config("a", json!({}))).expect("it is legal");
    harness.broadcast(r#"{"factor":9}"#, Timestamp::from_millis(0)).expect("taken");
    let state = harness.broadcast_state().expect("there is one");
    harness.configure(config("a", json!({ "n": 1 }))).expect("it may change");
    harness.crash();
    assert_eq!(harness.broadcast_state(), Some(state));
    harness.process(b"k", 0, Payload::Json(b"1"), Timestamp::from_millis(0)).expect("taken");
    let last = harness.take_all().pop().expect("it emits");
    assert_eq!(last.value, br#"["element",9,9]"#);
    // A key keeps the operator as it is.
    let refused = harness.configure(config("b", json!({}))).expect_err("it has a key");
    assert_eq!(refused.slug(), "option-fixed");
    harness.broadcast(r#"{"clear":9}"#, Timestamp::from_millis(0)).expect("taken");
    harness.advance_watermark(1_000);
    harness.broadcast(r#"{"clear":9}"#, Timestamp::from_millis(0)).expect("taken");
    assert_eq!(harness.keys(), 0);
    harness.configure(config("b", json!({}))).expect("nothing is in the way");
    assert_eq!(harness.broadcast_state(), None);
}
