//! What an operation costs and what a timer takes as the number of timers grows.
//!
//! `cargo run --release -p stormwheel-benches --bin growth -- 1000000 10000000`
//!
//! For each size, in a fresh core on one thread: nanoseconds of CPU time an operation (machines are
//! shared, so wall time says little), and resident bytes a timer. The slope between the first and
//! the last size is free of what an empty process takes.

use std::io::{Write, stdout};
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{Action, DEFAULT_TIMER_NAME, Only, Op, Register, Target, When};
use stormwheel::solo::Solo;
use stormwheel::time::{Domain, Timestamp};
use stormwheel_benches::keys::Keys;
use stormwheel_benches::process::{cpu_seconds, resident_bytes};

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const BATCH_OPS: usize = 5_000;
const SPREAD_MS: i64 = 60_000;

struct Run {
    solo: Solo,
    /// The same keys in two orders: what comes second finds nothing where the first left it.
    keys: [Keys; 2],
    count: usize,
    out: std::io::Stdout,
}

fn register(n: u32) -> Action<'static> {
    let mixed = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    Action::Register(Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(START.saturating_add(1 + mixed as i64 % SPREAD_MS)),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    })
}

fn cancel(n: u32) -> Action<'static> {
    let Action::Register(Register { when: When::At(at), .. }) = register(n) else {
        return Action::DeleteAll;
    };
    Action::Delete { domain: Domain::Processing, target: Target::FireAt(at) }
}

impl Run {
    fn new(count: u32, key_bytes: usize) -> Self {
        let solo = Solo::new(&NamespaceConfig::default(), START);
        let solo = solo.expect("the default configuration is legal");
        let keys = [1, 2].map(|seed| Keys::shuffled(count, key_bytes, seed));
        Self { solo, keys, count: count as usize, out: stdout() }
    }

    /// Begins again: time has passed all that can be registered.
    fn restart(&mut self) {
        let solo = Solo::new(&NamespaceConfig::default(), START);
        self.solo = solo.expect("the default configuration is legal");
    }

    fn report(&mut self, what: &str, ops: usize, seconds: f64) -> std::io::Result<()> {
        writeln!(self.out, "  {what:<28} {:7.1} ns", seconds * 1e9 / ops as f64)
    }

    fn apply(&mut self, order: usize, action: impl Fn(u32) -> Action<'static>) -> f64 {
        let mut ops = Vec::with_capacity(BATCH_OPS);
        let mut keys = self.keys[order].iter();
        let began = cpu_seconds();
        loop {
            ops.clear();
            let batch = keys.by_ref().take(BATCH_OPS);
            ops.extend(batch.map(|(n, key)| Op { key, action: action(n) }));
            if ops.is_empty() {
                return cpu_seconds() - began;
            }
            std::hint::black_box(self.solo.apply(&ops, START));
        }
    }

    fn advance(&mut self, step_ms: i64) -> f64 {
        let began = cpu_seconds();
        let mut fired = 0;
        let mut passed = 0;
        while passed < SPREAD_MS {
            passed += step_ms;
            self.solo.advance(START.saturating_add(passed), |_| fired += 1);
        }
        assert_eq!(fired, self.count, "each timer fires once");
        cpu_seconds() - began
    }
}

fn measure(count: u32, key_bytes: usize) -> std::io::Result<f64> {
    let mut run = Run::new(count, key_bytes);
    let ops = count as usize;
    let before = resident_bytes();
    let spent = run.apply(0, register);
    let bytes = resident_bytes().saturating_sub(before);
    let per_timer = bytes as f64 / ops as f64;
    writeln!(run.out, "{count} timers, keys of {key_bytes} bytes: {per_timer:.1} bytes a timer")?;
    for (part, bytes) in run.solo.memory() {
        if bytes > 0 {
            writeln!(run.out, "  {part:<28} {:7.1} B", bytes as f64 / ops as f64)?;
        }
    }
    run.report("schedule, fresh memory", ops, spent)?;
    let spent = run.apply(1, register);
    run.report("schedule again (duplicate)", ops, spent)?;
    let spent = run.apply(0, cancel);
    run.report("cancel by time", ops, spent)?;
    let spent = run.apply(1, register);
    run.report("schedule, used memory", ops, spent)?;
    let spent = run.advance(1);
    run.report("fire ms by ms, key goes", ops, spent)?;
    run.restart();
    run.apply(1, register);
    let spent = run.advance(100);
    run.report("fire 100 ms at a time", ops, spent)?;
    let mut run = Run::new(count, key_bytes);
    let touch = |after_ms| {
        move |_| Action::Touch { name: DEFAULT_TIMER_NAME, domain: Domain::Processing, after_ms }
    };
    run.apply(0, touch(SPREAD_MS - 1_000));
    let spent = run.apply(1, touch(SPREAD_MS - 500));
    run.report("heartbeat", ops, spent)?;
    run.apply(0, touch(SPREAD_MS));
    let spent = run.advance(SPREAD_MS);
    run.report("storm at one ms, key goes", ops, spent)?;
    Ok(bytes as f64)
}

fn main() -> std::io::Result<()> {
    let mut counts: Vec<u32> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1_000_000, 10_000_000];
    }
    for key_bytes in [15, 32] {
        let mut sizes = Vec::new();
        for count in &counts {
            sizes.push((*count as f64, measure(*count, key_bytes)?));
        }
        if let (Some(first), Some(last)) = (sizes.first(), sizes.last())
            && last.0 > first.0
        {
            let slope = (last.1 - first.1) / (last.0 - first.0);
            writeln!(stdout(), "slope, keys of {key_bytes} bytes: {slope:.1} bytes a timer")?;
        }
    }
    Ok(())
}
