//! Checkpoints of several objects, read back.

use super::*;
use crate::namespace::NamespaceConfig;
use crate::snapshot::object::Finished;
use crate::snapshot::{
    DomainHead, ManifestName, NamespaceHead, ObjectName, ObjectWriter, encode_controls,
};
use crate::time::Timestamp;
use std::sync::Arc;

const DIRECTORY: [u8; 16] = *b"0123456789abcdef";
const GONE: NamespaceId = NamespaceId(9);

fn layout() -> Layout {
    Layout::new(8, 2, 1).expect("a legal layout")
}

fn head(position: u64, ids: &[u64]) -> LaneHead {
    let still = DomainHead { reached: None, wheel_at: Timestamp::MIN, held: None };
    let namespaces = ids.iter().map(|id| NamespaceHead {
        id: NamespaceId(*id),
        config: Arc::new(NamespaceConfig::default()),
        applied_number: 1,
        manual_now: None,
        is_paused: false,
        is_closed: false,
        stopped: None,
        broadcast: None,
        domains: [still.clone(), still.clone()],
    });
    LaneHead { position, namespaces: namespaces.collect() }
}

/// One thing to put into an object.
enum Put {
    Head(u16, u64, &'static [u64]),
    Controls(u16),
    Partition(u64, u16, u64, &'static str),
}
use Put::{Controls, Head, Partition};

fn object(parts: &[Put]) -> Finished {
    let mut writer = ObjectWriter::new(&DIRECTORY);
    for part in parts {
        match part {
            Head(lane, position, ids) => {
                let kind = EntryKind::LaneHead { lane: LaneIndex(*lane), position: *position };
                writer.add(kind, 0, &head(*position, ids).encode());
            }
            Controls(lane) => {
                let state = ControlsState { incarnations: 5, ..ControlsState::default() };
                let kind = EntryKind::Controls { lane: LaneIndex(*lane) };
                writer.add(kind, 0, &encode_controls(&state));
            }
            Partition(namespace, group, position, bytes) => {
                let (namespace, group) = (NamespaceId(*namespace), KeyGroup(*group));
                let kind = EntryKind::Partition { namespace, group, position: *position };
                writer.add(kind, 1, bytes.as_bytes());
            }
        }
    }
    writer.finish()
}

struct World {
    manifest: Manifest,
    objects: Vec<Vec<u8>>,
}

impl World {
    fn new(objects: &[&[Put]], positions: [u64; 2]) -> Self {
        let objects: Vec<Finished> = objects.iter().map(|parts| object(parts)).collect();
        let refs = objects.iter().enumerate().map(|(n, it)| {
            let name = ObjectName { epoch: 1, checkpoint: 1, number: n as u32 };
            ObjectRef::new(name, it.bytes.len() as u64, it.digest)
        });
        let ManifestName { epoch, checkpoint } = ManifestName { epoch: 1, checkpoint: 1 };
        let manifest = Manifest {
            directory: hex(&DIRECTORY),
            epoch,
            checkpoint,
            max_parallelism: 8,
            lanes: 2,
            now_ms: 0,
            created_ms: 0,
            positions: positions.to_vec(),
            output_cursor: 0,
            incarnation_floor: 0,
            objects: refs.collect(),
        };
        Self { manifest, objects: objects.into_iter().map(|it| it.bytes).collect() }
    }

    fn load(&self, layout: Layout) -> Result<Vec<String>, SnapshotFault> {
        self.load_all(layout).map(|(seen, _)| seen)
    }

    /// What is loaded, and which objects are needed for it.
    fn load_all(&self, layout: Layout) -> Result<(Vec<String>, Vec<ObjectRef>), SnapshotFault> {
        let mut seen = Vec::new();
        let fetch = |it: &ObjectRef| {
            let name = ObjectName::parse(&it.name).expect("a name of an object");
            Ok(self.objects[name.number as usize].clone())
        };
        let mut catalog = load(&self.manifest, &DIRECTORY, layout, fetch, |part| {
            seen.push(match part {
                Loaded::Head { lane, head } => {
                    format!("head {} at {} of {}", lane.0, head.position, head.namespaces.len())
                }
                Loaded::Controls { lane, state } => {
                    format!("controls {} {}", lane.0, state.incarnations)
                }
                Loaded::Partition { lane, namespace, group, position, bytes, .. } => {
                    let text = String::from_utf8_lossy(bytes);
                    format!("{} {}/{} at {position}: {text}", lane.0, namespace.0, group.0)
                }
            });
            Ok::<_, SnapshotFault>(())
        })?;
        let last_head = seen.iter().rposition(|part| !part.contains('/'));
        let first_key = seen.iter().position(|part| part.contains('/'));
        assert!(first_key.is_none() || last_head < first_key, "heads come first: {seen:?}");
        seen.sort();
        Ok((seen, catalog.take_needed()))
    }
}

const OLD: &[Put] = &[
    Head(0, 3, &[1]),
    Controls(0),
    Partition(1, 0, 3, "old a"),
    Partition(1, 1, 3, "old b"),
    Partition(1, 7, 9, "old c"),
    Partition(GONE.0, 2, 3, "gone"),
];
const NEW: &[Put] = &[
    Head(0, 5, &[1, 2]),
    Head(1, 6, &[1]),
    Controls(0),
    Controls(1),
    Partition(1, 0, 5, "older a"),
    Partition(2, 1, 7, "d"),
    Partition(2, 7, 7, "not on this lane"),
    Partition(1, 0, 8, "a"),
];

#[test]
fn the_newest_entry_of_each_partition_counts() {
    let world = World::new(&[OLD, NEW], [5, 6]);
    let expected = [
        "0 1/0 at 8: a",
        "0 1/1 at 3: old b",
        "0 2/1 at 7: d",
        "1 1/7 at 9: old c",
        "controls 0 5",
        "controls 1 5",
        "head 0 at 5 of 2",
        "head 1 at 6 of 1",
    ];
    assert_eq!(world.load(layout()).expect("it is whole"), expected);
    let more_shards = Layout::new(8, 2, 2).expect("a legal layout");
    assert_eq!(world.load(more_shards).expect("it is whole"), expected);
    let (_, needed) = world.load_all(layout()).expect("it is whole");
    assert_eq!(needed, world.manifest.objects);
    let all_new = &[Partition(1, 1, 9, "b"), Partition(1, 7, 9, "c")];
    let (_, needed) = World::new(&[OLD, NEW, all_new], [5, 6]).load_all(layout()).expect("whole");
    let numbers = needed.iter().filter_map(|object| ObjectName::parse(&object.name));
    let numbers: Vec<u32> = numbers.map(|name| name.number).collect();
    assert_eq!(numbers, [1, 2], "what only a namespace that is gone would need is not");
    // Heads may stand in an older object than partitions that were written after them.
    let world = World::new(&[OLD, NEW, &[Partition(1, 1, 9, "b")]], [5, 6]);
    let seen = world.load(layout()).expect("it is whole");
    assert!(seen.contains(&"0 1/1 at 9: b".to_owned()), "{seen:?}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let check = |change: &dyn Fn(&mut World), expected: &str| {
        let mut world = World::new(&[OLD, NEW], [5, 6]);
        change(&mut world);
        let fault = world.load(layout()).expect_err(expected).to_string();
        assert!(fault.contains(expected), "{fault}");
    };
    check(&|it| it.manifest.directory.replace_range(..2, "ff"), "directory id");
    check(&|it| it.manifest.lanes = 4, "lanes is 4, not 2");
    check(&|it| it.manifest.positions[1] = 7, "head of lane 1 is another one");
    check(&|it| it.manifest.objects[0].bytes += 1, "length");
    check(&|it| it.manifest.objects[0].digest = "0".repeat(32), "digest");
    check(&|it| it.objects.swap(0, 1), "objects/00000001-00000001-0001 is another one");
    check(&|it| it.objects[1].truncate(99), "objects/00000001-00000001-0001 is damaged");
    let only_old = World::new(&[OLD], [3, 0]);
    let fault = only_old.load(layout()).expect_err("lane 1 is missing").to_string();
    let expected = "manifests/00000001-00000001 is not whole: \
                    there is no head of lane 1 in its objects";
    assert_eq!(fault, expected);
    let stray = World::new(&[OLD, NEW, &[Partition(1, 8, 9, "x")]], [5, 6]);
    let fault = stray.load(layout()).expect_err("there are eight key groups").to_string();
    assert!(fault.contains("key group is 8"), "{fault}");
}
