//! The N-th I/O call goes wrong, for every N of a workload of some two thousand calls, in each way
//! that a call can: the contract holds, and what is no failure (a short read, an interrupted write)
//! is not taken for one.
//!
//! Every 20th call by default, each one with `STORMWHEEL_NTH=all`.

use crate::machine::Fault;
use crate::model::Violation;
use crate::plan::{Crash, Event};
use crate::rng::Rng;
use crate::run::Run;
use crate::share::share;
use crate::world::Setup;

/// The calls that the workload is to make, at least.
const CALLS: u64 = 2_000;
const STEP_DEFAULT: u64 = 20;
const SEED: u64 = 42;

fn crash(is_power: bool, seed: u64) -> Event {
    Event::Crash(Crash { is_power, shards: 2, down_ms: 5, ..Crash::plain(seed) })
}

/// Requests, work and time in turn, with checkpoints among them and two restarts.
fn workload() -> Vec<Event> {
    let mut rng = Rng::new(SEED);
    let mut events = Vec::new();
    for round in 0..520 {
        for _ in 0..=rng.below(3) {
            events.push(Event::Ask(rng.next()));
        }
        events.push(Event::Steps(8, rng.next()));
        events.push(Event::Pass(rng.within(0, 40)));
        match round {
            80 => events.push(crash(true, 1)),
            160 => events.push(Event::Reopen(1)),
            _ => {}
        }
    }
    events.push(Event::Settle);
    events
}

/// What came of the workload.
struct Played {
    calls: u64,
    /// How often the node had to be started again.
    starts: u64,
    /// Faults that a call met.
    met: u64,
}

/// Plays the workload with a fault at its `nth` call, or at the first one behind that can meet it.
fn play(events: &[Event], fault: Option<(u64, Fault)>) -> Result<Played, Violation> {
    let mut run = Run::new(SEED, &Setup::plain());
    if let Some((nth, fault)) = fault {
        run.world.machine.fail_at(nth, fault);
        run.may_refuse |= fault == Fault::Enospc;
    }
    run.start(2)?;
    for event in events {
        run.happen(event)?;
    }
    let calls = run.world.machine.calls();
    run.happen(&crash(true, 2))?;
    Ok(Played { calls, starts: run.summary.crashes, met: run.world.machine.met().len() as u64 })
}

#[test]
fn any_call_may_go_wrong() {
    let events = workload();
    let whole = play(&events, None).unwrap_or_else(|it| panic!("without a fault: {it:?}"));
    assert!(whole.calls >= CALLS, "the workload makes {} calls only", whole.calls);
    let is_all = std::env::var("STORMWHEEL_NTH").is_ok_and(|which| which == "all");
    let step = if is_all { 1 } else { STEP_DEFAULT };
    let outcome = share(0..whole.calls.div_ceil(step), |case| {
        let nth = 1 + case * step;
        for fault in Fault::ALL {
            let played = play(&events, Some((nth, fault))).map_err(|violation| {
                format!("call {nth}, {fault:?}: {}: {}", violation.kind, violation.detail)
            })?;
            let is_harmless = matches!(fault, Fault::Eintr | Fault::Short);
            if played.starts != whole.starts && is_harmless {
                return Err(format!("call {nth}, {fault:?}: ended the node"));
            }
            // What follows in the workload makes calls of every kind, up to its end.
            if played.met == 0 && nth < whole.calls - whole.calls / 10 {
                return Err(format!("call {nth}, {fault:?}: no call met it"));
            }
        }
        Ok(true)
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
