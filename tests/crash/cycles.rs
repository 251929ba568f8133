//! Load, `kill -9`, start again: nothing that was acknowledged is lost, nothing fires early, twice
//! or for nobody.

use crate::folder::Folder;
use crate::rng::Rng;
use crate::server::{Durable, Starter};
use crate::worker::Manners;
use crate::world::{End, World};
use std::io::{Write as _, stderr};
use std::sync::atomic::{AtomicU64, Ordering};

/// Kills of the short form.
const CYCLES: u64 = 50;
/// Cycles from one verification to the next.
const VERIFY_EVERY: u64 = 5;
/// Cycles from one line of the long form to the next.
const TELL_EVERY: u64 = 100;
/// Small segments and many checkpoints, so that a short load passes several of both.
const ARGS: [&str; 6] = [
    "--set",
    "segment_bytes=4MiB",
    "--set",
    "checkpoint.interval=500ms",
    "--set",
    "checkpoint.over=200ms",
];

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let cycles = number("STORMWHEEL_CRASH_CYCLES").unwrap_or(CYCLES);
    let seed = number("STORMWHEEL_CRASH_SEED").unwrap_or(1);
    let manners = Manners { keys: 100, is_producer: true, mixes_acks: true, checks_acks: true };
    let mut world = World::new(seed, 3, manners);
    let mut rng = Rng::new(seed, 3);
    let folder = Folder::new();
    let starter = Starter::new(folder.path(), &ARGS);
    let mut server = starter.start(&[]);
    world.set_up(&server.client());
    for cycle in 1..=cycles {
        let requests = 20 + rng.below(300);
        world.load(&mut server, requests, End::Kill);
        drop(server);
        server = start_again(&starter, &mut rng);
        if cycle % VERIFY_EVERY == 0 || cycle == cycles {
            world.verify(&server.client());
        }
        if cycle % TELL_EVERY == 0 {
            // Whoever waits for the long form sees that it goes on.
            drop(writeln!(stderr(), "{cycle} of {cycles} kills; {}", world.told()));
        }
    }
    assert_eq!(server.stop(), Some(0), "{}", server.log());
    server = start_again(&starter, &mut rng);
    world.verify(&server.client());
    world.audit_all(&server.client());
    // Kills that meet nothing under way would show nothing.
    let seen = |counter: &AtomicU64| counter.load(Ordering::SeqCst) > cycles;
    let is_shown = seen(&world.shared.unknown) && seen(&world.shared.repeated);
    assert!(is_shown, "{}", world.told());
}

/// Another server on the same data: often with another number of shards, now and then after some
/// that were killed while they recovered.
fn start_again(starter: &Starter, rng: &mut Rng) -> Durable {
    while rng.chance(25) {
        let shards = (1 + rng.below(4)).to_string();
        starter.start_and_kill(rng, &["--shards", &shards]);
    }
    let shards = (1 + rng.below(4)).to_string();
    starter.start(&["--shards", &shards])
}

#[test]
fn a_load_without_a_crash_leaves_nothing_to_explain() {
    let manners = Manners { keys: 50, is_producer: false, mixes_acks: false, checks_acks: false };
    let mut world = World::new(7, 4, manners);
    let folder = Folder::new();
    let mut server = Starter::new(folder.path(), &[]).start(&[]);
    world.set_up(&server.client());
    for _ in 0..3 {
        world.load(&mut server, 300, End::Stop);
        world.verify(&server.client());
    }
    world.audit_all(&server.client());
}

#[allow(clippy::disallowed_methods, reason = "how long a test runs is said by who starts it")]
fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("{variable}={value}: {error}")))
}
