//! The engine's figures as metric families, read anew at each scrape.

use super::Throttled;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use std::collections::HashMap;
use stormwheel::namespace::OverduePolicy;
use stormwheel::op::ResultKind;
use stormwheel::runtime::{
    DueWithin, Engine, EngineMetrics, FunctionMetrics, LATENESS_BOUNDS_MS, LatenessHistogram,
    ShardMetrics, TURN_BOUNDS_SECONDS, TurnHistogram,
};
use stormwheel::time::Domain;

/// One family: its name, its labels and its help.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

impl Family {
    /// As the registry wants it.
    pub(super) fn desc(&self) -> Result<Desc, prometheus::Error> {
        Desc::new(
            self.name.to_owned(),
            self.help.to_owned(),
            self.labels.iter().map(|label| (*label).to_owned()).collect(),
            HashMap::new(),
        )
    }
}

macro_rules! families {
    ($($id:ident $name:literal [$($label:literal),*] $help:literal)*) => {
        $(const $id: Family = Family { name: $name, labels: &[$($label),*], help: $help };)*
        const FAMILIES: &[Family] = &[$($id),*];
    };
}

families! {
    REGISTERED "stormwheel_timers_registered_total" ["domain", "result"]
        "Registrations and touches, by the clock of the timer and by what came of them."
    CANCELLED "stormwheel_timers_cancelled_total" []
        "Timers cancelled before they fired."
    DISCARDED "stormwheel_timers_discarded_total" []
        "Processing timers cancelled because their namespace was closed and they were not wanted."
    FIRED "stormwheel_timers_fired_total" ["domain"]
        "Timers fired, by the clock they followed."
    PENDING "stormwheel_timers_pending" ["domain"]
        "Timers waiting for their time, by the clock they follow."
    DUE_WITHIN "stormwheel_timers_pending_due_within" ["bound"]
        "Processing-time timers waiting that fall due within the bound from now: the storm ahead."
    OVERDUE "stormwheel_timers_overdue" []
        "Timers that are due and have not fired yet."
    OVERDUE_AT_REGISTRATION "stormwheel_timers_overdue_at_registration_total" []
        "Timers whose time had passed already when they were registered."
    OVERDUE_AT_RESTART "stormwheel_timers_overdue_at_restart_total" ["policy"]
        "Timers that fell due while the service was down, by what became of them."
    LATENESS "stormwheel_timer_lateness_seconds" ["origin"]
        "Wall clock when a fire was released minus its fire_at, live or because of a restart; processing time on system clocks, without timers that were overdue when registered."
    OLDEST_DUE "stormwheel_oldest_due_timestamp_seconds" []
        "When the oldest timer that is due and has not fired was due; NaN if there is none."
    ELEMENTS "stormwheel_elements_total" ["result"]
        "Elements handed to functions, by what came of them. Late ones that a function never saw are not among them."
    LATE_ELEMENTS "stormwheel_late_elements_total" []
        "Elements at or below the watermark less the lateness of their namespace, whatever became of them."
    TIMERS_FAILED "stormwheel_function_timers_failed_total" []
        "Timers at which a function failed for good, and that were passed over."
    RETRIES "stormwheel_function_retries_total" []
        "Callbacks of functions that were called again because they had failed."
    NAMESPACES_STOPPED "stormwheel_namespaces_stopped" []
        "Namespaces that have stopped because their function failed for good; they wait to be resumed."
    REFUSED_AT_THE_END "stormwheel_function_timers_refused_at_the_end_total" []
        "Timers that callbacks wanted at the final watermark, or at the end of the clock of a closed namespace: nothing is due after that."
    CLOSE_PANICS "stormwheel_function_close_panics_total" []
        "Instances of functions that panicked when they were closed. Nothing is lost by it."
    OUTPUTS "stormwheel_outputs_total" []
        "Output records emitted."
    OUTPUT_LOG_BYTES "stormwheel_output_log_bytes" []
        "Bytes of output records that are kept for readers."
    KEYS "stormwheel_keys" []
        "Keys that hold something."
    THROTTLED "stormwheel_throttled_total" ["reason"]
        "Requests, operations and connections that were turned away because something was full."
    QUEUE_DEPTH "stormwheel_shard_queue_depth" ["shard"]
        "Requests waiting for the shard."
    QUEUE_BYTES "stormwheel_shard_queue_bytes" ["shard"]
        "Bytes of requests waiting for the shard."
    BUSY "stormwheel_shard_busy_seconds_total" ["shard"]
        "Time the shard spent working; its rate is the share of a core."
    LAST_TURN "stormwheel_shard_last_turn_timestamp_seconds" ["shard"]
        "When the shard last went round; it does at least once a second."
    TURN_DURATION "stormwheel_turn_duration_seconds" ["shard"]
        "How long a turn of the shard took: meanwhile it serves nobody else. Idle turns are left out."
    LONGEST_TURN "stormwheel_turn_longest_seconds" ["shard"]
        "The longest turn of the shard in the last minute or two; reading it changes nothing."
    CLOCK_JUMPS "stormwheel_clock_jumps_total" []
        "Steps of the machine's clock that were seen, in either direction."
    CLOCK_OFFSET "stormwheel_clock_offset_seconds" []
        "How far the adjusted clock is ahead of the machine's; it is frozen after a step back."
    CLOCK_HELD "stormwheel_clock_held_step_seconds" []
        "The leap of the machine's clock that is held back until somebody accepts it, and with it all processing time; 0 if there is none."
    MEMORY "stormwheel_memory_bytes" ["part"]
        "Memory held, by what holds it."
    NAMESPACES "stormwheel_namespaces" []
        "Namespaces there are."
}

/// Reads the engine when Prometheus asks.
pub(super) struct EngineCollector {
    engine: Engine,
    throttled: Throttled,
    descs: Vec<Desc>,
}

impl EngineCollector {
    pub(super) fn new(engine: Engine, throttled: Throttled) -> Result<Self, prometheus::Error> {
        let descs = FAMILIES.iter().map(Family::desc).collect::<Result<_, _>>()?;
        Ok(Self { engine, throttled, descs })
    }
}

impl Collector for EngineCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.engine.metrics();
        let mut families = Vec::with_capacity(FAMILIES.len());
        collect_timers(&metrics, &mut families);
        collect_functions(&metrics, &mut families);
        collect_outputs(&metrics, &mut families);
        collect_shards(&metrics, &self.throttled, &mut families);
        let clock = self.engine.status().clock;
        let offset_seconds = clock.offset_ms as f64 / 1_000.0;
        families.push(counters(&CLOCK_JUMPS, [(vec![], clock.jumps as f64)]));
        families.push(gauges(&CLOCK_OFFSET, [(vec![], offset_seconds)]));
        let held_seconds = clock.held_step_ms.unwrap_or(0) as f64 / 1_000.0;
        families.push(gauges(&CLOCK_HELD, [(vec![], held_seconds)]));
        let namespaces = self.engine.directory().by_name.len();
        families.push(gauges(&NAMESPACES, [(vec![], namespaces as f64)]));
        families
    }
}

fn collect_timers(metrics: &EngineMetrics, families: &mut Vec<MetricFamily>) {
    let registered = Domain::ALL.iter().zip(&metrics.registered).flat_map(|(domain, by_result)| {
        ResultKind::ALL.iter().zip(by_result).filter_map(|(result, count)| {
            // A registration is never cancelled or absent; such series would stay at 0.
            let possible = !matches!(result, ResultKind::Cancelled | ResultKind::Absent)
                && !result.is_of_element();
            possible.then(|| {
                let labels = vec![domain.as_str().to_owned(), result.as_str().to_owned()];
                (labels, *count as f64)
            })
        })
    });
    families.push(counters(&REGISTERED, registered));
    families.push(counters(&CANCELLED, [(vec![], metrics.cancelled as f64)]));
    families.push(counters(&DISCARDED, [(vec![], metrics.discarded as f64)]));
    families.push(counters(&FIRED, by_domain(&metrics.fired)));
    families.push(gauges(&PENDING, by_domain(&metrics.pending)));
    let due = DueWithin::BOUNDS
        .iter()
        .zip(&metrics.due_within.counts)
        .map(|((bound, _), count)| (vec![(*bound).to_owned()], *count as f64));
    families.push(gauges(&DUE_WITHIN, due));
    families.push(gauges(&OVERDUE, [(vec![], metrics.overdue as f64)]));
    let overdue = metrics.overdue_at_registration as f64;
    families.push(counters(&OVERDUE_AT_REGISTRATION, [(vec![], overdue)]));
    let at_restart = OverduePolicy::NAMES.iter().zip(&metrics.overdue_at_restart);
    let at_restart = at_restart.map(|(policy, count)| (vec![(*policy).to_owned()], *count as f64));
    families.push(counters(&OVERDUE_AT_RESTART, at_restart));
    families.extend(lateness(&metrics.lateness, &metrics.restart_lateness));
    let oldest = metrics.oldest_due_ms.map_or(f64::NAN, |millis| millis as f64 / 1_000.0);
    families.push(gauges(&OLDEST_DUE, [(vec![], oldest)]));
}

fn collect_functions(metrics: &EngineMetrics, families: &mut Vec<MetricFamily>) {
    let FunctionMetrics { processed, failed, late, timers_failed, .. } = metrics.functions;
    let FunctionMetrics { retries, refused_at_the_end, close_panics, stopped, .. } =
        metrics.functions;
    families.push(gauges(&NAMESPACES_STOPPED, [(vec![], stopped as f64)]));
    let by_result = [(ResultKind::Processed, processed), (ResultKind::Failed, failed)];
    let by_result =
        by_result.map(|(result, count)| (vec![result.as_str().to_owned()], count as f64));
    families.push(counters(&ELEMENTS, by_result));
    for (family, count) in [
        (&LATE_ELEMENTS, late),
        (&TIMERS_FAILED, timers_failed),
        (&RETRIES, retries),
        (&REFUSED_AT_THE_END, refused_at_the_end),
        (&CLOSE_PANICS, close_panics),
    ] {
        families.push(counters(family, [(vec![], count as f64)]));
    }
}

fn collect_outputs(metrics: &EngineMetrics, families: &mut Vec<MetricFamily>) {
    families.push(counters(&OUTPUTS, [(vec![], metrics.outputs as f64)]));
    let kept = metrics.output_log_bytes as f64;
    families.push(gauges(&OUTPUT_LOG_BYTES, [(vec![], kept)]));
    families.push(gauges(&KEYS, [(vec![], metrics.keys as f64)]));
    let memory =
        metrics.memory.iter().map(|(part, bytes)| (vec![(*part).to_owned()], *bytes as f64));
    families.push(gauges(&MEMORY, memory));
}

fn collect_shards(
    metrics: &EngineMetrics,
    throttled: &Throttled,
    families: &mut Vec<MetricFamily>,
) {
    let full: u64 = metrics.shards.iter().map(|shard| shard.throttled).sum();
    let reasons = [
        ("queue_full", full),
        ("connections", throttled.connections.get()),
        ("connections_per_ip", throttled.connections_per_ip.get()),
    ];
    let reasons = reasons.map(|(reason, count)| (vec![reason.to_owned()], count as f64));
    families.push(counters(&THROTTLED, reasons));
    let by_shard = |value: fn(&ShardMetrics) -> f64| {
        metrics
            .shards
            .iter()
            .enumerate()
            .map(move |(index, shard)| (vec![index.to_string()], value(shard)))
    };
    families.push(gauges(&QUEUE_DEPTH, by_shard(|shard| shard.queue_depth as f64)));
    families.push(gauges(&QUEUE_BYTES, by_shard(|shard| shard.queue_bytes as f64)));
    families.push(counters(&BUSY, by_shard(|shard| shard.busy_seconds)));
    families.push(gauges(&LAST_TURN, by_shard(|shard| shard.last_turn_seconds)));
    families.extend(together(metrics.shards.iter().enumerate().map(|(index, shard)| {
        let TurnHistogram { counts, sum_seconds } = &shard.turns;
        let labels = vec![index.to_string()];
        histogram(&TURN_DURATION, labels, &TURN_BOUNDS_SECONDS, counts, *sum_seconds)
    })));
    families.push(gauges(&LONGEST_TURN, by_shard(|shard| shard.longest_turn_seconds)));
}

fn by_domain(counts: &[u64; 2]) -> impl Iterator<Item = (Vec<String>, f64)> {
    Domain::ALL
        .iter()
        .zip(counts)
        .map(|(domain, count)| (vec![domain.as_str().to_owned()], *count as f64))
}

pub(super) fn counters(
    family: &Family,
    values: impl IntoIterator<Item = (Vec<String>, f64)>,
) -> MetricFamily {
    gather(family, MetricType::COUNTER, values, |metric, value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    })
}

pub(super) fn gauges(
    family: &Family,
    values: impl IntoIterator<Item = (Vec<String>, f64)>,
) -> MetricFamily {
    gather(family, MetricType::GAUGE, values, |metric, value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    })
}

fn lateness(live: &LatenessHistogram, restart: &LatenessHistogram) -> Option<MetricFamily> {
    let bounds = LATENESS_BOUNDS_MS.map(|bound_ms| bound_ms / 1_000.0);
    let of = |(origin, lateness): (&str, &LatenessHistogram)| {
        let sum = lateness.sum_ms / 1_000.0;
        histogram(&LATENESS, vec![origin.to_owned()], &bounds, &lateness.counts, sum)
    };
    together([("live", live), ("restart", restart)].into_iter().map(of))
}

/// The series of one family, gathered one by one; none if there are none.
fn together(gathered: impl Iterator<Item = MetricFamily>) -> Option<MetricFamily> {
    gathered.reduce(|mut all, mut one| {
        all.mut_metric().extend(one.take_metric());
        all
    })
}

/// A histogram of one series, in seconds; the counts are not cumulative.
pub(super) fn histogram(
    family: &Family,
    labels: Vec<String>,
    bounds: &[f64],
    counts: &[u64],
    sum: f64,
) -> MetricFamily {
    gather(family, MetricType::HISTOGRAM, [(labels, 0.0)], |metric, _| {
        let mut cumulative = 0;
        let buckets = bounds
            .iter()
            .zip(counts)
            .filter_map(|(bound, count)| {
                cumulative += count;
                // The encoder writes the last bucket itself, and would spell this one differently.
                if bound.is_infinite() {
                    return None;
                }
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(cumulative);
                Some(bucket)
            })
            .collect();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative);
        histogram.set_sample_sum(sum);
        metric.set_histogram(histogram);
    })
}

fn gather(
    family: &Family,
    kind: MetricType,
    values: impl IntoIterator<Item = (Vec<String>, f64)>,
    mut set: impl FnMut(&mut Metric, f64),
) -> MetricFamily {
    let metrics = values
        .into_iter()
        .map(|(labels, value)| {
            let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value(value);
                pair
            });
            let mut metric = Metric::from_label(pairs.collect());
            set(&mut metric, value);
            metric
        })
        .collect();
    let mut gathered = MetricFamily::default();
    gathered.set_name(family.name.to_owned());
    gathered.set_help(family.help.to_owned());
    gathered.set_field_type(kind);
    gathered.set_metric(metrics);
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder as _, TextEncoder};

    fn render(families: &[MetricFamily]) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(families, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn counts_start_at_zero_and_an_absent_time_is_nan() {
        let mut families = Vec::new();
        collect_timers(&EngineMetrics::default(), &mut families);
        let text = render(&families);
        for line in [
            "stormwheel_timers_registered_total{domain=\"event\",result=\"created\"} 0",
            "stormwheel_timers_fired_total{domain=\"processing\"} 0",
            "stormwheel_timers_pending_due_within{bound=\"+Inf\"} 0",
            "stormwheel_timers_overdue_at_restart_total{policy=\"drop\"} 0",
            "stormwheel_oldest_due_timestamp_seconds NaN",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn lateness_is_cumulative_in_seconds() {
        let mut histogram = LatenessHistogram::default();
        histogram.counts[0] = 3;
        histogram.counts[2] = 2;
        histogram.counts[13] = 1;
        histogram.sum_ms = 700_009.0;
        let family = lateness(&histogram, &LatenessHistogram::default());
        let text = render(family.as_slice());
        for line in [
            "stormwheel_timer_lateness_seconds_bucket{origin=\"live\",le=\"0.0005\"} 3",
            "stormwheel_timer_lateness_seconds_bucket{origin=\"live\",le=\"0.002\"} 5",
            "stormwheel_timer_lateness_seconds_bucket{origin=\"live\",le=\"600\"} 5",
            "stormwheel_timer_lateness_seconds_bucket{origin=\"live\",le=\"+Inf\"} 6",
            "stormwheel_timer_lateness_seconds_sum{origin=\"live\"} 700.009",
            "stormwheel_timer_lateness_seconds_count{origin=\"live\"} 6",
            "stormwheel_timer_lateness_seconds_count{origin=\"restart\"} 0",
        ] {
            let found = text.lines().filter(|found| *found == line).count();
            assert_eq!(found, 1, "{line} in {text}");
        }
    }

    #[test]
    fn turns_are_told_by_shard() {
        let mut metrics = EngineMetrics::default();
        for (count, longest_turn_seconds) in [(3, 0.25), (5, 0.0)] {
            let mut turns = TurnHistogram { sum_seconds: 0.5, ..TurnHistogram::default() };
            turns.counts[7] = count;
            metrics.shards.push(ShardMetrics {
                turns,
                longest_turn_seconds,
                ..ShardMetrics::default()
            });
        }
        let mut families = Vec::new();
        collect_shards(&metrics, &Throttled::new().unwrap(), &mut families);
        let text = render(&families);
        for line in [
            "# TYPE stormwheel_turn_duration_seconds histogram",
            "stormwheel_turn_duration_seconds_bucket{shard=\"0\",le=\"0.003\"} 0",
            "stormwheel_turn_duration_seconds_bucket{shard=\"0\",le=\"0.005\"} 3",
            "stormwheel_turn_duration_seconds_bucket{shard=\"1\",le=\"+Inf\"} 5",
            "stormwheel_turn_duration_seconds_sum{shard=\"1\"} 0.5",
            "stormwheel_turn_longest_seconds{shard=\"0\"} 0.25",
            "stormwheel_turn_longest_seconds{shard=\"1\"} 0",
        ] {
            let found = text.lines().filter(|found| *found == line).count();
            assert_eq!(found, 1, "{line} in {text}");
        }
    }
}
