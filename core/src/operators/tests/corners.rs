//! Corners that only the engine shows: more work than one callback may do, deadlines that no tick has
//! reached yet, elements behind the watermark, and what of the namespace's configuration operators
//! look at.

use super::{built_in, config, host};
use crate::namespace::{LateElements, LateTimers, NamespaceConfig, OverduePolicy};
use crate::op::{Action, Element, Op, Payload, ResultKind};
use crate::output::{OutputKind, OutputRecord};
use crate::solo::Solo;
use crate::testing::OperatorHarness;
use crate::time::Timestamp;
use serde_json::{Value, json};

type Taken = Vec<(Option<i64>, String)>;

/// A key of a namespace on the machine's clock, and what came out of it.
struct Play {
    solo: Solo,
    now: Timestamp,
    taken: Taken,
}

fn collect(taken: &mut Taken) -> impl FnMut(OutputRecord<'_>) + Send + '_ {
    |record| {
        let OutputKind::Value { tag: None, timestamp } = record.kind else {
            panic!("{record:?} is no value of the main output");
        };
        let value = record.payload.expect("a value").bytes().to_vec();
        let value = String::from_utf8(value).expect("JSON");
        taken.push((timestamp.map(Timestamp::as_millis), value));
    }
}

impl Play {
    fn new(config: &NamespaceConfig) -> Self {
        let now = Timestamp::from_millis(0);
        let solo = Solo::with_operators(config, built_in(), now).expect("a legal configuration");
        Self { solo, now, taken: Vec::new() }
    }

    /// An element comes in, in a turn that looks at the clock only behind it.
    fn element(&mut self, input: u8, at: i64, value: &str) -> ResultKind {
        let timestamp = Timestamp::from_millis(at);
        let element = Element { timestamp, input, value: Payload::Json(value.as_bytes()) };
        let op = Op { key: b"k", action: Action::Element(element) };
        let outcomes = self.solo.apply_with(&[op], self.now, collect(&mut self.taken));
        outcomes[0].as_ref().expect("it is taken").result
    }

    /// The same, when the clock reads `now`.
    fn element_at(&mut self, now: i64, value: &str) -> ResultKind {
        self.now = Timestamp::from_millis(now);
        self.element(0, now, value)
    }

    fn watermark(&mut self, to: i64) {
        let to = Timestamp::from_millis(to);
        self.solo.advance_watermark(to, self.now, collect(&mut self.taken));
    }

    fn clock(&mut self, now: i64) {
        self.now = Timestamp::from_millis(now);
        self.solo.advance(self.now, collect(&mut self.taken));
    }

    fn check(&mut self, expected: &[(Option<i64>, &str)]) {
        let taken = std::mem::take(&mut self.taken);
        let taken: Vec<_> = taken.iter().map(|(at, value)| (*at, &**value)).collect();
        assert_eq!(taken, expected);
    }
}

fn harness(config: NamespaceConfig) -> OperatorHarness {
    OperatorHarness::new(built_in(), config).expect("a legal configuration")
}

fn process(harness: &mut OperatorHarness, input: u8, at: i64, value: &str) {
    let value = Payload::Json(value.as_bytes());
    let result = harness.process(b"k", input, value, Timestamp::from_millis(at));
    assert_eq!(result, Ok(ResultKind::Processed));
}

#[test]
fn beats_that_one_callback_may_not_emit_come_out_in_several() {
    let options = json!({"every": "10s", "for": "1h", "domain": "event"});
    let mut harness = harness(config("periodic", &options));
    let value = format!("\"{}\"", "x".repeat(600));
    for hour in 0..100 {
        process(&mut harness, 0, hour * 3_600_000, &value);
    }
    harness.advance_watermark(i64::MAX);
    let beats = harness.take_outputs(None);
    let times = beats.iter().map(|beat| beat.timestamp.expect("in event time").as_millis());
    assert!(times.eq((1..=99 * 360).map(|beat| beat * 10_000)), "{} beats", beats.len());
    assert!(beats.len() * 600 > crate::limits::CALL_BYTES_MAX);
    assert_eq!((harness.take_all().len(), harness.keys()), (0, 0));
}

#[test]
fn answers_that_one_callback_may_not_emit_come_out_in_several() {
    for watermarks in [&[10, i64::MAX][..], &[i64::MAX]] {
        let mut harness = harness(config("enrich", &json!({})));
        for fact in 0..290 {
            process(&mut harness, 0, 10, &fact.to_string());
        }
        process(&mut harness, 1, 5, &format!("\"{}\"", "x".repeat(60 << 10)));
        for (is_first, to) in watermarks.iter().enumerate().map(|(index, to)| (index == 0, *to)) {
            harness.advance_watermark(to);
            let answers = harness.take_outputs(None);
            let answers = answers.iter().map(|it| serde_json::from_slice::<Value>(&it.value));
            let finals = answers.map(Result::unwrap).filter(|it| it["final"] == true);
            let finals: Vec<_> = finals.map(|it| it["left"].as_i64()).collect();
            let expected = if is_first { 0..290 } else { 0..0 };
            assert!(finals.into_iter().eq(expected.map(Some)), "in their order, up to {to}");
        }
        assert_eq!((harness.take_all().len(), harness.keys()), (0, 0));
    }
}

#[test]
fn work_that_is_left_waits_for_no_watermark() {
    let options = json!({"every": 1, "times": 1_000, "domain": "event"});
    let late_timers = LateTimers::NextWatermark;
    let config = config("periodic", &options);
    let mut play = Play::new(&NamespaceConfig { late_timers, lateness_ms: 10_000, ..config });
    play.watermark(5_000);
    assert_eq!(play.element(0, 100, "1"), ResultKind::Processed);
    let times = play.taken.iter().map(|(at, _)| at.expect("in event time"));
    assert!(times.eq(101..=1_100), "{} beats", play.taken.len());
    assert_eq!(play.solo.pending(), 0);
}

#[test]
fn by_the_clock_a_deadline_goes_before_an_element_also_if_no_tick_has_reached_it() {
    let mut play = Play::new(&config("timeout", &json!({"after": "10s"})));
    play.element_at(0, "1");
    play.element_at(10_000, "2");
    let silent = r#"{"event":"timeout","last_seen":0,"value":1}"#;
    let back = r#"{"event":"recovered","silent_ms":10000,"value":2}"#;
    play.check(&[(None, silent), (Some(10_000), back)]);

    let mut play = Play::new(&config("debounce", &json!({"after": "500ms"})));
    play.element_at(0, "1");
    play.element_at(500, "2");
    play.clock(1_000);
    play.check(&[(None, "1"), (None, "2")]);
}

#[test]
fn by_the_clock_what_is_delayed_longer_goes_first_also_if_no_tick_has_reached_it() {
    let mut play = Play::new(&config("delay", &json!({"at": "/at"})));
    let value = |n: i64| format!("{{\"n\":{n},\"at\":10}}");
    let all: Vec<_> = (0..301).map(value).collect();
    for held in &all[..300] {
        play.element_at(0, held);
    }
    play.element_at(10, &all[300]);
    play.clock(10);
    let taken: Vec<String> = play.taken.drain(..).map(|(_, value)| value).collect();
    assert_eq!(taken, all);
    assert_eq!(play.solo.pending(), 0);
}

#[test]
fn drop_is_refused_where_a_timer_takes_away_what_a_key_keeps() {
    let window = json!({"tumbling": {"size": 10}});
    let aggregate = json!({"n": "count"});
    for (name, options, is_refused) in [
        ("timeout", json!({"after": 1}), true),
        ("debounce", json!({"after": 1}), true),
        ("throttle", json!({"every": 1}), true),
        ("delay", json!({"after": 1}), true),
        ("periodic", json!({"every": 1, "times": 1}), true),
        ("deduplicate", json!({"ttl": 1}), true),
        (
            "windows",
            json!({"window": window, "aggregate": aggregate, "domain": "processing"}),
            true,
        ),
        ("windows", json!({"window": window, "aggregate": aggregate, "early": {"every": 1}}), true),
        // These have no timers that follow the clock.
        ("windows", json!({"window": window, "aggregate": aggregate}), false),
        (
            "windows",
            json!({"window": window, "aggregate": aggregate, "early": {"elements": 1}}),
            false,
        ),
        ("timeout", json!({"after": 1, "domain": "event"}), false),
        ("deduplicate", json!({"ttl": 1, "domain": "event"}), false),
        ("interval_join", json!({"lower": 0, "upper": 1}), false),
        ("enrich", json!({}), false),
    ] {
        let overdue = OverduePolicy::Drop;
        let config = NamespaceConfig { overdue, ..config(name, &options) };
        let checked = built_in().check(&config).map_err(|rejection| rejection.to_string());
        let refused = format!(
            "overdue.policy: `drop` is not for the operator `{name}` with these options: its timers take \
             away what it keeps for a key; there are `fire`, `spread` and `shift`"
        );
        assert_eq!(checked, if is_refused { Err(refused) } else { Ok(()) }, "{options}");
        // A start does not ask: what it finds was allowed when it was made.
        assert!(built_in().make(&config).is_ok());
    }
}

#[test]
fn an_answer_is_final_once_the_namespace_lets_nothing_more_come() {
    let config = config("enrich", &json!({"keep": "10s"}));
    let mut play = Play::new(&NamespaceConfig { lateness_ms: 5_000, ..config });
    play.element(1, 1_000, "\"silver\"");
    play.element(1, 8_000, "\"gold\"");
    play.watermark(9_000);
    let answer = |left: &str, right: &str, is_final: bool| {
        format!("{{\"left\":{left},\"right\":{right},\"final\":{is_final}}}")
    };
    assert_eq!(play.element(0, 5_000, "1"), ResultKind::Processed);
    assert_eq!(play.element(0, 7_000, "2"), ResultKind::Processed);
    play.check(&[
        (Some(5_000), &answer("1", "\"silver\"", false)),
        (Some(7_000), &answer("2", "\"silver\"", false)),
    ]);
    // Late, and in time for one of the two.
    assert_eq!(play.element(1, 6_000, "\"bronze\""), ResultKind::Processed);
    play.watermark(11_999);
    play.check(&[]);
    play.watermark(12_000);
    play.check(&[(Some(7_000), &answer("2", "\"bronze\"", true))]);
    assert_eq!(play.element(0, 7_000, "3"), ResultKind::Late);
    // Gold holds up to 18,000, for facts that may be 5,000 late.
    play.watermark(22_999);
    assert_eq!(play.solo.pending(), 1);
    play.watermark(23_000);
    play.check(&[]);
    assert_eq!(play.solo.pending(), 0);
}

#[test]
fn an_answer_that_has_become_final_when_the_lateness_was_changed_is_told() {
    let of = |lateness_ms| NamespaceConfig { lateness_ms, ..config("enrich", &json!({})) };
    for (before, after) in [(0, 5_000), (5_000, 0)] {
        let mut harness = harness(of(before));
        process(&mut harness, 0, 10_000, "1");
        harness.configure(of(after)).expect("it may be changed");
        harness.advance_watermark(10_000 + after - 1);
        assert_eq!(harness.take_outputs(None).len(), 1, "the first answer");
        harness.advance_watermark(15_000);
        assert_eq!(harness.take_outputs(None).len(), 1, "the final one");
        harness.advance_watermark(i64::MAX);
        assert_eq!((harness.take_all().len(), harness.keys()), (0, 0));
    }
}

#[test]
fn throttle_keeps_the_newest_also_if_an_older_one_comes_after_it() {
    let config = config("throttle", &json!({"every": "10s", "domain": "event"}));
    let mut play = Play::new(&NamespaceConfig { lateness_ms: 10_000, ..config });
    play.element(0, 0, "1");
    play.element(0, 9_000, "3");
    play.watermark(9_500);
    assert_eq!(play.element(0, 3_000, "2"), ResultKind::Processed);
    play.watermark(60_000);
    play.check(&[(Some(0), "1"), (Some(10_000), "3")]);
}

#[test]
fn throttle_reads_what_it_kept_before_it_kept_times() {
    for (held, expected) in [
        (None, &[(Some(25_000), "4")][..]),
        (Some("3"), &[(Some(10_000), "3"), (Some(25_000), "4")]),
    ] {
        let interval = Some((Timestamp::from_millis(10_000), held));
        let old = postcard::to_extend(&(1u32, None::<u8>, interval), Vec::new()).unwrap();
        let mut host = host("throttle", &json!({"every": "10s", "domain": "event"}));
        host.keep("k", &old);
        host.element("k", 25_000, "4").unwrap();
        host.advance_watermark(30_000);
        let taken = super::emitted(host.take_outputs());
        let taken: Vec<_> = taken.iter().map(|(at, value)| (*at, &**value)).collect();
        assert_eq!(taken, expected);
        host.advance_watermark(i64::MAX);
        assert_eq!(host.keys(), 0);
    }
}

#[test]
fn what_an_operator_finds_late_it_has_not_processed() {
    let options = json!({"window": {"tumbling": {"size": 10}}, "aggregate": {"n": "count"}});
    for (name, options) in [
        ("windows", options),
        ("deduplicate", json!({"ttl": 10, "domain": "event"})),
        ("interval_join", json!({"lower": 0, "upper": 1})),
    ] {
        let late_elements = LateElements::Process;
        let config = NamespaceConfig { late_elements, ..config(name, &options) };
        let mut play = Play::new(&config);
        play.watermark(100);
        assert_eq!(play.element(0, 5, "1"), ResultKind::Late, "{name}");
        play.check(&[]);
    }
}

#[test]
fn by_the_clock_no_element_is_late() {
    let mut play = Play::new(&config("debounce", &json!({"after": "500ms"})));
    play.watermark(100);
    assert_eq!(play.element(0, 50, "1"), ResultKind::Processed);
    play.clock(500);
    play.check(&[(None, "1")]);
}
