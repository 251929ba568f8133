//! Writes a savepoint: packs the parts that shards give and the outputs into files of the snapshot
//! store, and stores the manifest once all of them are there. Without it there is no savepoint.
//!
//! It stores one file at a call, and reads a bounded piece of the output log.

use super::checkpointer::put;
use super::output_walk::OutputWalk;
use super::{DiskFault, SAVEPOINTS};
use crate::key_group::Layout;
use crate::output::{Cursor, NamespaceId, OutputFault};
use crate::ports::SnapshotStore;
use crate::snapshot::{
    EntryKind, LaneMark, ObjectWriter, SavedFile, SavedNamespace, SavepointManifest, SavepointPart,
    encode_controls, hex,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

/// A file is complete from this length on.
const FILE_BYTES: usize = 64 << 20;
/// Bytes of the output log that are read at a call.
const OUTPUT_BYTES: u64 = 4 << 20;

/// Why a savepoint could not be written.
#[derive(Debug, Error)]
pub(crate) enum SavepointWriteFault {
    /// The store did not do what it was asked to.
    #[error(transparent)]
    Store(#[from] DiskFault),
    /// An output that was readable cannot be read.
    #[error("an output cannot be read: {0}")]
    Outputs(OutputFault),
}

/// What holds for a savepoint as a whole.
#[derive(Debug, Clone)]
pub(crate) struct SavepointCut {
    pub(crate) id: String,
    pub(crate) directory: [u8; 16],
    pub(crate) engine_version: u16,
    pub(crate) layout: Layout,
    pub(crate) now_ms: i64,
    pub(crate) created_ms: i64,
    pub(crate) output_cursor: Cursor,
    pub(crate) namespaces: Vec<(String, NamespaceId)>,
}

/// See the module.
pub(crate) struct SavepointWriter {
    store: Arc<dyn SnapshotStore>,
    cut: SavepointCut,
    namespaces: BTreeMap<NamespaceId, SavedNamespace>,
    writer: Option<ObjectWriter>,
    walk: OutputWalk,
    /// Blocks of outputs that are not in a file yet.
    output_bytes: Vec<u8>,
    /// Complete and not stored.
    waiting: VecDeque<(SavedFile, Vec<u8>)>,
    objects: Vec<SavedFile>,
    outputs: Vec<SavedFile>,
    done: BTreeSet<u16>,
    bytes: u64,
}

impl SavepointWriter {
    /// A writer of what all lanes know at the cut, and of what is still to come.
    pub(crate) fn new(
        store: Arc<dyn SnapshotStore>,
        cut: SavepointCut,
        marks: Vec<LaneMark>,
        walk: OutputWalk,
    ) -> Self {
        let mut namespaces: BTreeMap<NamespaceId, SavedNamespace> = BTreeMap::new();
        for (name, id) in &cut.namespaces {
            let (name, keys, timers, outputs) = (name.clone(), 0, 0, 0);
            let it = SavedNamespace { name, id: id.0, keys, timers, outputs };
            namespaces.insert(*id, it);
        }
        let mut writer = ObjectWriter::new(&cut.directory);
        for mark in marks {
            let (lane, position) = (mark.lane, mark.head.position);
            writer.add(EntryKind::LaneHead { lane, position }, 0, &mark.head.encode());
            writer.add(EntryKind::Controls { lane }, 0, &encode_controls(&mark.controls));
            for (namespace, keys, timers) in mark.counts {
                if let Some(it) = namespaces.get_mut(&namespace) {
                    it.keys += keys;
                    it.timers += timers;
                }
            }
        }
        Self {
            store,
            cut,
            namespaces,
            writer: Some(writer),
            walk,
            output_bytes: Vec::new(),
            waiting: VecDeque::new(),
            objects: Vec::new(),
            outputs: Vec::new(),
            done: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Takes what a shard gives.
    pub(crate) fn take(&mut self, part: SavepointPart) {
        match part {
            SavepointPart::Partition { namespace, group, position, keys, bytes } => {
                let directory = &self.cut.directory;
                let writer = self.writer.get_or_insert_with(|| ObjectWriter::new(directory));
                writer.add(EntryKind::Partition { namespace, group, position }, keys, &bytes);
                if writer.len() >= FILE_BYTES {
                    self.complete_object();
                }
            }
            SavepointPart::Done { shard } => {
                self.done.insert(shard.0);
                if self.has_all() {
                    self.complete_object();
                }
            }
            SavepointPart::Held { .. } | SavepointPart::Marked { .. } => {}
        }
    }

    fn has_all(&self) -> bool {
        self.done.len() == self.cut.layout.shards() as usize
    }

    fn complete_object(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let finished = writer.finish();
        let name = format!("{}{:04x}", SavepointManifest::OBJECTS, self.objects.len());
        let file = self.wait(name, finished.bytes, Some(finished.digest));
        self.objects.push(file);
    }

    fn complete_outputs(&mut self) {
        if self.output_bytes.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.output_bytes);
        let name = format!("{}{:04x}", SavepointManifest::OUTPUTS, self.outputs.len());
        let file = self.wait(name, bytes, None);
        self.outputs.push(file);
    }

    /// Puts a file on the list of those to be stored; an object brings its digest.
    fn wait(&mut self, name: String, bytes: Vec<u8>, digest: Option<u128>) -> SavedFile {
        let digest = digest.unwrap_or_else(|| xxh3_128(&bytes));
        let digest = format!("{digest:032x}");
        let file = SavedFile { name, bytes: bytes.len() as u64, digest };
        self.bytes += file.bytes;
        self.waiting.push_back((file.clone(), bytes));
        file
    }

    /// Whether there is something to do that does not wait for shards.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.walk.is_done() && !self.has_all()
    }

    /// Does a piece of work. Once the manifest is stored, returns it.
    pub(crate) fn step(&mut self) -> Result<Option<SavepointManifest>, SavepointWriteFault> {
        if let Some((file, bytes)) = self.waiting.pop_front() {
            put(&*self.store, &self.path(&file.name), bytes)?;
            return Ok(None);
        }
        if !self.walk.is_done() {
            self.read_outputs()?;
            return Ok(None);
        }
        if !self.has_all() {
            return Ok(None);
        }
        let manifest = self.manifest();
        let bytes = manifest.encode();
        self.bytes += bytes.len() as u64;
        put(&*self.store, &self.path(SavepointManifest::NAME), bytes)?;
        Ok(Some(manifest))
    }

    fn read_outputs(&mut self) -> Result<(), SavepointWriteFault> {
        let (out, namespaces) = (&mut self.output_bytes, &mut self.namespaces);
        let mut each = |block: &super::output_walk::WalkedBlock<'_>| {
            out.extend_from_slice(block.bytes);
            if let Some(it) = namespaces.get_mut(&block.namespace) {
                it.outputs += u64::from(block.count);
            }
        };
        self.walk.read_some(OUTPUT_BYTES, &mut each).map_err(SavepointWriteFault::Outputs)?;
        if self.walk.is_done() || self.output_bytes.len() >= FILE_BYTES - OUTPUT_BYTES as usize {
            self.complete_outputs();
        }
        Ok(())
    }

    fn manifest(&self) -> SavepointManifest {
        let cut = &self.cut;
        SavepointManifest {
            id: cut.id.clone(),
            directory: hex(&cut.directory),
            engine_version: cut.engine_version,
            max_parallelism: cut.layout.max_parallelism(),
            lanes: cut.layout.lanes(),
            now_ms: cut.now_ms,
            created_ms: cut.created_ms,
            output_cursor: cut.output_cursor.0,
            namespaces: self.namespaces.values().cloned().collect(),
            objects: self.objects.clone(),
            outputs: self.outputs.clone(),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{SAVEPOINTS}{}/{name}", self.cut.id)
    }

    /// Bytes of what was packed so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All that it may have stored, for whoever has to remove it.
    pub(crate) fn names(&self) -> Vec<String> {
        let files = self.objects.iter().chain(&self.outputs).map(|it| self.path(&it.name));
        std::iter::once(self.path(SavepointManifest::NAME)).chain(files).collect()
    }
}
