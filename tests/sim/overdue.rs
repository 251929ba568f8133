//! What a restart holds back of a key, as the oracle has it.
//!
//! A lane decides about all that is due at a restart at once, before it lets more time pass. A key that
//! has nothing due then is not concerned: what is registered for it later and stands behind nothing
//! that is held fires when its time comes.

use stormwheel::namespace::OverduePolicy;

/// Restarts that the engine tells apart; with more, it takes some of them together.
pub(crate) const RESTARTS_MAX: usize = 8;

/// A time in which nothing could fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Downtime {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// What one restart holds back of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hold {
    pub(crate) until: i64,
    later_ms: i64,
    not_before: i64,
}

impl Downtime {
    /// None, if no time was lost.
    pub(crate) fn new(from: i64, to: i64) -> Option<Self> {
        (from < to).then_some(Self { from, to })
    }

    /// When all is let go that this policy holds back.
    pub(crate) fn last_release(&self, policy: OverduePolicy) -> i64 {
        match policy {
            OverduePolicy::Fire | OverduePolicy::Drop => self.to,
            OverduePolicy::Shift => self.to.saturating_add(self.to - self.from),
            OverduePolicy::Spread { over_ms } => self.to.saturating_add(over_ms),
        }
    }
}

impl Hold {
    /// What a policy holds back of the key with this hash.
    pub(crate) fn new(policy: OverduePolicy, down: Downtime, hash: u64) -> Option<Self> {
        let Downtime { from, to } = down;
        match policy {
            OverduePolicy::Fire | OverduePolicy::Drop => None,
            OverduePolicy::Shift => {
                Some(Self { until: to, later_ms: to - from, not_before: i64::MIN })
            }
            OverduePolicy::Spread { over_ms } => {
                let share = (u128::from(hash) * (over_ms as u128 + 1)) >> 64;
                Some(Self { until: to, later_ms: 0, not_before: to + share as i64 })
            }
        }
    }

    /// When a timer is let go that would go at this time without it.
    pub(crate) fn release(&self, time: i64) -> i64 {
        if time > self.until {
            return time;
        }
        time.saturating_add(self.later_ms).max(self.not_before)
    }
}
