//! Operations on keys, as they come in: routed to their lanes, applied some at a time with the lines
//! that they need asked for ahead, and answered together.

use super::held::Waiting;
use super::{Ack, OpsPart, Release, Shard};
use crate::key_group::KeyGroup;
use crate::keyed::{Ahead, OnItsWay};
use crate::lane::HomeIndex;
use crate::log::split_operation;
use crate::op::Outcome;
use crate::partition::{Course, Partition};
use crate::prefetch::prefetch;
use crate::time::Timestamp;

/// A part that is worked through.
pub(super) struct UnderWay {
    part: OpsPart,
    course: Course,
    applied: usize,
    outcomes: Vec<Outcome>,
    waiting: Waiting,
    /// It has emitted too much: it waits while outputs are held.
    is_loud: bool,
}

impl Shard {
    /// Goes on with a part that was too much for a turn.
    pub(super) fn apply_rest(&mut self, now: Timestamp) {
        if self.has_rest_to_do()
            && let Some(it) = self.rest.take()
        {
            // Its room was taken when it came.
            let cost = it.part.ops.bytes_from(it.applied) as u64;
            self.room.log_bytes = self.room.log_bytes.saturating_sub(cost);
            self.shared.course = it.course;
            self.work_through(it, now);
        }
    }

    /// Whether something is left of a part that need not wait. Behind the mark of a savepoint nothing
    /// is taken in, be it half done.
    pub(super) fn has_rest_to_do(&self) -> bool {
        let may_go_on = |it: &UnderWay| !it.is_loud || !self.room.are_outputs_held;
        self.rest.as_ref().is_some_and(may_go_on) && !self.is_marked()
    }

    /// Applies operations; what is left when they are too many for a turn, or have emitted too much,
    /// waits for the next.
    pub(super) fn apply_ops(&mut self, part: OpsPart, now: Timestamp) {
        let outcomes = Vec::with_capacity(part.ops.len());
        let (course, applied, waiting) = (self.shared.course, 0, Waiting::default());
        let is_loud = false;
        self.work_through(UnderWay { part, course, applied, outcomes, waiting, is_loud }, now);
    }

    fn work_through(&mut self, mut it: UnderWay, now: Timestamp) {
        let UnderWay { part, applied, outcomes, waiting, is_loud, .. } = &mut it;
        let OpsPart { namespace, ops, limit, .. } = &*part;
        // Where the namespace stands in each lane: looked up once for the whole request.
        let homes: Vec<_> = self.lanes.iter().map(|lane| lane.find_open(*namespace)).collect();
        let mut next = *applied;
        let last = applied.saturating_add(self.pace.ops as usize);
        let (mut ahead, mut ready) = (Ahead::new(), Vec::new());
        let mut is_enough = false;
        while !is_enough && *applied < ops.len() {
            ahead.step(&self.shared.pools, &mut ready);
            for _ in 0..Ahead::<Routed<'_>>::STEP {
                let Some((record, hash)) = ops.get(next) else { break };
                next += 1;
                let it = self.route(record, hash, &homes);
                let table = self.partition_of(&it).map(Partition::table);
                ahead.push(&self.shared.pools, table, it, hash);
            }
            for OnItsWay { it, hash, .. } in &ready {
                let outcome = self.apply_one(it, *hash, *limit, now);
                if let Some(until) = Self::held_until(&outcome, now) {
                    waiting.push(outcomes.len(), it.record, *hash, until);
                }
                outcomes.push(outcome);
                *applied += 1;
                *is_loud = self.shared.scratch.emitted_bytes() > self.emitted_max;
                is_enough = *is_loud || *applied == last;
                if is_enough {
                    break;
                }
            }
        }
        if *applied < ops.len() {
            self.rest = Some(it);
            return;
        }
        let UnderWay { part, outcomes, waiting, .. } = it;
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

    /// Where an operation goes.
    #[inline]
    fn route<'a>(&self, record: &'a [u8], hash: u64, homes: &[Option<HomeIndex>]) -> Routed<'a> {
        // It lies in the cache of the thread that wrote it.
        record.first().map(prefetch);
        let group = self.layout.group_of(hash);
        let place = self.place_of_group[group.0 as usize];
        Routed { record, group, place, home: homes[place as usize] }
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
        let Routed { record: bytes, group, place, home } = *it;
        let Some((record, _)) = &split_operation(bytes) else {
            unreachable!("it was written down as an operation");
        };
        let (lane, shared) = (&mut self.lanes[place as usize], &mut self.shared);
        let Some(home) = home else { return Err(lane.refusal(record.namespace)) };
        match limit {
            None => lane.apply(shared, home, group, hash, record, bytes, now),
            Some(limit) => lane.apply_within(shared, limit, home, group, hash, record, bytes, now),
        }
    }
}

/// An operation on its way to its lane.
struct Routed<'a> {
    record: &'a [u8],
    group: KeyGroup,
    place: u16,
    home: Option<HomeIndex>,
}
