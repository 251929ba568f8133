//! Whether memory follows the timers and not the traffic: many rounds of heartbeats on the same keys,
//! and of creating and cancelling the same timers, with the resident bytes after each tenth round.
//!
//! `cargo run --release -p stormwheel-benches --bin flat`, for a million keys; another number as the
//! argument. Exits with 1 if the last round holds 5 % more than the first tenth.

use std::io::{Write, stdout};
use std::process::ExitCode;
use stormwheel::solo::Solo;
use stormwheel_benches::keys::Keys;
use stormwheel_benches::ops::{START, apply_all, cancel, empty, register, touch};
use stormwheel_benches::process::resident_bytes;

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Heartbeats once a second, of timers that would be due after a minute of silence: each round the
/// clock moves on, and entries come up that stand for timers long postponed.
fn heartbeat(solo: &mut Solo, keys: &Keys, round: i64) {
    let now = START.saturating_add(round * 1_000);
    apply_all(solo, keys, now, |_| touch(60_000));
    solo.advance(now, |_| {});
}

fn create_and_cancel(solo: &mut Solo, keys: &Keys, round: i64) {
    let at = |n: u32| START.saturating_add(1_000_000 + round * 7 + n as i64 % 60_000);
    apply_all(solo, keys, START, |n| register(at(n)));
    apply_all(solo, keys, START, |n| cancel(at(n)));
    assert_eq!(solo.pending(), 0, "each was cancelled");
}

fn check(
    what: &str,
    rounds: i64,
    keys: &Keys,
    work: impl Fn(&mut Solo, &Keys, i64),
) -> std::io::Result<bool> {
    let mut solo = empty();
    let mut held = Vec::new();
    for round in 1..=rounds {
        work(&mut solo, keys, round);
        if round % (rounds / 10) == 0 {
            held.push(resident_bytes() as f64 / 1e6);
        }
    }
    let megabytes: Vec<String> = held.iter().map(|held| format!("{held:.0}")).collect();
    let growth = held[held.len() - 1] / held[0] - 1.0;
    writeln!(
        stdout(),
        "{what}, {rounds} rounds: {} MB resident, {:+.1} %",
        megabytes.join(" "),
        growth * 100.0
    )?;
    Ok(growth <= 0.05)
}

fn main() -> std::io::Result<ExitCode> {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let keys = Keys::shuffled(count, 15, 1);
    let is_flat = check("heartbeats", 100, &keys, heartbeat)?
        & check("create and cancel", 50, &keys, create_and_cancel)?;
    Ok(if is_flat { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
