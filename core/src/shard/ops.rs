//! Operations on keys, as they come in: routed to their lanes, applied some at a time with the lines
//! that they need asked for ahead, and answered together.

use super::held::Waiting;
use super::{Ack, OpsPart, Release, Shard};
use crate::key_group::{KeyGroup, xxh3_64};
use crate::lane::{HomeIndex, Lane};
use crate::log::{Record, peek_key, split_record};
use crate::op::Outcome;
use crate::partition::Partition;
use crate::time::Timestamp;

/// Operations whose lines are asked for together.
const AHEAD_OPS: usize = 32;

impl Shard {
    pub(super) fn apply_ops(&mut self, part: OpsPart, now: Timestamp) {
        let mut outcomes = Vec::with_capacity(part.count as usize);
        // Where the namespace stands in each lane: looked up once for the whole request.
        let homes: Vec<_> = self.lanes.iter().map(|lane| lane.find(part.namespace)).collect();
        let mut waiting = Waiting::default();
        let mut rest = &part.bytes[..];
        let mut ahead = Vec::with_capacity(AHEAD_OPS);
        while !rest.is_empty() {
            while ahead.len() < AHEAD_OPS
                && let Some((key, bytes)) = peek_key(rest)
            {
                ahead.push(self.look_ahead(key, bytes, &homes));
                rest = &rest[bytes.len()..];
            }
            self.apply_ahead(&ahead, part.limit, now, &mut outcomes, &mut waiting);
            ahead.clear();
        }
        debug_assert_eq!(outcomes.len(), part.count as usize);
        let Some((part, outcomes)) = self.answer_or_hold(part, waiting, outcomes) else {
            return;
        };
        let OpsPart { reply, ack, .. } = part;
        let release: Release = Box::new(move || reply(outcomes));
        match ack {
            Ack::Accepted => release(),
            Ack::Written => self.turn.written.push(release),
            Ack::Synced => self.turn.synced.releases.push(release),
        }
    }

    /// Finds out where an operation goes and asks for the first line it needs.
    #[inline]
    fn look_ahead<'a>(
        &self,
        key: &[u8],
        bytes: &'a [u8],
        homes: &[Option<HomeIndex>],
    ) -> Ahead<'a> {
        let hash = xxh3_64(key);
        let group = self.layout.group_of(hash);
        let place = self.place_of_group[group.0 as usize];
        let home = homes[place as usize];
        let it = Ahead { bytes, hash, group, place, home };
        if let Some(partition) = self.partition_of(&it) {
            self.shared.pools.prefetch_table(partition.table(), hash);
        }
        it
    }

    #[inline]
    fn partition_of(&self, it: &Ahead<'_>) -> Option<&Partition> {
        self.lanes[it.place as usize].partition(it.home?, it.group)
    }

    #[inline]
    fn apply_ahead(
        &mut self,
        ahead: &[Ahead<'_>],
        limit: Option<u64>,
        now: Timestamp,
        outcomes: &mut Vec<Outcome>,
        waiting: &mut Waiting,
    ) {
        for it in ahead {
            if let Some(partition) = self.partition_of(it) {
                self.shared.pools.prefetch_guess(partition.table(), it.hash);
            }
        }
        for Ahead { bytes, hash, group, place, home } in ahead {
            let Some((Record::Key(record), _)) = split_record(bytes) else { return };
            let lane = &mut self.lanes[*place as usize];
            let shared = &mut self.shared;
            let outcome = match (home, limit) {
                (None, _) => Lane::UNKNOWN,
                (Some(home), None) => lane.apply(shared, *home, *group, *hash, &record, bytes, now),
                (Some(home), Some(limit)) => {
                    lane.apply_within(shared, limit, *home, *group, *hash, &record, bytes, now)
                }
            };
            if let Some(until) = Self::held_until(&outcome, now) {
                waiting.push(outcomes.len(), bytes, until);
            }
            outcomes.push(outcome);
        }
    }
}

/// An operation whose lines have been asked for.
struct Ahead<'a> {
    bytes: &'a [u8],
    hash: u64,
    group: KeyGroup,
    place: u16,
    home: Option<HomeIndex>,
}
