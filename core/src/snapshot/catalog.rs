//! Which objects hold the newest entry of which partition: so which of them a manifest has to name,
//! and which are hardly worth it.
//!
//! A partition that nothing touches keeps its entry where it was written long ago. An object stays
//! as long as it holds such an entry; once it is mostly outdated, what is left of it is better
//! written again ([`Catalog::stragglers`]), or old objects would pile up for a few keys each.

use super::manifest::ObjectRef;
use super::object::{Entry, EntryKind};
use crate::key_group::KeyGroup;
use crate::output::NamespaceId;
use std::collections::{BTreeMap, BTreeSet};

type PartitionKey = (NamespaceId, KeyGroup);

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    /// By when they were added.
    objects: BTreeMap<u64, Held>,
    next: u64,
    newest: BTreeMap<PartitionKey, Place>,
}

#[derive(Debug, Clone)]
struct Held {
    object: ObjectRef,
    /// Bytes of all entries, and of those that are the newest of their partition.
    bytes: u64,
    live: u64,
    /// How many are the newest of their partition.
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    object: u64,
    length: u64,
}

impl Catalog {
    /// Takes an object in, newer than all before it.
    pub(crate) fn add(&mut self, object: ObjectRef, entries: &[Entry]) {
        let number = self.next;
        self.next += 1;
        let bytes = entries.iter().map(|entry| entry.length).sum();
        self.objects.insert(number, Held { object, bytes, live: 0, count: 0 });
        for entry in entries {
            if let EntryKind::Partition { namespace, group, .. } = entry.kind {
                let place = Place { object: number, length: entry.length };
                let before = self.newest.insert((namespace, group), place);
                self.move_live(before, Some(place));
            }
        }
    }

    /// There are no namespaces but these: nothing of others is needed any more.
    pub(crate) fn keep_namespaces(&mut self, known: &BTreeSet<NamespaceId>) {
        let all = self.newest.keys();
        let gone = all.filter(|(namespace, _)| !known.contains(namespace)).copied().collect();
        self.drop_all(gone);
    }

    /// Nothing but these partitions is needed any more.
    pub(super) fn keep(&mut self, known: &BTreeSet<(NamespaceId, KeyGroup)>) {
        let gone = self.newest.keys().filter(|key| !known.contains(key)).copied().collect();
        self.drop_all(gone);
    }

    fn drop_all(&mut self, gone: Vec<PartitionKey>) {
        for key in gone {
            let before = self.newest.remove(&key);
            self.move_live(before, None);
        }
    }

    /// The objects that a manifest has to name beside those of its own checkpoint, oldest first;
    /// the others are let go.
    pub(crate) fn take_needed(&mut self) -> Vec<ObjectRef> {
        self.objects.retain(|_, held| held.count > 0);
        self.objects.values().map(|held| held.object.clone()).collect()
    }

    /// The partitions in objects that are outdated by more than `percent` of their bytes, and, if
    /// there are more than `count_max` objects, in those with the least in them: written again, they
    /// let those objects go.
    pub(crate) fn stragglers(
        &self,
        percent: u64,
        count_max: usize,
    ) -> BTreeSet<(NamespaceId, KeyGroup)> {
        let is_outdated = |held: &Held| {
            let outdated = (held.bytes - held.live) as u128;
            outdated * 100 > held.bytes as u128 * percent as u128
        };
        let mut emptied: BTreeSet<u64> = BTreeSet::new();
        emptied.extend(self.objects.iter().filter(|(_, it)| is_outdated(it)).map(|(at, _)| *at));
        if self.objects.len() > count_max {
            let mut by_live: Vec<(u64, u64)> =
                self.objects.iter().map(|(number, held)| (held.live, *number)).collect();
            by_live.sort_unstable();
            by_live.truncate(self.objects.len() - count_max / 2);
            emptied.extend(by_live.into_iter().map(|(_, number)| number));
        }
        let newest = self.newest.iter().filter(|(_, place)| emptied.contains(&place.object));
        newest.map(|(key, _)| *key).collect()
    }

    fn move_live(&mut self, from: Option<Place>, to: Option<Place>) {
        if let Some(Place { object, length }) = from
            && let Some(held) = self.objects.get_mut(&object)
        {
            held.live -= length;
            held.count -= 1;
        }
        if let Some(Place { object, length }) = to
            && let Some(held) = self.objects.get_mut(&object)
        {
            held.live += length;
            held.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_group::LaneIndex;
    use crate::snapshot::ObjectName;

    fn add(catalog: &mut Catalog, number: u32, partitions: &[(u64, u16, u64)]) {
        let name = ObjectName { epoch: 1, checkpoint: 1, number };
        let lane = LaneIndex(0);
        let head = Entry { kind: EntryKind::LaneHead { lane, position: 1 }, keys: 0, length: 10 };
        let entries = partitions.iter().map(|(namespace, group, length)| {
            let (namespace, group) = (NamespaceId(*namespace), KeyGroup(*group));
            let kind = EntryKind::Partition { namespace, group, position: 1 };
            Entry { kind, keys: 1, length: *length }
        });
        let entries: Vec<Entry> = entries.chain([head]).collect();
        catalog.add(ObjectRef::new(name, 1, 1), &entries);
    }

    fn needed(catalog: &mut Catalog) -> Vec<u32> {
        let needed = catalog.take_needed();
        let names = needed.iter().map(|object| ObjectName::parse(&object.name).expect("a name"));
        names.map(|name| name.number).collect()
    }

    #[test]
    fn an_object_stays_while_it_holds_what_is_newest() {
        let mut catalog = Catalog::default();
        add(&mut catalog, 0, &[(1, 0, 90), (1, 1, 10), (2, 0, 0)]);
        add(&mut catalog, 1, &[(1, 0, 90)]);
        assert_eq!(needed(&mut catalog), [0, 1]);
        let (one, two) = (NamespaceId(1), NamespaceId(2));
        let both = BTreeSet::from([(one, KeyGroup(1)), (two, KeyGroup(0))]);
        assert_eq!(catalog.stragglers(50, 2), both);
        assert_eq!(catalog.stragglers(95, 2), BTreeSet::new());
        assert_eq!(catalog.stragglers(95, 1).len(), 3, "too many: all but none are emptied");
        add(&mut catalog, 2, &[(1, 1, 20), (1, 1, 30)]);
        assert_eq!(needed(&mut catalog), [0, 1, 2], "an empty entry is an entry");
        catalog.keep_namespaces(&BTreeSet::from([one]));
        assert_eq!(needed(&mut catalog), [1, 2]);
        catalog.keep_namespaces(&BTreeSet::from([two]));
        assert_eq!(needed(&mut catalog), [0; 0]);
    }
}
