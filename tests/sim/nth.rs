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
    for round in 0..240 {
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

/// Plays the workload with a fault at its `nth` call. Returns how many calls it made, and how often
/// the node had to be started again.
fn play(events: &[Event], fault: Option<(u64, Fault)>) -> Result<(u64, u64), Violation> {
    let mut run = Run::new(SEED, &Setup::plain());
    if let Some((nth, fault)) = fault {
        run.fail_in(nth, fault);
    }
    run.start(2)?;
    for event in events {
        run.happen(event)?;
    }
    let calls = run.world.machine.calls();
    run.happen(&crash(true, 2))?;
    Ok((calls, run.summary.crashes))
}

#[test]
fn any_call_may_go_wrong() {
    let events = workload();
    let (calls, starts) =
        play(&events, None).unwrap_or_else(|it| panic!("without a fault: {it:?}"));
    assert!(calls >= CALLS, "the workload makes {calls} calls only");
    let is_all = std::env::var("STORMWHEEL_NTH").is_ok_and(|which| which == "all");
    let step = if is_all { 1 } else { STEP_DEFAULT };
    for nth in (1..=calls).step_by(step as usize) {
        for fault in Fault::ALL {
            let outcome = std::panic::catch_unwind(|| play(&events, Some((nth, fault))));
            let outcome = outcome.unwrap_or_else(|_| panic!("call {nth}, {fault:?}: a panic"));
            let (_, started) = outcome.unwrap_or_else(|violation| {
                panic!("call {nth}, {fault:?}: {}: {}", violation.kind, violation.detail)
            });
            let is_harmless = matches!(fault, Fault::Eintr | Fault::Short);
            assert!(started == starts || !is_harmless, "call {nth}, {fault:?}: ended the node");
        }
    }
}
