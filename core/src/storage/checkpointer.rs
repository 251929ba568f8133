//! The checkpointer: packs the parts that shards give into objects, and publishes a manifest once a
//! round has all of them.
//!
//! An object is live as long as it holds the newest snapshot of some partition. Objects of which
//! little is live are emptied by having their partitions written again. The last manifest but one is
//! kept, with its objects and the log behind it: should the newest turn out damaged, the one before
//! and a longer piece of the log come to the same.
//!
//! No failure loses a part: what could not be stored is kept and stored by the next call.

use crate::key_group::{KeyGroup, LaneIndex, Layout};
use crate::output::{Cursor, NamespaceId};
use crate::ports::SnapshotStore;
use crate::snapshot::{
    Catalog, Entry, EntryKind, Manifest, ObjectName, ObjectRef, ObjectWriter, Part, directory_of,
    encode_controls, hex,
};
use crate::storage::{DiskFault, SAVEPOINTS, is_snapshot_name};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;

/// An object is complete from this length on.
const OBJECT_BYTES: usize = 64 << 20;
/// With more objects than this, those with the least in them are emptied.
const OBJECTS_MAX: usize = 16;
/// An object that is outdated by so much of its bytes is emptied, too.
const OUTDATED_PERCENT: u64 = 50;

/// What becomes of a round; see [`Checkpointer::step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    /// The number of the checkpoint.
    pub(crate) number: u32,
    /// By lane: what stands at or below is not followed any more.
    pub(crate) cut: Arc<[u64]>,
    /// Outputs at or below it are not looked for any more.
    pub(crate) floor: Cursor,
    pub(crate) figures: RoundFigures,
}

/// What a round has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RoundFigures {
    pub(crate) bytes: u64,
    pub(crate) keys: u64,
    pub(crate) partitions: u64,
}

/// A manifest that is published, as far as it is needed again.
#[derive(Debug, Clone)]
struct Standing {
    manifest: String,
    objects: BTreeSet<String>,
    cut: Arc<[u64]>,
    floor: Cursor,
}

/// See the module.
pub(crate) struct Checkpointer {
    store: Arc<dyn SnapshotStore>,
    directory: [u8; 16],
    layout: Layout,
    epoch: u32,
    /// The number of the newest checkpoint, over all epochs.
    number: u32,
    /// Which objects hold what is newest.
    catalog: Catalog,
    /// Bytes of all objects of the newest checkpoint.
    total_bytes: u64,
    last: Option<Standing>,
    before_last: Option<Standing>,
    /// Objects and manifests that nothing needs any more.
    garbage: VecDeque<String>,
    round: Option<Round>,
}

/// A round under way.
struct Round {
    /// What the clocks read when it began.
    now_ms: i64,
    created_ms: i64,
    output_cursor: Cursor,
    positions: BTreeMap<LaneIndex, u64>,
    namespaces: BTreeSet<NamespaceId>,
    writer: Option<ObjectWriter>,
    /// Completed and not yet stored.
    waiting: VecDeque<(ObjectRef, Vec<u8>, Vec<Entry>)>,
    /// Stored.
    objects: Vec<ObjectRef>,
    completed: u32,
    done: BTreeSet<u16>,
    figures: RoundFigures,
}

impl Checkpointer {
    /// A checkpointer that goes on from a manifest, if there is one, with the catalog of its
    /// objects, and from the number of the newest that ever was.
    pub(crate) fn new(
        store: Arc<dyn SnapshotStore>,
        directory: [u8; 16],
        layout: Layout,
        epoch: u32,
        number: u32,
        manifest: Option<&Manifest>,
        catalog: Catalog,
    ) -> Self {
        Self {
            store,
            directory,
            layout,
            epoch,
            number,
            catalog,
            total_bytes: manifest.map_or(0, total_bytes),
            last: manifest.map(standing),
            before_last: None,
            garbage: VecDeque::new(),
            round: None,
        }
    }

    /// The number of the newest round.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether a round is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.round.is_some()
    }

    /// What the round under way has written so far.
    pub(crate) fn figures(&self) -> RoundFigures {
        self.round.as_ref().map_or_else(RoundFigures::default, |round| round.figures)
    }

    /// Bytes of all objects of the newest checkpoint.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Begins a round, before the shards hear of it; returns the partitions that are to be written
    /// although nothing happened to them. Outputs above `output_cursor` may have been emitted by what
    /// is followed after this checkpoint is loaded.
    pub(crate) fn begin(
        &mut self,
        now_ms: i64,
        created_ms: i64,
        output_cursor: Cursor,
    ) -> BTreeSet<(NamespaceId, KeyGroup)> {
        self.number += 1;
        self.round = Some(Round {
            now_ms,
            created_ms,
            output_cursor,
            positions: BTreeMap::new(),
            namespaces: BTreeSet::new(),
            writer: None,
            waiting: VecDeque::new(),
            objects: Vec::new(),
            completed: 0,
            done: BTreeSet::new(),
            figures: RoundFigures::default(),
        });
        self.catalog.stragglers(OUTDATED_PERCENT, OBJECTS_MAX)
    }

    /// Takes a part of the round under way.
    pub(crate) fn take(&mut self, part: Part) {
        let directory = self.directory;
        let Some(round) = &mut self.round else {
            return;
        };
        let mut writer = round.writer.take().unwrap_or_else(|| ObjectWriter::new(&directory));
        match part {
            Part::Head { lane, head, controls } => {
                let position = head.position;
                round.positions.insert(lane, position);
                round.namespaces.extend(head.namespaces.iter().map(|it| it.id));
                writer.add(EntryKind::LaneHead { lane, position }, 0, &head.encode());
                writer.add(EntryKind::Controls { lane }, 0, &encode_controls(&controls));
            }
            Part::Partition { namespace, group, position, keys, bytes } => {
                round.figures.partitions += 1;
                round.figures.keys += keys;
                writer.add(EntryKind::Partition { namespace, group, position }, keys, &bytes);
            }
            Part::Done { shard, round: number } => {
                debug_assert_eq!(number, u64::from(self.number), "one round at a time");
                round.done.insert(shard.0);
            }
            Part::Savepoint { .. } => debug_assert!(false, "it belongs to no checkpoint"),
        }
        round.writer = Some(writer);
        let is_complete = round.writer.as_ref().is_some_and(|it| it.len() >= OBJECT_BYTES);
        if is_complete || self.has_all() {
            self.complete_object();
        }
    }

    fn has_all(&self) -> bool {
        let shards = self.layout.shards() as usize;
        self.round.as_ref().is_some_and(|round| round.done.len() == shards)
    }

    fn complete_object(&mut self) {
        let Some(round) = &mut self.round else { return };
        let Some(writer) = round.writer.take() else { return };
        if writer.entries().is_empty() {
            return;
        }
        let entries = writer.entries().to_vec();
        let finished = writer.finish();
        round.completed += 1;
        round.figures.bytes += finished.bytes.len() as u64;
        let (epoch, checkpoint, number) = (self.epoch, self.number, round.completed);
        let name = ObjectName { epoch, checkpoint, number };
        let it = ObjectRef::new(name, finished.bytes.len() as u64, finished.digest);
        round.waiting.push_back((it, finished.bytes, entries));
    }

    /// Stores what is complete; if that was the last of the round, publishes its manifest. Also
    /// removes what nothing needs any more. On failure, what failed is tried again by the next call.
    pub(crate) fn step(&mut self) -> Result<Option<Published>, DiskFault> {
        while let Some(round) = &mut self.round
            && let Some((it, bytes, _)) = round.waiting.front()
        {
            put(&*self.store, &it.name, bytes.clone())?;
            if let Some((it, _, entries)) = round.waiting.pop_front() {
                self.catalog.add(it.clone(), &entries);
                round.objects.push(it);
            }
        }
        if !self.has_all() {
            self.collect_garbage()?;
            return Ok(None);
        }
        let published = self.publish()?;
        self.round = None;
        Ok(Some(published))
    }

    fn publish(&mut self) -> Result<Published, DiskFault> {
        let round = self.round.as_ref().expect("a round is under way");
        self.catalog.keep_namespaces(&round.namespaces);
        // What holds the newest of some partition, and what holds the heads of this round.
        let mut objects = self.catalog.take_needed();
        let own = round.objects.iter().filter(|it| !objects.contains(it)).cloned();
        objects.extend(own.collect::<Vec<_>>());
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = Manifest {
            directory: hex(&self.directory),
            epoch: self.epoch,
            checkpoint: self.number,
            max_parallelism: self.layout.max_parallelism(),
            lanes: self.layout.lanes(),
            now_ms: round.now_ms,
            created_ms: round.created_ms,
            positions: round.positions.values().copied().collect(),
            output_cursor: round.output_cursor.0,
            incarnation_floor: 0,
            objects,
        };
        put(&*self.store, &manifest.name().to_string(), manifest.encode())?;
        self.total_bytes = total_bytes(&manifest);
        self.retire(standing(&manifest));
        let (cut, floor) = match &self.before_last {
            Some(it) => (Arc::clone(&it.cut), it.floor),
            // The first one of all: should it be damaged, whoever takes it away has the whole log.
            None => (vec![0; self.layout.lanes() as usize].into(), Cursor(0)),
        };
        let figures = self.figures();
        Ok(Published { number: self.number, cut, floor, figures })
    }

    /// A new manifest stands; the last but one goes, with the objects that only it needed.
    fn retire(&mut self, new: Standing) {
        if let Some(old) = self.before_last.take() {
            self.garbage.push_back(old.manifest);
            let last = self.last.iter().flat_map(|last| &last.objects);
            let needed: BTreeSet<&String> = last.chain(&new.objects).collect();
            self.garbage.extend(old.objects.iter().filter(|it| !needed.contains(it)).cloned());
        }
        self.before_last = self.last.take();
        self.last = Some(new);
    }

    fn collect_garbage(&mut self) -> Result<(), DiskFault> {
        while let Some(name) = self.garbage.front() {
            self.store.remove(name).map_err(DiskFault::at(name, "remove"))?;
            self.garbage.pop_front();
        }
        Ok(())
    }

    /// Whether there is something for [`Checkpointer::step`] to do.
    pub(crate) fn is_idle(&self) -> bool {
        let is_waiting = self.round.as_ref().is_some_and(|round| !round.waiting.is_empty());
        !is_waiting && !self.has_all() && self.garbage.is_empty()
    }

    /// Of all that stands in the store (`names`), objects and manifests that belong neither to the
    /// manifest that was loaded nor to the one before it go: leavings of a process that ended in the
    /// middle. Returns what is not ours, and stays. As long as no manifest says whose store it is,
    /// each object has to say so itself: another service may just have begun in the same place.
    pub(crate) fn adopt(
        &mut self,
        names: &[String],
        before: Option<&Manifest>,
    ) -> Result<Vec<String>, DiskFault> {
        self.before_last = before.map(standing);
        let kept = self.last.iter().chain(&self.before_last);
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        for it in kept {
            needed.insert(&it.manifest);
            needed.extend(it.objects.iter().map(String::as_str));
        }
        let mut strangers = Vec::new();
        let others = names.iter().filter(|name| !name.starts_with(SAVEPOINTS));
        for name in others.filter(|name| !needed.contains(name.as_str())) {
            if is_snapshot_name(name) && (self.last.is_some() || self.is_own(name)?) {
                self.garbage.push_back(name.clone());
            } else {
                strangers.push(name.clone());
            }
        }
        Ok(strangers)
    }

    /// Whether an object says that it belongs to this data directory.
    fn is_own(&self, name: &str) -> Result<bool, DiskFault> {
        let bytes = self.store.get(name).map_err(DiskFault::at(name, "read"))?;
        Ok(directory_of(name, &bytes).is_ok_and(|directory| directory == self.directory))
    }
}

fn total_bytes(manifest: &Manifest) -> u64 {
    manifest.objects.iter().map(|it| it.bytes).sum()
}

fn standing(manifest: &Manifest) -> Standing {
    Standing {
        manifest: manifest.name().to_string(),
        objects: manifest.objects.iter().map(|it| it.name.clone()).collect(),
        cut: manifest.positions.clone().into(),
        floor: Cursor(manifest.output_cursor),
    }
}

/// Stores an object. That it is there already is what a failure may have left: if it is the same,
/// all is well.
pub(super) fn put(store: &dyn SnapshotStore, name: &str, bytes: Vec<u8>) -> Result<(), DiskFault> {
    let again = bytes.clone();
    match store.put(name, bytes) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let standing = store.get(name).map_err(DiskFault::at(name, "read"))?;
            if standing == again { Ok(()) } else { Err(DiskFault::new(name, "store", error)) }
        }
        outcome => outcome.map_err(DiskFault::at(name, "store")),
    }
}
