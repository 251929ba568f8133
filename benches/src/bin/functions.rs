//! What functions cost, and what a key takes that has a state and a timer.
//!
//! `cargo run --release -p stormwheel-benches --bin functions`, for a million keys of 15 bytes; other
//! numbers of keys as arguments. One thread, no files, no HTTP.
//!
//! Each figure is CPU time of this thread (machines are shared, so wall time says little), from the
//! element in memory (its value is JSON) to the outcome, the record of it included. Above the figures
//! stands what the machine does with a plain hash map of the same keys: they are to be read beside
//! that. Bytes a key are resident ones; the slope between the first and the last number of keys is
//! free of what an empty process takes.

use std::collections::HashMap;
use std::io::{Write, stdout};
use stormwheel::function::{Context, KeyedProcessFunction, OnTimerContext, Operators, Result};
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{Action, Element, Payload};
use stormwheel::operators::built_in;
use stormwheel::output::OutputKind;
use stormwheel::solo::Solo;
use stormwheel::time::Timestamp;
use stormwheel_benches::keys::Keys;
use stormwheel_benches::ops::{START, apply_all};
use stormwheel_benches::process::{cpu_seconds, resident_bytes};

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY_BYTES: usize = 15;
const MINUTE: i64 = 60_000;
/// How far time goes on with each step while timers fire.
const STEP_MS: i64 = 100;

/// Emits the count once a key has been silent for a minute of event time.
struct CountWithTimeout;

impl KeyedProcessFunction for CountWithTimeout {
    type Input = u32;
    /// The count, and the timestamp of the last element.
    type State = (u64, Timestamp);
    type Output = u64;

    fn process_element(
        &mut self,
        _value: u32,
        state: &mut (u64, Timestamp),
        ctx: &mut Context<u64>,
    ) -> Result<()> {
        *state = (state.0 + 1, ctx.timestamp());
        ctx.timers().register_event_time(state.1 + MINUTE);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut (u64, Timestamp),
        ctx: &mut OnTimerContext<u64>,
    ) -> Result<()> {
        if time == state.1 + MINUTE {
            ctx.emit(state.0);
            ctx.clear_state();
        }
        Ok(())
    }
}

/// Puts its one timer off: deletes it, registers the next, keeps its time.
struct Heartbeat;

impl KeyedProcessFunction for Heartbeat {
    type Input = u32;
    type State = Timestamp;
    type Output = ();

    fn process_element(
        &mut self,
        _value: u32,
        timer: &mut Timestamp,
        ctx: &mut Context<()>,
    ) -> Result<()> {
        ctx.timers().delete_event_time(*timer);
        *timer = ctx.timestamp() + MINUTE;
        ctx.timers().register_event_time(*timer);
        Ok(())
    }
}

/// Keeps eight bytes and a timer for each key.
struct EightBytes;

impl KeyedProcessFunction for EightBytes {
    type Input = u32;
    type State = [u8; 8];
    type Output = ();

    fn process_element(
        &mut self,
        _value: u32,
        state: &mut [u8; 8],
        ctx: &mut Context<()>,
    ) -> Result<()> {
        let time = ctx.timestamp();
        *state = time.as_millis().to_le_bytes();
        ctx.timers().register_event_time(time + MINUTE);
        Ok(())
    }
}

fn operators() -> Operators {
    built_in()
        .with_function("count-with-timeout", || CountWithTimeout)
        .with_function("heartbeat", || Heartbeat)
        .with_function("eight-bytes", || EightBytes)
}

fn namespace(operator: &str, options: &str) -> Solo {
    let config = NamespaceConfig {
        operator: operator.to_owned(),
        options: options.parse().expect("options are JSON"),
        ..NamespaceConfig::default()
    };
    Solo::with_operators(&config, operators(), START).expect("the operator is there")
}

/// A time for each key, spread over a minute.
fn spread(n: u32) -> Timestamp {
    let mixed = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    START.saturating_add(mixed as i64 % MINUTE)
}

/// Hands one element to each key, `after_ms` later than its own time.
fn elements(solo: &mut Solo, keys: &Keys, after_ms: i64) {
    apply_all(solo, keys, START, |n| {
        let timestamp = spread(n).saturating_add(after_ms);
        Action::Element(Element { timestamp, input: 0, value: Payload::Json(b"1") })
    });
}

/// Moves the watermark over the minute in which all timers are due; returns how many values came out.
fn fire(solo: &mut Solo, from_ms: i64) -> usize {
    let mut values = 0;
    let mut passed = 0;
    while passed < MINUTE {
        passed += STEP_MS;
        let watermark = START.saturating_add(from_ms + passed);
        solo.advance_watermark(watermark, START, |output| {
            values += usize::from(matches!(output.kind, OutputKind::Value { tag: None, .. }));
        });
    }
    values
}

/// The keys in two orders: what comes second finds nothing where the first left it.
struct Run {
    keys: [Keys; 2],
    count: usize,
    /// What a hash map of the same keys takes for an entry, in nanoseconds.
    machine_ns: f64,
}

impl Run {
    fn new(count: u32) -> Self {
        let keys = [1, 2].map(|seed| Keys::shuffled(count, KEY_BYTES, seed));
        let mut map: HashMap<Vec<u8>, u64> =
            keys[0].iter().map(|(_, key)| (key.to_vec(), 0)).collect();
        let began = cpu_seconds();
        for (n, key) in keys[1].iter() {
            if let Some(value) = map.get_mut(key) {
                *value += u64::from(n);
            }
        }
        let machine_ns = (cpu_seconds() - began) * 1e9 / f64::from(count);
        std::hint::black_box(&map);
        Self { keys, count: count as usize, machine_ns }
    }

    fn measure(&self, what: &str, work: impl FnOnce(&[Keys; 2])) -> std::io::Result<()> {
        let began = cpu_seconds();
        work(&self.keys);
        let ns = (cpu_seconds() - began) * 1e9 / self.count as f64;
        let (rate, ratio) = (1e9 / ns, ns / self.machine_ns);
        writeln!(stdout(), "  {what:<44} {rate:11.0} /s {ns:8.1} ns {ratio:6.1} ×")
    }

    fn costs(&self) -> std::io::Result<()> {
        let ns = self.machine_ns;
        writeln!(stdout(), "{} keys of {KEY_BYTES} bytes, one thread", self.count)?;
        let what = "calibration: an entry of a hash map";
        writeln!(stdout(), "  {what:<44} {:11.0} /s {ns:8.1} ns", 1e9 / ns)?;

        let mut solo = namespace("count-with-timeout", "null");
        self.measure("count with timeout: new keys", |keys| elements(&mut solo, &keys[0], 0))?;
        let what = "count with timeout: keys that are there";
        self.measure(what, |keys| elements(&mut solo, &keys[1], 1))?;
        assert_eq!(solo.pending(), 2 * self.count as u64, "two timers for each key");

        let mut solo = namespace("heartbeat", "null");
        elements(&mut solo, &self.keys[0], 0);
        let what = "heartbeat: delete, register, state";
        self.measure(what, |keys| elements(&mut solo, &keys[1], 1_000))?;
        assert_eq!(solo.pending(), self.count as u64, "one timer for each key");

        let mut solo = namespace("count-with-timeout", "null");
        elements(&mut solo, &self.keys[0], 0);
        let mut values = 0;
        let what = "fire: read the state, emit, the key goes";
        self.measure(what, |_| values = fire(&mut solo, MINUTE))?;
        assert_eq!((values, solo.pending()), (self.count, 0), "each key has told its count");

        let options = r#"{"window":{"tumbling":{"size":"1m"}},"aggregate":{"n":"count"}}"#;
        let mut solo = namespace("windows", options);
        let what = "windows, tumbling, count: new keys";
        self.measure(what, |keys| elements(&mut solo, &keys[0], 0))?;
        let what = "windows, tumbling, count: keys that are there";
        self.measure(what, |keys| elements(&mut solo, &keys[1], 0))?;
        self.measure("windows, tumbling, count: they fire", |_| values = fire(&mut solo, 0))?;
        assert_eq!((values, solo.pending()), (self.count, 0), "each window has fired");
        Ok(())
    }
}

/// Keys that hold eight bytes of state and one timer. They stay with the caller, so that what comes
/// next is not given the memory that they have left.
fn fill(count: u32) -> (Solo, usize) {
    let keys = Keys::shuffled(count, KEY_BYTES, 1);
    let mut solo = namespace("eight-bytes", "null");
    let before = resident_bytes();
    elements(&mut solo, &keys, 0);
    assert_eq!(solo.pending(), u64::from(count), "one timer for each key");
    let bytes = resident_bytes().saturating_sub(before);
    (solo, bytes)
}

fn memory(counts: &[u32]) -> std::io::Result<()> {
    writeln!(stdout(), "eight bytes of state and one timer, keys of {KEY_BYTES} bytes")?;
    let mut held = Vec::new();
    for &count in counts {
        let (solo, bytes) = fill(count);
        let a_key = |bytes: usize| bytes as f64 / f64::from(count);
        writeln!(stdout(), "  {count:>10} keys: {:6.1} bytes a key, resident", a_key(bytes))?;
        for (part, bytes) in solo.memory().into_iter().filter(|(_, bytes)| *bytes > 0) {
            writeln!(stdout(), "    {part:<24} {:6.1}", a_key(bytes))?;
        }
        held.push((f64::from(count), bytes as f64, solo));
    }
    if let [first, .., last] = &held[..]
        && last.0 > first.0
    {
        let slope = (last.1 - first.1) / (last.0 - first.0);
        writeln!(stdout(), "  slope: {slope:.1} bytes a key")?;
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let mut counts: Vec<u32> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1_000_000, 4_000_000];
    }
    // Memory first: nothing has been given back yet that would be taken again.
    memory(&counts)?;
    Run::new(counts[0]).costs()
}
