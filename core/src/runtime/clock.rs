//! The adjusted clock: what the lanes live by.
//!
//! It follows the real-time clock and never goes back: after a step back it stands still until the
//! real-time clock has caught up, so nothing fires early. A leap forward beyond
//! [`ClockOptions::max_step_ms`], measured against the time since the machine started, stops it
//! altogether until somebody accepts the new time: a blip of ten years must not fire everything.

use crate::op::When;
use crate::ports::MachineClock;
use crate::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What to do when the real-time clock gains more than `max_step_ms` on the time since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStep {
    /// Stop ticking until somebody accepts the new time.
    #[default]
    Hold,
    /// Follow it.
    Jump,
}

/// How the adjusted clock behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOptions {
    /// The longest leap that is followed without asking, in milliseconds.
    pub max_step_ms: i64,
    /// What to do beyond it.
    pub on_step: OnStep,
}

impl Default for ClockOptions {
    fn default() -> Self {
        Self { max_step_ms: 3_600_000, on_step: OnStep::Hold }
    }
}

/// What the adjusted clock has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockStatus {
    /// What it reads, in milliseconds since the epoch.
    pub now_ms: i64,
    /// How far it is ahead of the real-time clock (frozen after a step back), in milliseconds.
    pub offset_ms: i64,
    /// Steps of the real-time clock seen, in either direction.
    pub jumps: u64,
    /// The leap that waits to be accepted, in milliseconds; ticks stand still until then.
    pub held_step_ms: Option<i64>,
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl MachineClock for SystemClock {
    fn realtime_ms(&self) -> i64 {
        self.realtime_micros().div_euclid(1_000)
    }

    fn boottime_ms(&self) -> i64 {
        let time = clock_gettime(ClockId::Boottime);
        time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
    }

    fn realtime_micros(&self) -> i64 {
        let time = clock_gettime(ClockId::Realtime);
        time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
    }
}

impl From<SystemTime> for Timestamp {
    /// The millisecond that the time is in; the ends of the range, beyond them.
    fn from(time: SystemTime) -> Self {
        let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                let before = before.duration().as_nanos().div_ceil(1_000_000);
                i64::try_from(before).map_or(i64::MIN, |before| -before)
            }
        };
        Self::from_millis(millis)
    }
}

impl From<SystemTime> for When {
    /// Not before that time: a part of a millisecond counts as a whole one.
    fn from(time: SystemTime) -> Self {
        let floor = Timestamp::from(time);
        let just_before = time.checked_sub(Duration::from_nanos(1));
        let is_whole = just_before.is_none_or(|before| Timestamp::from(before) < floor);
        Self::At(if is_whole { floor } else { floor.saturating_add(1) })
    }
}

/// A step smaller than this is the drift of two clocks against each other, not worth counting.
const STEP_MS_MIN: i64 = 100;

/// See the module. Shared by all shards.
pub(super) struct AdjustedClock {
    machine: Arc<dyn MachineClock>,
    options: ClockOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now_ms: i64,
    /// What the real-time clock was ahead of the time since start when it was last followed.
    ahead_ms: i64,
    /// The most that it was ever ahead, and followed: as far as the lanes have been.
    furthest_ms: i64,
    jumps: u64,
    held_step_ms: Option<i64>,
}

impl State {
    fn follow(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
        self.furthest_ms = self.furthest_ms.max(ahead_ms);
    }
}

/// A look at the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) now_ms: i64,
    pub(super) is_held: bool,
}

impl AdjustedClock {
    /// A clock that has come to `floor_ms` already: it stands still until the machine's has, too.
    pub(super) fn new(
        machine: Arc<dyn MachineClock>,
        options: ClockOptions,
        floor_ms: i64,
    ) -> Self {
        let realtime_ms = machine.realtime_ms();
        let ahead_ms = realtime_ms.saturating_sub(machine.boottime_ms());
        let now_ms = realtime_ms.max(floor_ms);
        let furthest_ms = ahead_ms;
        let state =
            Mutex::new(State { now_ms, ahead_ms, furthest_ms, jumps: 0, held_step_ms: None });
        Self { machine, options, state }
    }

    pub(super) fn machine(&self) -> &dyn MachineClock {
        &*self.machine
    }

    /// Reads the machine's clocks and says what time it is.
    pub(super) fn look(&self) -> Look {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let realtime_ms = self.machine.realtime_ms();
        let ahead_ms = realtime_ms.saturating_sub(self.machine.boottime_ms());
        // After a step back, coming forward again is nothing new: only what goes beyond where the
        // clock has been can fire anything.
        let step_ms = ahead_ms.saturating_sub(state.furthest_ms);
        let limit = self.options.max_step_ms;
        if let Some(held) = state.held_step_ms {
            // The leap may have been taken back meanwhile.
            if step_ms <= limit {
                state.held_step_ms = None;
            } else if held != step_ms {
                state.held_step_ms = Some(step_ms);
            }
        } else if step_ms > limit && self.options.on_step == OnStep::Hold {
            state.held_step_ms = Some(step_ms);
            state.jumps += 1;
        }
        if state.held_step_ms.is_some() {
            return Look { now_ms: state.now_ms, is_held: true };
        }
        if ahead_ms.saturating_sub(state.ahead_ms).saturating_abs() >= STEP_MS_MIN {
            state.jumps += 1;
        }
        state.follow(ahead_ms);
        state.now_ms = state.now_ms.max(realtime_ms);
        Look { now_ms: state.now_ms, is_held: false }
    }

    /// Follows the leap that is held.
    pub(super) fn accept(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.held_step_ms.take().is_some() {
            let realtime_ms = self.machine.realtime_ms();
            state.follow(realtime_ms.saturating_sub(self.machine.boottime_ms()));
        }
    }

    pub(super) fn status(&self) -> ClockStatus {
        let realtime_ms = self.machine.realtime_ms();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        ClockStatus {
            now_ms: state.now_ms,
            offset_ms: state.now_ms.saturating_sub(realtime_ms).max(0),
            jumps: state.jumps,
            held_step_ms: state.held_step_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[derive(Default)]
    struct Machine {
        realtime_ms: AtomicI64,
        boottime_ms: AtomicI64,
    }

    impl MachineClock for Machine {
        fn realtime_ms(&self) -> i64 {
            self.realtime_ms.load(Ordering::Relaxed)
        }

        fn boottime_ms(&self) -> i64 {
            self.boottime_ms.load(Ordering::Relaxed)
        }
    }

    struct World {
        machine: Arc<Machine>,
        clock: AdjustedClock,
    }

    const START_MS: i64 = 1_700_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    impl World {
        fn new(on_step: OnStep) -> Self {
            let machine = Arc::new(Machine::default());
            machine.realtime_ms.store(START_MS, Ordering::Relaxed);
            let options = ClockOptions { on_step, ..ClockOptions::default() };
            let clock = AdjustedClock::new(
                Arc::clone(&machine) as Arc<dyn MachineClock>,
                options,
                i64::MIN,
            );
            Self { machine, clock }
        }

        /// Time passes, and the real-time clock steps besides.
        fn check(&self, passed_ms: i64, step_ms: i64, now_ms: i64, is_held: bool) {
            self.machine.boottime_ms.fetch_add(passed_ms, Ordering::Relaxed);
            self.machine.realtime_ms.fetch_add(passed_ms + step_ms, Ordering::Relaxed);
            assert_eq!(self.clock.look(), Look { now_ms: START_MS + now_ms, is_held });
        }
    }

    #[test]
    fn it_follows_and_freezes_on_a_step_back() {
        let world = World::new(OnStep::Hold);
        world.check(10, 0, 10, false);
        world.check(10, -1_000, 10, false);
        assert_eq!(world.clock.status().offset_ms, 990);
        world.check(500, 0, 10, false);
        world.check(500, 0, 20, false);
        world.check(5, 0, 25, false);
        assert_eq!(world.clock.status().jumps, 1);
    }

    #[test]
    fn a_small_leap_and_a_suspend_are_followed() {
        let world = World::new(OnStep::Hold);
        world.check(0, 1_000, 1_000, false);
        world.check(8 * HOUR_MS, 0, 1_000 + 8 * HOUR_MS, false);
        assert_eq!(world.clock.status().jumps, 1);
    }

    #[test]
    fn a_large_leap_is_held_until_it_is_accepted() {
        let world = World::new(OnStep::Hold);
        world.check(10, 2 * HOUR_MS, 0, true);
        world.check(10, 0, 0, true);
        assert_eq!(world.clock.status().held_step_ms, Some(2 * HOUR_MS));
        world.clock.accept();
        world.check(10, 0, 2 * HOUR_MS + 30, false);
        assert_eq!(world.clock.status().jumps, 1);
    }

    #[test]
    fn a_leap_that_is_taken_back_is_forgotten() {
        let world = World::new(OnStep::Hold);
        world.check(10, 2 * HOUR_MS, 0, true);
        world.check(10, -2 * HOUR_MS, 20, false);
        assert_eq!(world.clock.status().held_step_ms, None);
    }

    #[test]
    fn coming_back_to_where_it_has_been_is_no_leap() {
        let world = World::new(OnStep::Hold);
        world.check(10, 0, 10, false);
        world.check(10, -2 * HOUR_MS, 10, false);
        world.check(10, 2 * HOUR_MS, 30, false);
        assert_eq!(world.clock.status().jumps, 2);
        // From there it is one, however the clock came there.
        world.check(10, -HOUR_MS, 30, false);
        world.check(10, 2 * HOUR_MS + HOUR_MS / 2, 30, true);
        assert_eq!(world.clock.status().held_step_ms, Some(HOUR_MS + HOUR_MS / 2));
    }

    #[test]
    fn it_jumps_where_that_is_asked_for() {
        let world = World::new(OnStep::Jump);
        world.check(10, 2 * HOUR_MS, 2 * HOUR_MS + 10, false);
    }
}
