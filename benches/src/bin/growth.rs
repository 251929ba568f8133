//! What an operation costs and what a timer takes as the number of timers grows.
//!
//! ```text
//! cargo run --release -p stormwheel-benches --bin growth                  10 k to 10 M
//! cargo run --release -p stormwheel-benches --bin growth -- 1000000 10000000 --key-bytes 15,32
//! ```
//!
//! For each size, in a process of its own on one thread: nanoseconds of CPU time an operation
//! (machines are shared, so wall time says little), and resident bytes a timer, with those of the
//! parts. Behind a figure stands how many times it is that of the size before. The slope between the
//! first and the last size is free of what an empty process takes. 100 M timers with keys of 15 bytes
//! take some 20 GB, half of it for the keys that are visited.

use serde_json::{Value, json};
use std::io::{Result, Write, stdout};
use stormwheel_benches::process::machine;
use stormwheel_benches::report::{Asked, median, row};
use stormwheel_benches::work::{CALIBRATION, MEMORY, OPERATIONS, answer_parent, measured};

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A size and what was found of it, round by round.
type Size = (u32, Vec<Value>);

fn middle(rounds: &[Value], of: impl Fn(&Value) -> Option<f64>) -> f64 {
    median(rounds.iter().filter_map(of).collect())
}

fn line(sizes: &[Size], name: &str, of: impl Fn(&Value) -> Option<f64>) -> Result<()> {
    let values: Vec<f64> = sizes.iter().map(|(_, rounds)| middle(rounds, &of)).collect();
    let cells = values.iter().enumerate().map(|(at, value)| match at.checked_sub(1) {
        _ if value.is_nan() => "-".to_owned(),
        Some(before) => format!("{value:.1} ({:.2})", value / values[before]),
        None => format!("{value:.1}"),
    });
    row(name, cells)
}

fn show(sizes: &[Size], key_bytes: usize) -> Result<()> {
    writeln!(stdout(), "keys of {key_bytes} bytes: CPU ns (times the size before)")?;
    row("timers", sizes.iter().map(|(count, _)| count.to_string()))?;
    for what in OPERATIONS.iter().chain(&[CALIBRATION]) {
        line(sizes, what, |round| round["operations"][what]["cpu_ns"].as_f64())?;
    }
    writeln!(stdout(), "bytes a timer, resident, and of the parts")?;
    for what in MEMORY {
        line(sizes, what, |round| round["bytes"][what].as_f64())?;
    }
    let parts = sizes.first().and_then(|(_, rounds)| rounds.first()?["bytes"].as_object());
    for part in parts.into_iter().flatten().map(|(part, _)| part) {
        let is_some = |(_, rounds): &Size| rounds[0]["bytes"][part].as_f64() > Some(0.0);
        if !MEMORY.contains(&part.as_str()) && sizes.iter().any(is_some) {
            line(sizes, &format!("  {part}"), |round| round["bytes"][part].as_f64())?;
        }
    }
    if let ([first, .., last], held) = (sizes, MEMORY[0])
        && last.0 > first.0
    {
        let held = |size: &Size| {
            middle(&size.1, |round| round["bytes"][held].as_f64()) * f64::from(size.0)
        };
        let slope = (held(last) - held(first)) / f64::from(last.0 - first.0);
        writeln!(stdout(), "  slope, keys of {key_bytes} bytes: {slope:.1} bytes a timer")?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if answer_parent(&args)? {
        return Ok(());
    }
    let asked = Asked {
        counts: vec![10_000, 100_000, 1_000_000, 10_000_000],
        rounds: 1,
        subjects: Vec::new(),
        key_bytes: vec![15],
        json: None,
    };
    let asked = asked.read(&args)?;
    let mut runs = Vec::new();
    for &key_bytes in &asked.key_bytes {
        let mut sizes: Vec<Size> = asked.counts.iter().map(|count| (*count, Vec::new())).collect();
        for _ in 0..asked.rounds {
            for (count, rounds) in &mut sizes {
                rounds.push(measured("core", *count, key_bytes)?);
            }
        }
        show(&sizes, key_bytes)?;
        for (count, rounds) in sizes {
            runs.push(json!({"timers": count, "key_bytes": key_bytes, "rounds": rounds}));
        }
    }
    asked.keep(&json!({"growth": runs, "machine": machine()}))
}
