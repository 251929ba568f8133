//! A function that fails until it is mended: what happens to its namespace, and that nothing is lost.

use super::*;
use crate::function::FunctionError;
use crate::namespace::{NamespaceStatus, Stop, StopAt};
use crate::testing::operator::LANES;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often a function still fails.
#[derive(Clone, Default)]
struct Mood(Arc<AtomicU32>);

impl Mood {
    /// Returns how often it would have failed still.
    fn fail(&self, times: u32) -> u32 {
        self.0.swap(times, Ordering::Relaxed)
    }

    fn check(&self, what: &str) -> FunctionResult<()> {
        let less = |left: u32| left.checked_sub(1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Err(FunctionError::new(format!("not in the mood for {what}"))),
            Err(_) => Ok(()),
        }
    }
}

/// Registers the timers that it is told of, and says when they fire. Those that end in 3, and elements
/// without a timer, fail as the mood is.
struct Moody(Mood);

impl KeyedProcessFunction for Moody {
    type Input = Vec<(u8, i64)>;
    type State = i64;
    type Output = (Domain, i64);

    fn process_element(
        &mut self,
        timers: Self::Input,
        count: &mut i64,
        ctx: &mut Context<Self::Output>,
    ) -> FunctionResult<()> {
        *count += 1;
        for (kind, time) in &timers {
            match kind {
                0 => ctx.timers().register_event_time(ms(*time)),
                _ => ctx.timers().register_processing_time(ms(*time)),
            }
        }
        if timers.is_empty() { self.0.check("nothing") } else { Ok(()) }
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        count: &mut i64,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> FunctionResult<()> {
        *count += 1;
        ctx.emit((ctx.domain(), time.as_millis()));
        if time.as_millis() % 10 == 3 { self.0.check("threes") } else { Ok(()) }
    }
}

fn moody(config: NamespaceConfig) -> (Mood, Harness<Moody>) {
    let mood = Mood::default();
    let shared = mood.clone();
    let harness = Harness::with_config(move || Moody(shared.clone()), config);
    (mood, harness.expect("a legal configuration"))
}

fn stops_at(harness: &mut Harness<Moody>, key: &str, at: StopAt, error: &str) {
    let Stop { key: found_key, at: found, error: found_error, .. } =
        harness.stopped().expect("it has stopped");
    assert_eq!((found_key, found), (key.as_bytes().to_vec(), at));
    assert_eq!(found_error, error);
    assert_eq!(harness.inner.engine_metrics().stopped, 1);
}

fn refused(harness: &mut Harness<Moody>, key: &str) -> bool {
    let result = harness.process_element(key, [(0, 1_000)], 1);
    matches!(result, Err(Rejection::NamespaceStopped { .. }))
}

fn event(time: i64) -> StopAt {
    StopAt::Timer { domain: Domain::Event, fire_at: ms(time), name: None, namespace: None }
}

#[test]
fn what_works_when_it_is_called_again_has_not_failed() {
    let (mood, mut harness) = moody(NamespaceConfig::default());
    mood.fail(3);
    let nothing = [(0_u8, 0_i64); 0];
    assert_eq!(harness.process_element("k", nothing, 1), Ok(ResultKind::Processed));
    harness.process_element("k", [(0, 13), (1, 23)], 1).expect("taken");
    mood.fail(3);
    harness.advance_watermark(50);
    mood.fail(3);
    harness.advance_clock(50);
    assert_eq!(harness.take_values(), [(Domain::Event, 13), (Domain::Processing, 23)]);
    assert_eq!((harness.stopped(), harness.state("k")), (None, Ok(Some(4))));
    let metrics = harness.inner.engine_metrics();
    assert_eq!((metrics.retries, metrics.failed, metrics.timers_failed), (9, 0, 0));
}

#[test]
fn an_element_that_fails_for_good_is_not_taken_and_stops_the_namespace() {
    let (mood, mut harness) = moody(NamespaceConfig::default());
    harness.process_element("k", [(0, 5)], 1).expect("taken");
    mood.fail(4);
    let nothing = [(0_u8, 0_i64); 0];
    let result = harness.process_element("k", nothing, 77);
    let detail = "its function failed at the element of 77 of key `k`: not in the mood for nothing";
    assert_eq!(result, Err(Rejection::NamespaceStopped { detail: detail.to_owned() }));
    let at = || StopAt::Element { timestamp: ms(77), input: 0 };
    stops_at(&mut harness, "k", at(), "not in the mood for nothing");
    // Whatever happens to the machine, on no lane anything is taken, and no time passes.
    for shards in [1, 3] {
        harness.advance_watermark(i64::from(shards) * 10);
        assert!((0..40).all(|n| refused(&mut harness, &n.to_string())));
        assert_eq!((harness.take_values(), harness.state("k")), (vec![], Ok(Some(1))));
        harness.crash();
        harness.rescale(shards);
        stops_at(&mut harness, "k", at(), "not in the mood for nothing");
    }
    harness.resume();
    assert_eq!((harness.stopped(), harness.inner.engine_metrics().stopped), (None, 0));
    assert_eq!(harness.take_values(), [(Domain::Event, 5)], "the watermark counts from now on");
    assert_eq!(harness.process_element("k", nothing, 77), Ok(ResultKind::Processed));
    harness.crash();
    assert_eq!((harness.stopped(), harness.state("k")), (None, Ok(Some(3))));
}

#[test]
fn a_timer_that_fails_for_good_is_due_until_it_does_not() {
    let (mood, mut harness) = moody(NamespaceConfig::default());
    for n in 0..40 {
        harness.process_element(format!("key {n}"), [(0, 13 + n % 2), (0, 20)], 1).expect("taken");
    }
    mood.fail(u32::MAX);
    harness.advance_watermark(16);
    // Keys that do not fail go on, and the others stand as if nothing had happened.
    let even = |values: &[(Domain, i64)]| values.iter().all(|it| *it == (Domain::Event, 14));
    let fired = harness.take_values();
    assert!(even(&fired) && fired.len() == 20, "{fired:?}");
    let Stop { at, error, .. } = harness.stopped().expect("it has stopped");
    assert_eq!((at, &error[..]), (event(13), "not in the mood for threes"));
    let state = |harness: &mut Harness<Moody>| [harness.state("key 2"), harness.state("key 3")];
    assert_eq!(state(&mut harness), [Ok(Some(1)), Ok(Some(2))]);
    harness.crash();
    harness.advance_watermark(25);
    assert!(refused(&mut harness, "another key"));
    // Going on is of no use yet.
    harness.resume();
    assert!(harness.stopped().is_some() && refused(&mut harness, "another key"));
    let behind = harness.take_values();
    assert_eq!(behind, [(Domain::Event, 20); 20], "those of keys that do not fail");
    harness.rescale(4);
    harness.crash();
    assert_eq!(state(&mut harness), [Ok(Some(1)), Ok(Some(3))]);
    mood.fail(0);
    // A function that is mended goes on where it is told to, and not before.
    harness.restart();
    assert!(harness.stopped().is_some());
    assert_eq!(harness.take_values(), []);
    harness.resume();
    assert_eq!(harness.stopped(), None);
    let mut last = harness.take_outputs();
    last.sort_by_key(|it| it.key.clone());
    let of_key: Vec<_> = last.chunks(2).map(|two| [two[0].value.1, two[1].value.1]).collect();
    assert_eq!(of_key, [[13, 20]; 20]);
    harness.crash();
    assert_eq!((harness.take_values(), harness.keys()), (vec![], 40));
    assert_eq!(state(&mut harness), [Ok(Some(3)), Ok(Some(3))]);
}

#[test]
fn a_timer_that_is_due_at_once_fails_by_itself() {
    let (mood, mut harness) = moody(NamespaceConfig::default());
    harness.advance_watermark(50);
    mood.fail(u32::MAX);
    let result = harness.process_element("k", [(0, 12), (0, 13), (0, 14)], 60);
    assert_eq!(result, Ok(ResultKind::Processed), "it was not the element");
    assert_eq!(harness.take_values(), [(Domain::Event, 12)]);
    stops_at(&mut harness, "k", event(13), "not in the mood for threes");
    harness.crash();
    mood.fail(0);
    harness.resume();
    assert_eq!(harness.take_values(), [(Domain::Event, 13), (Domain::Event, 14)]);
}

#[test]
fn options_that_are_put_right_mend_it_and_a_stop_ends_with_its_namespace() {
    let (mood, mut harness) = moody(NamespaceConfig::default());
    harness.process_element("k", [(1, 13)], 1).expect("taken");
    mood.fail(u32::MAX);
    harness.advance_clock(20);
    assert!(harness.stopped().is_some());
    let operator = FUNCTION.to_owned();
    harness.inner.configure(NamespaceConfig { operator, ..skipping() }).expect("it can be changed");
    harness.resume();
    assert_eq!((harness.stopped(), harness.take_values()), (None, vec![]));
    let errors = harness.take_side_outputs(&ERRORS);
    let timer = json!({ "domain": "processing", "fire_at": 13 });
    assert_eq!(errors[0].value, json!({ "error": "not in the mood for threes", "timer": timer }));
    assert_eq!(harness.inner.engine_metrics().timers_failed, 1);
}

#[derive(Debug, Clone)]
enum Turn {
    Element(u8, Vec<(u8, i64)>),
    Watermark(i64),
    Clock(i64),
    Break,
    Mend,
    Resume,
    Crash,
    Rescale(u16),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let timers = prop::collection::vec((0..2_u8, 0..60_i64), 1..4);
    let turn = prop_oneof![
        10 => (0..6_u8, timers).prop_map(|(key, timers)| Turn::Element(key, timers)),
        3 => (1..15_i64).prop_map(Turn::Watermark),
        3 => (1..15_i64).prop_map(Turn::Clock),
        2 => Just(Turn::Break),
        1 => Just(Turn::Mend),
        3 => Just(Turn::Resume),
        1 => Just(Turn::Crash),
        1 => (1..5_u16).prop_map(Turn::Rescale),
    ];
    prop::collection::vec(turn, 1..50)
}

/// By key and domain: what has fired, in its order.
type Fired = BTreeMap<(Vec<u8>, Domain), Vec<i64>>;

fn take(harness: &mut Harness<Moody>, fired: &mut Fired) {
    for Output { key, value: (domain, time), .. } in harness.take_outputs() {
        fired.entry((key, domain)).or_default().push(time);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_has_stopped_and_goes_on_comes_to_the_same_as_what_has_never_failed(turns in turns()) {
        let (mood, mut harness) = moody(NamespaceConfig::default());
        let (_, mut calm) = moody(NamespaceConfig::default());
        let (mut fired, mut expected) = (Fired::new(), Fired::new());
        let (mut watermark, mut clock) = (0, 0);
        for turn in turns {
            match turn {
                Turn::Element(key, timers) => {
                    let key = format!("key {key}");
                    // What is due at once has nothing to wait for: it belongs to another test.
                    let later = |(kind, time)| (kind, time + 200);
                    let timers: Vec<_> = timers.into_iter().map(later).collect();
                    match harness.process_element(&key, &timers, 1_000) {
                        Ok(_) => {
                            calm.process_element(&key, &timers, 1_000).expect("it never fails");
                        }
                        Err(_) => prop_assert!(harness.stopped().is_some()),
                    }
                }
                Turn::Watermark(by) => {
                    watermark += by * 5;
                    harness.advance_watermark(watermark);
                    calm.advance_watermark(watermark);
                }
                Turn::Clock(by) => {
                    clock += by * 5;
                    harness.advance_clock(clock);
                    calm.advance_clock(clock);
                }
                Turn::Break => drop(mood.fail(u32::MAX)),
                Turn::Mend => drop(mood.fail(0)),
                Turn::Resume => harness.resume(),
                Turn::Crash => {
                    // What has once succeeded must succeed again.
                    let left = mood.fail(0);
                    harness.crash();
                    mood.fail(left);
                }
                Turn::Rescale(shards) => harness.rescale(shards),
            }
            take(&mut harness, &mut fired);
        }
        mood.fail(0);
        harness.resume();
        prop_assert_eq!(harness.stopped(), None);
        take(&mut harness, &mut fired);
        take(&mut calm, &mut expected);
        prop_assert_eq!(&fired, &expected);
        for key in (0..6).map(|key| format!("key {key}")) {
            prop_assert_eq!(harness.state(&key), calm.state(&key));
            prop_assert_eq!(harness.timers(&key), calm.timers(&key));
        }
        harness.crash();
        prop_assert_eq!(harness.take_values(), vec![]);
    }
}

#[test]
fn every_lane_that_has_failed_says_so() {
    let on_error = OnError { retry: 0, backoff_ms: 0, then: ErrorPolicy::Stop };
    let (mood, mut harness) = moody(NamespaceConfig { on_error, ..NamespaceConfig::default() });
    assert_eq!(harness.inner.status().failures, []);
    for n in 0..40 {
        harness.process_element(format!("key {n}"), [(0, 13)], 1).expect("taken");
    }
    mood.fail(1_000);
    harness.advance_watermark(50);
    let status = harness.inner.status();
    let keys = |status: &NamespaceStatus| {
        let keys = status.failures.iter().map(|stop| stop.key.clone());
        keys.collect::<BTreeSet<_>>()
    };
    assert_eq!(status.failures.first(), status.stopped.as_ref());
    assert!(status.failures.iter().all(|stop| stop.at == event(13)));
    let lanes = usize::from(LANES);
    assert_eq!((keys(&status).len(), status.failures_omitted), (lanes, 0), "one of each lane");
    // A namespace that is asked for again says the same.
    harness.restart();
    assert_eq!(harness.inner.status().failures, status.failures);
    harness.crash();
    let after = harness.inner.status();
    assert_eq!((after.failures.first(), keys(&after)), (status.stopped.as_ref(), keys(&status)));
    mood.fail(1);
    harness.resume();
    let status = harness.inner.status();
    assert_eq!((status.failures.len(), status.failures_omitted), (1, 0), "one has failed again");
    harness.resume();
    assert_eq!(harness.inner.status().failures, []);
    assert_eq!(harness.take_values().len(), 40);
}
