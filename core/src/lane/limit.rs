//! The limit of a namespace's timers: what would go beyond it is refused before it has a position, so
//! that no record of it is left and a replay decides nothing.
//!
//! All lanes count in the namespace's gauge. Where there is a limit, a lane tells the gauge of each
//! operation at once, and of one that adds already before: two lanes cannot both take the last place.

use super::{HomeIndex, Lane, LaneNamespace, Shared};
use crate::error::Rejection;
use crate::key_group::KeyGroup;
use crate::log::KeyRecord;
use crate::op::Outcome;
use crate::time::Timestamp;
use std::sync::atomic::Ordering;

impl Lane {
    /// Applies an operation on a key, unless it would add a timer to the `limit` that there are.
    #[allow(clippy::too_many_arguments, reason = "an operation with what is known of it already")]
    pub(crate) fn apply_within(
        &mut self,
        shared: &mut Shared,
        limit: u64,
        home: HomeIndex,
        group: KeyGroup,
        hash: u64,
        record: &KeyRecord<'_>,
        bytes: &[u8],
        now: Timestamp,
    ) -> Outcome {
        let (index, first_group, groups) = (self.index, self.first_group, self.groups);
        let position = self.position;
        let it = self.home_mut(home);
        it.ensure_partition(group, first_group, groups);
        let adds = it.with_partition(shared, index, group, position, now, |partition, cx| {
            partition.would_add(cx, hash, record)
        });
        if adds && !it.set_aside(limit) {
            return Err(Rejection::TimersExceeded { limit });
        }
        let outcome = self.apply(shared, home, group, hash, record, bytes, now);
        let it = self.home_mut(home);
        it.publish_gauge();
        if adds {
            it.give_back();
        }
        outcome
    }
}

impl LaneNamespace {
    /// Sets room for one more timer aside, if there is some.
    fn set_aside(&mut self, limit: u64) -> bool {
        // What has fired here since the gauge was told has made room.
        self.publish_gauge();
        let gauge = self.gauge();
        // Acquire pairs with the release below: whoever sees a place given back sees what took it.
        let aside = gauge.reserved.fetch_add(1, Ordering::AcqRel);
        let pending: i64 = gauge.pending.iter().map(|it| it.load(Ordering::Acquire)).sum();
        let has_room = u64::try_from(pending + aside).is_ok_and(|held| held < limit);
        if !has_room {
            self.give_back();
        }
        has_room
    }

    fn give_back(&self) {
        self.gauge().reserved.fetch_sub(1, Ordering::AcqRel);
    }
}
