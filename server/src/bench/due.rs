//! When each timer is meant to fire. The producer notes when it sent a unit, the consumer asks
//! what is expected of a fire; both hold this table, which has a few bytes for each unit and
//! nothing for a timer. The producer's stores (release) pair with the consumer's loads (acquire):
//! a fire that is read was sent before.

use super::plan::{Plan, Unit, Workload};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};

/// How far the server's "now" of a touch may lie outside of what this side saw as sending and
/// answer. Wide enough for a cached clock, narrow enough to tell one round from the next.
const TOUCH_SLACK_MS: i64 = 50;

/// What is known of one unit; milliseconds since the origin, plus one, so that zero is "not yet".
#[derive(Debug, Default)]
struct Times {
    sent: AtomicU32,
    answered: AtomicU32,
}

/// The due times of a run.
#[derive(Debug)]
pub(crate) struct DueTimes {
    plan: Plan,
    origin_ms: i64,
    /// One for each unit of a round; a later round overwrites.
    units: Vec<Times>,
}

impl DueTimes {
    /// Times count from `origin_ms`, the wall clock at the begin of the run.
    pub(crate) fn new(plan: &Plan, origin_ms: i64) -> Self {
        let units = (0..plan.units_per_round()).map(|_| Times::default()).collect();
        Self { plan: plan.clone(), origin_ms, units }
    }

    fn times(&self, number: u64) -> &Times {
        &self.units[(number / u64::from(self.plan.batch)) as usize]
    }

    fn since_origin(&self, wall_ms: i64) -> u32 {
        u32::try_from(wall_ms - self.origin_ms + 1).unwrap_or(1).max(1)
    }

    /// The unit is about to be sent; due times count from here.
    pub(crate) fn note_sent(&self, unit: &Unit, wall_ms: i64) {
        let since = self.since_origin(wall_ms);
        self.times(unit.first).sent.fetch_max(since, Ordering::Release);
    }

    /// The unit was answered; only heartbeats need to know.
    pub(crate) fn note_answered(&self, unit: &Unit, wall_ms: i64) {
        let since = self.since_origin(wall_ms);
        self.times(unit.first).answered.fetch_max(since, Ordering::Release);
    }

    /// The time to register a timer for. Its unit must have been noted as sent.
    pub(crate) fn due_ms(&self, number: u64) -> i64 {
        if self.plan.workload == Workload::Storm {
            return self.storm_ms();
        }
        let sent = self.times(number).sent.load(Ordering::Acquire);
        self.origin_ms + i64::from(sent) - 1 + self.plan.lead_ms + self.plan.jitter_ms(number)
    }

    /// The millisecond of the storm.
    pub(crate) fn storm_ms(&self) -> i64 {
        self.origin_ms + self.plan.storm_after_ms()
    }

    /// The `fire_at` that a fire may have; none if the timer was never sent.
    pub(crate) fn expected_ms(&self, number: u64) -> Option<RangeInclusive<i64>> {
        let times = self.times(number);
        let sent = times.sent.load(Ordering::Acquire);
        if sent == 0 {
            return None;
        }
        if self.plan.workload != Workload::Heartbeat {
            let due = self.due_ms(number);
            return Some(due..=due);
        }
        let earliest = self.origin_ms + i64::from(sent) - 1 + self.plan.over_ms - TOUCH_SLACK_MS;
        // A fire may outrun the answer to its registration; then there is no upper bound yet.
        Some(match times.answered.load(Ordering::Acquire) {
            0 => earliest..=i64::MAX,
            answered => {
                let end = self.origin_ms + i64::from(answered) - 1 + self.plan.over_ms;
                earliest..=end + TOUCH_SLACK_MS
            }
        })
    }

    /// When the last timer falls due, as far as sent.
    pub(crate) fn latest_ms(&self) -> i64 {
        if self.plan.workload == Workload::Storm {
            return self.storm_ms();
        }
        let latest = |times: &Times| {
            times.sent.load(Ordering::Acquire).max(times.answered.load(Ordering::Acquire))
        };
        let sent = self.units.iter().map(latest).max().unwrap_or(0);
        let lead = if self.plan.workload == Workload::Heartbeat { 0 } else { self.plan.lead_ms };
        self.origin_ms + i64::from(sent) + lead + self.plan.over_ms
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    const ORIGIN: i64 = 1_767_225_600_000;

    #[test]
    fn due_times_count_from_the_sending_of_their_unit() {
        let plan = plan(Workload::Uniform, 20, 20, 10);
        let due = DueTimes::new(&plan, ORIGIN);
        assert_eq!(due.expected_ms(3), None);
        due.note_sent(&plan.unit(0), ORIGIN + 500);
        let at = due.due_ms(3);
        assert!((ORIGIN + 1500..ORIGIN + 6500).contains(&at));
        assert_eq!(due.expected_ms(3), Some(at..=at));
        assert_eq!(due.expected_ms(13), None, "the second unit was not sent");
        assert!(due.latest_ms() >= at);
    }

    #[test]
    fn a_heartbeat_is_expected_after_its_last_push_only() {
        let plan = plan(Workload::Heartbeat, 20, 10, 10);
        let due = DueTimes::new(&plan, ORIGIN);
        for round in 0..2_i64 {
            let unit = plan.unit(round as u64);
            due.note_sent(&unit, ORIGIN + round * 1000);
            due.note_answered(&unit, ORIGIN + round * 1000 + 20);
        }
        let expected = due.expected_ms(5).unwrap();
        assert!(!expected.contains(&(ORIGIN + 10 + 5000)), "the first deadline is past");
        assert!(expected.contains(&(ORIGIN + 1010 + 5000)));
        assert!(!expected.contains(&(ORIGIN + 1200 + 5000)));
    }

    #[test]
    fn a_storm_is_one_millisecond() {
        let plan = plan(Workload::Storm, 200_000, 200_000, 100);
        let due = DueTimes::new(&plan, ORIGIN);
        due.note_sent(&plan.unit(0), ORIGIN);
        due.note_sent(&plan.unit(1), ORIGIN + 9);
        assert_eq!(due.due_ms(0), due.due_ms(150));
        assert_eq!(due.storm_ms(), ORIGIN + 2000);
    }
}
