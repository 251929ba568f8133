//! The work that is measured, the same for the core and for its peers.
//!
//! Each subject and size has processes of its own, so that it finds fresh memory and its resident
//! bytes are its own: [`measured`] starts the binary that it is called from once more, and that
//! answers by [`answer_parent`]. Times are CPU time of the one thread (machines are shared), with the
//! wall clock beside it.

use crate::keys::Keys;
use crate::peers::core::Core;
use crate::peers::{
    Each, Millis, Subject, binary_heap, btree_set, delay_queue, hash_wheel, hasher,
};
use crate::process::{cpu_seconds, resident_bytes, wall_seconds};
use hashbrown::HashMap;
use serde_json::{Map, Value, json};
use std::io::{Error, Result, Write, stdout};
use std::process::Command;

/// All that can be measured, the core first.
pub const SUBJECTS: [&str; 5] = ["core", "btree_set", "binary_heap", "delay_queue", "hash_wheel"];

/// What is measured, in the order of the tables.
pub const OPERATIONS: [&str; 8] = [
    "schedule, fresh memory",
    "schedule, used memory",
    "schedule again (duplicate)",
    "cancel by time",
    "heartbeat",
    "fire ms by ms, key goes",
    "fire ms by ms, key stays",
    "storm at one ms, key goes",
];

/// Beyond it the map would take more memory than what is measured.
const CALIBRATION_MAX: u32 = 20_000_000;

/// In which memory is told, in bytes a timer.
pub const MEMORY: [&str; 2] = ["registered", "after heartbeats"];

/// Times of an entry of a hash map of the same keys, found and changed: what this machine does.
pub const CALIBRATION: &str = "calibration";

const SPREAD_MS: Millis = 60_000;
const FAR_MS: Millis = 86_400_000;
/// Of each key, so that what is left behind shows.
const HEARTBEATS: Millis = 4;

/// When the timer of a key is due: spread evenly over a minute, in no order.
fn due(n: u32) -> Millis {
    let mixed = u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    1 + (mixed % u64::from(SPREAD_MS)) as Millis
}

/// Figures as they come.
#[derive(Default)]
struct Found {
    operations: Map<String, Value>,
    bytes: Map<String, Value>,
}

const OF_TIME: &str = "operations";
const OF_MEMORY: &str = "bytes";

impl Found {
    fn into_json(self) -> Value {
        json!({OF_TIME: self.operations, OF_MEMORY: self.bytes})
    }

    /// Of so many operations.
    fn time<T>(&mut self, what: &str, count: usize, work: impl FnOnce() -> T) -> T {
        let began = (cpu_seconds(), wall_seconds());
        let result = work();
        let ns = |seconds: f64| seconds * 1e9 / count as f64;
        let (cpu, wall) = (ns(cpu_seconds() - began.0), ns(wall_seconds() - began.1));
        self.operations.insert(what.to_owned(), json!({"cpu_ns": cpu, "wall_ns": wall}));
        result
    }

    fn bytes(&mut self, what: &str, count: usize, bytes: usize) {
        self.bytes.insert(what.to_owned(), json!(bytes as f64 / count as f64));
    }
}

fn calibrate(found: &mut Found, keys: &[Keys; 2]) {
    let mut map = HashMap::with_hasher(hasher());
    map.extend(keys[0].iter().map(|(_, key)| (key.to_vec(), 0_u64)));
    found.time(CALIBRATION, map.len(), || {
        for (n, key) in keys[1].iter() {
            if let Some(value) = map.get_mut(key) {
                *value += u64::from(n);
            }
        }
    });
    std::hint::black_box(&map);
}

/// Lets a minute pass, and holds that each timer fired once.
fn pass(subject: &mut impl Subject, from: Millis, step_ms: Millis, count: usize) {
    let steps = (1..=SPREAD_MS / step_ms).map(|step| from + step * step_ms);
    let fired: usize = steps.map(|now| subject.advance(now)).sum();
    assert_eq!(fired, count, "each timer fires once");
}

fn measure_timers<S: Subject + Default>(keys: &[Keys; 2], count: usize) -> Found {
    let mut found = Found::default();
    let before = resident_bytes();
    let mut one = S::default();
    found.time("schedule, fresh memory", count, || one.register(&keys[0], due));
    found.bytes("registered", count, resident_bytes().saturating_sub(before));
    for (part, bytes) in one.memory() {
        found.bytes(part, count, bytes);
    }
    found.time("schedule again (duplicate)", count, || one.register(&keys[1], due));
    found.time("cancel by time", count, || one.cancel(&keys[0], due));
    found.time("schedule, used memory", count, || one.register(&keys[1], due));
    found.time("fire ms by ms, key goes", count, || pass(&mut one, 0, 1, count));
    drop(one);

    // Each key has another timer, a day away.
    let mut one = S::default();
    one.register(&keys[0], |n| FAR_MS + due(n));
    one.register(&keys[1], due);
    found.time("fire ms by ms, key stays", count, || pass(&mut one, 0, 1, count));
    drop(one);

    let mut one = S::default();
    one.register(&keys[0], |_| SPREAD_MS / 2);
    found.time("storm at one ms, key goes", count, || pass(&mut one, 0, SPREAD_MS / 2, count));
    drop(one);
    found
}

fn measure_heartbeats<S: Subject + Default>(keys: &[Keys; 2], count: usize) -> Found {
    let mut found = Found::default();
    let before = resident_bytes();
    let mut one = S::default();
    let at = |round: Millis| SPREAD_MS - 1_000 + 10 * round;
    one.touch(&keys[0], None, at(0));
    found.time("heartbeat", count * HEARTBEATS as usize, || {
        for round in 1..=HEARTBEATS {
            one.touch(&keys[round as usize % 2], Some(at(round - 1)), at(round));
        }
    });
    found.bytes("after heartbeats", count, resident_bytes().saturating_sub(before));
    pass(&mut one, 0, SPREAD_MS, count);
    found
}

/// The parts of the work, each in a process of its own.
const PARTS: [&str; 2] = ["timers", "heartbeats"];

fn part<S: Subject + Default>(part: &str, keys: &[Keys; 2], count: usize) -> Option<Found> {
    match part {
        "timers" => Some(measure_timers::<S>(keys, count)),
        "heartbeats" => Some(measure_heartbeats::<S>(keys, count)),
        _ => None,
    }
}

fn keyed<const K: usize>(what: &str, who: &str, keys: &[Keys; 2], count: usize) -> Option<Found> {
    match who {
        "core" => part::<Core>(what, keys, count),
        "btree_set" => part::<Each<btree_set::Timers<K>, K>>(what, keys, count),
        "binary_heap" => part::<Each<binary_heap::Timers<K>, K>>(what, keys, count),
        "delay_queue" => part::<Each<delay_queue::Timers<K>, K>>(what, keys, count),
        "hash_wheel" => part::<Each<hash_wheel::Timers<K>, K>>(what, keys, count),
        _ => None,
    }
}

/// Measures a part of the work of one subject here, with keys of 15 or 32 bytes.
fn measure_here(what: &str, who: &str, count: u32, key_bytes: usize) -> Option<Found> {
    // The same keys in two orders: what comes second finds nothing where the first left it.
    let keys = [1, 2].map(|seed| Keys::shuffled(count, key_bytes, seed));
    let mut found = match key_bytes {
        15 => keyed::<15>(what, who, &keys, count as usize),
        32 => keyed::<32>(what, who, &keys, count as usize),
        _ => None,
    }?;
    if count <= CALIBRATION_MAX {
        calibrate(&mut found, &keys);
    }
    Some(found)
}

/// The argument that makes a binary measure a part, and write what it found to its output.
const ONE: &str = "--one";

/// Measures one subject. The caller's `main` begins with [`answer_parent`].
pub fn measured(subject: &str, count: u32, key_bytes: usize) -> Result<Value> {
    let mut found = Found::default();
    for part in PARTS {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ONE, part, subject, &count.to_string(), &key_bytes.to_string()]);
        let done = command.output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            return Err(Error::other(format!(
                "{subject}, {count} timers: {}: {said}",
                done.status
            )));
        }
        let mut one: Value = serde_json::from_slice(&done.stdout)?;
        for (into, field) in [(&mut found.operations, OF_TIME), (&mut found.bytes, OF_MEMORY)] {
            if let Value::Object(figures) = one[field].take() {
                into.extend(figures);
            }
        }
    }
    Ok(found.into_json())
}

/// If this process was started by [`measured`], does what it was started for.
pub fn answer_parent(args: &[String]) -> Result<bool> {
    let [one, what, who, count, key_bytes] = args else {
        return Ok(false);
    };
    let (true, Ok(count), Ok(key_bytes)) = (one == ONE, count.parse(), key_bytes.parse()) else {
        return Ok(false);
    };
    let found = measure_here(what, who, count, key_bytes).ok_or_else(|| {
        Error::other(format!("no subject `{who}` with keys of {key_bytes} bytes"))
    })?;
    writeln!(stdout(), "{}", found.into_json())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_does_all_of_the_work() {
        for subject in SUBJECTS {
            let found = PARTS.map(|part| measure_here(part, subject, 1_000, 15).unwrap());
            let is_there = |of: fn(&Found) -> &Map<String, Value>, what: &str| {
                found.iter().any(|found| of(found).contains_key(what))
            };
            assert!(OPERATIONS.iter().all(|what| is_there(|found| &found.operations, what)));
            assert!(MEMORY.iter().all(|what| is_there(|found| &found.bytes, what)));
            assert!(is_there(|found| &found.operations, CALIBRATION));
        }
        assert!(measure_here("timers", "abacus", 10, 15).is_none());
    }
}
