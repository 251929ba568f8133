//! Whether memory follows the timers and not the traffic: many rounds of heartbeats on the same keys,
//! and of creating and cancelling the same timers, with the resident bytes after each tenth round.
//!
//! `cargo run --release -p stormwheel-benches --bin flat`, for a million keys; another number as the
//! argument. Exits with 1 if the last round holds 5 % more than the first tenth.

use std::io::{Write, stdout};
use std::process::ExitCode;
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{Action, DEFAULT_TIMER_NAME, Only, Op, Register, Target, When};
use stormwheel::solo::Solo;
use stormwheel::time::{Domain, Timestamp};
use stormwheel_benches::keys::Keys;
use stormwheel_benches::process::resident_bytes;

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const BATCH_OPS: usize = 5_000;
const DOMAIN: Domain = Domain::Processing;

fn apply(solo: &mut Solo, keys: &Keys, now: Timestamp, action: impl Fn(u32) -> Action<'static>) {
    let mut ops = Vec::with_capacity(BATCH_OPS);
    let mut keys = keys.iter();
    loop {
        ops.clear();
        ops.extend(keys.by_ref().take(BATCH_OPS).map(|(n, key)| Op { key, action: action(n) }));
        if ops.is_empty() {
            return;
        }
        std::hint::black_box(solo.apply(&ops, now));
    }
}

/// Heartbeats once a second, of timers that would be due after a minute of silence: each round the
/// clock moves on, and entries come up that stand for timers long postponed.
fn heartbeat(solo: &mut Solo, keys: &Keys, round: i64) {
    let now = START.saturating_add(round * 1_000);
    let touch = Action::Touch { name: DEFAULT_TIMER_NAME, domain: DOMAIN, after_ms: 60_000 };
    apply(solo, keys, now, |_| touch);
    solo.advance(now, |_| {});
}

fn create_and_cancel(solo: &mut Solo, keys: &Keys, round: i64) {
    let at = |n: u32| START.saturating_add(1_000_000 + round * 7 + n as i64 % 60_000);
    apply(solo, keys, START, |n| {
        Action::Register(Register {
            domain: DOMAIN,
            name: None,
            when: When::At(at(n)),
            payload: None,
            resolution_ms: None,
            spread_ms: None,
            only: Only::Always,
        })
    });
    apply(solo, keys, START, |n| Action::Delete { domain: DOMAIN, target: Target::FireAt(at(n)) });
    assert_eq!(solo.pending(), 0, "each was cancelled");
}

fn check(
    what: &str,
    rounds: i64,
    keys: &Keys,
    work: impl Fn(&mut Solo, &Keys, i64),
) -> std::io::Result<bool> {
    let solo = Solo::new(&NamespaceConfig::default(), START);
    let mut solo = solo.expect("the default configuration is legal");
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
