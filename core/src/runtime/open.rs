//! Opening: from a data directory (or nothing) to the parts of an engine, brought to where they
//! were.
//!
//! The snapshots of the newest manifest that is whole, then the log behind them. What the journals
//! of earlier runs say is sealed first; only then does a new epoch begin. Outputs that the replay
//! emits and the output log has already are recognised by their ids.

use super::checkpoints::{CheckpointBoard, Checkpoints, CheckpointsOptions};
use super::clock::AdjustedClock;
use super::committer::Committer;
use super::common::{Common, Queued, Turns};
use super::directory::Namespaces;
use super::engine::EngineOptions;
use super::fault::Fault;
use super::follow::{Following, LoadedShards, load_shards};
use super::metrics::{EngineCells, ShardCells};
use super::output_log::{OutputCommitter, OutputLog};
use super::publisher::Publisher;
use super::recovered::RecoveryInfo;
use super::savepoints::{SavepointBoard, Savepoints, SavepointsOptions};
use super::storage_options::StorageOptions;
use super::watch::Watch;
use super::worker::Worker;
use crate::key_group::{Layout, ShardIndex};
use crate::lane::AsOf;
use crate::namespace::DEFAULT_NAMESPACE;
use crate::output::Cursor;
use crate::ports::{Disk, MachineClock, Registry};
use crate::shard::{AppliedNumbers, Pace, Shard};
use crate::snapshot::{Catalog, Manifest, ManifestName, ObjectRef, SnapshotFault, newest};
use crate::storage::{
    Checkpointer, DiskFault, Identity, Journal, JournalOptions, OutputFiles, OutputOptions,
    Recovered, RecoveryFault, RecoveryOptions, SEGMENT_BYTES_MIN, Segments, SegmentsOptions,
    SnapshotsSay, read_journals,
};
use crate::time::Timestamp;
use crossbeam_channel::{Receiver, unbounded};
use std::io::{Error, ErrorKind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use xxhash_rust::xxh3::xxh3_128;

/// The version of what the engine does with a record. It rises when the same log would be followed
/// to another state than before.
pub const ENGINE_VERSION: u16 = 1;
/// Bytes of outputs that are kept in memory besides the files.
const OUTPUT_CACHE_BYTES: usize = 64 << 20;

/// The parts of an engine. Each is driven by a thread, or all of them by one.
pub(super) struct Opened {
    pub(super) common: Arc<Common>,
    pub(super) workers: Vec<Worker>,
    pub(super) committers: Vec<Committer>,
    pub(super) publisher: Option<Publisher>,
    pub(super) checkpoints: Option<Checkpoints>,
}

/// Opens what the options name; a recovery has threads of its own if `is_threaded`.
pub(super) fn open(
    options: &EngineOptions,
    storage: Option<StorageOptions>,
    clock: Arc<dyn MachineClock>,
    is_threaded: bool,
) -> Result<Opened, Fault> {
    match storage {
        None => open_memory(options, clock),
        Some(storage) => Opening::open(options, &storage, clock, is_threaded),
    }
}

fn layout(options: &EngineOptions, max_parallelism: u16, lanes: u16) -> Result<Layout, Fault> {
    Layout::new(max_parallelism, lanes, options.shards).map_err(|detail| Fault::Options { detail })
}

fn open_memory(options: &EngineOptions, clock: Arc<dyn MachineClock>) -> Result<Opened, Fault> {
    let layout = layout(options, options.new_max_parallelism(), options.new_lanes())?;
    let clock = AdjustedClock::new(clock, options.clock, i64::MIN);
    let outputs = Arc::new(OutputLog::new(clock.look().now_ms, options.output_bytes_max));
    let namespaces = Arc::new(Namespaces::new(Arc::clone(&outputs)));
    let (common, queues) = common(layout, clock, namespaces, outputs, None);
    let common = Arc::new(common);
    let workers = queues.into_iter().enumerate().map(|(index, queue)| {
        let registry = Arc::clone(&common.namespaces) as Arc<dyn Registry>;
        let index = ShardIndex(index as u16);
        let shard = Shard::new(index, layout, Pace::of_slice(options.slice), registry)
            .with_operators(options.operators.clone());
        Worker::new(index, Arc::clone(&common), queue, shard, Turns::Memory, None)
    });
    let workers = workers.collect();
    Ok(Opened { common, workers, committers: Vec::new(), publisher: None, checkpoints: None })
}

fn common(
    layout: Layout,
    clock: AdjustedClock,
    namespaces: Arc<Namespaces>,
    outputs: Arc<OutputLog>,
    segments: Option<Arc<Segments>>,
) -> (Common, Vec<Receiver<Queued>>) {
    let shards = layout.shards();
    let (queues, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| unbounded()).unzip();
    let cells: Vec<ShardCells> = (0..shards).map(|_| ShardCells::default()).collect();
    // A shard that has not gone round yet is as young as the engine, not stuck since 1970.
    for cells in &cells {
        cells.went_round(clock.machine());
    }
    let common = Common {
        layout,
        clock,
        namespaces,
        outputs,
        queues,
        cells,
        watch: Watch::new(shards),
        engine_cells: EngineCells::default(),
        is_stopping: AtomicBool::new(false),
        is_ended: AtomicBool::new(false),
        resting: Default::default(),
        segments,
        checkpoints: CheckpointBoard::default(),
        savepoints: SavepointBoard::default(),
        parts: OnceLock::new(),
        poison: OnceLock::new(),
        recovery: OnceLock::new(),
    };
    (common, receivers)
}

fn read_identity(options: &EngineOptions, disk: &dyn Disk) -> Result<Option<Identity>, Fault> {
    let identity = Identity::read(disk)?;
    if let Some(identity) = &identity {
        identity.check(options.max_parallelism, options.lanes)?;
    }
    Ok(identity)
}

/// What was found in a data directory.
struct Opening<'a> {
    options: &'a EngineOptions,
    storage: &'a StorageOptions,
    layout: Layout,
    identity: Identity,
    /// The identity is not written down yet.
    is_new: bool,
    is_threaded: bool,
}

/// The manifests of a store.
struct Manifests {
    names: Vec<ManifestName>,
    /// Those that are whole, the newest first: at most two.
    whole: Vec<Manifest>,
    /// What is damaged, and did not have to be read after all.
    healed: Vec<String>,
}

impl Opening<'_> {
    fn open(
        options: &EngineOptions,
        storage: &StorageOptions,
        clock: Arc<dyn MachineClock>,
        is_threaded: bool,
    ) -> Result<Opened, Fault> {
        let started = clock.realtime_micros();
        let bytes = storage.segment_bytes;
        if bytes < SEGMENT_BYTES_MIN || !bytes.is_multiple_of(8) {
            let detail = format!(
                "segment_bytes is {bytes}: it must be a multiple of 8, and at least {SEGMENT_BYTES_MIN}"
            );
            return Err(Fault::Options { detail });
        }
        let disk = &*storage.disk;
        let identity = read_identity(options, disk)?;
        let is_new = identity.is_none();
        let identity = identity.unwrap_or_else(|| Identity {
            directory_id: storage.new_directory_id.unwrap_or_else(|| directory_id_of(&*clock)),
            max_parallelism: options.new_max_parallelism(),
            lanes: options.new_lanes(),
        });
        let layout = layout(options, identity.max_parallelism, identity.lanes)?;
        let opening = Opening { options, storage, layout, identity, is_new, is_threaded };
        opening.recover(clock, started)
    }

    fn recover(&self, machine: Arc<dyn MachineClock>, started: i64) -> Result<Opened, Fault> {
        let Self { options, storage, layout, identity, is_new, is_threaded } = *self;
        let directory_id = identity.directory_id;
        let Manifests { names, whole: manifests, mut healed } = self.manifests()?;
        let disk = &*storage.disk;
        let mut recovered =
            read_journals(disk, &RecoveryOptions { directory_id, lanes: layout.lanes() })?;
        check_whole(&recovered, &names, &manifests)?;
        for manifest in &manifests {
            recovered.was_up(manifest.epoch, manifest.now_ms);
        }
        let newest_ms = recovered.newest_ms();
        let clock = AdjustedClock::new(machine, options.clock, newest_ms.unwrap_or(i64::MIN));
        let now_ms = clock.look().now_ms;
        let epoch = names.iter().map(|it| it.epoch).max().unwrap_or(0);
        let epoch = epoch.max(recovered.highest_epoch) + 1;
        let segments = Arc::new(Segments::open(
            Arc::clone(&storage.disk),
            SegmentsOptions {
                segment_bytes: storage.segment_bytes,
                bytes_max: storage.max_disk_bytes,
                ..SegmentsOptions::new(directory_id)
            },
        )?);
        // From the oldest manifest that may be loaded: it is decided below which one is.
        let scan_from = manifests.last().map(|manifest| Cursor(manifest.output_cursor));
        let output_options = OutputOptions {
            epoch,
            engine_version: ENGINE_VERSION,
            now_ms,
            scan_from,
            reached: manifests.first().map(|manifest| Cursor(manifest.output_cursor)),
            bytes_max: options.output_bytes_max as u64,
        };
        let outputs = OutputFiles::look(disk, Arc::clone(&segments), &output_options)
            .map_err(Fault::Outputs)?;
        if outputs.has_blocks() && recovered.highest_epoch == 0 && names.is_empty() {
            let missing = "the journals (journal/) and the snapshots are".to_owned();
            let evidence = "outputs/ holds what was made of them".to_owned();
            return Err(RecoveryFault::Gone { missing, evidence }.into());
        }
        let log = Arc::new(OutputLog::over(&outputs.files, OUTPUT_CACHE_BYTES));
        let namespaces = Arc::new(Namespaces::new(Arc::clone(&log)));
        let registry = Arc::clone(&namespaces) as Arc<dyn Registry>;
        let (manifest, mut loaded) = self.load(&manifests, &registry, &mut healed)?;
        let starts = manifest.map_or_else(
            || vec![0; layout.lanes() as usize],
            |manifest| manifest.positions.clone(),
        );
        recovered.check_from(&starts)?;
        recovered.check_causes(&starts, outputs.ids.causes())?;
        self.check_version(&recovered, &starts)?;
        // Up to here nothing was written: a directory that is refused stays as it was found.
        if is_new {
            identity.write(disk)?;
        }
        recovered.seal(disk, ENGINE_VERSION)?;
        segments.tidy()?;
        let outputs = outputs.seal().map_err(Fault::Outputs)?;
        let mut torn: Vec<String> = recovered.torn.iter().map(ToString::to_string).collect();
        torn.extend(outputs.torn.iter().map(ToString::to_string));
        let committed_outputs = outputs.files.reader();
        let mut committer = OutputCommitter::new(Arc::clone(&log), outputs.files);
        let mut info = RecoveryInfo {
            torn_tails: torn,
            healed,
            loaded_keys: loaded.keys,
            ..RecoveryInfo::default()
        };
        let following = Following {
            recovered: &recovered,
            starts: &starts,
            layout,
            as_of: &loaded.as_of,
            ids: &outputs.ids,
            log: &log,
            now_ms,
            progress: &storage.progress,
            is_threaded,
        };
        following.run(&mut loaded.shards, &mut committer, &mut info)?;

        let (common, queues) = common(layout, clock, namespaces, log, Some(Arc::clone(&segments)));
        let common = Arc::new(common);
        let LoadedShards { mut shards, catalog, .. } = loaded;
        let mut numbers = AppliedNumbers::new();
        for shard in &shards {
            shard.add_applied_numbers(&mut numbers);
        }
        let up = |(first, last)| Timestamp::from_millis(first)..=Timestamp::from_millis(last);
        let ups = recovered.clocks.values().copied().map(up).collect();
        for shard in &mut shards {
            shard.check_operators()?;
            let turn = shard.recovered(&numbers);
            common.run(turn.synced);
            shard.restarted(&ups, Timestamp::from_millis(now_ms));
        }
        committer.forget_unknown();
        segments.prepare()?;
        let (publish, published) = unbounded();
        let mut opened = Opened {
            common: Arc::clone(&common),
            workers: Vec::new(),
            committers: Vec::new(),
            publisher: None,
            checkpoints: None,
        };
        let mut commits = Vec::new();
        for (index, (shard, queue)) in shards.into_iter().zip(queues).enumerate() {
            let journal = JournalOptions {
                epoch,
                journal: index as u16,
                journals: layout.shards(),
                engine_version: ENGINE_VERSION,
            };
            let journal = Journal::create(Arc::clone(&segments), journal)?;
            if !journal.has_begun() && common.namespaces.get(DEFAULT_NAMESPACE).is_none() {
                return Err(no_room(layout, &segments).into());
            }
            let (commit, inbox) = unbounded();
            let outputs = publish.clone();
            opened.committers.push(Committer::new(
                index,
                Arc::clone(&common),
                journal,
                inbox,
                outputs,
            ));
            commits.push(commit.clone());
            let turns = Turns::Journal(commit);
            let (index, outputs) = (ShardIndex(index as u16), Some(publish.clone()));
            opened.workers.push(Worker::new(
                index,
                Arc::clone(&common),
                queue,
                shard,
                turns,
                outputs,
            ));
        }
        opened.publisher = Some(Publisher::new(Arc::clone(&common), committer, published));
        info.strangers = std::mem::take(&mut recovered.strangers);
        let checkpointer =
            self.checkpointer(epoch, &names, &manifests, manifest, catalog, &mut info.strangers)?;
        opened.checkpoints = Some(Checkpoints::new(
            Arc::clone(&common),
            checkpointer,
            Savepoints::open(
                Arc::clone(&common),
                Arc::clone(&storage.snapshots),
                directory_id,
                committed_outputs,
                SavepointsOptions {
                    every_ms: storage.savepoint_every_ms,
                    kept: storage.savepoints_kept,
                },
                &mut info.strangers,
            )?,
            recovered.old,
            commits,
            publish,
            CheckpointsOptions {
                interval_ms: storage.checkpoint_interval_ms,
                over_ms: storage.checkpoint_over_ms,
                share_disk: storage.snapshots_share_disk,
            },
            manifest,
        ));
        info.downtime_ms = newest_ms.map_or(0, |newest_ms| now_ms.saturating_sub(newest_ms));
        info.seconds = (common.clock.machine().realtime_micros() - started).max(0) as f64 / 1e6;
        // It is set once.
        let _ = common.recovery.set(info);
        Ok(opened)
    }

    fn manifests(&self) -> Result<Manifests, Fault> {
        let store = &*self.storage.snapshots;
        let mut left = store
            .list(ManifestName::PREFIX)
            .map_err(DiskFault::at(ManifestName::PREFIX, "list"))?;
        let names = left.iter().filter_map(|name| ManifestName::parse(name)).collect();
        let mut it = Manifests { names, whole: Vec::new(), healed: Vec::new() };
        while it.whole.len() < 2 {
            let fetch = |name: &str| {
                store.get(name).map_err(|error| Fault::from(DiskFault::new(name, "read", error)))
            };
            let next = match newest(&left, fetch) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                // With one that is whole, those behind it do not matter.
                Err(Fault::Snapshot(_)) if !it.whole.is_empty() => break,
                Err(fault) => return Err(fault),
            };
            let name = next.manifest.name();
            left.retain(|it| ManifestName::parse(it).is_some_and(|it| it < name));
            it.healed.extend(next.skipped.iter().map(ToString::to_string));
            it.whole.push(next.manifest);
        }
        Ok(it)
    }

    /// Loads the newest manifest whose objects are whole. If there are manifests and none of them
    /// can be loaded, the fault of the newest.
    fn load<'m>(
        &self,
        manifests: &'m [Manifest],
        registry: &Arc<dyn Registry>,
        healed: &mut Vec<String>,
    ) -> Result<(Option<&'m Manifest>, LoadedShards), Fault> {
        let mut first_fault = None;
        for manifest in manifests {
            match self.load_one(manifest, registry) {
                Ok(loaded) => return Ok((Some(manifest), loaded)),
                // What an older one says is not true any more.
                Err(fault @ Fault::Snapshot(SnapshotFault::Newer { .. })) => return Err(fault),
                Err(Fault::Snapshot(fault)) => {
                    healed.push(fault.to_string());
                    first_fault = first_fault.or(Some(fault));
                }
                Err(fault) => return Err(fault),
            }
        }
        match first_fault {
            Some(fault) => Err(Fault::Snapshot(fault)),
            None => Ok((None, self.new_shards(registry))),
        }
    }

    fn new_shards(&self, registry: &Arc<dyn Registry>) -> LoadedShards {
        let shards = (0..self.layout.shards()).map(|index| {
            let registry = Arc::clone(registry);
            let pace = Pace::of_slice(self.options.slice);
            Shard::new(ShardIndex(index), self.layout, pace, registry)
                .with_operators(self.options.operators.clone())
        });
        let shards = shards.collect();
        LoadedShards { shards, as_of: AsOf::default(), catalog: Catalog::default(), keys: 0 }
    }

    fn load_one(
        &self,
        manifest: &Manifest,
        registry: &Arc<dyn Registry>,
    ) -> Result<LoadedShards, Fault> {
        let mut it = self.new_shards(registry);
        let store = &*self.storage.snapshots;
        let fetch = |object: &ObjectRef| {
            store.get(&object.name).map_err(|error| {
                if error.kind() == std::io::ErrorKind::NotFound {
                    let detail = "it is missing";
                    Fault::from(SnapshotFault::damaged(&object.name, 0, detail))
                } else {
                    DiskFault::new(&object.name, "read", error).into()
                }
            })
        };
        let (directory_id, layout) = (&self.identity.directory_id, self.layout);
        let progress = &self.storage.progress;
        load_shards(&mut it, manifest, directory_id, layout, self.is_threaded, progress, &fetch)?;
        Ok(it)
    }

    fn check_version(&self, recovered: &Recovered, starts: &[u64]) -> Result<(), Fault> {
        if self.storage.replay_other_version {
            return Ok(());
        }
        let lanes = (0..self.layout.lanes()).zip(starts);
        let mut blocks = lanes.flat_map(|(lane, start)| recovered.blocks_from(lane, *start));
        match blocks.find(|block| block.engine_version != ENGINE_VERSION) {
            Some(block) => {
                let (found, own) = (block.engine_version, ENGINE_VERSION);
                Err(Fault::OtherVersion { found, own })
            }
            None => Ok(()),
        }
    }

    fn checkpointer(
        &self,
        epoch: u32,
        manifest_names: &[ManifestName],
        manifests: &[Manifest],
        loaded: Option<&Manifest>,
        catalog: Catalog,
        strangers: &mut Vec<String>,
    ) -> Result<Checkpointer, Fault> {
        let store = Arc::clone(&self.storage.snapshots);
        let (directory_id, layout) = (self.identity.directory_id, self.layout);
        let names = store.list("").map_err(DiskFault::at("snapshots", "list"))?;
        let number = manifest_names.iter().map(|it| it.checkpoint).max().unwrap_or(0);
        let mut it = Checkpointer::new(store, directory_id, layout, epoch, number, loaded, catalog);
        let before =
            manifests.iter().find(|it| loaded.is_some_and(|loaded| it.name() < loaded.name()));
        strangers.extend(it.adopt(&names, before)?);
        Ok(it)
    }
}

/// Whether no journal is missing that the snapshots or other journals tell of.
fn check_whole(
    recovered: &Recovered,
    names: &[ManifestName],
    whole: &[Manifest],
) -> Result<(), RecoveryFault> {
    let Some(newest) = names.iter().max() else {
        return recovered.check_whole(None);
    };
    let positions = whole.iter().find(|it| it.name() == *newest).map(|it| &it.positions[..]);
    recovered.check_whole(Some(SnapshotsSay {
        epoch: newest.epoch,
        manifest: &newest.to_string(),
        positions: positions.unwrap_or_default(),
    }))
}

/// A directory that holds something can be read from without room for more. One that does not even
/// hold the first namespace is good for nothing.
fn no_room(layout: Layout, segments: &Segments) -> DiskFault {
    let bytes = segments.segment_bytes() * u64::from(layout.shards());
    let detail = format!("there is no room for the {bytes} bytes that it begins with");
    let source = Error::new(ErrorKind::StorageFull, detail);
    DiskFault::new("journal", "begin the log in", source)
}

fn directory_id_of(clock: &dyn MachineClock) -> [u8; 16] {
    let mut seed = Vec::new();
    for reading in [clock.realtime_micros(), clock.boottime_ms(), clock.realtime_ms()] {
        seed.extend_from_slice(&reading.to_le_bytes());
    }
    xxh3_128(&seed).to_be_bytes()
}
