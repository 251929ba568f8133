//! The corruption sweep: every bit of 64 KiB of log, of output log, of snapshot and of manifest is
//! turned over, files are cut at every length, and blocks are swapped, doubled, zeroed and replaced.
//! Each time a node is started on what is left: it says which file is damaged and where, or all is as
//! it was. It never panics, and never serves another state.
//!
//! One case in 64 by default, all with `STORMWHEEL_ROT=all`.

use crate::act::Timer;
use crate::model::Violation;
use crate::plan::Event;
use crate::rng::Rng;
use crate::run::Run;
use crate::world::{Setup, World};
use std::collections::BTreeMap;
use stormwheel::runtime::FaultKind;

const SEED: u64 = 7;
const STEP_DEFAULT: usize = 64;
/// Bytes of each file that are swept.
const SWEPT_BYTES: usize = 64 << 10;
const SEGMENT_HEADER_BYTES: usize = 4_096;
const BLOCK_HEADER_BYTES: usize = 64;

/// All that can be read of a node: timers by namespace and key, and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    timers: BTreeMap<String, BTreeMap<Vec<u8>, Vec<Timer>>>,
    outputs: BTreeMap<String, Vec<String>>,
}

struct Reference {
    run: Run,
    state: State,
}

/// A node that has written enough of everything, and was killed at rest.
fn reference() -> Reference {
    let setup = Setup { segment_bytes: 128 << 10, ..Setup::plain() };
    let mut run = Run::new(SEED, &setup);
    run.start(1).unwrap();
    let mut rng = Rng::new(SEED);
    // A checkpoint, another one behind it, and a log behind that.
    for _ in 0..3 {
        for _ in 0..60 {
            run.happen(&Event::Ask(rng.next())).unwrap();
            run.happen(&Event::Steps(6, rng.next())).unwrap();
            run.happen(&Event::Pass(rng.within(0, 9))).unwrap();
        }
        run.happen(&Event::Settle).unwrap();
        run.checkpoint().unwrap();
    }
    for _ in 0..40 {
        run.happen(&Event::Ask(rng.next())).unwrap();
        run.happen(&Event::Work).unwrap();
    }
    run.happen(&Event::Settle).unwrap();
    run.is_frozen = true;
    run.happen(&Event::Settle).unwrap();
    let state = state(&mut run).unwrap();
    assert!(state.timers.values().any(|keys| keys.len() > 10), "there is something to lose");
    run.world.drop_node();
    run.world.disk.kill();
    Reference { run, state }
}

fn state(run: &mut Run) -> Result<State, Violation> {
    let entries = run.world.engine().directory().by_name.clone();
    let (mut timers, mut outputs) = (BTreeMap::new(), BTreeMap::new());
    for (name, entry) in &entries {
        timers.insert(name.to_string(), run.list(entry)?);
        let mut consumer = crate::outputs::Consumer::new(entry.id);
        let (now_ms, latest_ms) = (run.world.now_ms(), run.world.clock.latest_ms());
        let seen = consumer.poll(run.world.engine(), (now_ms, i64::MAX), latest_ms, true)?;
        outputs.insert(name.to_string(), seen.iter().map(|seen| format!("{seen:?}")).collect());
    }
    Ok(State { timers, outputs })
}

/// What came of a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Detected,
    Healed,
}

impl Reference {
    /// Starts a node on a damaged copy.
    fn try_damage(&self, file: &str, damage: &dyn Fn(&World)) -> Result<Outcome, String> {
        let world = self.run.world.copy(SEED);
        damage(&world);
        let mut run = Run::over(world);
        run.is_frozen = true;
        if let Err(fault) = run.world.open(1) {
            let text = fault.to_string();
            let is_placed = text.contains(file) && text.bytes().any(|it| it.is_ascii_digit());
            if fault.kind() != FaultKind::Corruption {
                return Err(format!("taken for {:?}: {text}", fault.kind()));
            }
            if is_placed { Ok(Outcome::Detected) } else { Err(format!("without a place: {text}")) }
        } else {
            let found = run.rest().and_then(|()| state(&mut run));
            let found = match found {
                Ok(found) => found,
                // An output that cannot be read says so when it is read.
                Err(violation) if violation.detail.contains(file) => {
                    return Ok(Outcome::Detected);
                }
                Err(violation) => {
                    return Err(format!("{}: {}", violation.kind, violation.detail));
                }
            };
            if found == self.state { Ok(Outcome::Healed) } else { Err(self.difference(&found)) }
        }
    }

    fn difference(&self, found: &State) -> String {
        for (name, keys) in &self.state.timers {
            let none = BTreeMap::new();
            let other = found.timers.get(name).unwrap_or(&none);
            for key in keys.keys().chain(other.keys()) {
                if keys.get(key) != other.get(key) {
                    let key = key.escape_ascii();
                    return format!("{name}: another state, key {key} for one");
                }
            }
        }
        for (name, outputs) in &self.state.outputs {
            let other = found.outputs.get(name).map_or(0, Vec::len);
            if found.outputs.get(name) != Some(outputs) {
                return format!(
                    "{name}: {other} outputs, not the {} that were there",
                    outputs.len()
                );
            }
        }
        "namespaces that were not there".to_owned()
    }

    fn check(&self, what: &str, file: &str, damage: &dyn Fn(&World)) -> Outcome {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.try_damage(file, damage)
        }));
        match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(wrong)) => panic!("{file}, {what}: {wrong}"),
            Err(panic) => panic!("{file}, {what}: a panic: {:?}", panic.downcast_ref::<String>()),
        }
    }

    /// The file of a folder with the most in it.
    fn fullest(&self, folder: &str) -> String {
        let files = self.run.world.disk.files();
        let here = files.iter().filter(|(name, _)| name.starts_with(folder));
        let filled = |name: &str| blocks(&self.run.world.disk.peek(name).unwrap()).len();
        here.max_by_key(|(name, _)| filled(name)).unwrap().0.clone()
    }

    /// The largest object of a kind.
    fn largest(&self, prefix: &str) -> String {
        let objects = self.run.world.store.objects();
        let here = objects.iter().filter(|(name, _)| name.starts_with(prefix));
        here.max_by_key(|(name, size)| (*size, name.clone())).unwrap().0.clone()
    }
}

/// What the blocks of a segment are salted with: made of the directory's id in its page.
fn salt(segment: &[u8]) -> u32 {
    crc32c::crc32c(&segment[16..32])
}

/// Where the blocks of a segment begin and end.
fn blocks(bytes: &[u8]) -> Vec<(usize, usize)> {
    let tag = (u32::from_le_bytes(*b"SWB1") ^ salt(bytes)).to_le_bytes();
    let (mut found, mut at) = (Vec::new(), SEGMENT_HEADER_BYTES);
    while at + BLOCK_HEADER_BYTES <= bytes.len() && bytes[at..at + 4] == tag {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let end = (at + BLOCK_HEADER_BYTES + length).next_multiple_of(8);
        found.push((at, end));
        at = end;
    }
    found
}

/// Whether a block of the same lane follows the first of these: it names the one before it.
fn has_successor(bytes: &[u8], blocks: &[(usize, usize)]) -> bool {
    let lane = |start: usize| (bytes[start + 5], &bytes[start + 6..start + 8]);
    blocks[1..].iter().any(|(start, _)| lane(*start) == lane(blocks[0].0))
}

fn step() -> usize {
    let is_all = std::env::var("STORMWHEEL_ROT").is_ok_and(|which| which == "all");
    if is_all { 1 } else { STEP_DEFAULT }
}

fn sweep_file(folder: &str) {
    let reference = reference();
    let file = reference.fullest(folder);
    let bytes = reference.run.world.disk.peek(&file).unwrap();
    let used = blocks(&bytes).last().unwrap().1;
    // The empty rest of a segment is swept with larger steps: nothing is in it.
    let bits = 0..used.min(SWEPT_BYTES) * 8;
    let mut detected = 0;
    for bit in bits.clone().step_by(step()) {
        let outcome =
            reference.check(&format!("bit {bit}"), &file, &|world| world.disk.rot(&file, bit));
        detected += usize::from(outcome == Outcome::Detected);
    }
    assert!(detected * 2 > bits.len() / step(), "{file}: {detected} of {} found", bits.len());
    for length in (0..used).step_by(step()) {
        reference.check(&format!("cut at {length}"), &file, &|world| {
            world.disk.replace(&file, bytes[..length].to_vec());
        });
    }
}

/// A block stands where another one should.
fn shuffle_blocks(folder: &str) {
    let reference = reference();
    let file = reference.fullest(folder);
    let bytes = reference.run.world.disk.peek(&file).unwrap();
    let blocks = blocks(&bytes);
    assert!(blocks.len() > 3, "{file} holds nothing to shuffle");
    let replaced = |damaged: Vec<u8>| {
        let mut damaged = damaged;
        damaged.resize(bytes.len(), 0);
        let file = file.clone();
        move |world: &World| world.disk.replace(&file, damaged.clone())
    };
    for (index, (start, end)) in blocks.iter().copied().enumerate() {
        let check = |what: &str, damaged: Vec<u8>| {
            let what = format!("block {index} {what}");
            reference.check(&what, &file, &replaced(damaged));
        };
        let block = &bytes[start..end];
        let (before, behind) = (&bytes[..start], &bytes[end..]);
        check("zeroed", [before, &vec![0; end - start], behind].concat());
        check("doubled", [before, block, block, behind].concat());
        check("left out", [before, behind].concat());
        if let Some((_, next_end)) = blocks.get(index + 1) {
            let next = &bytes[end..*next_end];
            check("swapped", [before, next, block, &bytes[*next_end..]].concat());
        }
        // The last ones may be a torn tail.
        let sure = blocks.len().saturating_sub(2);
        if index < sure && has_successor(&bytes, &blocks[index..sure]) {
            let mut forged = block.to_vec();
            // The clock in it: nothing else would tell.
            forged[48] ^= 1;
            let length = u32::from_le_bytes(forged[8..12].try_into().unwrap()) as usize;
            let body = &forged[BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + length];
            let crc = crc32c::crc32c_append(salt(&bytes), &forged[4..60]);
            let crc = crc32c::crc32c_append(crc, body);
            forged[60..64].copy_from_slice(&crc.to_le_bytes());
            let damage = replaced([before, &forged, behind].concat());
            let what = format!("block {index} with a checksum of its own");
            let outcome = reference.check(&what, &file, &damage);
            assert_eq!(outcome, Outcome::Detected, "{file}, {what}: the chain is not checked");
        }
        for older in &blocks[..index] {
            let older = &bytes[older.0..older.1];
            if older.len() == block.len() {
                check("replaced by an older one", [before, older, behind].concat());
                break;
            }
        }
    }
}

fn sweep_object(prefix: &str, step: usize) {
    let reference = reference();
    let name = reference.largest(prefix);
    let bytes = reference.run.world.store.peek(&name).unwrap();
    for bit in (0..bytes.len().min(SWEPT_BYTES) * 8).step_by(step) {
        reference.check(&format!("bit {bit}"), &name, &|world| world.store.rot(&name, bit));
    }
    for length in (0..bytes.len()).step_by(step.min(bytes.len() / 20 + 1)) {
        reference.check(&format!("cut at {length}"), &name, &|world| {
            world.store.replace(&name, bytes[..length].to_vec());
        });
    }
}

#[test]
fn rot_in_the_log_is_found_or_healed() {
    sweep_file("journal/");
}

#[test]
fn rot_in_the_output_log_is_found_or_healed() {
    sweep_file("outputs/");
}

#[test]
fn blocks_of_the_log_in_a_wrong_place_are_found_or_healed() {
    shuffle_blocks("journal/");
}

#[test]
fn blocks_of_the_output_log_in_a_wrong_place_are_found_or_healed() {
    shuffle_blocks("outputs/");
}

#[test]
fn rot_in_a_snapshot_is_found_or_healed() {
    sweep_object("objects/", step());
}

#[test]
fn rot_in_a_manifest_is_found_or_healed() {
    // It is small.
    sweep_object("manifests/", step().div_ceil(8));
}
