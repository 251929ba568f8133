//! What can be read without changing anything.

use crate::op::TimerView;
use crate::time::{Domain, Timestamp};

/// A page of pending timers, by (`fire_at`, key, name, domain).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only timers of this domain; `None`: both.
    pub domain: Option<Domain>,
    /// Only timers due at or after this.
    pub due_after: Timestamp,
    /// Only timers due before this; `None`: no bound.
    pub due_before: Option<Timestamp>,
    /// Only keys that start so.
    pub key_prefix: Vec<u8>,
    /// Only timers that sort after this one: where the last page ended.
    pub after: Option<ListPosition>,
    /// How many, at most.
    pub limit: usize,
}

/// Where a timer stands in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListPosition {
    /// When it is due.
    pub fire_at: Timestamp,
    /// Its key.
    pub key: Vec<u8>,
    /// Its name; unnamed ones first.
    pub name: Option<String>,
    /// Its domain.
    pub domain: Domain,
}

impl ListPosition {
    /// Where this timer stands.
    pub fn of(timer: &TimerView) -> Self {
        Self {
            fire_at: timer.fire_at,
            key: timer.key.clone(),
            name: timer.name.clone(),
            domain: timer.domain,
        }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// The timers, in order.
    pub timers: Vec<TimerView>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// How many timers fall due in each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForecastQuery {
    /// Of which domain.
    pub domain: Domain,
    /// From this time on.
    pub from: Timestamp,
    /// The width of a step in milliseconds, a multiple of [`FORECAST_STEP_MS`].
    pub step_ms: i64,
    /// How many steps.
    pub steps: usize,
}

/// The finest step that counts are kept in; `from` is rounded down to a multiple of it.
pub const FORECAST_STEP_MS: i64 = 60_000;

/// The answer to a [`ForecastQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forecast {
    /// Timers due in each step.
    pub counts: Vec<u64>,
    /// Timers due before the first step.
    pub before: u64,
    /// Timers due after the last step.
    pub after: u64,
}
