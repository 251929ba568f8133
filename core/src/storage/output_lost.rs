//! What went of the output log with its segments: of each namespace the last record.
//!
//! Before segments leave, this is written as the body of marks. So a start knows who missed what: a
//! namespace of which nothing went has no gap, however far the log has moved on. A log that had no
//! room for it has the end of what went only, and then any namespace may have lost something.
//!
//! ```text
//! upto u64, then for each namespace: namespace u64 | last record u64
//! ```
//!
//! Of several marks only the last names `upto`; in the others it is 0. So those of which the last is
//! missing are not taken for all of it.

use crate::output::{Cursor, NamespaceId};
use std::collections::BTreeMap;

const HEAD_BYTES: usize = 8;
const ENTRY_BYTES: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// What went at or before it is known.
    upto: Cursor,
    /// What lies at or before it may have gone, of whatever namespace.
    blurred: Cursor,
    by_namespace: BTreeMap<NamespaceId, Cursor>,
}

impl Lost {
    /// Whether so many bytes can be the body of a mark.
    pub(super) const fn fits(length: usize) -> bool {
        length == 0 || (length >= HEAD_BYTES && (length - HEAD_BYTES).is_multiple_of(ENTRY_BYTES))
    }

    /// Takes in what a mark says.
    pub(super) fn read(&mut self, body: &[u8]) {
        let number = |bytes: &[u8]| {
            bytes.first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes))
        };
        let (upto, entries) = body.split_at(body.len().min(HEAD_BYTES));
        self.upto = self.upto.max(Cursor(number(upto)));
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let (namespace, gone) = (NamespaceId(number(entry)), Cursor(number(&entry[8..])));
            let known = self.by_namespace.entry(namespace).or_insert(gone);
            *known = gone.max(*known);
        }
    }

    /// All that went lies at or before `base`.
    pub(super) fn bound(&mut self, base: Cursor) {
        if base > self.upto {
            self.blurred = base;
        }
    }

    /// The last record of a namespace that went, or may have gone; 0: none did.
    pub(super) fn of(&self, namespace: NamespaceId) -> Cursor {
        let known = self.by_namespace.get(&namespace).copied().unwrap_or_default();
        known.max(self.blurred)
    }
}

/// The bodies of the marks that say what went up to a cursor, each of some `bytes_max` bytes.
pub(super) fn bodies(
    upto: Cursor,
    entries: &[(NamespaceId, Cursor)],
    bytes_max: usize,
) -> Vec<Vec<u8>> {
    let per_body = (bytes_max.saturating_sub(HEAD_BYTES) / ENTRY_BYTES).max(1);
    let pieces = entries.len().div_ceil(per_body).max(1);
    let body = |piece: usize| {
        let upto = if piece + 1 == pieces { upto } else { Cursor(0) };
        let mut body = upto.0.to_le_bytes().to_vec();
        for (namespace, gone) in entries.iter().skip(piece * per_body).take(per_body) {
            body.extend_from_slice(&namespace.0.to_le_bytes());
            body.extend_from_slice(&gone.0.to_le_bytes());
        }
        body
    };
    (0..pieces).map(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_known_once_all_of_it_was_read_and_else_blurred() {
        let entries: Vec<_> = (1..=10).map(|n| (NamespaceId(n), Cursor(100 + n))).collect();
        let bodies = bodies(Cursor(200), &entries, 8 + 3 * 16);
        assert_eq!(bodies.iter().map(Vec::len).collect::<Vec<_>>(), [56, 56, 56, 24]);
        assert!(bodies.iter().all(|body| Lost::fits(body.len())) && !Lost::fits(57));
        for read in 0..=bodies.len() {
            let mut lost = Lost::default();
            for body in &bodies[..read] {
                lost.read(body);
            }
            lost.bound(Cursor(200));
            let is_whole = read == bodies.len();
            let expected = if is_whole { [101, 110, 0] } else { [200; 3] };
            assert_eq!([1, 10, 11].map(|n| lost.of(NamespaceId(n)).0), expected);
        }
        let mut lost = Lost::default();
        for body in &bodies {
            lost.read(body);
        }
        lost.bound(Cursor(201));
        assert_eq!(lost.of(NamespaceId(11)), Cursor(201), "more went than was written down");
    }
}
