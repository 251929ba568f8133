//! The core beside what else a Rust program would keep its timers in, in one run.
//!
//! ```text
//! cargo run --release -p stormwheel-benches --bin peers                        1 M timers, 5 rounds
//! cargo run --release -p stormwheel-benches --bin peers -- 10000000 --rounds 3 --json peers.json
//! cargo run -p stormwheel-benches --bin peers -- 1000 --rounds 1               only to see that it runs
//! ```
//!
//! In each round all are measured one after the other, each in a process of its own; figures are
//! medians over the rounds, in nanoseconds of CPU time an operation, one thread, and resident bytes a
//! timer. Behind each figure of a peer stands the median of its ratios to the core's of the same
//! round: above 1 the core is cheaper. What the peers are spared stands in
//! `stormwheel_benches::peers`: above all that the core writes a record of every operation and fire.
//! `--only`, `--key-bytes` (15 or 32) and further numbers of timers narrow or widen the run.

use serde_json::{Map, Value, json};
use std::io::{Result, Write, stdout};
use stormwheel_benches::process::machine;
use stormwheel_benches::report::{Asked, median, row};
use stormwheel_benches::work::{
    CALIBRATION, MEMORY, OPERATIONS, SUBJECTS, answer_parent, measured,
};

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The figures of one subject, a value for each round.
type Rounds = Vec<Value>;

fn figures(rounds: &Rounds, pointer: &str) -> Vec<f64> {
    rounds.iter().filter_map(|round| round.pointer(pointer)?.as_f64()).collect()
}

/// A median, and the median ratio to the core in the same round.
fn cell(found: &[(String, Rounds)], rounds: &Rounds, pointer: &str) -> String {
    let own = figures(rounds, pointer);
    let core = found.iter().find(|(subject, _)| subject == "core");
    let beside = core.map(|(_, core)| figures(core, pointer)).unwrap_or_default();
    let ratio = median(own.iter().zip(&beside).map(|(own, core)| own / core).collect());
    let middle = median(own);
    if ratio.is_nan() { format!("{middle:.1}") } else { format!("{middle:.1} ({ratio:.2})") }
}

fn show(found: &[(String, Rounds)], count: u32, key_bytes: usize) -> Result<()> {
    writeln!(stdout(), "{count} timers, keys of {key_bytes} bytes: CPU ns (ratio to the core)")?;
    row("", found.iter().map(|(subject, _)| subject.clone()))?;
    for what in OPERATIONS.iter().chain(&[CALIBRATION]) {
        let pointer = format!("/operations/{what}/cpu_ns");
        row(what, found.iter().map(|(_, rounds)| cell(found, rounds, &pointer)))?;
    }
    for what in MEMORY {
        let pointer = format!("/bytes/{what}");
        let cells = found.iter().map(|(_, rounds)| cell(found, rounds, &pointer));
        row(&format!("bytes a timer, {what}"), cells)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if answer_parent(&args)? {
        return Ok(());
    }
    let asked = Asked {
        counts: vec![1_000_000],
        rounds: 5,
        subjects: SUBJECTS.map(str::to_owned).to_vec(),
        key_bytes: vec![15],
        json: None,
    };
    let asked = asked.read(&args)?;
    let mut runs = Vec::new();
    for &key_bytes in &asked.key_bytes {
        for &count in &asked.counts {
            let none = |subject: &String| (subject.clone(), Vec::new());
            let mut found: Vec<(String, Rounds)> = asked.subjects.iter().map(none).collect();
            for _ in 0..asked.rounds {
                for (subject, rounds) in &mut found {
                    rounds.push(measured(subject, count, key_bytes)?);
                }
            }
            show(&found, count, key_bytes)?;
            let subjects: Map<String, Value> =
                found.into_iter().map(|(subject, rounds)| (subject, json!(rounds))).collect();
            runs.push(json!({"timers": count, "key_bytes": key_bytes, "subjects": subjects}));
        }
    }
    asked.keep(&json!({"peers": runs, "machine": machine()}))
}
