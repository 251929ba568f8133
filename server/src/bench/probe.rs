//! What else works while a storm drains: single registrations at a steady rate, on a connection of
//! their own, with a latency histogram of their own. Their timers are due long after the run.

use super::clock::{Stopwatch, wall_ms};
use super::connection::Connection;
use super::encode::single::SingleRequests;
use super::latency_histogram;
use super::plan::Plan;
use super::schedule::Schedule;
use crate::cli::Failure;
use hdrhistogram::Histogram;
use tokio::sync::{oneshot, watch};

/// Their timers fall due so much after the run, which is over by then.
const DUE_AFTER_MS: i64 = 3_600_000;
/// Requests before the storm that warm the way up and are not counted.
const WARM_UP: u64 = 20;
/// A storm that drains at once is still probed for so long.
const PROBE_MS_MIN: u64 = 1000;

/// What the probes saw.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) latency_ns: Histogram<u64>,
    /// Probes that were not answered by a success, and the first one's reason.
    pub(crate) failed: u64,
    pub(crate) example: Option<String>,
}

/// A running probe.
#[derive(Debug)]
pub(crate) struct Probe {
    stop: watch::Sender<bool>,
    done: oneshot::Receiver<Result<Probed, Failure>>,
}

impl Probe {
    /// Begins at the storm's millisecond, and goes on until it is finished.
    pub(crate) fn start(plan: &Plan, authority: &str, storm_ms: i64) -> Result<Self, Failure> {
        let (stop, stopped) = watch::channel(false);
        let (sender, done) = oneshot::channel();
        let (plan, authority) = (plan.clone(), authority.to_owned());
        super::spawn_runtime("bench-probe", move || async move {
            let probed = drive(&plan, &authority, storm_ms, stopped).await;
            drop(sender.send(probed));
        })?;
        Ok(Self { stop, done })
    }

    /// Stops and tells what it saw.
    pub(crate) async fn finish(self) -> Result<Probed, Failure> {
        // Nobody hears it if the thread has ended already.
        self.stop.send_replace(true);
        self.done.await.map_err(|_| Failure::Failed("the probe's thread ended".to_owned()))?
    }
}

async fn drive(
    plan: &Plan,
    authority: &str,
    storm_ms: i64,
    stopped: watch::Receiver<bool>,
) -> Result<Probed, Failure> {
    let mut connection = Connection::open(authority)
        .await
        .map_err(|source| Failure::Unreachable { server: format!("http://{authority}"), source })?;
    let stopwatch = Stopwatch::start();
    let until_storm_ms = (storm_ms - wall_ms()).max(0) as u64;
    let rate = f64::from(plan.probe_rate);
    let warm_up_ns = (WARM_UP as f64 * 1e9 / rate) as u64;
    let begin_ns = (until_storm_ms * 1_000_000).saturating_sub(warm_up_ns);
    let schedule = Schedule::new(Some(rate), begin_ns);
    let end_ns_min = (until_storm_ms + PROBE_MS_MIN) * 1_000_000;
    let mut singles = SingleRequests::new(&plan.namespace, authority);
    let mut request = Vec::new();
    let mut probed = Probed { latency_ns: latency_histogram(), failed: 0, example: None };
    for ordinal in 0_u64.. {
        let now_ns = stopwatch.elapsed_ns();
        if *stopped.borrow() && now_ns >= end_ns_min {
            break;
        }
        if let Some(wake_ns) = schedule.wake_ns(ordinal, now_ns) {
            stopwatch.sleep_until_ns(wake_ns).await;
        }
        let key = format!("probe-{ordinal:09}");
        singles.write_unnamed(&mut request, key.as_bytes(), wall_ms() + DUE_AFTER_MS);
        let sent_ns = stopwatch.elapsed_ns();
        let failure = match connection.exchange(&mut request, b"").await {
            Ok(answer) if answer.status < 300 => None,
            Ok(answer) => Some(format!("status {}", answer.status)),
            Err(error) => return Err(Failure::Failed(format!("the probe's connection: {error}"))),
        };
        if ordinal < WARM_UP {
            continue;
        }
        if let Some(failure) = failure {
            probed.failed += 1;
            probed.example.get_or_insert(failure);
        }
        let latency_ns = schedule.latency_ns(ordinal, sent_ns, stopwatch.elapsed_ns());
        probed.latency_ns.saturating_record(latency_ns);
    }
    Ok(probed)
}
