//! What a scrape adds up: each shard counts in cells of its own, one writer, relaxed stores; the hot
//! path touches no shared counter.

use super::durability::{SYNC_BOUNDS_SECONDS, SyncHistogram};
use super::turn_times::TurnHistogram;
use crate::namespace::OverduePolicy;
use crate::op::ResultKind;
use crate::output::OutputBytes;
use crate::ports::MachineClock;
use crate::stats::Stats;
use crossbeam_utils::CachePadded;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// Upper bounds of the lateness buckets, in milliseconds.
pub const LATENESS_BOUNDS_MS: [f64; 14] =
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0, 1e3, 5e3, 60e3, 600e3, f64::INFINITY];

/// All figures of the engine at one moment. Arrays over domains are [event, processing].
#[derive(Debug, Clone, Default)]
pub struct EngineMetrics {
    /// Registrations and touches by domain and result, in the order of `ResultKind::ALL`.
    pub registered: [[u64; ResultKind::ALL.len()]; 2],
    /// Timers cancelled, over both domains.
    pub cancelled: u64,
    /// Timers fired, by domain.
    pub fired: [u64; 2],
    /// Timers pending, by domain.
    pub pending: [u64; 2],
    /// Processing timers pending and due within each bound.
    pub due_within: DueWithin,
    /// Timers that are due and have not fired yet.
    pub overdue: u64,
    /// Timers that were due already when they were registered.
    pub overdue_at_registration: u64,
    /// Timers that were due at the restart, by what became of them, in the order of
    /// [`OverduePolicy::NAMES`].
    pub overdue_at_restart: [u64; OverduePolicy::NAMES.len()],
    /// Processing timers that were cancelled because their namespace was closed.
    pub discarded: u64,
    /// What functions did.
    pub functions: FunctionMetrics,
    /// When the oldest timer that is due and not fired was due; `None`: there is none.
    pub oldest_due_ms: Option<i64>,
    /// Lateness of live processing-time fires on system clocks.
    pub lateness: LatenessHistogram,
    /// The same of timers that were due while the service was down.
    pub restart_lateness: LatenessHistogram,
    /// Output records emitted.
    pub outputs: u64,
    /// Bytes of outputs kept.
    pub output_log_bytes: u64,
    /// Keys held.
    pub keys: u64,
    /// Memory by part, in bytes.
    pub memory: Vec<(&'static str, u64)>,
    /// By shard.
    pub shards: Vec<ShardMetrics>,
}

/// What functions did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionMetrics {
    /// Elements that they have seen.
    pub processed: u64,
    /// Elements at which they have failed for good.
    pub failed: u64,
    /// Elements that were late.
    pub late: u64,
    /// Timers at which they have failed for good.
    pub timers_failed: u64,
    /// Callbacks that were called again because they had failed.
    pub retries: u64,
    /// Timers that callbacks wanted at the final watermark, or at the end of the clock of a namespace
    /// that is closed.
    pub refused_at_the_end: u64,
    /// Instances of functions that have panicked when they were closed.
    pub close_panics: u64,
    /// Namespaces that have stopped, now.
    pub stopped: u64,
}

impl FunctionMetrics {
    fn add(&mut self, stats: &Stats) {
        self.processed += stats.elements[0];
        self.failed += stats.elements[1];
        self.late += stats.late_elements;
        self.timers_failed += stats.timers_failed;
        self.retries += stats.retries;
        self.refused_at_the_end += stats.refused_at_the_end;
        self.close_panics += stats.close_panics;
        self.stopped += stats.stopped;
    }
}

/// Processing timers pending and due within 1 s, 10 s, 1 min, 10 min, 1 h, 1 d, and at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DueWithin {
    /// In the order of [`DueWithin::BOUNDS`].
    pub counts: [u64; 7],
}

impl DueWithin {
    /// The bounds and their names.
    pub const BOUNDS: [(&'static str, i64); 7] = [
        ("1s", 1_000),
        ("10s", 10_000),
        ("1m", 60_000),
        ("10m", 600_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("+Inf", i64::MAX),
    ];
}

/// A histogram of lateness: wall clock at release minus `fire_at`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LatenessHistogram {
    /// How many fires fell into each bucket (not cumulative), in the order of
    /// [`LATENESS_BOUNDS_MS`].
    pub counts: [u64; LATENESS_BOUNDS_MS.len()],
    /// The sum of all, in milliseconds.
    pub sum_ms: f64,
}

/// The figures of one shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShardMetrics {
    /// Requests waiting in its queue.
    pub queue_depth: u64,
    /// Bytes waiting in its queue.
    pub queue_bytes: u64,
    /// Seconds spent working.
    pub busy_seconds: f64,
    /// When it last went round, in seconds since the epoch.
    pub last_turn_seconds: f64,
    /// Requests refused because its queue was full.
    pub throttled: u64,
    /// How long its turns took.
    pub turns: TurnHistogram,
    /// The longest of them in the last minute or two, in seconds.
    pub longest_turn_seconds: f64,
}

impl LatenessHistogram {
    /// Counts a fire that was so many milliseconds late.
    #[inline]
    pub(super) fn observe(&mut self, lateness_ms: f64) {
        let bucket = LATENESS_BOUNDS_MS.partition_point(|bound| *bound < lateness_ms);
        self.counts[bucket.min(LATENESS_BOUNDS_MS.len() - 1)] += 1;
        self.sum_ms += lateness_ms;
    }
}

/// The cells of one shard: written by its thread, read by scrapes. Nothing is ordered by them.
#[derive(Debug, Default)]
pub(super) struct ShardCells {
    /// Bytes and requests in its queue: added at the door, taken off by the shard.
    pub(super) queue_bytes: CachePadded<AtomicUsize>,
    pub(super) queue_depth: CachePadded<AtomicUsize>,
    pub(super) throttled: AtomicU64,
    pub(super) is_alive: AtomicBool,
    /// When it last went round: by the time since the machine started, and by the real-time clock.
    pub(super) last_turn_boot_ms: AtomicI64,
    pub(super) last_turn_real_ms: AtomicI64,
    /// Turns that the committer has let go: all that went to it before are done.
    pub(super) turns_done: CachePadded<AtomicU64>,
    /// Bytes on their way to the journal, and bytes whose place in it is assured.
    pub(super) log_pending_bytes: CachePadded<AtomicU64>,
    pub(super) log_assured_bytes: AtomicU64,
    /// There is a file of its journal: not on a disk that is full since before the start.
    pub(super) has_journal: AtomicBool,
    /// Bytes that were appended to the journal since the start.
    pub(super) log_bytes: AtomicU64,
    /// Written once a turn, read by scrapes: never waited for by the shard.
    figures: Mutex<Figures>,
}

/// What a shard says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) stats: Stats,
    pub(super) busy_seconds: f64,
    pub(super) turns: TurnHistogram,
    pub(super) longest_turn_seconds: f64,
    pub(super) due_within: DueWithin,
    pub(super) overdue: u64,
    pub(super) oldest_due_ms: Option<i64>,
    pub(super) memory: Vec<(&'static str, u64)>,
}

impl ShardCells {
    /// Writes the figures down, unless somebody is reading just now: then the next turn does.
    pub(super) fn publish(&self, write: impl FnOnce(&mut Figures)) {
        if let Ok(mut figures) = self.figures.try_lock() {
            write(&mut figures);
        }
    }

    /// Writes down that the shard has gone round. By the machine's clocks: the adjusted one stands
    /// still if no shard looks at it, or if a leap is held.
    pub(super) fn went_round(&self, machine: &dyn MachineClock) {
        self.last_turn_boot_ms.store(machine.boottime_ms(), Ordering::Relaxed);
        self.last_turn_real_ms.store(machine.realtime_ms(), Ordering::Relaxed);
    }

    fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How late fires were.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Lateness {
    /// Those of timers whose time came while the service ran.
    pub(super) live: LatenessHistogram,
    /// The others.
    pub(super) restart: LatenessHistogram,
}

/// The cells of the engine as a whole. Nothing is ordered by them.
#[derive(Debug, Default)]
pub(super) struct EngineCells {
    lateness: Mutex<Lateness>,
    syncs: Mutex<SyncHistogram>,
    part_bytes: AtomicUsize,
}

impl EngineCells {
    /// Counts how late the fires of a block are, as they are released.
    pub(super) fn observe_lateness(&self, block: &OutputBytes, clock: &dyn MachineClock) {
        if !block.is_live {
            return;
        }
        let now = clock.realtime_micros();
        let mut lateness = self.lateness.lock().unwrap_or_else(PoisonError::into_inner);
        for (fire_at, is_restart) in block.waited_for() {
            let late = now.saturating_sub(fire_at.as_millis().saturating_mul(1_000)).max(0);
            let histogram = if is_restart { &mut lateness.restart } else { &mut lateness.live };
            histogram.observe(late as f64 / 1_000.0);
        }
    }

    /// Counts a sync.
    pub(super) fn observe_sync(&self, micros: i64) {
        let seconds = micros.max(0) as f64 / 1e6;
        let bucket = SYNC_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.counts[bucket.min(SYNC_BOUNDS_SECONDS.len() - 1)] += 1;
        syncs.sum_seconds += seconds;
    }

    /// A part of a snapshot is on its way to the store.
    pub(super) fn add_part(&self, bytes: usize) {
        self.part_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A part of a snapshot is with the store.
    pub(super) fn take_part(&self, bytes: usize) {
        self.part_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of snapshots on their way to the store.
    pub(super) fn part_bytes(&self) -> usize {
        self.part_bytes.load(Ordering::Relaxed)
    }

    /// How late fires were.
    pub(super) fn lateness(&self) -> Lateness {
        *self.lateness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long syncs took.
    pub(super) fn syncs(&self) -> SyncHistogram {
        *self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the shards up.
pub(super) fn sum<'a>(cells: impl Iterator<Item = &'a ShardCells>) -> EngineMetrics {
    let mut all = EngineMetrics::default();
    for cells in cells {
        let figures = cells.figures();
        let stats = figures.stats;
        let Stats { registered, cancelled, fired, overdue_at_registration, pending, keys, .. } =
            stats;
        for (sum, count) in all.overdue_at_restart.iter_mut().zip(stats.overdue_at_restart) {
            *sum += count;
        }
        for domain in 0..2 {
            for (sum, count) in all.registered[domain].iter_mut().zip(registered[domain]) {
                *sum += count;
            }
            all.fired[domain] += fired[domain];
            all.pending[domain] += pending[domain];
        }
        all.functions.add(&stats);
        all.cancelled += cancelled;
        all.discarded += stats.discarded;
        all.overdue_at_registration += overdue_at_registration;
        all.keys += keys;
        all.overdue += figures.overdue;
        for (sum, count) in all.due_within.counts.iter_mut().zip(figures.due_within.counts) {
            *sum += count;
        }
        all.oldest_due_ms = match (all.oldest_due_ms, figures.oldest_due_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        for (part, bytes) in figures.memory {
            match all.memory.iter_mut().find(|(known, _)| *known == part) {
                Some((_, sum)) => *sum += bytes,
                None => all.memory.push((part, bytes)),
            }
        }
        all.shards.push(ShardMetrics {
            queue_depth: cells.queue_depth.load(Ordering::Relaxed) as u64,
            queue_bytes: cells.queue_bytes.load(Ordering::Relaxed) as u64,
            busy_seconds: figures.busy_seconds,
            last_turn_seconds: cells.last_turn_real_ms.load(Ordering::Relaxed) as f64 / 1_000.0,
            throttled: cells.throttled.load(Ordering::Relaxed),
            turns: figures.turns,
            longest_turn_seconds: figures.longest_turn_seconds,
        });
    }
    all.outputs = all.fired.iter().sum();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = LatenessHistogram::default();
        for lateness_ms in [0.0, 0.5, 0.6, 600_000.0, 600_001.0] {
            histogram.observe(lateness_ms);
        }
        let mut expected = [0; LATENESS_BOUNDS_MS.len()];
        (expected[0], expected[1], expected[12], expected[13]) = (2, 1, 1, 1);
        assert_eq!(histogram.counts, expected);
        assert!((histogram.sum_ms - 1_200_002.1).abs() < 1e-6);
    }

    #[test]
    fn shards_are_added_up() {
        let cells: Vec<ShardCells> = (0..3).map(|_| ShardCells::default()).collect();
        for (index, cells) in cells.iter().enumerate() {
            cells.publish(|figures| {
                figures.stats.fired = [1, 10];
                figures.stats.pending = [index as u64, 2];
                figures.oldest_due_ms = (index > 0).then_some(100 - index as i64);
                figures.memory = vec![("slots", 8)];
            });
        }
        let all = sum(cells.iter());
        assert_eq!(all.fired, [3, 30]);
        assert_eq!(all.outputs, 33);
        assert_eq!(all.pending, [3, 6]);
        assert_eq!(all.oldest_due_ms, Some(98));
        assert_eq!(all.memory, [("slots", 24)]);
        assert_eq!(all.shards.len(), 3);
    }
}
