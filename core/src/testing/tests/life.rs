//! The life of instances: opened before the first callback, closed once, whatever becomes of their
//! namespace.

use super::*;
use crate::function::{FunctionError, Operators};
use crate::namespace::{Command, ProcessingTimers};
use crate::testing::operator::LANES;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What instances have lived to see, each by its number.
#[derive(Clone, Default)]
struct Chronicle {
    events: Arc<Mutex<Vec<(usize, &'static str)>>>,
    made: Arc<Mutex<usize>>,
    cannot_open: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
}

impl Chronicle {
    fn note(&self, instance: usize, event: &'static str) {
        self.events.lock().unwrap().push((instance, event));
    }

    fn count(&self, event: &str) -> usize {
        self.events.lock().unwrap().iter().filter(|it| it.1 == event).count()
    }

    /// How many were opened, and how many closed. None was twice, nor called before or behind that.
    fn check(&self) -> (usize, usize) {
        let mut by_instance: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (instance, event) in self.events.lock().unwrap().iter() {
            by_instance.entry(*instance).or_default().push(event);
        }
        for events in by_instance.values() {
            let rest = events.strip_prefix(&["open"]).unwrap_or(events);
            let rest = rest.strip_suffix(&["close"]).unwrap_or(rest);
            let is_whole = rest.is_empty() || events[0] == "open";
            assert!(is_whole && rest.iter().all(|event| *event == "call"), "{events:?}");
        }
        (self.count("open"), self.count("close"))
    }

    fn instance(&self) -> Living {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        Living { chronicle: self.clone(), number: *made }
    }

    fn harness(&self, config: NamespaceConfig) -> OperatorHarness {
        let (one, other) = (self.clone(), self.clone());
        let operators = Operators::default()
            .with_function("one", move || one.instance())
            .with_function("other", move || other.instance());
        let config = NamespaceConfig { operator: "one".to_owned(), ..config };
        OperatorHarness::new(operators, config).expect("a legal configuration")
    }
}

/// Leaves a timer if it is told a time, and nothing if it is told 0.
struct Living {
    chronicle: Chronicle,
    number: usize,
}

impl KeyedProcessFunction for Living {
    type Input = i64;
    type State = ();
    type Output = i64;

    fn open(&mut self) -> FunctionResult<()> {
        if self.chronicle.cannot_open.load(Ordering::Relaxed) {
            return Err(FunctionError::new("no model there"));
        }
        self.chronicle.note(self.number, "open");
        Ok(())
    }

    fn close(&mut self) {
        self.chronicle.note(self.number, "close");
        assert!(!self.chronicle.panics.load(Ordering::Relaxed), "no good end");
    }

    fn process_element(
        &mut self,
        time: i64,
        (): &mut (),
        ctx: &mut Context<i64>,
    ) -> FunctionResult<()> {
        self.chronicle.note(self.number, "call");
        if time > 0 {
            ctx.timers().register_event_time(ms(time));
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        (): &mut (),
        ctx: &mut OnTimerContext<i64>,
    ) -> FunctionResult<()> {
        self.chronicle.note(self.number, "call");
        ctx.emit(time.as_millis());
        Ok(())
    }
}

fn send(harness: &mut OperatorHarness, key: &str, value: &str) -> Result<ResultKind, Rejection> {
    harness.process(key.as_bytes(), 0, Payload::Json(value.as_bytes()), ms(1))
}

fn told(harness: &mut OperatorHarness) -> usize {
    harness.take_outputs(None).len()
}

#[test]
fn each_instance_of_a_lane_is_closed_once_when_the_service_stops_and_not_in_a_crash() {
    let chronicle = Chronicle::default();
    let mut harness = chronicle.harness(NamespaceConfig::default());
    assert_eq!(chronicle.check(), (0, 0), "nothing was called");
    for n in 0..40 {
        assert_eq!(send(&mut harness, &format!("key {n}"), "5"), Ok(ResultKind::Processed));
    }
    let lanes = usize::from(LANES);
    assert_eq!(chronicle.check(), (lanes, 0), "each lane has one, and has seen a key");
    harness.crash();
    assert_eq!(chronicle.check(), (2 * lanes, 0), "the log was followed by new ones");
    harness.rescale(3);
    assert_eq!(chronicle.check(), (2 * lanes, lanes));
    harness.restart();
    assert_eq!(chronicle.check(), (2 * lanes, 2 * lanes), "what was not opened is closed, too");
    harness.advance_watermark(9);
    assert_eq!(told(&mut harness), 40);
    assert_eq!(chronicle.check(), (3 * lanes, 2 * lanes));
}

#[test]
fn what_a_namespace_lets_go_of_is_closed() {
    let chronicle = Chronicle::default();
    let mut harness = chronicle.harness(NamespaceConfig::default());
    let lanes = usize::from(LANES);
    assert_eq!(send(&mut harness, "k", "0"), Ok(ResultKind::Processed));
    // What leaves the function as it is leaves the instance.
    let plain = NamespaceConfig { operator: "one".to_owned(), ..NamespaceConfig::default() };
    harness.configure(NamespaceConfig { lateness_ms: 1, ..plain.clone() }).expect("taken");
    assert_eq!(chronicle.check(), (1, 0));
    let other = NamespaceConfig { operator: "other".to_owned(), ..plain.clone() };
    harness.configure(other.clone()).expect("it holds nothing");
    assert_eq!(chronicle.check(), (1, lanes));
    assert_eq!(send(&mut harness, "k", "0"), Ok(ResultKind::Processed));
    harness
        .configure(NamespaceConfig { operator: "timers".to_owned(), ..plain.clone() })
        .expect("taken");
    assert_eq!(chronicle.check(), (2, 2 * lanes));
    harness.configure(other).expect("taken");
    assert_eq!(send(&mut harness, "k", "7"), Ok(ResultKind::Processed));
    harness.command(Command::Delete { force: true }).expect("there is one");
    assert_eq!(chronicle.check(), (3, 3 * lanes), "the timer is gone, and so is the function");
    // What has its name then is another one.
    harness.configure(plain).expect("there is none");
    harness.restart();
    assert_eq!(chronicle.check(), (3, 4 * lanes), "nothing else was left that could be closed");
}

#[test]
fn a_namespace_that_has_come_to_its_end_has_no_function_any_more() {
    let chronicle = Chronicle::default();
    let mut harness = chronicle.harness(NamespaceConfig::default());
    let lanes = usize::from(LANES);
    assert_eq!(send(&mut harness, "k", "7"), Ok(ResultKind::Processed));
    harness.close(ProcessingTimers::Drain).expect("it is open");
    assert_eq!(
        (told(&mut harness), chronicle.check()),
        (1, (1, lanes)),
        "the last timer fired before"
    );
    assert_eq!(send(&mut harness, "k", "7"), Err(Rejection::NamespaceClosed));
    assert_eq!(harness.keys(), 0);
    harness.restart();
    harness.crash();
    assert_eq!(chronicle.check().0, 1, "nothing was called any more");
}

#[test]
fn one_that_cannot_be_opened_fails_like_a_callback() {
    let chronicle = Chronicle::default();
    let mut harness = chronicle.harness(skipping());
    chronicle.cannot_open.store(true, Ordering::Relaxed);
    assert_eq!(send(&mut harness, "k", "7"), Ok(ResultKind::Failed));
    let errors = harness.take_outputs(Some("errors"));
    let error = json!({"element": 7, "error": "the function cannot be opened: no model there"});
    let found = errors.iter().map(|it| serde_json::from_slice::<Value>(&it.value).unwrap());
    assert_eq!(found.collect::<Vec<_>>(), [error]);
    chronicle.cannot_open.store(false, Ordering::Relaxed);
    assert_eq!(send(&mut harness, "k", "7"), Ok(ResultKind::Processed));
    assert_eq!(chronicle.check(), (1, 0));

    let mut harness = chronicle.harness(NamespaceConfig::default());
    chronicle.cannot_open.store(true, Ordering::Relaxed);
    let refused = send(&mut harness, "k", "7");
    assert!(matches!(refused, Err(Rejection::NamespaceStopped { .. })), "{refused:?}");
    assert_eq!(harness.engine_metrics().retries, 3);
    chronicle.cannot_open.store(false, Ordering::Relaxed);
    harness.resume();
    assert_eq!(send(&mut harness, "k", "7"), Ok(ResultKind::Processed));
    assert_eq!(chronicle.check(), (2, 0));
}

#[test]
fn a_panic_in_close_is_counted_and_ends_nothing() {
    let chronicle = Chronicle::default();
    let mut harness = chronicle.harness(NamespaceConfig::default());
    let lanes = usize::from(LANES);
    assert_eq!(send(&mut harness, "k", "0"), Ok(ResultKind::Processed));
    chronicle.panics.store(true, Ordering::Relaxed);
    let other = NamespaceConfig { operator: "other".to_owned(), ..NamespaceConfig::default() };
    harness.configure(other).expect("it holds nothing");
    assert_eq!(harness.engine_metrics().close_panics, lanes as u64);
    assert_eq!(send(&mut harness, "k", "7"), Ok(ResultKind::Processed));
    harness.close(ProcessingTimers::Drain).expect("it is open");
    assert_eq!((told(&mut harness), chronicle.check()), (1, (2, 2 * lanes)));
    assert_eq!(harness.engine_metrics().close_panics, 2 * lanes as u64);
    harness.restart();
    // The start has made new ones, and found that they have nothing left to do.
    assert_eq!(harness.engine_metrics().close_panics, lanes as u64);
}
