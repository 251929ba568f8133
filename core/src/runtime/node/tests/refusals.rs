//! Directories that are not whole, not ours or not of this version: refused, untouched, in words.

use super::*;
use crate::log::segment::SegmentHeader;
use crate::ports::{Disk, SnapshotStore};
use crate::runtime::FaultKind;
use crate::storage::memory_disk::{Failure, Rng};
use crate::storage::{Inspection, RecordInfo, Weight, inspect};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

/// Three runs: two checkpoints and outputs in the first, two checkpoints and a log behind them in the
/// second, a log only in the third, which crashed.
fn world() -> World {
    let mut world = World::new(2);
    for round in 0..2 {
        world.register(round * 50..round * 50 + 50, 1_000);
        world.checkpoint();
    }
    world.pass(1_000);
    world.settle();
    world.crash();
    world.register(100..110, 9_000);
    world.checkpoint();
    world.register(110..150, 9_000);
    world.checkpoint();
    world.register(150..200, 9_000);
    world.crash();
    world.register(200..250, 9_000);
    world.node = None;
    world.disk = world.disk.crash(None);
    world
}

/// A world without a checkpoint.
fn young_world() -> World {
    let mut world = World::new(2);
    world.register(0..50, 1_000);
    world.pass(1_000);
    world.settle();
    world.node = None;
    world.disk = world.disk.crash(None);
    world
}

fn all_files(world: &World) -> BTreeMap<String, Vec<u8>> {
    let names = world.disk.names().into_iter();
    let files = names.map(|name| (name.clone(), world.disk.bytes(&name)));
    let names = world.store.list("").expect("a list").into_iter();
    let objects = names.map(|name| (name.clone(), world.store.get(&name).expect("it is there")));
    files.chain(objects).collect()
}

fn look(world: &World) -> Inspection {
    let store = Arc::clone(&world.store) as Arc<dyn SnapshotStore>;
    inspect(&world.disk, &store)
}

/// It is refused, says all of these, and leaves everything as it was.
fn check(world: &World, kind: FaultKind, parts: &[&str]) {
    let before = all_files(world);
    let fault = world.try_open().err().expect("it is refused");
    let said = fault.to_string();
    assert_eq!(fault.kind(), kind, "{said}");
    for part in parts {
        assert!(said.contains(part), "{said} does not say {part}");
    }
    let found = look(world);
    assert!(found.worst() >= Some(Weight::Refused), "{said}, and not found: {found:?}");
    assert_eq!(all_files(world), before, "{said}");
}

fn remove_where(world: &World, is_meant: impl Fn(&str) -> bool) {
    let names: Vec<String> = world.disk.names().into_iter().filter(|it| is_meant(it)).collect();
    assert!(!names.is_empty());
    for name in names {
        world.disk.remove(&name).expect("it is there");
    }
}

fn forget(world: &World, prefix: &str) {
    for name in world.store.list(prefix).expect("a list") {
        world.store.remove(&name).expect("it is there");
    }
}

/// Changes a file, as a disk or an editor would.
fn change(world: &World, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = world.disk.bytes(name);
    change(&mut bytes);
    world.disk.remove(name).expect("it is there");
    world.disk.put(name, bytes);
}

#[test]
fn the_worlds_open_if_nothing_is_done_to_them() {
    for mut world in [world(), young_world()] {
        world.open();
        assert!(world.pending() == 200 - 50 || world.pending() == 0);
    }
}

/// One byte changed anywhere: looking says that a start would be refused if and only if it is.
#[test]
fn looking_and_starting_agree() {
    let world = world();
    let files = all_files(&world);
    let mut rng = Rng(7);
    let (mut refused, mut opened) = (0, 0);
    for _ in 0..150 {
        let (name, bytes) = files.iter().nth(rng.below(files.len() as u64) as usize).unwrap();
        if name.starts_with("spare/") {
            continue;
        }
        // Most of a segment is empty.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let mut changed = bytes.clone();
        let at = rng.below(end as u64) as usize;
        changed[at] ^= 1 << rng.below(8);
        let (disk, clock) = (world.disk.crash(None), Arc::clone(&world.clock));
        let world = World::closed(disk, Arc::default(), clock, 2);
        for (other, bytes) in &files {
            let bytes = if other == name { &changed } else { bytes };
            if !world.disk.names().contains(other) {
                world.store.put(other, bytes.clone()).expect("the name is free");
            }
        }
        if world.disk.names().contains(name) {
            change(&world, name, |bytes| bytes.clone_from(&changed));
        }
        let found = look(&world);
        let outcome = world.try_open();
        let is_refused = outcome.is_err();
        let said = outcome.err().map(|fault| fault.to_string());
        assert_eq!(
            found.worst() >= Some(Weight::Refused),
            is_refused,
            "{name} at {at}: {said:?}, {:?}",
            found.findings
        );
        *(if is_refused { &mut refused } else { &mut opened }) += 1;
    }
    assert!(refused > 20 && opened > 5, "{refused} refused, {opened} opened");
}

#[test]
fn what_is_there_is_told() {
    let world = world();
    let before = all_files(&world);
    let found = look(&world);
    assert!(found.worst() <= Some(Weight::Torn), "{:?}", found.findings);
    let runs: Vec<(u32, u16, &str)> =
        found.journals.iter().map(|it| (it.epoch, it.journal, it.end)).collect();
    assert_eq!(runs, [(2, 0, "sealed"), (2, 1, "sealed"), (3, 0, "open"), (3, 1, "open")]);
    assert_eq!(found.checkpoints.len(), 2);
    assert!(found.checkpoints.iter().all(|it| it.is_whole));
    assert_eq!(found.checkpoints[0].keys, 50);
    assert_eq!(found.outputs.namespaces.values().sum::<u64>(), 100);
    assert_eq!(found.lanes.len(), 4);
    assert_eq!(found.engine_versions, [1]);
    let mut keys = BTreeSet::new();
    let each = &mut |record: &RecordInfo| {
        assert_ne!(record.kind, "unreadable");
        if record.kind == "register" {
            keys.extend(record.key.clone());
            assert_eq!(record.at_ms, Some(START_MS + 9_000));
        }
        true
    };
    found.records(&world.disk, None, 0, each).expect("it can be read");
    assert!(keys.len() >= 100, "all that is behind the older checkpoint: {}", keys.len());
    let mut first = None;
    let each = &mut |record: &RecordInfo| {
        first = Some((record.lane, record.position));
        false
    };
    let lane = &found.lanes[2];
    found.records(&world.disk, Some(lane.lane), lane.last, each).expect("it can be read");
    assert_eq!(first, Some((lane.lane, lane.last)));
    assert_eq!(all_files(&world), before);
}

#[test]
fn what_stands_behind_damage_is_told_too() {
    let world = world();
    let name = "journal/00000002-000-0000000001.log";
    let whole = look(&world);
    let bytes = world.disk.bytes(name);
    let sizes: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(at, tag)| *tag == &bytes[4_096..4_100] && at % 8 == 0)
        .map(|(at, _)| at)
        .collect();
    change(&world, name, |bytes| {
        bytes[sizes[1] + 70] ^= 1;
        bytes[sizes[3] + 70] ^= 1;
    });
    let found = look(&world);
    let damaged: Vec<Option<u64>> = found
        .findings
        .iter()
        .filter(|it| it.weight == Weight::Stops && it.file == name)
        .map(|it| it.offset)
        .collect();
    assert_eq!(damaged.len(), 2, "{:?}", found.findings);
    assert!(damaged.contains(&Some(sizes[1] as u64)), "{damaged:?}");
    assert_eq!(found.journals[0].end, "damaged");
    assert_eq!(found.journals[0].blocks, whole.journals[0].blocks - 2);
    assert_eq!(found.journals[0].last_sequence, whole.journals[0].last_sequence);
}

#[test]
fn the_journals_are_missing() {
    let world = world();
    remove_where(&world, |name| name.starts_with("journal/"));
    check(&world, FaultKind::Corruption, &["journals of run 2", "manifests/", "copy all of it"]);
    let world = young_world();
    remove_where(&world, |name| name.starts_with("journal/"));
    check(
        &world,
        FaultKind::Corruption,
        &["the journals (journal/) and the snapshots", "outputs/"],
    );
}

#[test]
fn the_journals_of_one_run_are_missing() {
    let world = world();
    // Behind two snapshots, and gone.
    assert!(!world.disk.names().iter().any(|name| name.starts_with("journal/00000001")));
    remove_where(&world, |name| name.starts_with("journal/00000002"));
    check(&world, FaultKind::Corruption, &["journals of run 2", "copied or restored in part"]);
}

#[test]
fn one_journal_of_the_newest_run_is_missing() {
    let world = world();
    remove_where(&world, |name| name.starts_with("journal/00000003-001"));
    check(&world, FaultKind::Corruption, &["journal/00000003-001-0000000001.log", "had 2"]);
}

#[test]
fn the_end_of_a_journal_that_a_snapshot_reaches_is_missing() {
    let mut world = World::new(1);
    // Enough for several segments, all of them still there: the first checkpoint lets nothing go.
    for round in 0..40 {
        world.register(round * 50..round * 50 + 50, 9_000);
    }
    world.checkpoint();
    world.node = None;
    world.disk = world.disk.crash(None);
    let journals = world.disk.names().into_iter().filter(|name| name.starts_with("journal/"));
    let journals: Vec<String> = journals.collect();
    assert!(journals.len() > 2, "{journals:?}");
    remove_where(&world, |name| name.starts_with("journal/") && name != journals[0]);
    check(&world, FaultKind::Corruption, &["positions ", "manifests/", &journals[0]]);
}

#[test]
fn the_end_of_a_journal_that_outputs_came_of_is_missing() {
    let mut world = World::new(1);
    for round in 0..40 {
        world.register(round * 50..round * 50 + 50, 9_000);
    }
    world.pass(9_000);
    world.settle();
    world.node = None;
    world.disk = world.disk.crash(None);
    let journals = world.disk.names().into_iter().filter(|name| name.starts_with("journal/"));
    let journals: Vec<String> = journals.collect();
    assert!(journals.len() > 2, "{journals:?}");
    remove_where(&world, |name| name.starts_with("journal/") && name != journals[0]);
    check(&world, FaultKind::Corruption, &["positions ", "outputs/ holds record", "copied"]);
}

#[test]
fn the_end_of_the_output_log_is_missing() {
    let mut world = World::new(1);
    for round in 0..40 {
        world.register(round * 50..round * 50 + 50, 1_000);
    }
    world.pass(1_000);
    world.settle();
    world.checkpoint();
    world.node = None;
    world.disk = world.disk.crash(None);
    let outputs = world.disk.names().into_iter().filter(|name| name.starts_with("outputs/"));
    let outputs: Vec<String> = outputs.collect();
    assert!(outputs.len() > 2, "{outputs:?}");
    remove_where(&world, |name| name.starts_with("outputs/") && name != outputs[0]);
    check(&world, FaultKind::Corruption, &[&outputs[0], "the log ends with record", "there was"]);
}

#[test]
fn the_snapshots_are_missing() {
    let mut world = world();
    forget(&world, "");
    check(&world, FaultKind::Corruption, &["the snapshots are missing", "begins with run 2"]);
    // Without a checkpoint there is nothing to miss.
    world = young_world();
    forget(&world, "");
    world.open();
}

#[test]
fn the_output_log_is_missing() {
    let world = world();
    remove_where(&world, |name| name.starts_with("outputs/"));
    check(&world, FaultKind::Corruption, &["the output log (outputs/) is missing", "record"]);
}

#[test]
fn an_object_is_missing() {
    let world = world();
    forget(&world, "objects/");
    check(&world, FaultKind::Corruption, &["objects/", "missing"]);
}

#[test]
fn every_manifest_is_damaged() {
    let world = world();
    for name in world.store.list("manifests/").expect("a list") {
        let mut bytes = world.store.get(&name).expect("it is there");
        bytes[40] ^= 1;
        world.store.remove(&name).expect("it is there");
        world.store.put(&name, bytes).expect("the name is free");
    }
    check(&world, FaultKind::Corruption, &["manifests/", "checksum"]);
}

#[test]
fn a_sealed_block_is_damaged() {
    let world = world();
    let name = "journal/00000002-000-0000000001.log";
    // Behind the mark with which the run began.
    change(&world, name, |bytes| bytes[4_160 + 70] ^= 1);
    check(&world, FaultKind::Corruption, &[name, "offset 4160", "checksum", "lane"]);
}

#[test]
fn the_identity_is_missing_or_damaged_or_newer() {
    let name = "stormwheel.json";
    let world = world();
    let identity = String::from_utf8(world.disk.bytes(name)).expect("it is text");
    let with = |text: String| {
        change(&world, name, |bytes| *bytes = text.into_bytes());
    };
    with(
        identity.replace("\"format\": 1", "\"format\": 2").replace("\"lanes\": 4", "\"lanes\": {}"),
    );
    check(&world, FaultKind::Directory, &["format 2", "start the version that wrote it"]);
    for (from, to) in [
        ("\"format\": 1", "\"format\": 0"),
        ("\"lanes\": 4", "\"lanes\": 0"),
        ("\"lanes\": 4", "\"lanes\": 40"),
        ("\"directory\": \"", "\"directory\": \"+"),
        ("{", ""),
    ] {
        with(identity.replacen(from, to, 1));
        check(&world, FaultKind::Corruption, &[name, "cannot be read"]);
    }
    with(identity.replace("\"max_parallelism\": 8", "\"max_parallelism\": 16"));
    check(&world, FaultKind::Directory, &["max_parallelism = 16", "8 was asked for", "leave"]);
    world.disk.remove(name).expect("it is there");
    check(&world, FaultKind::Directory, &["stormwheel.json is missing", "journal/", "in part"]);
    remove_where(&world, |_| true);
    world.disk.put("letters/love.txt", Vec::new());
    forget(&world, "");
    check(&world, FaultKind::Directory, &["not Stormwheel's (letters)", "empty directory"]);
}

#[test]
fn a_new_directory_does_not_take_the_snapshots_of_another() {
    let world = world();
    remove_where(&world, |_| true);
    check(&world, FaultKind::Corruption, &["journals of run 2", "manifests/"]);
}

#[test]
fn segments_of_another_directory_or_a_newer_version_are_refused() {
    let name = "journal/00000002-000-0000000001.log";
    let world = world();
    let page = world.disk.bytes(name);
    let header = SegmentHeader::decode(&page).expect("it is a segment");
    let other = SegmentHeader { directory_id: [7; 16], ..header }.encode();
    change(&world, name, |bytes| bytes[..other.len()].copy_from_slice(&other));
    check(&world, FaultKind::Directory, &[name, "another data directory"]);
    change(&world, name, |bytes| {
        bytes[..page.len()].copy_from_slice(&page);
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..64]);
        bytes[64..68].copy_from_slice(&crc.to_le_bytes());
    });
    check(&world, FaultKind::Directory, &[name, "format 2", "start the version that wrote it"]);
}

/// Starts that end in the middle, twice in a row, leave nothing that looks like half a copy.
#[test]
fn starts_that_are_cut_off_are_no_half_copies() {
    let mut world = world();
    let found = world.disk.clone();
    for call in 0.. {
        world.disk = found.crash(None);
        world.disk.fail_at(call, Failure::Error(ErrorKind::Other));
        let is_through = world.try_open().is_ok();
        for again in [call / 2, call] {
            world.disk = world.disk.crash(None);
            world.disk.fail_at(again, Failure::Error(ErrorKind::Other));
            drop(world.try_open());
        }
        world.disk = world.disk.crash(None);
        let outcome = world.try_open();
        assert!(outcome.is_ok(), "call {call}: {:?}", outcome.err().map(|it| it.to_string()));
        if is_through {
            break;
        }
    }
    world.open();
    assert_eq!(world.pending(), 150);
}
