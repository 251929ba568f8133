//! What `/metrics` shows: figures of the engine, added up at each scrape, and those of HTTP.
//!
//! The engine counts in cells of its own shards, so its collector only reads. HTTP resolves its
//! histograms and counters once for each route at the start; a request looks nothing up by label.
//! Labels are bounded: shard, domain, route, status, never a key or a namespace.

mod engine;
mod storage;

use engine::EngineCollector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::sync::OnceLock;
use std::time::Duration;
use storage::StorageCollector;
use stormwheel::runtime::Engine;

/// Buckets of request durations, in seconds: fine where single requests are, coarse beyond.
const DURATION_BOUNDS: [f64; 13] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0];

/// Statuses that are counted by themselves; any other counts as the first one of its class.
const CODES: [u16; 25] = [
    200, 201, 202, 204, 300, 400, 401, 403, 404, 405, 406, 408, 409, 410, 412, 413, 415, 422, 429,
    431, 500, 501, 503, 504, 507,
];

/// Requests that were turned away at the door.
#[derive(Debug, Clone)]
pub(crate) struct Throttled {
    /// All connections were in use.
    pub connections: IntCounter,
    /// One address had as many connections as it may.
    pub connections_per_ip: IntCounter,
}

impl Throttled {
    /// Nobody was turned away yet.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            connections: IntCounter::new("connections", "counted for the engine's collector")?,
            connections_per_ip: IntCounter::new("per_ip", "counted for the engine's collector")?,
        })
    }
}

/// The figures of one route.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    route: String,
    method: &'static str,
    requests: IntCounterVec,
    by_code: [OnceLock<IntCounter>; CODES.len()],
    /// Streams have none: their length is the reader's choice.
    duration: Option<Histogram>,
}

impl RouteMetrics {
    /// Counts an answer.
    pub(crate) fn observe(&self, status: u16, took: Duration) {
        let index = CODES
            .iter()
            .position(|code| *code == status)
            .or_else(|| CODES.iter().position(|code| code / 100 == status / 100))
            .unwrap_or(0);
        self.by_code[index].get_or_init(|| self.counter(CODES[index])).inc();
        if let Some(duration) = &self.duration {
            duration.observe(took.as_secs_f64());
        }
    }

    fn counter(&self, code: u16) -> IntCounter {
        let code = code.to_string();
        self.requests.with_label_values(&[self.route.as_str(), self.method, code.as_str()])
    }
}

/// All figures of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
}

impl Metrics {
    /// Registers everything that can be scraped.
    pub(crate) fn new(
        engine: Engine,
        throttled: Throttled,
        checkpoint_interval: Duration,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new(
                "stormwheel_http_requests_total",
                "Requests answered, by route, method and status.",
            ),
            &["route", "method", "code"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "stormwheel_http_request_duration_seconds",
                "Time from a request's head to its answer, by route and method; streams are left out.",
            )
            .buckets(DURATION_BOUNDS.to_vec()),
            &["route", "method"],
        )?;
        let build = IntGaugeVec::new(
            Opts::new("stormwheel_build_info", "Always 1; the labels say what is running."),
            &["version", "profile"],
        )?;
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), profile]).set(1);
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        registry.register(Box::new(StorageCollector::new(engine.clone(), checkpoint_interval)?))?;
        registry.register(Box::new(EngineCollector::new(engine, throttled)?))?;
        Ok(Self { registry, requests, durations })
    }

    /// The figures of one route, resolved.
    pub(crate) fn route(&self, route: String, method: &'static str, streams: bool) -> RouteMetrics {
        let duration =
            (!streams).then(|| self.durations.with_label_values(&[route.as_str(), method]));
        let metrics = RouteMetrics {
            route,
            method,
            requests: self.requests.clone(),
            by_code: Default::default(),
            duration,
        };
        // A rate needs the zero before the first one.
        metrics.by_code[0].get_or_init(|| metrics.counter(CODES[0]));
        metrics
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(64 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// The content type of that text.
    pub(crate) const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
}
