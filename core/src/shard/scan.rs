//! Listing by due time: a walk over all keys of a namespace, in slices, that keeps the first page
//! of what it meets. Rare, and never on the hot path: one at a time.

use super::message::Reply;
use crate::error::Rejection;
use crate::keyed::Pools;
use crate::lane::{Lane, LaneNamespace, view};
use crate::output::NamespaceId;
use crate::query::{ListPage, ListPosition, ListQuery};
use crate::time::Domain;
use std::collections::BTreeMap;

/// See the module.
pub(super) struct Scan {
    namespace: NamespaceId,
    query: ListQuery,
    reply: Reply<Result<ListPage, Rejection>>,
    /// The first ones met so far, at most one more than a page.
    found: BTreeMap<ListPosition, crate::op::TimerView>,
    lane: usize,
    partition: usize,
    bucket: usize,
    is_known: bool,
}

impl Scan {
    pub(super) fn new(
        namespace: NamespaceId,
        query: ListQuery,
        reply: Reply<Result<ListPage, Rejection>>,
    ) -> Self {
        let found = BTreeMap::new();
        let (lane, partition, bucket) = (0, 0, 0);
        Self { namespace, query, reply, found, lane, partition, bucket, is_known: false }
    }

    /// Walks on, spending about one of `budget` for each key. Returns whether it has met all.
    pub(super) fn go_on(&mut self, lanes: &[Lane], pools: &Pools, budget: &mut u32) -> bool {
        while let Some(lane) = lanes.get(self.lane) {
            let home = lane.find(self.namespace).map(|home| lane.home(home));
            self.is_known |= home.is_some();
            let partitions = home.map_or(&[][..], LaneNamespace::partitions);
            let Some((home, partition)) = home.zip(partitions.get(self.partition)) else {
                self.lane += 1;
                self.partition = 0;
                continue;
            };
            if self.bucket >= partition.table().visit_len() {
                self.partition += 1;
                self.bucket = 0;
                continue;
            }
            if *budget == 0 {
                return false;
            }
            let mut visited = 1;
            pools.visit(partition.table(), self.bucket, |slot| {
                visited += 1;
                self.meet(home, pools, slot);
            });
            *budget = budget.saturating_sub(visited);
            self.bucket += 1;
        }
        true
    }

    fn meet(&mut self, home: &LaneNamespace, pools: &Pools, slot: crate::keyed::SlotIndex) {
        let Self { query, found, .. } = self;
        if !pools.key(slot).starts_with(&query.key_prefix) {
            return;
        }
        for domain in Domain::ALL {
            if query.domain.is_some_and(|wanted| wanted != domain) {
                continue;
            }
            home.for_each_pending(pools, slot, domain, |cell| {
                if cell.time < query.due_after
                    || query.due_before.is_some_and(|before| cell.time >= before)
                    || found.len() > query.limit
                        && found.last_key_value().is_some_and(|(last, _)| last.fire_at < cell.time)
                {
                    return;
                }
                let timer = view(pools, slot, domain, cell);
                let position = ListPosition::of(&timer);
                if query.after.as_ref().is_some_and(|after| position <= *after) {
                    return;
                }
                found.insert(position, timer);
                if found.len() > query.limit + 1 {
                    found.pop_last();
                }
            });
        }
    }

    /// Answers.
    pub(super) fn finish(self) {
        let Self { query, reply, found, is_known, .. } = self;
        if !is_known {
            reply(Err(Rejection::NamespaceUnknown));
            return;
        }
        let more = found.len() > query.limit;
        let timers = found.into_values().take(query.limit).collect();
        reply(Ok(ListPage { timers, more }));
    }
}
