//! What old partitions remember of producers, told to new ones after the key groups have changed.
//!
//! A key of the new group `g` may have belonged to every old group that leaves the same rest when
//! divided by the greatest common divisor of both numbers of groups. Where that is one, it knows
//! exactly what was taken, and so do all that come of it. Where it is several, they may be at
//! different places in the newest batch of a producer: some of its shards had taken their part of it
//! at the cut, others not. Then that batch counts as not taken: what is sent again of it may be taken
//! twice, and nothing is lost.

use crate::key_group::KeyGroup;
use crate::limits::PRODUCERS_MAX;
use crate::output::NamespaceId;
use crate::snapshot::Producer;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub(super) struct OldProducers {
    old: BTreeMap<(NamespaceId, u16), Vec<Producer>>,
    groups: u16,
    divisor: u16,
    /// The newest batch of each producer anywhere in a namespace.
    newest: BTreeMap<(NamespaceId, String), u64>,
}

impl OldProducers {
    /// Nothing yet, between so many old and new key groups.
    pub(super) fn new(old: u16, new: u16) -> Self {
        let divisor = divisor(old, new);
        Self { old: BTreeMap::new(), groups: old, divisor, newest: BTreeMap::new() }
    }

    /// Takes in what an old partition remembers.
    pub(super) fn insert(
        &mut self,
        namespace: NamespaceId,
        group: KeyGroup,
        producers: &[Producer],
    ) {
        if producers.is_empty() {
            return;
        }
        for (name, sequence, _) in producers {
            let newest = self.newest.entry((namespace, name.clone())).or_default();
            *newest = (*newest).max(*sequence);
        }
        self.old.insert((namespace, group.0), producers.to_vec());
    }

    /// The namespaces that know producers.
    pub(super) fn namespaces(&self) -> BTreeSet<NamespaceId> {
        self.old.keys().map(|(namespace, _)| *namespace).collect()
    }

    fn sources(
        &self,
        namespace: NamespaceId,
        group: KeyGroup,
    ) -> impl Iterator<Item = &Vec<Producer>> {
        let first = group.0 % self.divisor;
        let groups = (first..self.groups).step_by(self.divisor as usize);
        groups.filter_map(move |group| self.old.get(&(namespace, group)))
    }

    /// Whether a new partition has producers to remember.
    pub(super) fn has_some(&self, namespace: NamespaceId, group: KeyGroup) -> bool {
        self.sources(namespace, group).next().is_some()
    }

    /// What a new partition remembers.
    pub(super) fn merged(&self, namespace: NamespaceId, group: KeyGroup) -> Vec<Producer> {
        let is_exact = self.divisor == self.groups;
        let mut merged: Vec<Producer> = Vec::new();
        for (name, sequence, index) in self.sources(namespace, group).flatten() {
            let mut mark = (*sequence, *index);
            let newest = self.newest.get(&(namespace, name.clone())).copied().unwrap_or_default();
            if !is_exact && *sequence == newest {
                let Some(before) = sequence.checked_sub(1) else { continue };
                mark = (before, u32::MAX);
            }
            match merged.iter_mut().find(|known| known.0 == *name) {
                Some((_, sequence, index)) => {
                    (*sequence, *index) = mark.max((*sequence, *index));
                }
                None => merged.push((name.clone(), mark.0, mark.1)),
            }
        }
        let excess = merged.len().saturating_sub(PRODUCERS_MAX);
        merged.split_off(excess)
    }
}

fn divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: u16, new: u16, group: u16, expected: &[(&str, u64, u32)]) {
        let namespace = NamespaceId(7);
        let mut it = OldProducers::new(old, new);
        let of = |name: &str, sequence, index| (name.to_owned(), sequence, index);
        it.insert(namespace, KeyGroup(0), &[of("a", 5, 2), of("b", 1, 1)]);
        it.insert(namespace, KeyGroup(2), &[of("a", 6, 0)]);
        it.insert(namespace, KeyGroup(3), &[of("a", 4, 9)]);
        let merged = it.merged(namespace, KeyGroup(group));
        let merged: Vec<_> =
            merged.iter().map(|(name, at, index)| (&**name, *at, *index)).collect();
        assert_eq!(merged, expected);
        assert_eq!(it.has_some(namespace, KeyGroup(group)), !expected.is_empty());
    }

    #[test]
    fn split_groups_know_exactly_and_joined_ones_nothing_of_the_newest_batch() {
        check(4, 8, 0, &[("a", 5, 2), ("b", 1, 1)]);
        check(4, 8, 6, &[("a", 6, 0)]);
        check(4, 4, 3, &[("a", 4, 9)]);
        check(4, 12, 1, &[]);
        check(4, 2, 0, &[("a", 5, u32::MAX), ("b", 0, u32::MAX)]);
        check(4, 2, 1, &[("a", 4, 9)]);
        check(4, 3, 2, &[("a", 5, u32::MAX), ("b", 0, u32::MAX)]);
    }
}
