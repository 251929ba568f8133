//! Restore: from a savepoint to a new data directory, of another layout if need be.
//!
//! Nothing is taken over but what the savepoint holds: keys with their timers and producers, the
//! namespaces with their configuration, sources and times, and the retained outputs. Every namespace
//! begins a new life under an incarnation that was never given before, so that no output of either
//! directory has the id of one of the other; positions go on above the highest of the old lanes, so
//! that no new output has the id of a restored one.
//!
//! The identity of the new directory is written last: what was begun and not finished has none, and
//! no service takes it for a data directory.

use super::old_producers::OldProducers;
use super::output_files::CURSORS_PER_SECOND;
use super::savepoint_reader::{SavedLanes, SavepointFault, SavepointReader};
use super::{
    DiskFault, Identity, IdentityFault, OutputFiles, OutputOptions, RecoveryFault, Segments,
    SegmentsOptions, checkpointer,
};
use crate::key_group::{KeyGroup, LaneIndex, Layout, xxh3_64};
use crate::namespace::{ControlState, ControlsState};
use crate::output::{Cursor, NamespaceId};
use crate::ports::{Disk, SnapshotStore};
use crate::snapshot::{
    DomainHead, EntryKind, LaneHead, Manifest, NamespaceHead, ObjectName, ObjectRef, ObjectWriter,
    SnapshotFault, encode_controls, encode_head, hex, highest_incarnation,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// An object is complete from this length on.
const OBJECT_BYTES: usize = 64 << 20;
/// Bytes of partitions that are gathered in memory before they are written. What is larger is read
/// in several passes, each for some of the new key groups.
const PASS_BYTES: u64 = 1 << 30;
/// Bytes of outputs between two writes.
const OUTPUT_BYTES: usize = 8 << 20;
/// The epoch of what is restored: there are no journals of it, the first start is the first with some.
const EPOCH: u32 = 0;
/// The first checkpoint of the new directory.
const FIRST: u32 = 1;

/// What the new data directory is to be.
#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions {
    /// Tells it apart from every other.
    pub directory_id: [u8; 16],
    /// Key groups; 0: as many as the savepoint has.
    pub max_parallelism: u16,
    /// Lanes; 0: as many as the savepoint has, or as many as there are key groups.
    pub lanes: u16,
    /// What the real-time clock reads.
    pub now_ms: i64,
    /// Bytes of each file that outputs are put into.
    pub segment_bytes: u64,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RestoreInfo {
    pub namespaces: u64,
    pub keys: u64,
    pub timers: u64,
    pub outputs: u64,
    pub max_parallelism: u16,
    pub lanes: u16,
}

/// Why nothing was restored.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named in the messages")]
pub enum RestoreFault {
    /// The savepoint cannot be used.
    #[error(transparent)]
    Savepoint(#[from] SavepointFault),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] IdentityFault),
    /// The outputs cannot be written.
    #[error(transparent)]
    Outputs(#[from] RecoveryFault),
    /// There is something already.
    #[error("the data directory is not empty ({name}); a savepoint is restored into an empty one")]
    NotEmpty { name: String },
    /// The layout cannot be.
    #[error("{detail}")]
    Layout { detail: String },
}

impl From<DiskFault> for RestoreFault {
    fn from(fault: DiskFault) -> Self {
        Self::Savepoint(SavepointFault::Disk(fault))
    }
}

impl From<SnapshotFault> for RestoreFault {
    fn from(fault: SnapshotFault) -> Self {
        Self::Savepoint(SavepointFault::Snapshot(fault))
    }
}

/// Restores a savepoint into an empty data directory with an empty snapshot store.
pub fn restore(
    savepoint: &SavepointReader,
    disk: &Arc<dyn Disk>,
    store: &Arc<dyn SnapshotStore>,
    options: &RestoreOptions,
) -> Result<RestoreInfo, RestoreFault> {
    if Identity::read(&**disk)?.is_some() {
        return Err(RestoreFault::NotEmpty { name: "stormwheel.json".to_owned() });
    }
    let standing = store.list("").map_err(DiskFault::at("snapshots", "list"))?;
    if let Some(name) = standing.into_iter().next() {
        return Err(RestoreFault::NotEmpty { name: format!("snapshots/{name}") });
    }
    let manifest = savepoint.manifest();
    let max_parallelism = Some(options.max_parallelism).filter(|it| *it > 0);
    let max_parallelism = max_parallelism.unwrap_or(manifest.max_parallelism);
    let lanes = Some(options.lanes).filter(|it| *it > 0);
    let lanes = lanes.unwrap_or(manifest.lanes.min(max_parallelism));
    let layout =
        Layout::new(max_parallelism, lanes, 1).map_err(|detail| RestoreFault::Layout { detail })?;
    let lanes = savepoint.lanes()?;
    let plan = Plan::new(savepoint, layout, &lanes, outputs_begin(savepoint, options))?;
    let mut objects = Objects::new(&**store, options.directory_id);
    for lane in (0..layout.lanes()).map(LaneIndex) {
        let head = LaneHead { position: plan.position, namespaces: plan.heads.clone() };
        let position = plan.position;
        objects.add(EntryKind::LaneHead { lane, position }, 0, &head.encode())?;
        let controls = plan.controls.get(&lane).cloned().unwrap_or_default();
        let controls = ControlsState { incarnations: plan.incarnations, ..controls };
        objects.add(EntryKind::Controls { lane }, 0, &encode_controls(&controls))?;
    }
    let mut info = RestoreInfo {
        namespaces: manifest.namespaces.len() as u64,
        max_parallelism: layout.max_parallelism(),
        lanes: layout.lanes(),
        ..RestoreInfo::default()
    };
    restore_partitions(savepoint, layout, &plan, &mut objects, &mut info)?;
    let cursor = restore_outputs(savepoint, disk, &plan, options, &mut info)?;
    let manifest = Manifest {
        directory: hex(&options.directory_id),
        epoch: EPOCH,
        checkpoint: FIRST,
        max_parallelism: layout.max_parallelism(),
        lanes: layout.lanes(),
        now_ms: manifest.now_ms,
        created_ms: options.now_ms,
        positions: vec![plan.position; layout.lanes() as usize],
        output_cursor: cursor.0,
        incarnation_floor: 0,
        objects: objects.finish()?,
    };
    checkpointer::put(&**store, &manifest.name().to_string(), manifest.encode())?;
    let directory_id = options.directory_id;
    let identity =
        Identity { directory_id, max_parallelism: layout.max_parallelism(), lanes: layout.lanes() };
    identity.write(&**disk)?;
    Ok(info)
}

/// What becomes of the namespaces.
struct Plan {
    /// Of the last record that there might have been, in any lane.
    position: u64,
    /// Incarnations up to this one are taken, in each lane.
    incarnations: u64,
    ids: BTreeMap<NamespaceId, NamespaceId>,
    heads: Vec<NamespaceHead>,
    controls: BTreeMap<LaneIndex, ControlsState>,
}

impl Plan {
    fn new(
        savepoint: &SavepointReader,
        layout: Layout,
        saved: &SavedLanes,
        born: Cursor,
    ) -> Result<Self, RestoreFault> {
        let manifest = savepoint.manifest();
        let highest = saved.controls.iter();
        let highest = highest.map(|(lane, it)| highest_incarnation(lane.0, manifest.lanes, it));
        let given = highest.max().unwrap_or(0);
        let lanes = u64::from(layout.lanes());
        let mut incarnations = given / lanes;
        let mut it = Self {
            position: saved.heads.values().map(|head| head.position).max().unwrap_or(0),
            incarnations: 0,
            ids: BTreeMap::new(),
            heads: Vec::new(),
            controls: BTreeMap::new(),
        };
        let states = saved.controls.values().flat_map(|controls| &controls.namespaces);
        for state in states {
            let id = NamespaceId(state.id);
            let heads: Vec<&NamespaceHead> = saved
                .heads
                .values()
                .filter_map(|head| head.namespaces.iter().find(|it| it.id == id))
                .collect();
            if heads.len() != saved.heads.len() || it.ids.contains_key(&id) {
                let missing = format!("head of namespace {} on each lane", state.name);
                let manifest = manifest.id.clone();
                return Err(SnapshotFault::Incomplete { manifest, missing }.into());
            }
            let home = layout.lane_of(layout.group_of(xxh3_64(state.name.as_bytes())));
            incarnations += 1;
            let new = NamespaceId(incarnations * lanes + u64::from(home.0));
            it.ids.insert(id, new);
            it.heads.push(merge(new, state, &heads));
            let controls = it.controls.entry(home).or_default();
            // It begins a new life: cursors of the old one are of another log.
            let born_cursor = Some(born.0);
            controls.namespaces.push(ControlState { id: new.0, born_cursor, ..state.clone() });
        }
        if it.ids.len() != manifest.namespaces.len() {
            let missing = "control state of some namespace".to_owned();
            return Err(SnapshotFault::Incomplete { manifest: manifest.id.clone(), missing }.into());
        }
        it.incarnations = incarnations;
        Ok(it)
    }
}

/// The head of a namespace for every new lane.
fn merge(id: NamespaceId, state: &ControlState, heads: &[&NamespaceHead]) -> NamespaceHead {
    NamespaceHead {
        id,
        config: Arc::clone(&state.config),
        applied_number: state.steps,
        // What a paused one has taken in of its clock follows with the resume.
        manual_now: state.paused.as_ref().map_or(state.manual_now, |paused| paused.clock),
        is_paused: state.paused.is_some(),
        is_closed: state.closed.is_some(),
        stopped: state.paused.as_ref().and_then(|paused| paused.stop.clone()),
        // All lanes have come to the same one.
        broadcast: heads.iter().find_map(|it| it.broadcast.clone()),
        domains: [0, 1]
            .map(|domain| DomainHead::merged(heads.iter().map(|it| &it.domains[domain]))),
    }
}

/// One of the new partitions.
#[derive(Default)]
struct Gathered {
    keys: u64,
    bytes: Vec<u8>,
}

fn restore_partitions(
    savepoint: &SavepointReader,
    layout: Layout,
    plan: &Plan,
    objects: &mut Objects<'_>,
    info: &mut RestoreInfo,
) -> Result<(), RestoreFault> {
    let old = savepoint.manifest().max_parallelism;
    let mut producers = OldProducers::new(old, layout.max_parallelism());
    let mut bytes = 0u64;
    savepoint.each_partition(&mut |namespace, group, reader| {
        bytes += reader.len_bytes() as u64;
        producers.insert(namespace, group, reader.producers());
        Ok(())
    })?;
    let groups = u32::from(layout.max_parallelism());
    let passes = u32::try_from(bytes / PASS_BYTES).unwrap_or(u32::MAX).clamp(1, groups);
    for pass in 0..passes {
        let range = (groups * pass / passes) as u16..(groups * (pass + 1) / passes) as u16;
        let mut gathered: BTreeMap<(NamespaceId, KeyGroup), Gathered> = BTreeMap::new();
        savepoint.each_partition(&mut |namespace, _, mut reader| {
            while let Some((key, timers, raw)) = reader.next_entry()? {
                let group = layout.group_of(xxh3_64(key));
                if !range.contains(&group.0) {
                    continue;
                }
                let it = gathered.entry((namespace, group)).or_default();
                it.keys += 1;
                it.bytes.extend_from_slice(&raw);
                info.keys += 1;
                info.timers += u64::from(timers);
            }
            Ok(())
        })?;
        for namespace in producers.namespaces() {
            for group in range.clone().map(KeyGroup) {
                if producers.has_some(namespace, group) {
                    gathered.entry((namespace, group)).or_default();
                }
            }
        }
        for ((namespace, group), it) in gathered {
            let mut bytes = Vec::with_capacity(it.bytes.len() + 16);
            encode_head(&mut bytes, &producers.merged(namespace, group), it.keys);
            bytes.extend_from_slice(&it.bytes);
            let (namespace, position) = (plan.ids[&namespace], plan.position);
            objects.add(EntryKind::Partition { namespace, group, position }, it.keys, &bytes)?;
        }
    }
    Ok(())
}

/// The cursor that the new log begins behind: so that all of its cursors lie behind those of the old,
/// and that a log without outputs ends where one may begin.
fn outputs_begin(savepoint: &SavepointReader, options: &RestoreOptions) -> Cursor {
    let manifest = savepoint.manifest();
    let now_ms = options.now_ms.max(manifest.now_ms);
    let behind = manifest.output_cursor.next_multiple_of(CURSORS_PER_SECOND);
    OutputFiles::first_cursor(now_ms).max(Cursor(behind))
}

/// Puts the outputs into the new log; returns where it ends.
fn restore_outputs(
    savepoint: &SavepointReader,
    disk: &Arc<dyn Disk>,
    plan: &Plan,
    options: &RestoreOptions,
    info: &mut RestoreInfo,
) -> Result<Cursor, RestoreFault> {
    let segments = SegmentsOptions {
        segment_bytes: options.segment_bytes,
        spares: 0,
        ..SegmentsOptions::new(options.directory_id)
    };
    let segments = Arc::new(Segments::open(Arc::clone(disk), segments)?);
    let manifest = savepoint.manifest();
    let output_options = OutputOptions {
        epoch: EPOCH,
        engine_version: manifest.engine_version,
        now_ms: options.now_ms.max(manifest.now_ms),
        scan_from: Some(outputs_begin(savepoint, options)),
        reached: None,
        bytes_max: u64::MAX,
    };
    let mut files = OutputFiles::recover(&**disk, segments, &output_options)?.files;
    let mut waiting_bytes = 0;
    savepoint.each_outputs(&mut |header, outputs| {
        let Some(namespace) = plan.ids.get(&outputs.namespace) else { return Ok(()) };
        info.outputs += u64::from(outputs.count);
        waiting_bytes += outputs.len_bytes();
        let outputs = outputs.moved_to(*namespace);
        files.append(&outputs, header.now_ms)?;
        if waiting_bytes >= OUTPUT_BYTES {
            waiting_bytes = 0;
            files.write()?;
        }
        Ok(())
    })?;
    if info.outputs > 0 {
        files.mark()?;
    }
    Ok(files.latest())
}

/// The objects of the new directory.
struct Objects<'a> {
    store: &'a dyn SnapshotStore,
    directory_id: [u8; 16],
    writer: Option<ObjectWriter>,
    stored: Vec<ObjectRef>,
}

impl<'a> Objects<'a> {
    fn new(store: &'a dyn SnapshotStore, directory_id: [u8; 16]) -> Self {
        Self { store, directory_id, writer: None, stored: Vec::new() }
    }

    fn add(&mut self, kind: EntryKind, keys: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        let directory_id = &self.directory_id;
        let writer = self.writer.get_or_insert_with(|| ObjectWriter::new(directory_id));
        writer.add(kind, keys, bytes);
        if writer.len() >= OBJECT_BYTES { self.store() } else { Ok(()) }
    }

    fn store(&mut self) -> Result<(), DiskFault> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let finished = writer.finish();
        let number = self.stored.len() as u32 + 1;
        let name = ObjectName { epoch: EPOCH, checkpoint: FIRST, number };
        let object = ObjectRef::new(name, finished.bytes.len() as u64, finished.digest);
        checkpointer::put(self.store, &object.name, finished.bytes)?;
        self.stored.push(object);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<ObjectRef>, DiskFault> {
        self.store()?;
        Ok(self.stored)
    }
}
