//! What has been read of the fires, what was handed out, and what was acknowledged.

use super::Fire;
use super::acks::Acks;
use crate::output::Cursor;
use crate::time::Timestamp;
use std::collections::{BTreeSet, VecDeque};

/// See the module.
pub(super) struct Delivery {
    pub(super) acks: Acks,
    /// The log is read up to here.
    read_to: u64,
    /// Read, and not handed out.
    waiting: VecDeque<Fire>,
    /// Read and not acknowledged, handed out or not. Cursors may have gaps: the log holds what
    /// others emit, too.
    open: BTreeSet<u64>,
}

impl Delivery {
    pub(super) fn new(acks: Acks) -> Self {
        let read_to = acks.floor();
        Self { acks, read_to, waiting: VecDeque::new(), open: BTreeSet::new() }
    }

    pub(super) const fn read_to(&self) -> Cursor {
        Cursor(self.read_to)
    }

    /// Takes in what the log holds up to `last`.
    pub(super) fn take_in(&mut self, last: Cursor, fires: impl Iterator<Item = Fire>) {
        for fire in fires {
            if !self.acks.contains(fire.cursor) {
                self.open.insert(fire.cursor);
                self.waiting.push_back(fire);
            }
        }
        self.read_to = self.read_to.max(last.0);
    }

    /// The next one that is not acknowledged (which may have happened after it was read again).
    pub(super) fn hand_out(&mut self) -> Option<Fire> {
        loop {
            let fire = self.waiting.pop_front()?;
            if self.open.contains(&fire.cursor) {
                return Some(fire);
            }
        }
    }

    /// Those due at or before this time, by (time, key, name).
    pub(super) fn hand_out_until(&mut self, now: Timestamp) -> Vec<Fire> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (mut due, later): (Vec<_>, Vec<_>) = waiting.partition(|fire| fire.fire_at() <= now);
        self.waiting = later.into();
        due.retain(|fire| self.open.contains(&fire.cursor));
        // Stable: what fired twice of one timer stays in its order.
        due.sort_by(|a, b| (a.fire_at(), a.key(), a.name()).cmp(&(b.fire_at(), b.key(), b.name())));
        due
    }

    /// These were handled.
    pub(super) fn acknowledge(&mut self, cursors: &[u64]) {
        for cursor in cursors {
            self.open.remove(cursor);
        }
        let floor = self.open.first().map_or(self.read_to, |first| first - 1);
        self.acks.raise(floor);
        for cursor in cursors {
            self.acks.insert(*cursor);
        }
    }

    /// Begins again behind what is acknowledged.
    pub(super) fn rewind(&mut self) {
        self.waiting.clear();
        self.open.clear();
        self.read_to = self.acks.floor();
    }
}
