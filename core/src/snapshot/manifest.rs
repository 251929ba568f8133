//! The manifest: which objects together are one checkpoint, and what holds for all of them.
//!
//! ```text
//!  0 magic "SWMANIF1" | 8 format version u32 = 1 | 12 length u32 | 16 CRC32C of 0..16 and the JSON
//! 20 JSON
//! ```
//!
//! The frame is the same for ever: a later format changes the version and what stands in the JSON.
//! Objects are called `objects/{epoch:08x}-{checkpoint:08x}-{n:04x}`, manifests
//! `manifests/{epoch:08x}-{checkpoint:08x}`: the newest of those that are whole wins.

use super::fault::SnapshotFault;
use super::frame;
use serde::{Deserialize, Serialize};
use std::fmt;

const MAGIC: [u8; 8] = *b"SWMANIF1";
const VERSION: u32 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The data directory that it belongs to, in hexadecimal digits.
    pub(crate) directory: String,
    pub(crate) epoch: u32,
    pub(crate) checkpoint: u32,
    pub(crate) max_parallelism: u16,
    pub(crate) lanes: u16,
    /// What the intake clock read.
    pub(crate) now_ms: i64,
    /// When it was made, by the real-time clock.
    pub(crate) created_ms: i64,
    /// For each lane: the position of its head. Replay begins with the next one.
    pub(crate) positions: Vec<u64>,
    /// Where in the output log to begin looking for outputs that are there already.
    pub(crate) output_cursor: u64,
    /// No incarnation at or below it is given to a namespace again.
    pub(crate) incarnation_floor: u64,
    /// Oldest first.
    pub(crate) objects: Vec<ObjectRef>,
}

/// An object as the manifest knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectRef {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Of all its bytes before the digest: xxh3-128 in 32 hexadecimal digits.
    pub(crate) digest: String,
}

impl ObjectRef {
    /// An object of this name.
    pub(crate) fn new(name: ObjectName, bytes: u64, digest: u128) -> Self {
        Self { name: name.to_string(), bytes, digest: format!("{digest:032x}") }
    }
}

/// The digest of an [`ObjectRef`].
pub(crate) fn parse_digest(digits: &str) -> Option<u128> {
    let digest = u128::from_str_radix(digits, 16).ok()?;
    (format!("{digest:032x}") == digits).then_some(digest)
}

/// The name of a manifest. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ManifestName {
    pub(crate) epoch: u32,
    pub(crate) checkpoint: u32,
}

/// The name of an object. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectName {
    pub(crate) epoch: u32,
    pub(crate) checkpoint: u32,
    /// Which one of its checkpoint.
    pub(crate) number: u32,
}

impl ManifestName {
    /// What all of them begin with.
    pub(crate) const PREFIX: &str = "manifests/";

    /// The name that this text is, if it is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch, checkpoint) = text.strip_prefix(Self::PREFIX)?.split_once('-')?;
        let name = Self { epoch: hex(epoch)?, checkpoint: hex(checkpoint)? };
        // One name has one spelling.
        (name.to_string() == text).then_some(name)
    }
}

impl ObjectName {
    /// What all of them begin with.
    pub(crate) const PREFIX: &str = "objects/";

    /// The name that this text is, if it is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch, rest) = text.strip_prefix(Self::PREFIX)?.split_once('-')?;
        let (checkpoint, number) = rest.split_once('-')?;
        let (epoch, checkpoint, number) = (hex(epoch)?, hex(checkpoint)?, hex(number)?);
        let name = Self { epoch, checkpoint, number };
        (name.to_string() == text).then_some(name)
    }
}

fn hex(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08x}-{:08x}", Self::PREFIX, self.epoch, self.checkpoint)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, checkpoint, number } = self;
        write!(f, "{}{epoch:08x}-{checkpoint:08x}-{number:04x}", Self::PREFIX)
    }
}

impl Manifest {
    /// What it is to be called.
    pub(crate) fn name(&self) -> ManifestName {
        ManifestName { epoch: self.epoch, checkpoint: self.checkpoint }
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("a manifest is plain data");
        frame::encode(MAGIC, VERSION, &json)
    }

    /// Reads the manifest of this name.
    pub(crate) fn decode(name: ManifestName, bytes: &[u8]) -> Result<Self, SnapshotFault> {
        let object = name.to_string();
        let json = frame::decode(&object, MAGIC, VERSION, bytes)?;
        let Ok(manifest) = serde_json::from_slice::<Self>(json) else {
            let detail = "the JSON is not that of a manifest";
            return Err(SnapshotFault::damaged(&object, frame::FRAME_BYTES as u64, detail));
        };
        manifest.check(&object)?;
        if manifest.name() != name {
            let found = manifest.name();
            return Err(SnapshotFault::other(&object, "name", &found, &name));
        }
        Ok(manifest)
    }

    /// Whether its fields agree with each other.
    fn check(&self, object: &str) -> Result<(), SnapshotFault> {
        let at = frame::FRAME_BYTES as u64;
        if self.positions.len() != self.lanes as usize {
            return Err(SnapshotFault::damaged(
                object,
                at,
                "it has not one position for each lane",
            ));
        }
        for it in &self.objects {
            let is_known =
                ObjectName::parse(&it.name).is_some() && parse_digest(&it.digest).is_some();
            if !is_known {
                return Err(SnapshotFault::damaged(object, at, "it names what is no object"));
            }
        }
        Ok(())
    }
}

/// What [`newest`] found.
#[derive(Debug)]
pub(crate) struct Newest {
    /// The newest manifest that is whole.
    pub(crate) manifest: Manifest,
    /// What is wrong with those that are newer.
    pub(crate) skipped: Vec<SnapshotFault>,
}

/// Picks the newest manifest that is whole out of the names of a store, in any order; `None`: there
/// is no manifest at all. If there are some and none is whole, that is a fault, and so is one of a
/// later format: what an earlier one says is not true any more. A name that is no manifest's is
/// passed over.
pub(crate) fn newest<E: From<SnapshotFault>>(
    names: &[String],
    mut fetch: impl FnMut(&str) -> Result<Vec<u8>, E>,
) -> Result<Option<Newest>, E> {
    let mut names: Vec<ManifestName> =
        names.iter().filter_map(|name| ManifestName::parse(name)).collect();
    names.sort_unstable();
    let mut skipped = Vec::new();
    for name in names.into_iter().rev() {
        let bytes = fetch(&name.to_string())?;
        match Manifest::decode(name, &bytes) {
            Ok(manifest) => return Ok(Some(Newest { manifest, skipped })),
            Err(newer @ SnapshotFault::Newer { .. }) => return Err(newer.into()),
            Err(fault) => skipped.push(fault),
        }
    }
    match skipped.into_iter().next() {
        Some(fault) => Err(fault.into()),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
