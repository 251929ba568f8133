//! The manifest of a savepoint: what was copied, when, and in which files.
//!
//! It stands in the frame of all manifests (magic "SWSAVEP1") and is stored last: a folder without
//! it is no savepoint. Files are named relative to it, so that a savepoint can be moved as a folder.

use super::fault::SnapshotFault;
use super::frame;
use super::manifest::parse_digest;
use crate::key_group::Layout;
use crate::namespace::ControlsState;
use crate::output::NamespaceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const MAGIC: [u8; 8] = *b"SWSAVEP1";
const VERSION: u32 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavepointManifest {
    /// What it is called where it was made.
    pub(crate) id: String,
    /// The data directory that it was made from, in hexadecimal digits.
    pub(crate) directory: String,
    /// The version of the engine that made it.
    pub(crate) engine_version: u16,
    pub(crate) max_parallelism: u16,
    pub(crate) lanes: u16,
    /// What the intake clock read at the cut.
    pub(crate) now_ms: i64,
    /// When the cut was made, by the real-time clock.
    pub(crate) created_ms: i64,
    /// The newest output at the cut.
    pub(crate) output_cursor: u64,
    pub(crate) namespaces: Vec<SavedNamespace>,
    /// Heads, controls and partitions.
    pub(crate) objects: Vec<SavedFile>,
    /// Blocks of outputs, in the order of their cursors.
    pub(crate) outputs: Vec<SavedFile>,
}

/// A namespace in a savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedNamespace {
    pub(crate) name: String,
    /// Its incarnation where it was made.
    pub(crate) id: u64,
    pub(crate) keys: u64,
    pub(crate) timers: u64,
    pub(crate) outputs: u64,
}

/// A file of a savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedFile {
    /// Its name, relative to the manifest.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Of an object: its digest. Of outputs: that of all bytes. In 32 hexadecimal digits.
    pub(crate) digest: String,
}

impl SavedFile {
    /// The digest as a number.
    pub(crate) fn digest(&self) -> Option<u128> {
        parse_digest(&self.digest)
    }
}

impl SavepointManifest {
    /// What it is called, beside its files.
    pub(crate) const NAME: &str = "savepoint";
    /// The first part of the name of an object.
    pub(crate) const OBJECTS: &str = "objects/";
    /// The first part of the name of a file of outputs.
    pub(crate) const OUTPUTS: &str = "outputs/";

    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("a manifest is plain data");
        frame::encode(MAGIC, VERSION, &json)
    }

    /// Reads a manifest; `what` is how faults call it.
    pub(crate) fn decode(what: &str, bytes: &[u8]) -> Result<Self, SnapshotFault> {
        let json = frame::decode(what, MAGIC, VERSION, bytes)?;
        let fault = |detail| SnapshotFault::damaged(what, frame::FRAME_BYTES as u64, detail);
        let it: Self = serde_json::from_slice(json)
            .map_err(|_| fault("the JSON is not that of a savepoint"))?;
        if Layout::new(it.max_parallelism, it.lanes, 1).is_err() {
            return Err(fault("there is no such layout"));
        }
        if parse_digest(&it.directory).is_none() {
            return Err(fault("the id of the directory is none"));
        }
        for (prefix, files) in [(Self::OBJECTS, &it.objects), (Self::OUTPUTS, &it.outputs)] {
            let is_known = |file: &SavedFile| {
                let number = file.name.strip_prefix(prefix);
                let is_number = number.is_some_and(|number| {
                    (4..=8).contains(&number.len())
                        && number.bytes().all(|digit| digit.is_ascii_hexdigit())
                });
                is_number && file.digest().is_some()
            };
            if !files.iter().all(is_known) {
                return Err(fault("it names what is no file of a savepoint"));
            }
        }
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for namespace in &it.namespaces {
            if !ids.insert(namespace.id) || !names.insert(&namespace.name) {
                return Err(fault("a namespace stands twice"));
            }
        }
        Ok(it)
    }

    /// The data directory that it was made from.
    pub(crate) fn directory_id(&self) -> [u8; 16] {
        parse_digest(&self.directory).expect("it was looked at when decoded").to_be_bytes()
    }

    /// The layout of the data directory that it was made from, with one shard.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.max_parallelism, self.lanes, 1).expect("it was looked at when decoded")
    }

    /// The incarnations in it.
    pub(crate) fn ids(&self) -> BTreeSet<NamespaceId> {
        self.namespaces.iter().map(|it| NamespaceId(it.id)).collect()
    }
}

/// The highest incarnation that these controls have ever given away.
pub(crate) fn highest_incarnation(lane: u16, lanes: u16, state: &ControlsState) -> u64 {
    let given = state.incarnations.saturating_mul(u64::from(lanes)).saturating_add(lane.into());
    state.namespaces.iter().map(|it| it.id).max().unwrap_or(0).max(given)
}
