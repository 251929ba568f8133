//! The simulator: the engine as it is shipped, in a machine that goes wrong in every way that a
//! machine can, driven by one seed on one thread.
//!
//! # The fault model
//!
//! **The disk** is a page cache over a medium. What is written can be read at once and is durable
//! only after a sync of its file; a name is made, changed or removed at once and durably only after
//! a sync of its folder (for a renaming: of the folder that it leads into). Two things can end a run:
//!
//! - *The process dies*, between two I/O calls or in the middle of one. The page cache stays; a
//!   write under way may have been done in part, up to the end of some sector.
//! - *The power goes.* Of each file's unsynced writes nothing survives, or all, or what came first,
//!   or each write by itself, or each sector by itself, of 512 bytes or of 4 KiB. So writes are
//!   dropped, reordered and torn; no sector is torn, and what was durable stays as it was where it was
//!   not written over. Unsynced names survive likewise: none, all, the first ones, or each by itself;
//!   what was removed may be back.
//!
//! While it runs, any call may fail: reading and writing with an error, in part or interrupted;
//! making, renaming and writing for want of room (which comes back later); a sync with an error. After
//! a sync that failed what was written still reads back well, and no later sync makes it durable:
//! only writing it again does. An error may come although a part of what was asked for was done.
//!
//! **The store** of snapshots has objects whole or not at all. A put that failed may have arrived.
//!
//! **Rot** turns a bit over in what is durable. It never comes by chance here, since not everything
//! can be healed; `rot.rs` turns over every bit in turn.
//!
//! **The clock**: true time only passes, in milliseconds, in days, and while the machine is down. The
//! real-time clock drifts against it by up to 500 millionths and is set forward and back, by
//! milliseconds and by years. The time since the machine's start goes with true time, suspends
//! included, and begins again when the power has gone.
//!
//! **What is not simulated**: a disk that loses what it said was synced, or that writes over what it
//! was not told to; a store that lists other names than it holds; two processes on one directory (the
//! lock keeps them out); threads (the node takes its steps one at a time, in any order). Sources of functions
//! go idle neither when they are told to nor by their silence. Namespaces of functions are not closed. A crash in the
//! middle of a resume is followed where the policy is `fire`, and so is a pause by a manual clock; when a
//! function fails and stops its namespace is not followed, but what may not come of it is.
//!
//! # What is checked
//!
//! A client (`client.rs`) asks for everything the engine offers and keeps a ledger. The engine is held
//! to it by an oracle (`oracle.rs`, `model.rs`) that knows nothing of its insides:
//!
//! - what was acknowledged as synced is there after every crash; what was not is there or not, in
//!   each lane up to one operation and from there on not;
//! - no timer fires before its time, by its own account and by any clock there was;
//! - every due timer fires once, in the order of its key, and nothing else does; no output has two
//!   ids or an id two outputs;
//! - a consumer that resumes finds every record where it stood, and reads it once;
//! - every answer is one that some history explains, also the answers to half of a batch;
//! - watermarks, sources, manual clocks and configurations stand where they were acknowledged, or where
//!   they were told to go next; an idle source holds nothing back, and counts again once it caught up; one
//!   that was silent for too long is idle, and none is before;
//! - in a namespace that is paused no time passes, over crashes too, and operations go on; what fell due
//!   meanwhile follows the policy when it is resumed, as after a downtime;
//! - a namespace that is closed takes nothing more, over crashes too: the final watermark fires what waits
//!   for it, and the rest fires at once, is waited for or goes, as was asked; then it says that it is over;
//! - what a producer sends again is taken once;
//! - what was due at a restart follows its namespace's policy: none is let go early, each is accounted for;
//! - a savepoint that was answered for is there and whole, and what is restored from one is what some
//!   cut through all lanes held, between the question and the answer;
//! - functions: elements are taken once and in order, and the outputs, the state and the timers of
//!   each key are those of a run of the same callbacks in which nothing went wrong (`script.rs`);
//! - a function that fails for good stops its namespace at nothing else and lets nothing by; once it was mended
//!   and its namespace resumed, everything that was due has happened;
//! - broadcasts reach all keys in one order, and each key with a state is visited once, before anything else;
//! - once nothing goes wrong any more, the node answers everything and comes to rest within a number
//!   of rounds.
//!
//! # How to use it
//!
//! `STORMWHEEL_SIM_CRASHES` says for how many crashes to go on (2,000 unless told otherwise),
//! `STORMWHEEL_SIM_FIRST` with which seed to begin, `STORMWHEEL_SIM_THREADS` on how many threads;
//! `STORMWHEEL_SIM_SEED` plays one seed. The first seed that fails ends the run: it is named at once,
//! then shrunk to a short history, which is printed with the command that repeats it.
//!
//! The long forms, with everything optimised:
//!
//! ```sh
//! export STORMWHEEL_SIM_THREADS=$(nproc)
//! run="cargo test --release -p stormwheel-tests --test sim --"
//! STORMWHEEL_SIM_CRASHES=1_000_000 STORMWHEEL_SIM_FIRST=1_000_000 $run worlds --nocapture
//! STORMWHEEL_NTH=all $run nth:: --nocapture    # a fault at every call, in every way
//! STORMWHEEL_ROT=all $run rot:: --nocapture    # every bit; each sweep is a test, on a thread of its own
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests may; the lints take helpers of integration tests for something else"
)]

mod act;
mod announce;
mod client;
mod clock;
mod closing;
mod commands;
mod disk;
mod draw;
mod function_checks;
mod functions;
mod halt;
mod machine;
mod model;
mod nth;
mod oracle;
mod outputs;
mod overdue;
mod plan;
mod power;
mod rng;
mod rot;
mod run;
mod savepoints;
mod script;
mod settle;
mod share;
mod shrink;
mod sources;
mod space;
mod stage;
mod store;
mod ways;
mod world;

use model::Violation;
use plan::Event;
use run::{Summary, history, play, play_told};
use share::share;
use shrink::shrink;
use std::sync::Mutex;
use world::Setup;

/// Crashes of a run of the tests.
const CRASHES_DEFAULT: u64 = 2_000;
/// A long run says how far it is after so many.
const TOLD_CRASHES: u64 = 10_000;
/// Histories that are tried to make a failing one shorter.
const SHRINK_TRIES: usize = 600;
/// Lines of the story that are told of a failure, unless `STORMWHEEL_SIM_LINES` says otherwise.
const STORY_LINES: u64 = 60;
/// Bytes of a line of it.
const LINE_BYTES_MAX: usize = 400;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.replace('_', "").parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// Says what failed, as shortly as it can be made to fail, and how to see it again.
fn report(seed: u64, setup: &Setup, events: &[Event], violation: &Violation) -> String {
    let fails = |events: &[Event]| play(seed, setup, events).0.err();
    let short = shrink(events, SHRINK_TRIES, fails);
    let (outcome, story) = play_told(seed, setup, &short, true);
    let violation = outcome.err().unwrap_or_else(|| violation.clone());
    let story = shorten(story);
    let lines = number("STORMWHEEL_SIM_LINES").unwrap_or(STORY_LINES) as usize;
    let story = &story[story.len().saturating_sub(lines)..];
    let events: Vec<String> = short.iter().map(|event| format!("  {event:?}")).collect();
    format!(
        "seed {seed}: {}: {}\n\n{setup:?}\n{} of {} events are enough:\n{}\n\nwhat happened last:\n  {}\n\n\
         again: STORMWHEEL_SIM_SEED={seed} cargo test -p stormwheel-tests --test sim -- worlds --nocapture\n",
        violation.kind,
        violation.detail,
        short.len(),
        events.len(),
        events.join("\n"),
        story.join("\n  "),
    )
}

/// The story without the steps in which nothing happened.
fn shorten(story: Vec<String>) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for mut line in story.into_iter().filter(|line| !line.ends_with(": Idle")) {
        line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
        if told.last() != Some(&line) {
            told.push(line);
        }
    }
    told
}

fn check(seed: u64) -> Result<Summary, String> {
    let (setup, events) = history(seed);
    play(seed, &setup, &events).0.map_err(|violation| {
        // Making it shorter takes a while.
        eprintln!("seed {seed} fails: {}", violation.kind);
        report(seed, &setup, &events, &violation)
    })
}

#[test]
fn worlds_hold_the_contract_over_all_crashes() {
    std::panic::set_hook(Box::new(|_| {}));
    let one = number("STORMWHEEL_SIM_SEED");
    let first = one.or(number("STORMWHEEL_SIM_FIRST")).unwrap_or(1);
    let crashes = number("STORMWHEEL_SIM_CRASHES").unwrap_or(CRASHES_DEFAULT);
    let all = Mutex::new(Summary::default());
    let outcome = share(first..one.map_or(u64::MAX, |seed| seed + 1), |seed| {
        let summary = check(seed)?;
        let mut all = all.lock().unwrap();
        let before = all.crashes;
        all.add(&summary);
        if before / TOLD_CRASHES < all.crashes / TOLD_CRASHES {
            eprintln!("{} crashes, seed {seed}", all.crashes);
        }
        Ok(all.crashes < crashes)
    });
    let _ = std::panic::take_hook();
    outcome.unwrap_or_else(|report| panic!("{report}"));
    let all = all.into_inner().unwrap();
    eprintln!("seeds from {first}: {all:?}");
    let is_full = all.outputs > crashes
        && all.checks > crashes / 4
        && all.pauses > crashes / 200
        && all.closes > crashes / 200
        && all.silences > crashes / 200
        && all.amid_storms > crashes / 500
        && all.restores > crashes / 100
        && all.elements > crashes
        && all.callbacks > crashes
        && all.stops > crashes / 100
        && all.broadcasts > crashes / 100;
    assert!(one.is_some() || is_full, "the worlds are empty: {all:?}");
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    for seed in [3, 1_000_003, 77_777] {
        let (setup, events) = history(seed);
        let (first, again) = (play(seed, &setup, &events).0, play(seed, &setup, &events).0);
        assert_eq!(first, again, "seed {seed}");
    }
}
