//! Health, figures, documents.

use crate::harness::{HANG, Service};
use serde_json::json;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use stormwheel::ports::MachineClock;
use stormwheel_server::Server;
use stormwheel_server::config::{ServerConfig, Span};

#[tokio::test]
async fn health_is_short_unless_asked() {
    let service = Service::start().await;
    let live = service.get("/livez").await.expect(200).json();
    assert_eq!(live, json!({"status":"ok"}));
    let ready = service.get("/readyz").await.expect(200).json();
    assert_eq!(ready, json!({"status":"ready"}));
    let verbose = service.get("/readyz?verbose").await.expect(200).json();
    let names: Vec<_> =
        verbose["checks"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["accepting", "threads", "shards", "writers", "clock", "storage"]);
    service.get("/readyz?verbos").await.expect_problem(400, "invalid-query");
    let accepted = service.post("/v1/clock/accept", "").await.expect(200).json();
    assert_eq!(accepted["result"], "nothing held");
}

#[tokio::test]
async fn the_document_is_served_as_it_is_committed() {
    let service = Service::start().await;
    let served = service.get("/openapi.json").await.expect(200);
    assert_eq!(served.text(), include_str!("../../docs/openapi.json"));
}

#[tokio::test]
async fn every_path_of_the_document_is_there() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled: Vec<_> = path
            .split('/')
            .map(|part| match part {
                "{ns}" => "default",
                part if part.starts_with('{') => "x",
                part => part,
            })
            .collect();
        let filled = filled.join("/");
        // A method that no path has tells by its answer which ones there are.
        let answer = service.call("OPTIONS", &filled, "").await.expect(405);
        for method in item.as_object().unwrap().keys() {
            let allowed = answer.header("allow");
            assert!(allowed.contains(&method.to_uppercase()), "{path}: {allowed}");
        }
    }
}

#[tokio::test]
async fn figures_move_with_what_happens() {
    let service = Service::manual(0).await;
    for n in 0..3 {
        let path = format!("/v1/namespaces/m/keys/k{n}/timers");
        service.post(&path, r#"{"at":5}"#).await.expect(201);
    }
    service.delete("/v1/namespaces/m/keys/k0/timers").await.expect(200);
    service.set_clock(5).await;
    service.get("/v1/nope").await.expect(404);
    // A shard shows its counts at the end of a turn, the answers to it may be out before.
    let fired = "stormwheel_timers_fired_total{domain=\"processing\"} 2";
    let text = tokio::time::timeout(HANG, async {
        loop {
            let answer = service.get("/metrics").await.expect(200);
            assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
            let text = answer.text();
            if text.lines().any(|line| line == fired) {
                break text;
            }
        }
    })
    .await
    .unwrap();
    for line in [
        r#"stormwheel_timers_registered_total{domain="processing",result="created"} 3"#,
        r#"stormwheel_timers_registered_total{domain="event",result="created"} 0"#,
        "stormwheel_timers_cancelled_total 1",
        r#"stormwheel_timers_pending{domain="processing"} 0"#,
        "stormwheel_outputs_total 2",
        "stormwheel_namespaces 2",
        "stormwheel_clock_jumps_total 0",
        "stormwheel_clock_held_step_seconds 0",
        r#"stormwheel_throttled_total{reason="queue_full"} 0"#,
        r#"stormwheel_http_requests_total{code="404",method="other",route="unrouted"} 1"#,
        r#"stormwheel_http_requests_total{code="201",method="POST",route="/v1/namespaces/{ns}/keys/{key}/timers"} 3"#,
        r#"stormwheel_http_request_duration_seconds_count{method="POST",route="/v1/namespaces/{ns}/keys/{key}/timers"} 3"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    for name in [
        "stormwheel_timers_pending_due_within{bound=\"1m\"}",
        "stormwheel_timers_overdue ",
        "stormwheel_timers_overdue_at_restart_total{policy=\"fire\"} 0",
        "stormwheel_timer_lateness_seconds_bucket{origin=\"live\",le=\"0.01\"}",
        "stormwheel_oldest_due_timestamp_seconds NaN",
        "stormwheel_output_log_bytes ",
        "stormwheel_shard_queue_depth{shard=\"0\"}",
        "stormwheel_shard_busy_seconds_total{shard=\"0\"}",
        "stormwheel_shard_last_turn_timestamp_seconds{shard=\"0\"}",
        "stormwheel_clock_offset_seconds ",
        "stormwheel_memory_bytes{part=",
        "stormwheel_build_info{",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
    }
    assert!(!text.contains("k0"), "keys never become labels");
}

#[tokio::test]
async fn home_leads_on() {
    let service = Service::start().await;
    let text = service.get("/").await.expect(200);
    assert!(text.text().contains("curl -X PUT"));
    let html = service.call_with("GET", "/", &[("accept", "text/html")], "").await.expect(200);
    assert!(html.text().contains("/openapi.json"));
}

#[tokio::test]
async fn an_open_address_needs_to_be_asked_for() {
    let config = ServerConfig { listen: ([0, 0, 0, 0], 0).into(), ..ServerConfig::default() };
    let refused = Server::start(config, Arc::new(stormwheel::runtime::SystemClock)).await;
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("--insecure-listen"), "{message}");
}

/// A machine whose clock can be set; the time since its start stands still.
#[derive(Default)]
struct SettableClock(AtomicI64);

impl MachineClock for SettableClock {
    fn realtime_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn boottime_ms(&self) -> i64 {
        0
    }
}

#[tokio::test]
async fn a_held_clock_is_told_until_somebody_accepts_it() {
    let clock = Arc::new(SettableClock::default());
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        in_memory: true,
        ..ServerConfig::default()
    };
    let service = Service { server: Server::start(config, clock.clone()).await.unwrap() };
    service.put("/v1/keys/k/timers/n", r#"{"at":7200000}"#).await.expect(201);
    clock.0.store(7_200_000, Ordering::Relaxed);
    // A shard looks at the clock once a second at the latest, and before it answers.
    let held = tokio::time::timeout(HANG, async {
        loop {
            service.get("/v1/keys/k/timers").await.expect(200);
            let ready = service.get("/readyz").await;
            if ready.status == 503 {
                break ready;
            }
        }
    });
    let held = held.await.unwrap();
    assert_eq!(held.header("retry-after"), "1");
    let held = held.json();
    assert_eq!(held["status"], "unready");
    let clock_check = &held["checks"].as_array().unwrap()[0];
    assert_eq!((&clock_check["name"], &clock_check["ok"]), (&json!("clock"), &json!(false)));
    assert!(clock_check["detail"].as_str().unwrap().contains("7200000 ms"), "{clock_check}");
    let figure = async || {
        let text = service.get("/metrics").await.expect(200).text();
        let line = text.lines().find(|line| line.starts_with("stormwheel_clock_held_step_seconds"));
        line.unwrap().to_owned()
    };
    assert_eq!(figure().await, "stormwheel_clock_held_step_seconds 7200");
    service.get("/livez").await.expect(200);
    service.get("/v1/keys/k/timers/n").await.expect(200);
    let accepted = service.post("/v1/clock/accept", "").await.expect(200).json();
    assert_eq!(accepted, json!({"result":"accepted","step_ms":7_200_000}));
    let fired = service.get("/v1/outputs?wait=60s").await.expect(200).lines();
    assert_eq!(fired[0]["key"], "k");
    service.get("/readyz").await.expect(200);
    assert_eq!(figure().await, "stormwheel_clock_held_step_seconds 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_turns_of_a_shard_are_measured() {
    let service = Service::manual(0).await;
    service.post("/v1/namespaces/m/keys/k/timers", r#"{"at":5}"#).await.expect(201);
    // A shard tells of a turn with the next one.
    let is_told = async || {
        let text = service.get("/metrics").await.expect(200).text();
        let figure = |name: &str| -> f64 {
            let lines = text.lines().filter(|line| line.split('{').next() == Some(name));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
        };
        let count = figure("stormwheel_turn_duration_seconds_count");
        let sum = figure("stormwheel_turn_duration_seconds_sum");
        let longest = figure("stormwheel_turn_longest_seconds");
        assert!(sum <= figure("stormwheel_shard_busy_seconds_total") + 1e-3, "{text}");
        count > 0.0 && sum > 0.0 && longest > 0.0
    };
    tokio::time::timeout(HANG, async { while !is_told().await {} }).await.unwrap();
}

/// A clock that can be made to answer nobody: a shard that reads it stands still.
#[derive(Default)]
pub(crate) struct StickyClock {
    is_stuck: Mutex<bool>,
    freed: Condvar,
}

impl StickyClock {
    pub(crate) fn set_stuck(&self, is_stuck: bool) {
        *self.is_stuck.lock().unwrap() = is_stuck;
        self.freed.notify_all();
    }
}

impl MachineClock for StickyClock {
    fn realtime_ms(&self) -> i64 {
        let is_stuck = self.is_stuck.lock().unwrap();
        drop(self.freed.wait_while(is_stuck, |is_stuck| *is_stuck).unwrap());
        0
    }

    fn boottime_ms(&self) -> i64 {
        0
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_shard_that_stands_still() {
    let clock = Arc::new(StickyClock::default());
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        shutdown_timeout: Span(Duration::from_millis(200)),
        in_memory: true,
        ..ServerConfig::default()
    };
    let server = Server::start(config, clock.clone()).await.unwrap();
    clock.set_stuck(true);
    let stopped = tokio::time::timeout(HANG, server.stop()).await;
    // Before anything can fail: the runtime of this test waits for the threads.
    clock.set_stuck(false);
    assert!(!stopped.expect("the stop ends"), "a stop that leaves a shard behind is not clean");
}
