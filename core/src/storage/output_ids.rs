//! Which outputs the log holds already, by their ids: a replay after a crash emits them again. And
//! what they came of: an output is written once its cause is durable, so an output whose cause is
//! nowhere tells of a journal that is missing.

use crate::output::{Cursor, OutputBlock, OutputBytes, OutputId};
use hashbrown::HashSet;
use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::xxh3_128;

/// The ids of the outputs behind the cursor from which a replay starts.
///
/// The id decides, never the place: across keys the order of a replay may differ. An id is held as
/// 128 bits of hash over all its parts, the namespace's included: one tick is one position for all
/// namespaces of a lane, and the same key may be due in two of them.
#[derive(Debug, Default)]
pub(crate) struct OutputIds {
    ids: HashSet<u128, BuildHasherDefault<AsItIs>>,
    causes: Causes,
}

/// By lane: the highest position of which there is an output behind a cursor, and that output.
#[derive(Debug, Default, Clone)]
pub(crate) struct Causes(BTreeMap<u16, (u64, Cursor)>);

impl Causes {
    /// Takes in the records after a cursor.
    pub(super) fn insert_after(&mut self, block: &OutputBlock, after: Cursor) {
        for (cursor, record) in block.after(after) {
            self.insert(cursor, &record.id);
        }
    }

    fn insert(&mut self, cursor: Cursor, id: &OutputId) {
        let this = (id.position, cursor);
        let highest = self.0.entry(id.lane).or_insert(this);
        *highest = this.max(*highest);
    }

    /// The highest position of a lane of which there is an output, and that output.
    pub(super) fn of(&self, lane: u16) -> Option<(u64, Cursor)> {
        self.0.get(&lane).copied()
    }
}

impl OutputIds {
    /// Takes in the records after a cursor.
    pub(super) fn insert_after(&mut self, block: &OutputBlock, after: Cursor) {
        for (cursor, record) in block.after(after) {
            self.ids.insert(digest(&record.id));
            self.causes.insert(cursor, &record.id);
        }
    }

    /// What they came of.
    pub(crate) fn causes(&self) -> &Causes {
        &self.causes
    }

    /// Whether the log holds this one.
    pub(crate) fn contains(&self, id: &OutputId) -> bool {
        !self.ids.is_empty() && self.ids.contains(&digest(id))
    }

    /// How many it knows.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Those of the records that the log does not hold; `None` if it holds all of them.
    pub(crate) fn filter(&self, records: OutputBytes) -> Option<OutputBytes> {
        records.retain(|record| !self.contains(&record.id))
    }
}

fn digest(id: &OutputId) -> u128 {
    let mut bytes = [0; 30];
    bytes[0..8].copy_from_slice(&id.namespace.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&id.position.to_le_bytes());
    bytes[16..24].copy_from_slice(&id.key_hash.to_le_bytes());
    bytes[24..28].copy_from_slice(&id.ordinal.to_le_bytes());
    bytes[28..30].copy_from_slice(&id.lane.to_le_bytes());
    xxh3_128(&bytes)
}

/// What is a hash already is not hashed again.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (low, _) = bytes.split_at(bytes.len().min(8));
        let mut word = [0; 8];
        word[..low.len()].copy_from_slice(low);
        self.0 = u64::from_le_bytes(word);
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64;
    }
}
