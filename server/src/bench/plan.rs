//! What a run does, settled before it begins: which timers there are, in which requests they
//! travel, and how a timer's number, its key and its name follow from each other. Everything is a
//! function of the plan and the seed, so the verifier needs no list of a hundred million timers.
//!
//! A timer's identity is its number: `key = number % keys`, and where a key has several timers
//! `name = t<number / keys>`, so that no two timers of a run can ever be the same timer.

use std::ops::Range;
use std::time::Duration;

/// The most timers a run may have; nine digits of the key hold their numbers.
pub(crate) const TIMERS_MAX: u64 = 100_000_000;
/// The most operations in one request, which keeps a body below the server's 8 MiB.
pub(crate) const BATCH_MAX: u32 = 65_536;
/// The most connections.
pub(crate) const CONNECTIONS_MAX: u16 = 1024;
/// Of each so many timers of the `cancel` workload one is left alone, to see that it still fires.
const CANCEL_SPARES_EVERY: u64 = 8;
/// Closed loops don't know how long they register; a storm waits for a server this slow.
const STORM_RATE_MIN: f64 = 200_000.0;
/// The same, registered one by one.
const STORM_SINGLES_MIN: f64 = 20_000.0;

/// What the timers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Due times drawn evenly from a window.
    Uniform,
    /// Each key's timer is pushed back again and again, and fires only after the last push.
    Heartbeat,
    /// Everything at one millisecond, with probes of what else still works.
    Storm,
    /// Timers are registered, and seven of eight cancelled right after.
    Cancel,
    /// Very many namespaces, made first, with ten timers each.
    Namespaces,
    /// Elements for the operator `deduplicate`, which lets out the first of each key.
    Elements,
}

/// How operations travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Batches, one JSON object a line.
    Ndjson,
    /// Batches as Arrow IPC streams.
    Arrow,
    /// One request for each operation.
    Single,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Register,
    Touch,
    Delete,
}

/// A run, all settled.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) format: Format,
    /// Timers; for heartbeats the number of pushes.
    pub(crate) timers: u64,
    pub(crate) keys: u64,
    pub(crate) batch: u32,
    pub(crate) connections: u16,
    /// Timers a second; none for a closed loop.
    pub(crate) rate: Option<f64>,
    /// How long a closed loop may go on; an open loop ends with its schedule.
    pub(crate) duration: Option<Duration>,
    pub(crate) lead_ms: i64,
    pub(crate) over_ms: i64,
    pub(crate) seed: u64,
    pub(crate) namespace: String,
    /// Single registrations a second while a storm drains; 0 for none.
    pub(crate) probe_rate: u32,
}

/// Operations that stay together on one connection, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) index: u64,
    /// The first timer (for heartbeats: key).
    pub(crate) first: u64,
    pub(crate) rows: u32,
    /// Operations of the run before this unit.
    pub(crate) ordinal: u64,
}

impl Unit {
    /// The numbers of its timers.
    pub(crate) fn numbers(&self) -> Range<u64> {
        self.first..self.first + u64::from(self.rows)
    }
}

impl Plan {
    /// Checks what can be wrong with the numbers; what it says names the flag.
    pub(crate) fn check(&self) -> Result<(), String> {
        within("--timers", self.timers, 1, TIMERS_MAX)?;
        within("--keys", self.keys, 1, self.timers)?;
        within("--batch", u64::from(self.batch), 1, u64::from(BATCH_MAX))?;
        within("--connections", u64::from(self.connections), 1, u64::from(CONNECTIONS_MAX))?;
        within("--probe-rate", u64::from(self.probe_rate), 0, 10_000)?;
        if self.rate.is_some_and(|rate| !(0.001..=1e9).contains(&rate)) {
            return Err("--rate must be between 0.001 and 1000000000 timers a second".to_owned());
        }
        if self.lead_ms < 0 || self.over_ms < 1 {
            return Err("--lead must not be negative, and --due-over at least 1ms".to_owned());
        }
        if self.workload == Workload::Heartbeat {
            self.check_heartbeat()?;
        }
        Ok(())
    }

    /// A heartbeat that comes round after its own deadline is no heartbeat.
    fn check_heartbeat(&self) -> Result<(), String> {
        let Some(rate) = self.rate else { return Ok(()) };
        let round_ms = self.keys as f64 * 1000.0 / rate;
        if self.timers > self.keys && round_ms * 1.5 > self.over_ms as f64 {
            return Err(format!(
                "one round over {} keys takes {round_ms:.0} ms at this rate, too long for \
                 deadlines of {} ms: lower --keys, or raise --rate or --due-over",
                self.keys, self.over_ms
            ));
        }
        Ok(())
    }

    /// Timers that the verifier tells apart.
    pub(crate) fn identities(&self) -> u64 {
        if self.workload == Workload::Heartbeat { self.keys } else { self.timers }
    }

    /// Whether timers carry a name.
    pub(crate) fn is_named(&self) -> bool {
        self.keys < self.identities()
    }

    /// The key's number and the name's number of a timer.
    pub(crate) fn identity(&self, number: u64) -> (u64, u64) {
        (number % self.keys, number / self.keys)
    }

    /// The timer of a key's number and a name's number.
    pub(crate) fn number(&self, key: u64, name: u64) -> Option<u64> {
        if key >= self.keys {
            return None;
        }
        let number = name.checked_mul(self.keys)?.checked_add(key)?;
        (number < self.identities()).then_some(number)
    }

    /// Requests that one round over all identities takes.
    pub(crate) fn units_per_round(&self) -> u64 {
        self.identities().div_ceil(u64::from(self.batch))
    }

    /// Units of the run.
    pub(crate) fn units(&self) -> u64 {
        self.units_per_round() * self.rounds()
    }

    /// Rounds over all identities; one but for heartbeats.
    pub(crate) fn rounds(&self) -> u64 {
        self.timers / self.identities()
    }

    /// A unit by its number.
    pub(crate) fn unit(&self, index: u64) -> Unit {
        let round = index / self.units_per_round();
        let first = (index % self.units_per_round()) * u64::from(self.batch);
        let rows = u64::from(self.batch).min(self.identities() - first) as u32;
        let ordinal = (round * self.identities() + first) * self.verbs().len() as u64;
        Unit { index, first, rows, ordinal }
    }

    /// What is done with each unit.
    pub(crate) fn verbs(&self) -> &'static [Verb] {
        match self.workload {
            Workload::Uniform | Workload::Storm | Workload::Namespaces | Workload::Elements => {
                &[Verb::Register]
            }
            Workload::Heartbeat => &[Verb::Touch],
            Workload::Cancel => &[Verb::Register, Verb::Delete],
        }
    }

    /// Whether the `cancel` workload leaves a timer alone.
    pub(crate) fn is_spared(number: u64) -> bool {
        number % CANCEL_SPARES_EVERY == CANCEL_SPARES_EVERY - 1
    }

    /// Where in the window a timer falls due, in milliseconds: even, and the same for the same seed.
    pub(crate) fn jitter_ms(&self, number: u64) -> i64 {
        let drawn = mix(self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        ((u128::from(drawn) * self.over_ms as u128) >> 64) as i64
    }

    /// From the begin of a run to its storm: time enough to register everything.
    pub(crate) fn storm_after_ms(&self) -> i64 {
        let slowest = match self.format {
            Format::Single => STORM_SINGLES_MIN,
            Format::Ndjson | Format::Arrow => STORM_RATE_MIN,
        };
        self.lead_ms + (self.timers as f64 * 1000.0 / self.rate.unwrap_or(slowest)) as i64
    }
}

/// The finalizer of `SplitMix64`.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

pub(crate) fn within(flag: &str, actual: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&actual) {
        return Ok(());
    }
    Err(format!("{flag} must be between {least} and {most}, not {actual}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small plan for the tests of this folder.
    pub(crate) fn plan(workload: Workload, timers: u64, keys: u64, batch: u32) -> Plan {
        Plan {
            workload,
            format: Format::Ndjson,
            timers,
            keys,
            batch,
            connections: 2,
            rate: None,
            duration: None,
            lead_ms: 1000,
            over_ms: 5000,
            seed: 7,
            namespace: "bench-7".to_owned(),
            probe_rate: 0,
        }
    }

    #[test]
    fn units_cover_each_timer_once_and_keep_the_order() {
        for (workload, timers, keys, batch) in [
            (Workload::Uniform, 1003, 1003, 10),
            (Workload::Uniform, 1003, 7, 100),
            (Workload::Storm, 1, 1, 5000),
            (Workload::Cancel, 50, 50, 7),
        ] {
            let plan = plan(workload, timers, keys, batch);
            let numbers: Vec<u64> =
                (0..plan.units()).flat_map(|unit| plan.unit(unit).numbers()).collect();
            assert_eq!(numbers, (0..timers).collect::<Vec<_>>(), "{workload:?}");
        }
    }

    #[test]
    fn heartbeats_go_round_over_the_keys() {
        let plan = plan(Workload::Heartbeat, 300, 100, 30);
        assert_eq!((plan.rounds(), plan.units()), (3, 12));
        assert_eq!(plan.unit(3), Unit { index: 3, first: 90, rows: 10, ordinal: 90 });
        assert_eq!(plan.unit(4), Unit { index: 4, first: 0, rows: 30, ordinal: 100 });
    }

    #[test]
    fn a_number_and_its_identity_lead_to_each_other() {
        let plan = plan(Workload::Uniform, 1000, 30, 10);
        for number in 0..1000 {
            let (key, name) = plan.identity(number);
            assert_eq!(plan.number(key, name), Some(number));
        }
        assert_eq!(plan.number(30, 0), None, "a key that the plan has not");
        assert_eq!(plan.number(29, 33), None, "a number beyond the last");
        assert_eq!(plan.number(1, u64::MAX), None);
    }

    #[test]
    fn jitter_fills_its_window_evenly() {
        let plan = plan(Workload::Uniform, 10_000, 10_000, 10);
        let mut tenths = [0_u32; 10];
        for number in 0..10_000 {
            tenths[(plan.jitter_ms(number) / 500) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn a_plan_out_of_bounds_names_the_flag() {
        let good = plan(Workload::Uniform, 10, 10, 10);
        let check = |change: fn(&mut Plan), flag: &str| {
            let mut plan = good.clone();
            change(&mut plan);
            let error = plan.check().unwrap_err();
            assert!(error.contains(flag), "{error}");
        };
        assert_eq!(good.check(), Ok(()));
        check(|plan| plan.timers = TIMERS_MAX + 1, "--timers");
        check(|plan| plan.keys = 11, "--keys");
        check(|plan| plan.batch = 0, "--batch");
        check(|plan| plan.connections = 0, "--connections");
        check(|plan| plan.rate = Some(0.0), "--rate");
        check(|plan| plan.over_ms = 0, "--due-over");
        check(
            |plan| {
                (plan.workload, plan.keys, plan.rate) = (Workload::Heartbeat, 5, Some(1.0));
            },
            "one round",
        );
    }
}
