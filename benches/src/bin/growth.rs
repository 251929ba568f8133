//! What an operation costs and what a timer takes as the number of timers grows.
//!
//! `cargo run --release -p stormwheel-benches --bin growth -- 1000000 10000000`
//!
//! For each size, in a fresh core on one thread: nanoseconds of CPU time an operation (machines are
//! shared, so wall time says little), and resident bytes a timer. The slope between the first and
//! the last size is free of what an empty process takes.

use std::io::{Write, stdout};
use stormwheel::op::Action;
use stormwheel::solo::Solo;
use stormwheel::time::Timestamp;
use stormwheel_benches::keys::Keys;
use stormwheel_benches::ops::{START, apply_all, cancel, empty, register, touch};
use stormwheel_benches::process::{cpu_seconds, resident_bytes};

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPREAD_MS: i64 = 60_000;

struct Run {
    solo: Solo,
    /// The same keys in two orders: what comes second finds nothing where the first left it.
    keys: [Keys; 2],
    count: usize,
    out: std::io::Stdout,
}

fn due(n: u32) -> Timestamp {
    let mixed = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    START.saturating_add(1 + mixed as i64 % SPREAD_MS)
}

impl Run {
    fn new(count: u32, key_bytes: usize) -> Self {
        let keys = [1, 2].map(|seed| Keys::shuffled(count, key_bytes, seed));
        Self { solo: empty(), keys, count: count as usize, out: stdout() }
    }

    /// Begins again: time has passed all that can be registered.
    fn restart(&mut self) {
        self.solo = empty();
    }

    fn report(&mut self, what: &str, ops: usize, seconds: f64) -> std::io::Result<()> {
        writeln!(self.out, "  {what:<28} {:7.1} ns", seconds * 1e9 / ops as f64)
    }

    fn apply(&mut self, order: usize, action: impl Fn(u32) -> Action<'static>) -> f64 {
        let began = cpu_seconds();
        apply_all(&mut self.solo, &self.keys[order], START, action);
        cpu_seconds() - began
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
    let spent = run.apply(0, |n| register(due(n)));
    let bytes = resident_bytes().saturating_sub(before);
    let per_timer = bytes as f64 / ops as f64;
    writeln!(run.out, "{count} timers, keys of {key_bytes} bytes: {per_timer:.1} bytes a timer")?;
    for (part, bytes) in run.solo.memory() {
        if bytes > 0 {
            writeln!(run.out, "  {part:<28} {:7.1} B", bytes as f64 / ops as f64)?;
        }
    }
    run.report("schedule, fresh memory", ops, spent)?;
    let spent = run.apply(1, |n| register(due(n)));
    run.report("schedule again (duplicate)", ops, spent)?;
    let spent = run.apply(0, |n| cancel(due(n)));
    run.report("cancel by time", ops, spent)?;
    let spent = run.apply(1, |n| register(due(n)));
    run.report("schedule, used memory", ops, spent)?;
    let spent = run.advance(1);
    run.report("fire ms by ms, key goes", ops, spent)?;
    run.restart();
    run.apply(1, |n| register(due(n)));
    let spent = run.advance(100);
    run.report("fire 100 ms at a time", ops, spent)?;
    let mut run = Run::new(count, key_bytes);
    run.apply(0, |_| touch(SPREAD_MS - 1_000));
    let spent = run.apply(1, |_| touch(SPREAD_MS - 500));
    run.report("heartbeat", ops, spent)?;
    run.apply(0, |_| touch(SPREAD_MS));
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
