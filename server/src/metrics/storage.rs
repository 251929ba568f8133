//! The figures of what is written down: logs, checkpoints, recovery, room.

use super::engine::{Family, counters, gauges, histogram};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use std::time::Duration;
use stormwheel::runtime::{DurabilityMetrics, Engine, SYNC_BOUNDS_SECONDS};

const SYNC_DURATION: Family = Family {
    name: "stormwheel_log_sync_duration_seconds",
    labels: &[],
    help: "How long it took to make what a shard had written durable.",
};
const FAILURES: Family = Family {
    name: "stormwheel_checkpoint_failures_total",
    labels: &[],
    help: "Checkpoints that did not come to their end; the log is kept until one does.",
};
const LOG_BYTES: Family = Family {
    name: "stormwheel_log_bytes",
    labels: &[],
    help: "Bytes of the journals' files, without spare ones and without those of the outputs.",
};
const REPLAY_BYTES: Family = Family {
    name: "stormwheel_log_replay_bytes",
    labels: &[],
    help: "Bytes of the log above the newest checkpoint: what a start would have to follow now.",
};
const SIZE: Family = Family {
    name: "stormwheel_checkpoint_size_bytes",
    labels: &[],
    help: "Bytes of all objects that the last checkpoint stands on.",
};
const DURATION: Family = Family {
    name: "stormwheel_checkpoint_duration_seconds",
    labels: &[],
    help: "How long the last checkpoint took, from its beginning to its manifest.",
};
const INTERVAL: Family = Family {
    name: "stormwheel_checkpoint_interval_seconds",
    labels: &[],
    help: "From the beginning of one checkpoint to that of the next, as configured; 0 if there are none by themselves.",
};
const LAST_SUCCESS: Family = Family {
    name: "stormwheel_checkpoint_last_success_timestamp_seconds",
    labels: &[],
    help: "When the last checkpoint came to its end, in this process or before it; NaN if none did.",
};
const RECOVERY: Family = Family {
    name: "stormwheel_recovery_duration_seconds",
    labels: &[],
    help: "How long the recovery at the start took.",
};
const FREE: Family = Family {
    name: "stormwheel_data_dir_free_bytes",
    labels: &[],
    help: "Bytes that the data directory may still grow by: what its disk has left, or what max_disk_bytes leaves if that is less; NaN if there is none.",
};

const FAMILIES: [&Family; 10] = [
    &SYNC_DURATION,
    &FAILURES,
    &LOG_BYTES,
    &REPLAY_BYTES,
    &SIZE,
    &DURATION,
    &INTERVAL,
    &LAST_SUCCESS,
    &RECOVERY,
    &FREE,
];

/// Reads the engine when Prometheus asks.
pub(super) struct StorageCollector {
    engine: Engine,
    interval: Duration,
    descs: Vec<Desc>,
}

impl StorageCollector {
    pub(super) fn new(engine: Engine, interval: Duration) -> Result<Self, prometheus::Error> {
        let descs = FAMILIES.iter().map(|family| family.desc()).collect::<Result<_, _>>()?;
        Ok(Self { engine, interval, descs })
    }
}

impl Collector for StorageCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        families(&self.engine.durability_metrics(), self.interval)
    }
}

fn families(metrics: &DurabilityMetrics, interval: Duration) -> Vec<MetricFamily> {
    let syncs = &metrics.syncs;
    let seconds = |millis: i64| millis as f64 / 1_000.0;
    let mut all = vec![
        histogram(&SYNC_DURATION, vec![], &SYNC_BOUNDS_SECONDS, &syncs.counts, syncs.sum_seconds),
        counters(&FAILURES, [(vec![], metrics.checkpoint_failures as f64)]),
    ];
    let plain = [
        (&LOG_BYTES, metrics.log_bytes as f64),
        (&REPLAY_BYTES, metrics.log_replay_bytes as f64),
        (&SIZE, metrics.checkpoint_size_bytes as f64),
        (&DURATION, metrics.checkpoint_duration_seconds),
        (&INTERVAL, interval.as_secs_f64()),
        (&LAST_SUCCESS, metrics.checkpoint_last_success_ms.map_or(f64::NAN, seconds)),
        (&RECOVERY, metrics.recovery_duration_seconds),
        (&FREE, metrics.data_dir_free_bytes.map_or(f64::NAN, |bytes| bytes as f64)),
    ];
    all.extend(plain.map(|(family, value)| gauges(family, [(vec![], value)])));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder as _, TextEncoder};

    #[test]
    fn what_is_written_down_is_told_in_base_units() {
        let mut metrics = DurabilityMetrics {
            log_bytes: 5,
            checkpoint_last_success_ms: Some(1_500),
            ..DurabilityMetrics::default()
        };
        metrics.syncs.counts[0] = 3;
        metrics.syncs.counts[11] = 1;
        metrics.syncs.sum_seconds = 2.5;
        let mut text = Vec::new();
        let all = families(&metrics, Duration::from_mins(1));
        assert_eq!(all.len(), FAMILIES.len());
        TextEncoder::new().encode(&all, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "stormwheel_log_bytes 5",
            "stormwheel_checkpoint_failures_total 0",
            "stormwheel_checkpoint_interval_seconds 60",
            "stormwheel_checkpoint_last_success_timestamp_seconds 1.5",
            "stormwheel_data_dir_free_bytes NaN",
            "stormwheel_log_sync_duration_seconds_bucket{le=\"0.0001\"} 3",
            "stormwheel_log_sync_duration_seconds_bucket{le=\"2\"} 3",
            "stormwheel_log_sync_duration_seconds_bucket{le=\"+Inf\"} 4",
            "stormwheel_log_sync_duration_seconds_sum 2.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
