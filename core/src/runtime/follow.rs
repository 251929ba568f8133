//! What takes the time of a start: loading the snapshots, and following the log behind them. Shards
//! share nothing of either, so each may do its own on a thread of its own; whoever drives everything
//! on one thread lets them do it one after the other.

use super::fault::Fault;
use super::output_log::{OutputCommitter, OutputLog};
use super::recovered::{RecoveryInfo, RecoveryProgress};
use crate::key_group::{KeyGroup, LaneIndex, Layout};
use crate::lane::AsOf;
use crate::log::LaneBlock;
use crate::log::segment::OUTPUT_FOLDER;
use crate::namespace::Retention;
use crate::output::{NamespaceId, OutputBytes};
use crate::shard::Shard;
use crate::snapshot::{Catalog, Loaded, Manifest, ObjectRef, SnapshotFault, load};
use crate::storage::{DiskFault, OutputIds, Recovered};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{Error, ErrorKind};
use std::panic::resume_unwind;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

/// What is kept while nobody knows yet what may go.
const KEPT: Retention = Retention { age_ms: i64::MAX, bytes: u64::MAX };
/// Bytes of outputs that a replay gathers before it writes them.
const REPLAY_OUTPUT_BYTES: usize = 8 << 20;
/// Bytes of outputs that may wait for room on the disk; with more, the start ends.
const REPLAY_BACKLOG_BYTES_MAX: usize = 256 << 20;
/// Parts of a snapshot that wait for the thread of a shard, at most.
const PARTS_WAITING_MAX: usize = 4;

/// Shards as a manifest has them, or new ones.
pub(super) struct LoadedShards {
    pub(super) shards: Vec<Shard>,
    pub(super) as_of: AsOf,
    pub(super) catalog: Catalog,
    pub(super) keys: u64,
}

/// Starts a thread of a recovery.
fn start<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    index: usize,
    work: impl FnOnce() -> Result<T, Fault> + Send + 's,
) -> Result<ScopedJoinHandle<'s, Result<T, Fault>>, Fault> {
    let name = format!("recovery-{index}");
    let builder = Builder::new().name(name.clone());
    builder.spawn_scoped(scope, work).map_err(|source| Fault::Thread { name, source })
}

/// What a thread came to. A panic in it is one here.
fn join<T>(handle: Result<ScopedJoinHandle<'_, Result<T, Fault>>, Fault>) -> Result<T, Fault> {
    handle?.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// A part of a snapshot on its way to the thread of its shard.
enum Given {
    /// Of a lane.
    Lane(Loaded<'static>),
    Partition {
        lane: LaneIndex,
        namespace: NamespaceId,
        group: KeyGroup,
        position: u64,
        what: String,
        bytes: Vec<u8>,
    },
}

/// Why not all was read.
enum Stop {
    Fault(Fault),
    /// The thread of a shard has ended, and says why.
    Ended,
}

impl From<SnapshotFault> for Stop {
    fn from(fault: SnapshotFault) -> Self {
        Self::Fault(fault.into())
    }
}

/// Loads what a manifest names into new shards; `fetch` gets an object.
pub(super) fn load_shards(
    it: &mut LoadedShards,
    manifest: &Manifest,
    directory_id: &[u8; 16],
    layout: Layout,
    is_threaded: bool,
    progress: &RecoveryProgress,
    fetch: &dyn Fn(&ObjectRef) -> Result<Vec<u8>, Fault>,
) -> Result<(), Fault> {
    let LoadedShards { shards, as_of, catalog, keys } = it;
    let now_ms = manifest.now_ms;
    progress.loaded_keys.store(0, Ordering::Relaxed);
    let put = |shard: &mut Shard, part: Loaded<'_>| -> Result<u64, Fault> {
        match part {
            Loaded::Head { lane, head } => shard.load_head(lane, head)?,
            Loaded::Controls { lane, state } => shard.load_controls(lane, state),
            Loaded::Partition { lane, namespace, group, position, what, bytes } => {
                let keys =
                    shard.load_partition(lane, namespace, group, position, now_ms, what, bytes)?;
                progress.loaded_keys.fetch_add(keys, Ordering::Relaxed);
                return Ok(keys);
            }
        }
        Ok(0)
    };
    let mut note = |part: &Loaded<'_>| {
        if let Loaded::Partition { namespace, group, position, .. } = part {
            as_of.insert(*namespace, *group, *position);
        }
    };
    let place = |part: &Loaded<'_>| {
        let (Loaded::Head { lane, .. }
        | Loaded::Controls { lane, .. }
        | Loaded::Partition { lane, .. }) = part;
        layout.shard_of(*lane).0 as usize
    };
    if !is_threaded {
        *catalog = load(
            manifest,
            directory_id,
            layout,
            |object| fetch(object),
            |part| {
                note(&part);
                *keys += put(&mut shards[place(&part)], part)?;
                Ok::<(), Fault>(())
            },
        )?;
        return Ok(());
    }
    scope(|scope| {
        let mut inboxes: Vec<Sender<Given>> = Vec::new();
        let mut threads = Vec::new();
        for (index, shard) in shards.iter_mut().enumerate() {
            let (sender, inbox) = bounded(PARTS_WAITING_MAX);
            inboxes.push(sender);
            threads.push(start(scope, index, move || load_all(&inbox, shard, &put)));
        }
        let fetch = |object: &ObjectRef| fetch(object).map_err(Stop::Fault);
        let read = load(manifest, directory_id, layout, fetch, |part| {
            note(&part);
            let to = &inboxes[place(&part)];
            to.send(Given::of(part)).map_err(|_| Stop::Ended)
        });
        drop(inboxes);
        let loaded: Vec<Result<u64, Fault>> = threads.into_iter().map(join).collect();
        if let Err(Stop::Fault(fault)) = read {
            return Err(fault);
        }
        *keys = loaded.into_iter().sum::<Result<u64, Fault>>()?;
        if let Ok(read) = read {
            *catalog = read;
        }
        Ok(())
    })
}

/// Loads what comes in into a shard; returns how many keys that were.
fn load_all(
    inbox: &Receiver<Given>,
    shard: &mut Shard,
    put: &(dyn Fn(&mut Shard, Loaded<'_>) -> Result<u64, Fault> + Sync),
) -> Result<u64, Fault> {
    let mut keys = 0;
    for given in inbox {
        keys += match given {
            Given::Lane(part) => put(shard, part)?,
            Given::Partition { lane, namespace, group, position, what, bytes } => {
                let (what, bytes) = (what.as_str(), bytes.as_slice());
                put(shard, Loaded::Partition { lane, namespace, group, position, what, bytes })?
            }
        };
    }
    Ok(keys)
}

impl Given {
    fn of(part: Loaded<'_>) -> Self {
        match part {
            Loaded::Head { lane, head } => Self::Lane(Loaded::Head { lane, head }),
            Loaded::Controls { lane, state } => Self::Lane(Loaded::Controls { lane, state }),
            Loaded::Partition { lane, namespace, group, position, what, bytes } => {
                let (what, bytes) = (what.to_owned(), bytes.to_vec());
                Self::Partition { lane, namespace, group, position, what, bytes }
            }
        }
    }
}

/// Following the log behind the snapshots.
pub(super) struct Following<'a> {
    pub(super) recovered: &'a Recovered,
    /// By lane, the position as of which it was loaded.
    pub(super) starts: &'a [u64],
    pub(super) layout: Layout,
    pub(super) as_of: &'a AsOf,
    /// What the output log has already.
    pub(super) ids: &'a OutputIds,
    pub(super) log: &'a OutputLog,
    pub(super) now_ms: i64,
    pub(super) progress: &'a RecoveryProgress,
    pub(super) is_threaded: bool,
}

/// What all shards emit.
struct Emitted<'a> {
    outputs: &'a mut OutputCommitter,
    log: &'a OutputLog,
    waiting: Vec<OutputBytes>,
    waiting_bytes: usize,
    backlog_bytes_max: usize,
}

impl Following<'_> {
    /// Lets all shards follow their lanes; what they emit that the log does not have yet is written.
    pub(super) fn run(
        &self,
        shards: &mut [Shard],
        outputs: &mut OutputCommitter,
        info: &mut RecoveryInfo,
    ) -> Result<(), Fault> {
        let lanes = (0..self.layout.lanes()).zip(self.starts);
        let blocks = lanes.flat_map(|(lane, start)| self.recovered.blocks_from(lane, *start));
        let bytes = blocks.map(|block| u64::from(block.length)).sum();
        self.progress.replay_bytes.store(bytes, Ordering::Relaxed);
        let emitted = Mutex::new(Emitted::new(outputs, self.log, REPLAY_BACKLOG_BYTES_MAX));
        let followed: Vec<Result<(u64, u64), Fault>> = if self.is_threaded {
            scope(|scope| {
                let emitted = &emitted;
                let threads: Vec<_> = shards
                    .iter_mut()
                    .enumerate()
                    .map(|(index, shard)| {
                        start(scope, index, move || self.follow(index, shard, emitted))
                    })
                    .collect();
                threads.into_iter().map(join).collect()
            })
        } else {
            let all = shards.iter_mut().enumerate();
            all.map(|(index, shard)| self.follow(index, shard, &emitted)).collect()
        };
        for outcome in followed {
            let (bytes, records) = outcome?;
            info.replayed_bytes += bytes;
            info.replayed_records += records;
        }
        let mut emitted = emitted.into_inner().unwrap_or_else(PoisonError::into_inner);
        emitted.write(self.now_ms)?;
        Ok(())
    }

    /// Lets a shard follow its lanes; returns the bytes and records that were followed.
    fn follow(
        &self,
        index: usize,
        shard: &mut Shard,
        emitted: &Mutex<Emitted<'_>>,
    ) -> Result<(u64, u64), Fault> {
        let (mut bytes, mut count) = (0, 0);
        let lanes = (0..self.layout.lanes()).zip(self.starts);
        for (lane, start) in lanes {
            if self.layout.shard_of(LaneIndex(lane)).0 as usize != index {
                continue;
            }
            for block in self.recovered.blocks_from(lane, *start) {
                let records = self.recovered.read_block(block)?;
                let length = records.len() as u64;
                (bytes, count) = (bytes + length, count + u64::from(block.count));
                self.progress.replayed_bytes.fetch_add(length, Ordering::Relaxed);
                let block = LaneBlock {
                    lane,
                    first_position: block.first,
                    count: block.count,
                    now_ms: block.now_ms,
                    records,
                };
                let mut kept = Ok(());
                shard.replay(&block, self.as_of, &mut |block| {
                    // A tick may emit any number of them: none is kept until it ends.
                    if let Some(block) = self.ids.filter(block)
                        && kept.is_ok()
                    {
                        // How long they are kept is said once the namespaces are known again.
                        self.log.admit(block.namespace, KEPT);
                        let mut emitted = emitted.lock().unwrap_or_else(PoisonError::into_inner);
                        kept = emitted.keep(block, self.now_ms);
                    }
                })?;
                kept?;
            }
        }
        Ok((bytes, count))
    }
}

impl<'a> Emitted<'a> {
    fn new(outputs: &'a mut OutputCommitter, log: &'a OutputLog, backlog_bytes_max: usize) -> Self {
        let (waiting, waiting_bytes) = (Vec::new(), 0);
        Self { outputs, log, waiting, waiting_bytes, backlog_bytes_max }
    }

    fn keep(&mut self, block: OutputBytes, now_ms: i64) -> Result<(), DiskFault> {
        self.waiting_bytes += block.len_bytes();
        self.waiting.push(block);
        if self.waiting_bytes > REPLAY_OUTPUT_BYTES { self.write(now_ms) } else { Ok(()) }
    }

    /// Makes readable what was emitted. What there is no room for stays in memory until there is; how
    /// much that may be is bounded.
    fn write(&mut self, now_ms: i64) -> Result<(), DiskFault> {
        self.waiting_bytes = 0;
        self.outputs.take(std::mem::take(&mut self.waiting), now_ms, Vec::new());
        match self.outputs.commit(&mut |_| {}) {
            Err(fault) if fault.is_full() && self.log.backlog_bytes() <= self.backlog_bytes_max => {
                Ok(())
            }
            Err(fault) if fault.is_full() => {
                let detail = format!(
                    "following the log has brought about {} bytes of outputs that there is no room \
                     for, and more than {} are not kept in memory; make room and start again",
                    self.log.backlog_bytes(),
                    self.backlog_bytes_max
                );
                let source = Error::new(ErrorKind::StorageFull, detail);
                Err(DiskFault::new(OUTPUT_FOLDER, "write to", source))
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests;
