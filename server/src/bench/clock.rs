//! The clocks of the load generator, all of them: wall clock, monotonic clock, processor time.
//! Fire lateness is wall clock against `fire_at`; request latency is monotonic.
#![allow(
    clippy::disallowed_methods,
    reason = "a load generator measures real time; this file is where it reads it"
)]

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock in microseconds since the epoch.
pub(crate) fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// The wall clock in milliseconds since the epoch.
pub(crate) fn wall_ms() -> i64 {
    wall_us().div_euclid(1000)
}

/// Processor time of this process so far, all threads.
pub(crate) fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// Nanoseconds since the run began; shared by all threads of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts at zero.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Nanoseconds since the start.
    pub(crate) fn elapsed_ns(self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Sleeps until that many nanoseconds after the start, at once if they have passed.
    pub(crate) async fn sleep_until_ns(self, at_ns: u64) {
        let at = self.started + Duration::from_nanos(at_ns);
        tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await;
    }
}
