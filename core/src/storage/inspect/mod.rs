//! Looking at a data directory without touching it: what is there, and what is wrong with it.
//!
//! Recovery stops at the first thing that is wrong; this goes on behind it as far as it can, and tells
//! everything in sentences. Nothing is written and nobody is kept out: a service may run meanwhile,
//! and then what is told is as of no single moment.

mod journals;
mod outputs;
mod records;
mod savepoints;
mod snapshots;

pub use records::RecordInfo;

use super::identity::{IDENTITY_FILE, Identity};
use super::output_ids::Causes;
use super::recovery::BlockRef;
use super::{RecoveryOptions, SnapshotsSay, read_journals};
use crate::log::segment::{JOURNAL_FOLDER, SPARE_FOLDER, parse_spare};
use crate::ports::{Disk, SnapshotStore};
use crate::snapshot::ManifestName;
use serde::Serialize;
use std::sync::Arc;

/// What is in a data directory.
#[derive(Debug, Default, Serialize)]
pub struct Inspection {
    /// What it is; none if that is missing or cannot be read.
    pub identity: Option<IdentityInfo>,
    /// The journals, run by run.
    pub journals: Vec<JournalInfo>,
    /// What they hold of each lane of which they hold anything.
    pub lanes: Vec<LaneInfo>,
    /// The checkpoints, the newest first.
    pub checkpoints: Vec<CheckpointFiles>,
    /// The savepoints beside them, by name.
    pub savepoints: Vec<SavepointFiles>,
    /// The output log.
    pub outputs: OutputsInfo,
    /// Segments that are ready for use.
    pub spares: usize,
    /// The newest reading of the intake clock, in journals and checkpoints.
    pub newest_ms: Option<i64>,
    /// The versions of the engine that wrote what a start would follow.
    pub engine_versions: Vec<u16>,
    /// What is worth knowing, and what is wrong.
    pub findings: Vec<Finding>,
    #[serde(skip)]
    blocks: Vec<BlockRef>,
    #[serde(skip)]
    files: Vec<String>,
    #[serde(skip)]
    directory_id: Option<[u8; 16]>,
    #[serde(skip)]
    causes: Causes,
}

/// What never changes of a data directory.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as in the identity file")]
pub struct IdentityInfo {
    pub directory: String,
    pub max_parallelism: u16,
    pub lanes: u16,
}

/// A journal: what one thread wrote in one run.
#[derive(Debug, Clone, Serialize)]
pub struct JournalInfo {
    /// The run, counted from 1.
    pub epoch: u32,
    /// Which journal of that run.
    pub journal: u16,
    /// The files that are there, oldest first.
    pub segments: Vec<String>,
    /// Bytes of these files.
    pub bytes: u64,
    /// Blocks that stand.
    pub blocks: usize,
    /// The sequence of the last one; 0 if there is none.
    pub last_sequence: u64,
    /// `sealed`, `open` (it ends cleanly), `torn` or `damaged`.
    pub end: &'static str,
}

/// What the journals hold of a lane.
#[derive(Debug, Clone, Serialize)]
pub struct LaneInfo {
    /// The lane.
    pub lane: u16,
    /// The first and the last position that are there.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Records.
    pub records: u64,
    /// Blocks.
    pub blocks: u64,
    /// Positions that are missing in between: from, to.
    pub missing: Vec<(u64, u64)>,
}

/// A checkpoint in the snapshot store.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointFiles {
    /// The name of its manifest.
    pub manifest: String,
    /// The manifest can be read.
    pub is_readable: bool,
    /// All of it can be loaded.
    pub is_whole: bool,
    /// When it was made, by the machine's clock.
    pub created_ms: i64,
    /// Objects that it is made of.
    pub objects: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Keys in them that count.
    pub keys: u64,
    /// Where replay begins behind it, lane by lane.
    pub positions: Vec<u64>,
    /// The newest output when it was made.
    pub output_cursor: u64,
}

/// A savepoint in the snapshot store.
#[derive(Debug, Clone, Serialize)]
pub struct SavepointFiles {
    /// What it is called.
    pub savepoint: String,
    /// It can be restored.
    pub is_whole: bool,
    /// When it was made, by the machine's clock.
    pub created_ms: i64,
    /// Bytes of it.
    pub bytes: u64,
    /// Timers in it.
    pub timers: u64,
}

/// The output log.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OutputsInfo {
    /// The files, oldest first.
    pub segments: Vec<String>,
    /// Bytes of them.
    pub bytes: u64,
    /// The first and the last cursor that can be read.
    pub first_cursor: Option<u64>,
    /// See `first_cursor`.
    pub last_cursor: Option<u64>,
    /// Records by namespace id, in hexadecimal digits.
    pub namespaces: std::collections::BTreeMap<String, u64>,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Worth knowing, and harmless.
    Note,
    /// An unfinished end that the next start cuts off. Nobody was ever told of it.
    Torn,
    /// Damage to a savepoint: a start is not concerned.
    Copy,
    /// Damage that something older makes good.
    Healed,
    /// Not for this version.
    Refused,
    /// Damage that keeps the service from starting.
    Stops,
}

/// Something that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub weight: Weight,
    /// The file or folder.
    pub file: String,
    /// Where in the file, if it is one place.
    pub offset: Option<u64>,
    /// What it is, in a sentence that names the place.
    pub sentence: String,
}

impl Finding {
    fn new(weight: Weight, file: &str, offset: Option<u64>, sentence: String) -> Self {
        Self { weight, file: file.to_owned(), offset, sentence }
    }
}

/// Looks at everything.
pub fn inspect(disk: &dyn Disk, store: &Arc<dyn SnapshotStore>) -> Inspection {
    let mut it = Inspection::default();
    let identity = match Identity::read(disk) {
        Ok(Some(identity)) => Some(identity),
        Ok(None) => {
            it.look_at_nothing(&**store);
            return it;
        }
        Err(fault) => {
            let weight = identity_weight(&fault);
            it.findings.push(Finding::new(weight, IDENTITY_FILE, None, fault.to_string()));
            None
        }
    };
    it.identity = identity.map(|it| IdentityInfo {
        directory: crate::snapshot::hex(&it.directory_id),
        max_parallelism: it.max_parallelism,
        lanes: it.lanes,
    });
    it.directory_id =
        identity.map(|it| it.directory_id).or_else(|| journals::any_directory_id(disk));
    let Some(directory_id) = it.directory_id else {
        return it;
    };
    it.look_at_journals(disk, &directory_id);
    it.look_at_snapshots(&**store, identity.as_ref());
    it.look_at_savepoints(store);
    it.look_at_outputs(disk, &directory_id);
    it.look_at_spares(disk);
    if let Some(identity) = identity {
        it.look_at_the_whole(disk, &identity);
    }
    it.findings.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    it
}

fn identity_weight(fault: &super::IdentityFault) -> Weight {
    use super::IdentityFault::{Foreign, Lost, Newer};
    let is_refused = matches!(fault, Foreign { .. } | Lost { .. } | Newer { .. });
    if is_refused { Weight::Refused } else { Weight::Stops }
}

impl Inspection {
    /// The gravest thing that was found.
    pub fn worst(&self) -> Option<Weight> {
        self.findings.iter().map(|finding| finding.weight).max()
    }

    fn find(&mut self, weight: Weight, file: &str, offset: Option<u64>, sentence: String) {
        self.findings.push(Finding::new(weight, file, offset, sentence));
    }

    /// The checkpoints that a start would try, the newest first.
    fn candidates(&self) -> impl Iterator<Item = &CheckpointFiles> {
        self.checkpoints.iter().filter(|it| it.is_readable).take(2)
    }

    /// Of a directory that is empty.
    fn look_at_nothing(&mut self, store: &dyn SnapshotStore) {
        let listed = store.list(ManifestName::PREFIX);
        match listed.as_ref().map(|names| names.iter().find_map(|name| ManifestName::parse(name))) {
            Ok(None) => {
                let sentence = "the directory is empty: a start makes a new one of it".to_owned();
                self.find(Weight::Note, IDENTITY_FILE, None, sentence);
            }
            Ok(Some(manifest)) => {
                let sentence = format!(
                    "the directory is empty, and {manifest} is the checkpoint of another one: bring \
                     that one back, or name another place for the snapshots"
                );
                self.find(Weight::Stops, &manifest.to_string(), None, sentence);
            }
            Err(error) => {
                let sentence = format!("the snapshots cannot be listed: {error}");
                self.find(Weight::Stops, "snapshots", None, sentence);
            }
        }
    }

    fn look_at_spares(&mut self, disk: &dyn Disk) {
        match disk.list(SPARE_FOLDER) {
            Ok(names) => {
                let is_ready = |name: &&String| matches!(parse_spare(name), Some((_, true)));
                self.spares = names.iter().filter(is_ready).count();
            }
            Err(error) => {
                let sentence = format!("cannot list {SPARE_FOLDER}/: {error}");
                self.find(Weight::Stops, SPARE_FOLDER, None, sentence);
            }
        }
    }

    /// What only shows when all of it is seen together, as a start sees it.
    fn look_at_the_whole(&mut self, disk: &dyn Disk, identity: &Identity) {
        if self.worst().is_some_and(|worst| worst >= Weight::Refused) {
            return;
        }
        let options =
            RecoveryOptions { directory_id: identity.directory_id, lanes: identity.lanes };
        let loaded = self.candidates().find(|it| it.is_whole);
        let none = vec![0; identity.lanes as usize];
        let starts = loaded.map_or(&none, |it| &it.positions);
        let outcome = read_journals(disk, &options).and_then(|recovered| {
            let newest = self.checkpoints.first();
            let newest = newest.and_then(|it| Some((it, ManifestName::parse(&it.manifest)?.epoch)));
            recovered.check_whole(newest.map(|(it, epoch)| SnapshotsSay {
                epoch,
                manifest: &it.manifest,
                positions: &it.positions,
            }))?;
            recovered.check_from(starts)?;
            recovered.check_causes(starts, &self.causes)?;
            let lanes = (0..identity.lanes).zip(starts);
            let blocks = lanes.flat_map(|(lane, start)| recovered.blocks_from(lane, *start));
            let mut versions: Vec<u16> = blocks.map(|block| block.engine_version).collect();
            versions.sort_unstable();
            versions.dedup();
            Ok(versions)
        });
        match outcome {
            Ok(versions) => self.engine_versions = versions,
            Err(fault) => self.find(Weight::Stops, JOURNAL_FOLDER, None, fault.to_string()),
        }
    }
}
