//! Which fires are done with: a floor, at or below which all are, and above it one bit for each
//! that was acknowledged out of turn.
//!
//! What is to be written down of it is small whatever the order of the acknowledgements: the floor
//! alone where they come in turn, else the chunks of bits that have changed.

use std::collections::{BTreeMap, BTreeSet};

/// Cursors of one chunk of bits.
pub(super) const CHUNK_CURSORS: u64 = 4_096;
/// Bytes of one chunk of bits.
pub(super) const CHUNK_BYTES: usize = CHUNK_CURSORS as usize / 8;

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acks {
    floor: u64,
    above: BTreeMap<u64, Vec<u8>>,
    /// What stands elsewhere otherwise than here.
    is_floor_unsaid: bool,
    unsaid: BTreeSet<u64>,
    /// The chunks that stand elsewhere.
    said: BTreeSet<u64>,
}

/// What is to be written down.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Everything at or below it is acknowledged.
    Floor(u64),
    /// The bits of a chunk.
    Chunk(u64, Vec<u8>),
    /// A chunk is below the floor.
    Forget(u64),
}

impl Acks {
    /// As it was written down.
    pub(super) fn new(floor: u64, above: BTreeMap<u64, Vec<u8>>) -> Self {
        let said = above.keys().copied().collect();
        let mut it = Self { floor, above, said, ..Self::default() };
        it.drop_below();
        it
    }

    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether this one is acknowledged.
    pub(super) fn contains(&self, cursor: u64) -> bool {
        let (chunk, byte, bit) = place(cursor);
        cursor <= self.floor || self.above.get(&chunk).is_some_and(|bits| bits[byte] & bit != 0)
    }

    /// One above the floor is acknowledged.
    pub(super) fn insert(&mut self, cursor: u64) {
        if self.contains(cursor) {
            return;
        }
        let (chunk, byte, bit) = place(cursor);
        self.above.entry(chunk).or_insert_with(|| vec![0; CHUNK_BYTES])[byte] |= bit;
        self.unsaid.insert(chunk);
    }

    /// All at or below this one are acknowledged.
    pub(super) fn raise(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.is_floor_unsaid = true;
            self.drop_below();
        }
    }

    fn drop_below(&mut self) {
        // The chunk that the floor stands in may hold bits above it.
        self.above = self.above.split_off(&(self.floor / CHUNK_CURSORS));
        let above = &self.above;
        self.unsaid.retain(|chunk| above.contains_key(chunk));
    }

    /// What has changed since the last call, in the order in which it may be written down; the
    /// floor, if nothing has.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        if std::mem::take(&mut self.is_floor_unsaid) || self.unsaid.is_empty() {
            changes.push(Change::Floor(self.floor));
        }
        for chunk in std::mem::take(&mut self.unsaid) {
            if let Some(bits) = self.above.get(&chunk) {
                changes.push(Change::Chunk(chunk, bits.clone()));
                self.said.insert(chunk);
            }
        }
        let above = &self.above;
        self.said.retain(|chunk| {
            let stays = above.contains_key(chunk);
            if !stays {
                changes.push(Change::Forget(*chunk));
            }
            stays
        });
        changes
    }

    /// Some of what was to be written down was not: the next changes say all of it.
    pub(super) fn say_again(&mut self) {
        self.is_floor_unsaid = true;
        self.unsaid = self.above.keys().copied().collect();
    }
}

/// The chunk of a cursor, and where its bit stands in there.
const fn place(cursor: u64) -> (u64, usize, u8) {
    let within = cursor % CHUNK_CURSORS;
    (cursor / CHUNK_CURSORS, (within / 8) as usize, 1 << (within % 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is written down elsewhere.
    #[derive(Default)]
    struct Written {
        floor: u64,
        above: BTreeMap<u64, Vec<u8>>,
    }

    impl Written {
        fn take(&mut self, changes: Vec<Change>) {
            for change in changes {
                match change {
                    Change::Floor(floor) => self.floor = floor,
                    Change::Chunk(chunk, bits) => drop(self.above.insert(chunk, bits)),
                    Change::Forget(chunk) => {
                        self.above.remove(&chunk).expect("it stands there");
                    }
                }
            }
        }

        fn read(&self) -> Acks {
            Acks::new(self.floor, self.above.clone())
        }
    }

    #[test]
    fn in_turn_only_the_floor_is_said() {
        let mut acks = Acks::new(10, BTreeMap::new());
        acks.raise(11);
        assert_eq!(acks.changes(), [Change::Floor(11)]);
        assert_eq!(acks.changes(), [Change::Floor(11)], "so that one can wait for it");
        acks.insert(5_000);
        assert!(matches!(&acks.changes()[..], [Change::Chunk(1, _)]));
        acks.raise(8_191);
        assert_eq!(acks.changes(), [Change::Floor(8_191)], "the last bit of it is the floor");
        acks.raise(8_192);
        assert_eq!(acks.changes(), [Change::Floor(8_192), Change::Forget(1)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever was written down in full says the same as what is in memory; what was written
        /// down in part says less, and never more.
        #[test]
        fn what_is_read_back_is_what_was_acknowledged(
            steps in prop::collection::vec((1..9_000_u64, prop::bool::weighted(0.1), 0..4_u8), 1..60),
        ) {
            let (mut acks, mut written) = (Acks::default(), Written::default());
            let mut acknowledged = BTreeSet::new();
            for (cursor, raises, fate) in steps {
                if raises {
                    acks.raise(cursor);
                    acknowledged.extend(1..=cursor);
                } else {
                    acks.insert(cursor);
                    acknowledged.insert(cursor);
                }
                match fate {
                    // It is refused.
                    0 => {
                        acks.changes();
                        acks = Acks { said: written.above.keys().copied().collect(), ..acks };
                        acks.say_again();
                    }
                    1 => {
                        let mut changes = acks.changes();
                        changes.pop();
                        let mut part = Written { above: written.above.clone(), ..written };
                        part.take(changes);
                        let read = part.read();
                        prop_assert!((1..9_000).all(|at| !read.contains(at) || acknowledged.contains(&at)));
                        acks.say_again();
                        written = part;
                        acks.said = written.above.keys().copied().collect();
                    }
                    _ => {
                        written.take(acks.changes());
                        let read = written.read();
                        prop_assert!((1..9_000).all(|at| read.contains(at) == acknowledged.contains(&at)));
                    }
                }
                prop_assert!(acknowledged.iter().all(|at| acks.contains(*at)));
            }
        }
    }
}
