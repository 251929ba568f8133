//! Operations on their way to a shard.

use super::record::{Produced, encode_op, encode_produced};
use crate::key_group::xxh3_64;
use crate::op::Op;
use crate::output::NamespaceId;

/// Operations written down as records, one behind the other, each with the hash of its key: whoever
/// routes them has hashed the keys, and nobody has to find again where a record ends.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    bytes: Vec<u8>,
    index: Vec<Indexed>,
}

#[derive(Debug, Clone, Copy)]
struct Indexed {
    hash: u64,
    end: usize,
}

impl Operations {
    /// None yet, and room for so many in so many bytes.
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), index: Vec::with_capacity(count) }
    }

    /// Appends an operation, whose fields are within their limits; `hash` is that of its key.
    #[inline]
    pub(crate) fn push(
        &mut self,
        namespace: NamespaceId,
        op: &Op<'_>,
        hash: u64,
        produced: Option<&Produced<'_>>,
    ) {
        debug_assert_eq!(hash, xxh3_64(op.key));
        if let Some(produced) = produced {
            encode_produced(&mut self.bytes, namespace, produced);
        }
        encode_op(&mut self.bytes, namespace, op);
        self.index.push(Indexed { hash, end: self.bytes.len() });
    }

    /// Appends the record of an operation.
    pub(crate) fn push_record(&mut self, record: &[u8], hash: u64) {
        self.bytes.extend_from_slice(record);
        self.index.push(Indexed { hash, end: self.bytes.len() });
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of their records.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the records from this one on.
    pub(crate) fn bytes_from(&self, first: usize) -> usize {
        self.bytes.len() - self.begin_of(first)
    }

    /// The record of an operation, and the hash of its key.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<(&[u8], u64)> {
        let Indexed { hash, end } = *self.index.get(index)?;
        Some((self.bytes.get(self.begin_of(index)..end)?, hash))
    }

    #[inline]
    fn begin_of(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.index[before].end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::split_operation;
    use crate::op::Action;

    #[test]
    fn operations_come_back_one_by_one() {
        let mut all = Operations::with_capacity(2, 100);
        let (first, second) = (
            Op { key: b"a", action: Action::DeleteAll },
            Op { key: b"much longer", action: Action::DeleteAll },
        );
        let produced = Produced { producer: "p", sequence: 7, index: 1 };
        all.push(NamespaceId(1), &first, xxh3_64(b"a"), None);
        all.push(NamespaceId(1), &second, xxh3_64(b"much longer"), Some(&produced));
        assert_eq!((all.len(), all.bytes_from(0), all.bytes_from(2)), (2, all.len_bytes(), 0));
        let mut copy = Operations::default();
        for (index, op) in [first, second].iter().enumerate() {
            let (record, hash) = all.get(index).unwrap();
            assert_eq!(hash, xxh3_64(op.key));
            let (it, rest) = split_operation(record).unwrap();
            assert_eq!((it.op, it.produced.is_some(), rest.len()), (*op, index == 1, 0));
            copy.push_record(record, hash);
            assert_eq!(copy.get(index), all.get(index));
        }
        assert_eq!((all.get(2), copy.len_bytes()), (None, all.len_bytes()));
    }
}
