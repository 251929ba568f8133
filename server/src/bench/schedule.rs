//! The schedule of an open loop: operation number n belongs to the instant n / rate, whatever the
//! server does. Latency counts from that instant, so that a server which stalls is charged for
//! every request that had to wait behind the stall, not only for the one that met it (otherwise
//! known as coordinated omission). A closed loop has no schedule and counts from the sending.

/// The runtime's timers are a millisecond coarse and round up. So a connection wakes this much
/// before its instant and may send that much early; late it is only when the machine is.
const TIMER_GRAIN_NS: u64 = 1_000_000;

/// When operations are meant to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// Operations per second; none for a closed loop.
    rate: Option<f64>,
    /// The instant of operation zero, on the run's stopwatch.
    begin_ns: u64,
}

impl Schedule {
    /// A schedule that begins at an instant of the stopwatch.
    pub(crate) fn new(rate: Option<f64>, begin_ns: u64) -> Self {
        assert!(rate.is_none_or(|rate| rate > 0.0), "a rate is positive");
        Self { rate, begin_ns }
    }

    /// When the operation of this number is meant to be sent.
    pub(crate) fn intended_ns(&self, ordinal: u64) -> Option<u64> {
        let rate = self.rate?;
        Some(self.begin_ns + (ordinal as f64 * 1e9 / rate) as u64)
    }

    /// Until when a connection that is free at `now_ns` sleeps before it sends.
    pub(crate) fn wake_ns(&self, ordinal: u64, now_ns: u64) -> Option<u64> {
        let wake_ns = self.intended_ns(ordinal)?.saturating_sub(TIMER_GRAIN_NS);
        (wake_ns > now_ns).then_some(wake_ns)
    }

    /// The latency of a request that begins with this operation.
    pub(crate) fn latency_ns(&self, ordinal: u64, sent_ns: u64, answered_ns: u64) -> u64 {
        let from_ns = self.intended_ns(ordinal).map_or(sent_ns, |intended| intended.min(sent_ns));
        answered_ns.saturating_sub(from_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One connection, one request in flight, against a server with these service times.
    fn simulate(rate: Option<f64>, service_ns: &[u64]) -> Vec<u64> {
        let schedule = Schedule::new(rate, 0);
        let mut now_ns = 0;
        let mut latencies = Vec::new();
        for (ordinal, service) in service_ns.iter().enumerate() {
            let ordinal = ordinal as u64;
            now_ns = schedule.wake_ns(ordinal, now_ns).unwrap_or(now_ns);
            let sent_ns = now_ns;
            now_ns += service;
            latencies.push(schedule.latency_ns(ordinal, sent_ns, now_ns));
        }
        latencies
    }

    const MS: u64 = 1_000_000;

    /// A hundred requests of 0.1 ms, the eleventh of which takes 50 ms.
    fn stall() -> Vec<u64> {
        (0..100).map(|n| if n == 10 { 50 * MS } else { MS / 10 }).collect()
    }

    #[test]
    fn an_open_loop_charges_a_stall_to_all_that_waited() {
        let latencies = simulate(Some(1000.0), &stall());
        let slow = latencies.iter().filter(|latency| **latency > 5 * MS).count();
        assert!((45..=60).contains(&slow), "{slow} requests felt a stall of 50 intervals");
        assert!(latencies[11] > 48 * MS, "the next one waited nearly as long: {}", latencies[11]);
        assert_eq!(latencies[99], MS / 10, "and the schedule is caught up with");
    }

    #[test]
    fn a_closed_loop_sees_the_stall_once() {
        let latencies = simulate(None, &stall());
        assert_eq!(latencies.iter().filter(|latency| **latency > 5 * MS).count(), 1);
    }

    #[test]
    fn a_request_sent_early_within_the_grain_counts_from_the_sending() {
        let schedule = Schedule::new(Some(1000.0), 0);
        assert_eq!(schedule.wake_ns(7, 0), Some(6 * MS));
        assert_eq!(schedule.latency_ns(7, 6 * MS, 6 * MS + 5), 5);
        assert_eq!(schedule.latency_ns(7, 9 * MS, 9 * MS + 5), 2 * MS + 5);
    }
}
