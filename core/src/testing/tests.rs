//! Functions in the engine: against a host in a few lines, and whatever goes wrong in between.

mod close;

use super::*;
use crate::function::busy::{Busy, Sum};
use crate::function::host::Host;
use crate::function::{Call, Context, OnTimerContext, Operator, TimerFired, operator};
use crate::limits::DUE_AT_ONCE_MAX;
use crate::namespace::{ErrorPolicy, LateElements, LateTimers, OnError};
use crate::op::{Action, Element, Op};
use crate::solo::Solo;
use crate::time::Domain;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LATE: OutputTag<Value> = OutputTag::new("late");
const ERRORS: OutputTag<Value> = OutputTag::new("errors");

mod failing;
mod life;
mod two_inputs;

/// What fails is passed over.
const SKIP: OnError = OnError { retry: 0, backoff_ms: 0, then: ErrorPolicy::Skip };

pub(super) fn skipping() -> NamespaceConfig {
    NamespaceConfig { on_error: SKIP, ..NamespaceConfig::default() }
}

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// What happens to a function, or to the machine that it runs on.
#[derive(Debug, Clone)]
enum Deed {
    Element(u8, Vec<(u8, i64)>),
    Watermark(i64),
    Clock(i64),
    Crash,
    Restart,
    Rescale(u16),
    /// Goes back to a snapshot, after something has happened that did not happen then.
    Detour,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let steps = prop::collection::vec((0..13_u8, 0..60_i64), 0..5);
    let deed = prop_oneof![
        12 => (0..4_u8, steps).prop_map(|(key, steps)| Deed::Element(key, steps)),
        3 => (1..15_i64).prop_map(Deed::Watermark),
        3 => (1..15_i64).prop_map(Deed::Clock),
        1 => Just(Deed::Crash),
        1 => Just(Deed::Restart),
        1 => (1..5_u16).prop_map(Deed::Rescale),
        1 => Just(Deed::Detour),
    ];
    prop::collection::vec(deed, 1..40)
}

type ByKey = BTreeMap<String, Vec<(Option<i64>, String)>>;

fn by_key(outputs: impl IntoIterator<Item = (String, Option<i64>, String)>) -> ByKey {
    let mut found = ByKey::new();
    for (key, timestamp, value) in outputs {
        found.entry(key).or_default().push((timestamp, value));
    }
    found
}

fn play(deeds: &[Deed], late_timers: LateTimers) {
    let config =
        NamespaceConfig { late_elements: LateElements::Process, late_timers, ..skipping() };
    let mut harness = Harness::with_config(|| Busy, config).expect("a legal configuration");
    let mut host = Host::new(operator(Busy).expect("a state that can be written down"));
    host.late_timers_wait = late_timers == LateTimers::NextWatermark;
    let (mut watermark, mut clock) = (0, 0);
    for deed in deeds {
        match deed {
            Deed::Element(key, steps) => {
                let (key, timestamp) = (format!("key {key}"), watermark + 1);
                let value = serde_json::to_string(steps).expect("plain data");
                let expected = host.element(&key, timestamp, &value);
                let result = harness.process_element(&key, steps, timestamp);
                let expected =
                    if expected.is_ok() { ResultKind::Processed } else { ResultKind::Failed };
                assert_eq!(result, Ok(expected));
            }
            Deed::Watermark(by) => {
                watermark += by;
                host.advance_watermark(watermark);
                harness.advance_watermark(watermark);
            }
            Deed::Clock(by) => {
                clock += by;
                host.advance_clock(clock);
                harness.advance_clock(clock);
            }
            Deed::Crash => harness.crash(),
            Deed::Restart => harness.restart(),
            Deed::Rescale(shards) => harness.rescale(*shards),
            Deed::Detour => {
                let snapshot = harness.snapshot();
                harness.process_element("key 1", [(1, clock), (12, 7)], watermark).expect("taken");
                harness.advance_clock(clock + 100);
                harness.restore(&snapshot);
            }
        }
        for key in (0..4).map(|key| format!("key {key}")) {
            let state = harness.inner.state(key.as_bytes());
            assert_eq!(state.as_deref(), host.state(&key), "the state of {key} after {deed:?}");
            let timers: Vec<_> = harness.timers(&key);
            let timers: Vec<_> = timers.iter().map(|it| (it.domain, it.time.as_millis())).collect();
            let expected: Vec<_> =
                host.timers(&key).into_iter().map(|(domain, time, _)| (domain, time)).collect();
            assert_eq!(timers, expected, "the timers of {key} after {deed:?}");
        }
        assert_eq!(harness.keys(), host.keys() as u64, "keys held after {deed:?}");
    }
    let expected = host.take_outputs();
    for tag in [None, Some("side")] {
        let outputs = harness.inner.take_outputs(tag);
        let outputs = outputs.into_iter().map(|it| {
            let text = |bytes| String::from_utf8(bytes).expect("text");
            (text(it.key), it.timestamp.map(Timestamp::as_millis), text(it.value))
        });
        let expected = expected.iter().filter(|it| it.tag.as_deref() == tag);
        let expected = expected.map(|it| (it.key.clone(), it.timestamp, it.value.clone()));
        assert_eq!(by_key(outputs), by_key(expected));
    }
    let failed = harness.take_side_outputs(&ERRORS);
    let failed = failed.iter().filter(|it| it.value.get("timer").is_some()).count();
    assert_eq!(failed as u64, host.failed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_happens_it_is_as_in_a_host_to_which_nothing_does(
        deeds in deeds(),
        waits in any::<bool>(),
    ) {
        play(&deeds, if waits { LateTimers::NextWatermark } else { LateTimers::Fire });
    }
}

#[test]
fn a_replay_emits_the_same_with_the_same_ids() {
    let mut harness = busy(skipping());
    for n in 0..50 {
        let steps = [(0, n), (1, 2 * n), (5, n + 9), (7, n), (9, n), (12, 0)];
        harness.process_element(format!("key {}", n % 7), steps, n).expect("taken");
        if n % 5 == 4 {
            harness.advance_watermark(n - 10);
            harness.advance_clock(n);
        }
    }
    let take = |harness: &mut Harness<Busy>| {
        let tags = [None, Some("side"), Some("errors")];
        tags.map(|tag| harness.inner.take_outputs(tag))
    };
    let outputs = take(&mut harness);
    assert!(outputs.iter().all(|outputs| outputs.len() > 5));
    // What was readable is durable: a crash lets nothing of it come out again. But the output log
    // can be told to forget it, and the journal still knows.
    harness.crash();
    assert!(take(&mut harness).iter().all(Vec::is_empty));
    let mut ids: Vec<_> = outputs.iter().flatten().map(|it| it.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), outputs.iter().map(Vec::len).sum::<usize>(), "each has an id of its own");
}

fn busy(config: NamespaceConfig) -> Harness<Busy> {
    Harness::with_config(|| Busy, config).expect("a legal configuration")
}

fn timer_times(harness: &mut Harness<Busy>) -> Vec<i64> {
    harness.take_values().iter().filter_map(|value| value[0].as_i64()).collect()
}

#[test]
fn timers_at_or_below_the_watermark_fire_at_once_and_in_order() {
    let mut harness = busy(NamespaceConfig::default());
    harness.advance_watermark(50);
    harness.process_element("k", [(0, 44), (0, 37), (0, 50), (0, 51)], 60).expect("taken");
    assert_eq!(timer_times(&mut harness), [37, 44, 50]);
    // 51, and what 50 has registered.
    assert_eq!(harness.timers("k").len(), 2);
    assert_eq!(harness.take_outputs(), []);
    // 56 registers 59, which the same advance makes due.
    harness.process_element("k", [(0, 56)], 60).expect("taken");
    harness.advance_watermark(100);
    assert_eq!(timer_times(&mut harness), [51, 56, 59]);
}

#[test]
fn late_timers_may_wait_for_the_next_watermark() {
    let late_timers = LateTimers::NextWatermark;
    let mut harness = busy(NamespaceConfig { late_timers, ..NamespaceConfig::default() });
    harness.advance_watermark(50);
    harness.process_element("k", [(0, 44), (0, 37), (0, 51), (1, 0)], 60).expect("taken");
    assert_eq!(timer_times(&mut harness), [0], "the clock has come to 0");
    // What 0 has registered was due at once, too, and waits as well.
    let waiting = [3, 37, 44, 51].map(ms).to_vec();
    let times = |harness: &mut Harness<Busy>| -> Vec<Timestamp> {
        harness.timers("k").iter().map(|timer| timer.time).collect()
    };
    assert_eq!(times(&mut harness), waiting);
    harness.advance_watermark(50);
    harness.crash();
    harness.restart();
    harness.rescale(2);
    assert_eq!(times(&mut harness), waiting);
    assert_eq!(timer_times(&mut harness), [] as [i64; 0]);
    harness.process_element("k", [(2, 44)], 60).expect("taken");
    harness.advance_watermark(51);
    // 3 has registered 2, which the same advance makes due.
    assert_eq!(timer_times(&mut harness), [3, 2, 37, 51]);
}

#[test]
fn late_elements_go_where_the_namespace_wants_them() {
    for (late_elements, result, late) in [
        (LateElements::Drop, ResultKind::Late, 0),
        (LateElements::SideOutput, ResultKind::Late, 1),
        (LateElements::Process, ResultKind::Processed, 0),
    ] {
        let config = NamespaceConfig { late_elements, lateness_ms: 10, ..Default::default() };
        let mut harness = busy(config);
        let steps = [(7, 1)];
        // Without a watermark nothing is late.
        assert_eq!(harness.process_element("k", steps, i64::MIN), Ok(ResultKind::Processed));
        harness.advance_watermark(100);
        assert_eq!(harness.process_element("k", steps, 91), Ok(ResultKind::Processed));
        assert_eq!(harness.process_element("k", steps, 90), Ok(result));
        let found = harness.take_side_outputs(&LATE);
        assert_eq!(found.len(), late);
        for output in found {
            assert_eq!((output.timestamp, output.value), (Some(ms(90)), json!(steps)));
        }
        let sum = if result == ResultKind::Late { 2 } else { 3 };
        assert_eq!(harness.state("k"), Ok(Some(Sum(sum))));
    }
}

#[test]
fn what_fails_is_tried_again_and_passed_over_with_a_word_about_it() {
    let on_error = OnError { retry: 2, ..SKIP };
    let mut harness = busy(NamespaceConfig { on_error, ..NamespaceConfig::default() });
    harness.process_element("k", [(7, 5), (0, 13)], 1).expect("taken");
    for (step, message) in [(10, "asked for 3"), (11, "the callback panicked: asked for 3")] {
        let steps = [(7, 1), (0, 40), (12, 1), (step, 3)];
        assert_eq!(harness.process_element("k", steps, 2), Ok(ResultKind::Failed));
        let errors = harness.take_side_outputs(&ERRORS);
        let expected = json!({ "error": message, "element": steps });
        assert_eq!((&errors[0].value, errors[0].timestamp), (&expected, Some(ms(2))));
        assert_eq!((errors.len(), harness.take_values()), (1, vec![]));
    }
    let text = harness.process_element("k", "no steps", 2);
    assert_eq!(text, Ok(ResultKind::Failed));
    let error = harness.take_side_outputs(&ERRORS).remove(0).value;
    let message = error["error"].as_str().unwrap();
    assert!(message.starts_with("the element is not what the function takes"), "{message}");
    assert_eq!(harness.state("k"), Ok(Some(Sum(5))));
    assert_eq!(harness.timers("k").len(), 1);
    // 13 leaves 6, which with a sum of 6 is a failure: the timer is gone, and nothing else.
    harness.advance_watermark(20);
    let errors = harness.take_side_outputs(&ERRORS);
    let timer = json!({ "domain": "event", "fire_at": 13 });
    assert_eq!(errors[0].value, json!({ "error": "no sixes", "timer": timer }));
    assert_eq!((harness.state("k"), harness.timers("k")), (Ok(Some(Sum(5))), vec![]));
}

/// Registers the same timer again whenever it fires.
struct Endless(i64);

impl KeyedProcessFunction for Endless {
    type Input = i64;
    type State = u64;
    type Output = u64;

    fn process_element(
        &mut self,
        time: i64,
        _: &mut u64,
        ctx: &mut Context<u64>,
    ) -> FunctionResult<()> {
        ctx.timers().register_event_time(ms(time));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        fired: &mut u64,
        ctx: &mut OnTimerContext<u64>,
    ) -> FunctionResult<()> {
        *fired += 1;
        ctx.timers().register_event_time(time + self.0);
        Ok(())
    }
}

#[test]
fn callbacks_that_would_never_end_do() {
    let mut harness = Harness::with_config(|| Endless(0), skipping()).expect("legal");
    harness.process_element("k", 5, 0).expect("taken");
    // The first one has been registered before, and the second time it is due at once as well.
    for fired in [DUE_AT_ONCE_MAX, 2 * DUE_AT_ONCE_MAX - 1] {
        harness.advance_watermark(5);
        let errors = harness.take_side_outputs(&ERRORS);
        assert_eq!(errors.len(), 1);
        let message = errors[0].value["error"].as_str().unwrap();
        assert!(message.contains("10000 timers that are due at once"), "{message}");
        assert_eq!(harness.state("k"), Ok(Some(u64::from(fired))));
        assert_eq!(harness.timers("k"), []);
        harness.process_element("k", 5, 10).expect("taken");
    }
}

#[test]
fn nothing_waits_for_what_comes_after_the_final_watermark() {
    let mut harness = Harness::new(|| Endless(10));
    for key in ["a", "b"] {
        harness.process_element(key, 5, 0).expect("taken");
    }
    harness.advance_watermark(25);
    assert_eq!(harness.state("a"), Ok(Some(3)));
    harness.advance_watermark(i64::MAX);
    for key in ["a", "b"] {
        assert_eq!((harness.state(key), harness.timers(key)), (Ok(Some(4)), vec![]));
    }
}

#[test]
fn a_key_has_no_more_timers_than_it_may() {
    let mut config = skipping();
    config.limits.timers_per_key = 3;
    let mut harness = busy(config);
    let result = harness.process_element("k", [(0, 1), (0, 1), (1, 1), (4, 1), (4, 2)], 0);
    assert_eq!(result, Ok(ResultKind::Processed));
    assert_eq!(harness.process_element("k", [(0, 2)], 0), Ok(ResultKind::Failed));
    let error = harness.take_side_outputs(&ERRORS).remove(0).value;
    assert_eq!(error["error"], "the key would have 4 timers, allowed are 3");
    let result = harness.process_element("k", [(0, 2), (2, 1)], 0);
    assert_eq!(result, Ok(ResultKind::Processed), "one comes, one goes");
    assert_eq!(harness.timers("k").len(), 3);
}

#[test]
fn elements_are_for_functions_and_timers_for_timers() {
    let mut harness = busy(NamespaceConfig::default());
    let refused = harness.inner.submit(&[Op { key: b"k", action: Action::DeleteAll }]);
    assert_eq!(refused, [Err(Rejection::TimersOwned)]);
    let (key, value) = (b"k", Payload::Json(b"[]"));
    let refused = harness.inner.process(key, 1, value, ms(0));
    assert_eq!(refused, Err(Rejection::InputUnknown { input: 1, inputs: 1 }));
    let timers = NamespaceConfig::default();
    let mut harness = OperatorHarness::new(Operators::default(), timers).expect("the default");
    let refused = harness.process(key, 0, value, ms(0));
    assert_eq!(refused, Err(Rejection::ElementsUnwanted));
}

#[test]
fn an_operator_that_there_is_not_is_refused_also_at_a_start() {
    let config = |operator: &str| NamespaceConfig {
        operator: operator.to_owned(),
        ..NamespaceConfig::default()
    };
    let known = || Operators::default().with_function("busy", || Busy);
    let refused = OperatorHarness::new(known(), config("bus")).err().map(|it| it.to_string());
    let expected = "operator: there is no operator `bus`; there is `timers`, `busy`";
    assert_eq!(refused.as_deref(), Some(expected));
    let mut harness = OperatorHarness::new(known(), config("busy")).expect("it is known");
    harness.process(b"k", 0, Payload::Json(b"[[7,3]]"), ms(0)).expect("taken");
    let refused = harness.configure(NamespaceConfig::default());
    assert_eq!(refused, Err(Rejection::OptionFixed { field: "operator" }));
    let fault = harness.restart_with(Operators::default()).expect_err("it is not there any more");
    let expected = "a namespace runs a function that this program cannot make: operator: there is \
                    no operator `busy`; there is `timers`";
    assert_eq!(fault.to_string(), expected);
    harness.restart_with(known()).expect("it is back");
    assert_eq!(harness.state(b"k").as_deref(), Some(&[1, 6][..]));
}

/// What `Busy` keeps, and how often it was asked.
struct Busier;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct SumAndCount(i64, u32);

impl KeyedProcessFunction for Busier {
    type Input = i64;
    type State = SumAndCount;
    type Output = i64;

    const STATE_VERSION: u32 = 2;

    fn migrate_state(_: u32, bytes: &[u8]) -> FunctionResult<SumAndCount> {
        Ok(SumAndCount(i64::from(bytes[0]) / 2, 0))
    }

    fn process_element(
        &mut self,
        n: i64,
        state: &mut SumAndCount,
        ctx: &mut Context<i64>,
    ) -> FunctionResult<()> {
        *state = SumAndCount(state.0 + n, state.1 + 1);
        ctx.emit(state.0);
        Ok(())
    }
}

#[test]
fn a_new_version_of_a_function_takes_over_what_keys_hold() {
    let mut harness = busy(NamespaceConfig::default());
    harness.process_element("k", [(7, 5)], 0).expect("taken");
    let mut harness = harness.upgrade(|| Busier).expect("it has the same name");
    assert_eq!(harness.state("k"), Ok(Some(SumAndCount(5, 0))));
    assert_eq!(harness.process_element("k", 2, 0), Ok(ResultKind::Processed));
    assert_eq!(harness.take_values(), [7]);
    harness.crash();
    assert_eq!(harness.state("k"), Ok(Some(SumAndCount(7, 1))));
}

#[test]
fn a_processing_timer_waits_for_the_clock_and_says_what_it_reads() {
    let mut harness = busy(NamespaceConfig::default());
    harness.process_element("k", [(3, 23)], 7).expect("taken");
    harness.advance_clock(22);
    assert_eq!(harness.take_values(), [] as [Value; 0]);
    harness.advance_clock(30);
    let output = harness.take_outputs().remove(0);
    assert_eq!(output.value, json!([23, Domain::Processing, "n", null, 1, null, 30]));
    assert_eq!(output.timestamp, None);
}

/// Finds elements below 10 late, whatever the watermark.
struct Judge;

impl Operator for Judge {
    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> FunctionResult<()> {
        if element.timestamp < ms(10) {
            call.refuse_late();
        } else {
            call.set_state(element.value.bytes());
            call.emit(Some("seen"), element.value);
        }
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Call<'_>, _: TimerFired<'_>) -> FunctionResult<()> {
        Ok(())
    }

    fn judges_lateness(&self) -> bool {
        true
    }
}

#[test]
fn an_operator_over_bytes_may_judge_itself_what_is_late() {
    let operators = Operators::default().with("judge", |_| Ok(Box::new(Judge)));
    let config = NamespaceConfig {
        operator: "judge".to_owned(),
        late_elements: LateElements::SideOutput,
        ..NamespaceConfig::default()
    };
    let made = OperatorHarness::new(operators.clone(), config.clone());
    let mut harness = made.expect("a legal configuration");
    harness.advance_watermark(100);
    for (timestamp, result) in [(9, ResultKind::Late), (10, ResultKind::Processed)] {
        let value = Payload::Binary(b"\xff");
        assert_eq!(harness.process(b"k", 0, value, ms(timestamp)), Ok(result));
    }
    for (tag, timestamp) in [("late", 9), ("seen", 10)] {
        let emitted = harness.take_outputs(Some(tag)).remove(0);
        assert_eq!((emitted.timestamp, &emitted.value[..]), (Some(ms(timestamp)), &b"\xff"[..]));
    }
    assert_eq!(harness.state(b"k").as_deref(), Some(&b"\xff"[..]));
    // Even where late elements are to be processed: what it refuses it has not processed.
    let config = NamespaceConfig { late_elements: LateElements::Process, ..config };
    let mut harness = OperatorHarness::new(operators, config).expect("a legal configuration");
    assert_eq!(harness.process(b"k", 0, Payload::Binary(b"\xff"), ms(9)), Ok(ResultKind::Late));
    assert_eq!((harness.take_all().len(), harness.keys()), (0, 0));
    let mut host = Host::new(Box::new(Judge));
    host.element("k", 9, "1").expect("it takes anything");
    assert_eq!((host.late(), host.keys()), (1, 0));
}

/// Keeps eight bytes, and a timer.
struct Eight;

impl Operator for Eight {
    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> FunctionResult<()> {
        let count = call.state().map_or(0, |state| state[0]).wrapping_add(1);
        call.set_state(&[count; 8]);
        let time = element.timestamp + 60_000;
        call.timers().register_event_time(time);
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Call<'_>, _: TimerFired<'_>) -> FunctionResult<()> {
        Ok(())
    }
}

#[test]
fn a_key_with_eight_bytes_of_state_and_a_timer_takes_less_than_a_hundred() {
    const KEYS: usize = 200_000;
    let operators = Operators::default().with("eight", |_| Ok(Box::new(Eight)));
    let operator = "eight".to_owned();
    let config = NamespaceConfig { operator, ..NamespaceConfig::default() };
    let mut solo = Solo::with_operators(&config, operators, ms(0)).expect("a legal configuration");
    let keys: Vec<String> = (0..KEYS).map(|n| format!("device-{n:08}")).collect();
    for keys in keys.chunks(1_000) {
        let ops: Vec<Op<'_>> = keys
            .iter()
            .enumerate()
            .map(|(n, key)| {
                let (timestamp, input, value) = (ms(n as i64), 0, Payload::Json(b"1"));
                let element = Element { timestamp, input, value };
                Op { key: key.as_bytes(), action: Action::Element(element) }
            })
            .collect();
        assert!(solo.apply(&ops, ms(0)).iter().all(Result::is_ok));
    }
    let memory = solo.memory();
    let bytes: usize = memory.iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes <= 100 * KEYS, "{} bytes a key: {memory:?}", bytes / KEYS);
    let lists = memory.iter().find(|(part, _)| *part == "timer_lists").map(|(_, bytes)| *bytes);
    assert_eq!(lists, Some(0), "the slot holds both");
}
