//! What a shard counts, in plain numbers of its own; the runtime publishes them for scrapes.

use crate::namespace::OverduePolicy;
use crate::op::ResultKind;

/// Counters of a shard since it started. Arrays over domains are [event, processing].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stats {
    /// Registrations and touches, by domain and result.
    pub(crate) registered: [[u64; ResultKind::ALL.len()]; 2],
    /// Timers cancelled.
    pub(crate) cancelled: u64,
    /// Timers fired, by domain.
    pub(crate) fired: [u64; 2],
    /// Timers that were due already when they were registered.
    pub(crate) overdue_at_registration: u64,
    /// Timers that were due at the restart, by what became of them, in the order of
    /// [`OverduePolicy::NAMES`].
    pub(crate) overdue_at_restart: [u64; OverduePolicy::NAMES.len()],
    /// Elements that a function has seen, and those at which it has failed for good.
    pub(crate) elements: [u64; 2],
    /// Elements that were late.
    pub(crate) late_elements: u64,
    /// Timers at which a function has failed for good.
    pub(crate) timers_failed: u64,
    /// Callbacks that were called again because they had failed.
    pub(crate) retries: u64,
    /// Timers that callbacks wanted at the final watermark, or at the end of the clock of a namespace
    /// that is closed: they could never be due.
    pub(crate) refused_at_the_end: u64,
    /// Functions that have panicked when they were closed.
    pub(crate) close_panics: u64,
    /// Processing timers that were cancelled because their namespace was closed.
    pub(crate) discarded: u64,
    /// Timers pending now, by domain.
    pub(crate) pending: [u64; 2],
    /// Keys held now.
    pub(crate) keys: u64,
    /// Namespaces at home here that have stopped.
    pub(crate) stopped: u64,
}
