//! The clocks of the simulated machine. True time only passes; the real-time clock drifts against it
//! and steps in both directions; the time since start moves with true time, suspends included.

use std::sync::atomic::{AtomicI64, Ordering};
use stormwheel::ports::MachineClock;

/// When true time begins: a day in the year 2027.
pub(crate) const EPOCH_MS: i64 = 1_800_000_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct SimClock {
    true_ms: AtomicI64,
    booted_ms: AtomicI64,
    /// What the real-time clock is ahead of true time, in microseconds.
    ahead_us: AtomicI64,
    drift_ppm: AtomicI64,
    /// The latest time that the real-time clock ever showed.
    latest_ms: AtomicI64,
}

impl SimClock {
    pub(crate) fn new() -> Self {
        Self {
            true_ms: AtomicI64::new(EPOCH_MS),
            booted_ms: AtomicI64::new(EPOCH_MS - 1_000),
            ahead_us: AtomicI64::new(0),
            drift_ppm: AtomicI64::new(0),
            latest_ms: AtomicI64::new(EPOCH_MS),
        }
    }

    /// Time passes; whether the machine was awake or suspended makes no difference to these clocks.
    pub(crate) fn pass(&self, millis: i64) {
        self.true_ms.fetch_add(millis, Ordering::Relaxed);
        let drift_us = millis * self.drift_ppm.load(Ordering::Relaxed) / 1_000;
        self.ahead_us.fetch_add(drift_us, Ordering::Relaxed);
        self.look();
    }

    /// The real-time clock is set to another time.
    pub(crate) fn step(&self, millis: i64) {
        self.ahead_us.fetch_add(millis.saturating_mul(1_000), Ordering::Relaxed);
        self.look();
    }

    /// How much faster the real-time clock goes than true time, in millionths.
    pub(crate) fn set_drift(&self, ppm: i64) {
        self.drift_ppm.store(ppm, Ordering::Relaxed);
    }

    /// The machine starts anew: the time since its start begins again.
    pub(crate) fn boot(&self) {
        self.booted_ms.store(self.true_ms(), Ordering::Relaxed);
    }

    pub(crate) fn true_ms(&self) -> i64 {
        self.true_ms.load(Ordering::Relaxed)
    }

    /// The latest time that the real-time clock ever showed: nothing may fire for a later one.
    pub(crate) fn latest_ms(&self) -> i64 {
        self.latest_ms.load(Ordering::Relaxed)
    }

    fn look(&self) {
        self.latest_ms.fetch_max(self.realtime_ms(), Ordering::Relaxed);
    }
}

impl MachineClock for SimClock {
    fn realtime_ms(&self) -> i64 {
        self.true_ms() + self.ahead_us.load(Ordering::Relaxed).div_euclid(1_000)
    }

    fn boottime_ms(&self) -> i64 {
        self.true_ms() - self.booted_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_steps_and_drifts_and_the_time_since_start_only_grows() {
        let clock = SimClock::new();
        clock.pass(500);
        assert_eq!(clock.realtime_ms(), EPOCH_MS + 500);
        clock.step(-10_000);
        assert_eq!(clock.realtime_ms(), EPOCH_MS - 9_500);
        assert_eq!(clock.latest_ms(), EPOCH_MS + 500);
        assert_eq!(clock.boottime_ms(), 1_500);
        clock.step(10_000);
        clock.set_drift(500);
        clock.pass(1_000_000);
        assert_eq!(clock.realtime_ms(), EPOCH_MS + 500 + 1_000_000 + 500);
        assert_eq!(clock.true_ms(), EPOCH_MS + 1_000_500);
        clock.boot();
        assert_eq!(clock.boottime_ms(), 0);
    }
}
