//! A savepoint read back: looked at, checked, taken apart.
//!
//! Every file is held against the length and the digest that the manifest names before anything in
//! it is believed. One file is in memory at a time.

use super::DiskFault;
use super::output_reader::records_of;
use crate::key_group::{KeyGroup, LaneIndex, Layout, xxh3_64};
use crate::log::block::{self, BlockHeader, BlockKind, BlockSalt};
use crate::namespace::ControlsState;
use crate::op::Payload;
use crate::output::{NamespaceId, OutputBytes};
use crate::ports::SnapshotStore;
use crate::snapshot::{
    EntryKind, LaneHead, ObjectReader, PartitionReader, SavedFile, SavepointManifest,
    SnapshotFault, decode_controls, hex,
};
use crate::time::{Domain, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

/// Why a savepoint cannot be used. It names the file, and where in it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SavepointFault {
    /// It cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskFault),
    /// It is damaged, or of a later format.
    #[error(transparent)]
    Snapshot(#[from] SnapshotFault),
    /// There is none here.
    #[error(
        "there is no savepoint here: {name} is missing. A savepoint is a folder with a file \
         `savepoint`, which is written last; without it what stands there was never finished"
    )]
    Missing {
        /// What was looked for.
        name: String,
    },
}

/// See the module.
pub struct SavepointReader {
    store: Arc<dyn SnapshotStore>,
    folder: String,
    manifest: SavepointManifest,
}

/// What a savepoint says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SavepointSummary {
    pub id: String,
    /// The data directory that it was made from, in hexadecimal digits.
    pub directory: String,
    pub engine_version: u16,
    pub max_parallelism: u16,
    pub lanes: u16,
    /// When it was made, by the real-time clock, and what the adjusted clock read then.
    pub created_ms: i64,
    pub now_ms: i64,
    pub object_files: usize,
    pub output_files: usize,
    /// Bytes of all of these.
    pub bytes: u64,
    /// By name: keys, timers, outputs.
    pub namespaces: BTreeMap<String, [u64; 3]>,
}

/// A timer in a savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SavedTimer<'a> {
    pub namespace: &'a str,
    /// What the namespace runs.
    pub operator: &'a str,
    pub key: &'a [u8],
    pub name: Option<&'a str>,
    pub domain: Domain,
    pub fire_at: Timestamp,
    pub payload: Option<Payload<'a>>,
}

/// What a function keeps for a key, in a savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SavedState<'a> {
    pub namespace: &'a str,
    /// What the namespace runs.
    pub operator: &'a str,
    pub key: &'a [u8],
    /// As it was written down.
    pub state: &'a [u8],
}

/// What a namespace is called, and what it runs.
type Named = (String, String);

/// What is done with a key that has so many timers; the inner error is the caller's.
type EachKey<'e, E> = dyn FnMut(&Named, &[u8], u32, &mut PartitionReader<'_>) -> Result<Result<(), E>, SnapshotFault>
    + 'e;

/// What all lanes knew at the cut.
pub(super) struct SavedLanes {
    pub(super) heads: BTreeMap<LaneIndex, LaneHead>,
    pub(super) controls: BTreeMap<LaneIndex, ControlsState>,
}

impl SavepointReader {
    /// Opens the savepoint in a folder of a store (`savepoints/x/`; empty: the store is the folder).
    pub fn open(store: Arc<dyn SnapshotStore>, folder: &str) -> Result<Self, SavepointFault> {
        let name = format!("{folder}{}", SavepointManifest::NAME);
        let bytes = store.get(&name).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                SavepointFault::Missing { name: name.clone() }
            } else {
                DiskFault::new(&name, "read", error).into()
            }
        })?;
        let manifest = SavepointManifest::decode(&name, &bytes)?;
        Ok(Self { store, folder: folder.to_owned(), manifest })
    }

    pub(super) fn manifest(&self) -> &SavepointManifest {
        &self.manifest
    }

    /// What it says of itself.
    pub fn summary(&self) -> SavepointSummary {
        let it = &self.manifest;
        let bytes = it.objects.iter().chain(&it.outputs).map(|file| file.bytes).sum();
        let namespaces = it.namespaces.iter().map(|namespace| {
            (namespace.name.clone(), [namespace.keys, namespace.timers, namespace.outputs])
        });
        SavepointSummary {
            id: it.id.clone(),
            directory: it.directory.clone(),
            engine_version: it.engine_version,
            max_parallelism: it.max_parallelism,
            lanes: it.lanes,
            created_ms: it.created_ms,
            now_ms: it.now_ms,
            object_files: it.objects.len(),
            output_files: it.outputs.len(),
            bytes,
            namespaces: namespaces.collect(),
        }
    }

    /// Reads all of it, and says whether every byte and every count is what it was.
    pub fn verify(&self) -> Result<(), SavepointFault> {
        self.lanes()?;
        let mut found: BTreeMap<NamespaceId, [u64; 3]> = BTreeMap::new();
        self.each_partition(&mut |namespace, _, mut reader| {
            let counts = found.entry(namespace).or_default();
            while let Some((_, timers, _)) = reader.next_entry()? {
                counts[0] += 1;
                counts[1] += u64::from(timers);
            }
            Ok(())
        })?;
        self.each_outputs(&mut |_, outputs| {
            found.entry(outputs.namespace).or_default()[2] += u64::from(outputs.count);
            Ok(())
        })?;
        let manifest = format!("{}{}", self.folder, SavepointManifest::NAME);
        for it in &self.manifest.namespaces {
            let found = found.remove(&NamespaceId(it.id)).unwrap_or_default();
            let expected = [it.keys, it.timers, it.outputs];
            for (field, (found, expected)) in
                ["keys", "timers", "outputs"].into_iter().zip(found.into_iter().zip(expected))
            {
                if found != expected {
                    let what = format!("{manifest}: namespace {}", it.name);
                    return Err(SnapshotFault::other(&what, field, &found, &expected).into());
                }
            }
        }
        match found.into_iter().find(|(_, counts)| *counts != [0; 3]) {
            None => Ok(()),
            Some((id, _)) => Err(SnapshotFault::Incomplete {
                manifest,
                missing: format!("namespace {:x}", id.0),
            }
            .into()),
        }
    }

    /// Calls `each` for every timer, in no order that means anything.
    pub fn each_timer<E: From<SavepointFault>>(
        &self,
        each: &mut dyn FnMut(&SavedTimer<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_key(&mut |(namespace, operator), key, timers, reader| {
            for _ in 0..timers {
                let timer = reader.next_timer()?;
                let told = SavedTimer {
                    namespace,
                    operator,
                    key,
                    name: timer.name,
                    domain: timer.domain,
                    fire_at: timer.time,
                    payload: timer.payload,
                };
                if let Err(failure) = each(&told) {
                    return Ok(Err(failure));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Calls `each` for every key that has a state, in no order that means anything.
    pub fn each_state<E: From<SavepointFault>>(
        &self,
        each: &mut dyn FnMut(&SavedState<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_key(&mut |(namespace, operator), key, timers, reader| {
            let told = reader.state().map(|state| SavedState { namespace, operator, key, state });
            for _ in 0..timers {
                reader.next_timer()?;
            }
            Ok(told.map_or(Ok(()), |told| each(&told)))
        })
    }

    /// Calls `each` with every key and how many timers it has, which it has to read.
    fn each_key<E: From<SavepointFault>>(&self, each: &mut EachKey<'_, E>) -> Result<(), E> {
        let names = self.named()?;
        let unknown = Named::default();
        let mut failure = None;
        let read = self.each_partition(&mut |id, _, mut reader| {
            let named = names.get(&id).unwrap_or(&unknown);
            while let Some((key, timers)) = reader.next_key()? {
                if let Err(ended) = each(named, key, timers, &mut reader)? {
                    failure = Some(ended);
                    // Whatever it says: nobody wants the rest.
                    return Err(reader.fault("nobody wants the rest"));
                }
            }
            Ok(())
        });
        match failure {
            Some(failure) => Err(failure),
            None => read.map_err(E::from),
        }
    }

    fn named(&self) -> Result<BTreeMap<NamespaceId, Named>, SavepointFault> {
        let controls = self.lanes()?.controls;
        let configs = controls.values().flat_map(|it| &it.namespaces);
        let operators: BTreeMap<u64, &str> =
            configs.map(|it| (it.id, it.config.operator.as_str())).collect();
        let named = self.manifest.namespaces.iter().map(|it| {
            let operator = operators.get(&it.id).copied().unwrap_or_default();
            (NamespaceId(it.id), (it.name.clone(), operator.to_owned()))
        });
        Ok(named.collect())
    }

    /// The heads and controls of all lanes.
    pub(super) fn lanes(&self) -> Result<SavedLanes, SavepointFault> {
        let mut it = SavedLanes { heads: BTreeMap::new(), controls: BTreeMap::new() };
        for file in &self.manifest.objects {
            let mut object = self.object(file)?;
            for index in 0..object.entries().len() {
                match object.entries()[index].kind {
                    EntryKind::LaneHead { lane, .. } => {
                        let what = format!("{}: head of lane {}", object.name(), lane.0);
                        it.heads.insert(lane, LaneHead::decode(&what, object.entry(index)?)?);
                    }
                    EntryKind::Controls { lane } => {
                        let what = format!("{}: controls of lane {}", object.name(), lane.0);
                        it.controls.insert(lane, decode_controls(&what, object.entry(index)?)?);
                    }
                    EntryKind::Partition { .. } => {}
                }
            }
            // They stand in the first object.
            if it.heads.len() == self.manifest.lanes as usize && it.controls.len() == it.heads.len()
            {
                break;
            }
        }
        let lanes: BTreeSet<LaneIndex> = (0..self.manifest.lanes).map(LaneIndex).collect();
        let all = |found: BTreeSet<LaneIndex>| found == lanes;
        if !all(it.heads.keys().copied().collect()) || !all(it.controls.keys().copied().collect()) {
            return Err(SnapshotFault::Incomplete {
                manifest: format!("{}{}", self.folder, SavepointManifest::NAME),
                missing: "head or control state of some lane".to_owned(),
            }
            .into());
        }
        Ok(it)
    }

    /// Calls `each` with a reader for every partition.
    pub(super) fn each_partition(
        &self,
        each: &mut dyn FnMut(
            NamespaceId,
            KeyGroup,
            PartitionReader<'_>,
        ) -> Result<(), SnapshotFault>,
    ) -> Result<(), SavepointFault> {
        let (layout, known) = (self.manifest.layout(), self.manifest.ids());
        let mut seen = BTreeSet::new();
        for file in &self.manifest.objects {
            let mut object = self.object(file)?;
            for index in 0..object.entries().len() {
                let entry = object.entries()[index];
                let EntryKind::Partition { namespace, group, .. } = entry.kind else { continue };
                let what = format!("{}: key group {} of {:x}", object.name(), group.0, namespace.0);
                if group.0 >= layout.max_parallelism()
                    || !known.contains(&namespace)
                    || !seen.insert((namespace, group))
                {
                    let detail = "a partition stands twice, or where there is none";
                    return Err(SnapshotFault::damaged(&what, 0, detail).into());
                }
                let bytes = object.entry(index)?;
                check_keys(&what, bytes, layout, group.0)?;
                each(namespace, group, PartitionReader::open(&what, bytes)?)?;
            }
        }
        Ok(())
    }

    /// Calls `each` for every block of outputs, in the order of their cursors.
    pub(super) fn each_outputs(
        &self,
        each: &mut dyn FnMut(&BlockHeader, OutputBytes) -> Result<(), SavepointFault>,
    ) -> Result<(), SavepointFault> {
        let known = self.manifest.ids();
        // The blocks stand as they stood in the directory that they were copied from.
        let salt = BlockSalt::of(&self.manifest.directory_id());
        let mut next = 0;
        for file in &self.manifest.outputs {
            let bytes = self.fetch(file)?;
            let name = self.path(file);
            if file.digest() != Some(xxh3_128(&bytes)) {
                let found = format!("{:032x}", xxh3_128(&bytes));
                return Err(SnapshotFault::other(&name, "digest", &found, &file.digest).into());
            }
            let mut at = 0;
            while at < bytes.len() {
                let fault = |detail| SnapshotFault::damaged(&name, at as u64, detail);
                let (header, body) = block::decode(salt, &bytes[at..])
                    .map_err(|_| fault("there is no whole block of outputs here"))?;
                let outputs = (header.kind == BlockKind::Outputs && header.first >= next)
                    .then(|| records_of(&header, body))
                    .flatten()
                    .filter(|outputs| known.contains(&outputs.namespace))
                    .ok_or_else(|| fault("the outputs of a block make no sense"))?;
                next = header.first + u64::from(header.count);
                at += header.size();
                each(&header, outputs)?;
            }
        }
        Ok(())
    }

    fn path(&self, file: &SavedFile) -> String {
        format!("{}{}", self.folder, file.name)
    }

    /// The bytes of a file, as many as there should be.
    fn fetch(&self, file: &SavedFile) -> Result<Vec<u8>, SavepointFault> {
        let name = self.path(file);
        let bytes = self.store.get(&name).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                SavepointFault::from(SnapshotFault::damaged(&name, 0, "it is missing"))
            } else {
                DiskFault::new(&name, "read", error).into()
            }
        })?;
        if bytes.len() as u64 != file.bytes {
            return Err(SnapshotFault::other(&name, "length", &bytes.len(), &file.bytes).into());
        }
        Ok(bytes)
    }

    fn object(&self, file: &SavedFile) -> Result<ObjectReader, SavepointFault> {
        let name = self.path(file);
        let object = ObjectReader::open(&name, self.fetch(file)?)?;
        if file.digest() != Some(object.digest()) {
            let found = format!("{:032x}", object.digest());
            return Err(SnapshotFault::other(&name, "digest", &found, &file.digest).into());
        }
        let found = hex(object.directory());
        if found != self.manifest.directory {
            let expected = &self.manifest.directory;
            return Err(SnapshotFault::other(&name, "directory id", &found, expected).into());
        }
        Ok(object)
    }
}

/// Whether every key of a partition belongs to it, and stands there once.
fn check_keys(what: &str, bytes: &[u8], layout: Layout, group: u16) -> Result<(), SnapshotFault> {
    let mut reader = PartitionReader::open(what, bytes)?;
    let mut seen = hashbrown::HashSet::<&[u8], ahash::RandomState>::with_hasher(
        ahash::RandomState::with_seeds(1, 2, 3, 4),
    );
    while let Some((key, _, _)) = reader.next_entry()? {
        if layout.group_of(xxh3_64(key)).0 != group {
            return Err(reader.fault("a key belongs to another key group"));
        }
        if !seen.insert(key) {
            return Err(reader.fault("a key stands twice"));
        }
    }
    Ok(())
}
