//! Operations on keys, as they come in: routed to their lanes, applied some at a time with the lines
//! that they need asked for ahead, and answered together.

use super::{Ack, OpsPart, Release, Shard};
use crate::key_group::{KeyGroup, xxh3_64};
use crate::keyed::Ahead;
use crate::lane::{HomeIndex, Lane};
use crate::log::{Peeked, Record, peek_operation, split_record};
use crate::op::Outcome;
use crate::partition::Partition;
use crate::time::Timestamp;

impl Shard {
    pub(super) fn apply_ops(&mut self, part: OpsPart, now: Timestamp) {
        let mut outcomes = Vec::with_capacity(part.count as usize);
        // Where the namespace stands in each lane: looked up once for the whole request.
        let homes: Vec<_> = self.lanes.iter().map(|lane| lane.find(part.namespace)).collect();
        let mut rest = &part.bytes[..];
        let mut ahead = Ahead::new();
        let mut is_last = false;
        while !is_last || !ahead.is_empty() {
            let ready =
                ahead.ask(&self.shared.pools, |it| self.partition_of(it).map(Partition::table));
            for _ in 0..Ahead::<Routed<'_>>::STEP {
                let Some(it) = peek_operation(rest) else {
                    is_last = true;
                    break;
                };
                rest = &rest[it.bytes.len()..];
                let (it, hash) = self.route(&it, &homes);
                let table = self.partition_of(&it).map(Partition::table);
                ahead.push(&self.shared.pools, table, it, hash);
            }
            for (it, hash) in (0..ready).map_while(|_| ahead.pop()) {
                outcomes.push(self.apply_one(&it, hash, part.limit, now));
            }
        }
        debug_assert_eq!(outcomes.len(), part.count as usize);
        let OpsPart { reply, ack, .. } = part;
        let release: Release = Box::new(move || reply(outcomes));
        match ack {
            Ack::Accepted => release(),
            Ack::Written => self.turn.written.push(release),
            Ack::Synced => self.turn.synced.releases.push(release),
        }
    }

    /// Where an operation goes, and the hash of its key.
    #[inline]
    fn route<'a>(&self, it: &Peeked<'a>, homes: &[Option<HomeIndex>]) -> (Routed<'a>, u64) {
        let hash = xxh3_64(it.key);
        let group = self.layout.group_of(hash);
        let place = self.place_of_group[group.0 as usize];
        (Routed { bytes: it.bytes, group, place, home: homes[place as usize] }, hash)
    }

    #[inline]
    fn partition_of(&self, it: &Routed<'_>) -> Option<&Partition> {
        self.lanes[it.place as usize].partition(it.home?, it.group)
    }

    #[inline]
    fn apply_one(
        &mut self,
        it: &Routed<'_>,
        hash: u64,
        limit: Option<u64>,
        now: Timestamp,
    ) -> Outcome {
        let Routed { bytes, group, place, home } = *it;
        let Some(home) = home else { return Lane::UNKNOWN };
        let Some((Record::Key(record), _)) = split_record(bytes) else {
            unreachable!("it was looked at when it was set on its way");
        };
        let (lane, shared) = (&mut self.lanes[place as usize], &mut self.shared);
        match limit {
            None => lane.apply(shared, home, group, hash, &record, bytes, now),
            Some(limit) => lane.apply_within(shared, limit, home, group, hash, &record, bytes, now),
        }
    }
}

/// An operation on its way to its lane.
struct Routed<'a> {
    bytes: &'a [u8],
    group: KeyGroup,
    place: u16,
    home: Option<HomeIndex>,
}
