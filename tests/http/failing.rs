//! Functions that fail: they are called again, and then their namespace stops, or what they failed at is
//! passed over.

use crate::functions::{running, running_with};
use crate::harness::Service;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stormwheel::function::{Context, KeyedProcessFunction, Result};
use stormwheel_server::Server as Builder;
use stormwheel_tests::{Server as Process, fail_stormwheel, run_stormwheel};

const BASE: &str = "/v1/namespaces/m";

async fn status(service: &Service) -> Value {
    service.get(BASE).await.expect(200).json()["status"].clone()
}

async fn stopped_count(service: &Service) -> String {
    let metrics = service.get("/metrics").await.expect(200).text();
    let line = metrics.lines().find(|line| line.starts_with("stormwheel_namespaces_stopped"));
    line.expect("it is always there").to_owned()
}

/// Waits for the home of the namespace to hear of the stop: an answer may be out before.
async fn until_stopped(service: &Service) -> Value {
    loop {
        let stopped = status(service).await["stopped"].clone();
        if !stopped.is_null() {
            return stopped;
        }
    }
}

#[tokio::test]
async fn an_element_that_fails_is_tried_again_and_then_the_namespace_stops() {
    let service = running(r#"{"operator":"sum","on_error":{"retry":2,"backoff":"5ms"}}"#).await;
    let shown = service.get(BASE).await.expect(200).json();
    assert_eq!(shown["config"]["on_error"], json!({"retry": 2, "backoff": "5ms", "then": "stop"}));
    assert_eq!(shown["status"]["stopped"], Value::Null);
    assert_eq!(stopped_count(&service).await, "stormwheel_namespaces_stopped 0");
    let body = "{\"key\":\"a\",\"timestamp\":1,\"value\":{\"n\":1}}\n\
                {\"key\":\"a\",\"timestamp\":2,\"value\":{\"n\":-2}}\n\
                {\"key\":\"a\",\"timestamp\":3,\"value\":{\"n\":4}}\n\
                {\"watermark\":100}\n";
    let summary = service.elements("?ack=synced", body).await.expect(200).json();
    assert_eq!(summary["results"], json!({"processed": 1}), "{summary}");
    let detail = "the namespace has stopped: its function failed at the element of 2 of key `a`: \
                  -2 is negative";
    for (place, index) in [1, 2, 3].into_iter().enumerate() {
        let error = &summary["errors"][place];
        assert_eq!(error["index"], index);
        assert_eq!(error["error"]["type"], "/problems/namespace-stopped");
        assert_eq!(
            (&error["error"]["status"], &error["error"]["detail"]),
            (&json!(409), &json!(detail))
        );
    }
    let mut stopped = until_stopped(&service).await;
    assert!(stopped["since"].as_i64().is_some_and(|since| since > 0), "{stopped}");
    stopped["since"] = Value::Null;
    assert_eq!(
        stopped,
        json!({
            "since": null, "key": "a", "error": "-2 is negative",
            "element": {"timestamp": 2, "input": 0},
        })
    );
    assert_eq!(status(&service).await["paused"], true);
    assert_eq!(stopped_count(&service).await, "stormwheel_namespaces_stopped 1");
    // On every lane nothing is taken, and no time passes.
    service.watermark("s", 50).await;
    let line = |n| format!("{{\"key\":\"k{n}\",\"timestamp\":60,\"value\":{{\"n\":1}}}}\n");
    let others = (0..40).map(line).collect::<Vec<_>>().concat();
    let summary = service.elements("", &others).await.expect(200).json();
    assert_eq!((&summary["failed"], &summary["results"]), (&json!(40), &json!({})));
    assert_eq!(service.values("").await, [] as [&str; 0]);
    let resume = format!("{BASE}/resume");
    let resumed = service.post(&resume, "").await.expect(200).json();
    assert_eq!(resumed, json!({"namespace": "m", "result": "resumed", "paused": false}));
    assert_eq!(service.values("").await, ["a @11 1"]);
    assert_eq!(stopped_count(&service).await, "stormwheel_namespaces_stopped 0");
    let summary = service.elements("", &others).await.expect(200).json();
    assert_eq!(summary["results"], json!({"processed": 40}));
    let metrics = service.get("/metrics").await.expect(200).text();
    assert!(metrics.contains("stormwheel_function_retries_total 2\n"), "{metrics}");
}

#[tokio::test]
async fn a_timer_that_fails_stays_until_the_function_is_mended() {
    let config = r#"{"operator":"fuse","options":{"broken":true},
                     "on_error":{"retry":1,"backoff":"1ms"}}"#;
    let service = running(config).await;
    let element = "{\"key\":\"a\",\"timestamp\":1,\"value\":null}";
    service.elements("?ack=synced", element).await.expect(200);
    assert_eq!(service.watermark("s", 100).await["fired"], 0);
    let stopped = until_stopped(&service).await;
    let timer = json!({"domain": "event", "fire_at": 11, "name": "fuse"});
    assert_eq!((&stopped["timer"], &stopped["error"]), (&timer, &json!("the fuse is broken")));
    assert_eq!(status(&service).await["timers"]["event"], 1);
    // As it is, going on is of no use, and says so.
    let resume = format!("{BASE}/resume");
    let problem = service.post(&resume, "").await.expect_problem(409, "namespace-stopped");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("at the event timer of 11 of key `a`: the fuse is broken"), "{detail}");
    assert_eq!(service.values("").await, [] as [&str; 0]);
    let mended = r#"{"options":{"broken":false}}"#;
    service.call("PATCH", BASE, mended).await.expect(200);
    assert!(!status(&service).await["stopped"].is_null());
    service.post(&resume, "").await.expect(200);
    assert_eq!(service.values("").await, ["a @11 1"]);
    assert_eq!(status(&service).await["stopped"], Value::Null);
}

#[tokio::test]
async fn what_may_be_said_of_failures_is_checked() {
    let service = Service::start().await;
    for (on_error, field, part) in [
        (r#"{"then":"die"}"#, "on_error.then", "is `die`, allowed are `stop`, `skip`"),
        (r#"{"retry":101}"#, "on_error.retry", "is 101, allowed is 0 to 100"),
        (r#"{"backoff":"-1ms"}"#, "on_error.backoff", "is -1 ms, allowed is 0 to 100000 ms"),
        (r#"{"retry":10,"backoff":"1h"}"#, "on_error.backoff", "allowed is 0 to 30000 ms"),
    ] {
        let body = format!("{{\"operator\":\"deduplicate\",\"on_error\":{on_error}}}");
        let problem = service.put(BASE, &body).await.expect_problem(400, "invalid-option");
        assert_eq!(problem["field"], field);
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
}

#[test]
fn a_namespace_is_paused_and_resumed_from_a_shell() {
    let server = Process::start();
    let address = format!("http://127.0.0.1:{}", server.port());
    let run = |args: &[&str]| run_stormwheel(&[args, &["--server", &address]].concat());
    run(&["namespaces", "create", "n", "--clock", "manual"]);
    for (verb, said) in [
        ("resume", "n was not paused\n"),
        ("pause", "paused n\n"),
        ("pause", "n was paused already\n"),
        ("resume", "resumed n\n"),
    ] {
        assert_eq!(run(&["namespaces", verb, "n"]), said);
    }
    let shown = run(&["namespaces", "pause", "n", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown, json!({"namespace": "n", "result": "paused", "paused": true}));
    for verb in ["pause", "resume"] {
        let args = ["namespaces", verb, "nobody", "--server", &address];
        let (code, said) = fail_stormwheel(&args);
        assert_eq!(code, Some(1));
        assert!(said.contains("there is no namespace"), "{said}");
    }
}

#[tokio::test]
async fn each_lane_that_has_failed_is_shown_up_to_a_number() {
    let config = r#"{"operator":"fuse","options":{"broken":true},"on_error":{"retry":0}}"#;
    let service = running_with(config, |config| config.lanes = 16).await;
    assert_eq!((&status(&service).await["failures"]), &json!([]));
    let line = |n| format!("{{\"key\":\"k{n}\",\"timestamp\":1,\"value\":null}}\n");
    let body = (0..200).map(line).collect::<Vec<_>>().concat();
    service.elements("?ack=synced", &body).await.expect(200);
    assert_eq!(service.watermark("s", 100).await["fired"], 0);
    let shown = loop {
        let shown = status(&service).await;
        if shown["failures_omitted"] == 8 {
            break shown;
        }
    };
    let failures = shown["failures"].as_array().unwrap();
    assert_eq!((failures.len(), &failures[0]), (8, &shown["stopped"]));
    let keys: BTreeSet<&str> = failures.iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 8, "{failures:?}");
    for failure in failures {
        let timer = json!({"domain": "event", "fire_at": 11, "name": "fuse"});
        assert_eq!((&failure["timer"], &failure["error"]), (&timer, &json!("the fuse is broken")));
    }
    service.call("PATCH", BASE, r#"{"options":{"broken":false}}"#).await.expect(200);
    service.post(&format!("{BASE}/resume"), "").await.expect(200);
    let shown = status(&service).await;
    assert_eq!((&shown["failures"], &shown["failures_omitted"]), (&json!([]), &json!(0)));
    assert_eq!(service.values("").await.len(), 200);
}

/// Counts how often its instances are opened and closed, and panics when they are closed.
#[derive(Clone, Default)]
struct Counted {
    opened: Arc<AtomicU64>,
    closed: Arc<AtomicU64>,
}

impl Counted {
    fn figures(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.closed.load(Ordering::Relaxed))
    }
}

impl KeyedProcessFunction for Counted {
    type Input = Value;
    type State = ();
    type Output = Value;

    fn open(&mut self) -> Result<()> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn close(&mut self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
        panic!("no good end");
    }

    fn process_element(
        &mut self,
        value: Value,
        (): &mut (),
        ctx: &mut Context<Value>,
    ) -> Result<()> {
        ctx.emit(value);
        Ok(())
    }
}

#[tokio::test]
async fn a_function_is_opened_before_it_is_called_and_closed_when_it_is_let_go_of() {
    let counted = Counted::default();
    let made = counted.clone();
    let builder = Builder::builder().operator("counted", move || made.clone());
    let service = Service::start_built(builder, |config| config.lanes = 4).await;
    service.put(BASE, r#"{"operator":"counted"}"#).await.expect(201);
    assert_eq!(counted.figures(), (0, 0));
    let element = "{\"key\":\"a\",\"timestamp\":1,\"value\":1}";
    service.elements("?ack=synced", element).await.expect(200);
    service.elements("?ack=synced", element).await.expect(200);
    assert_eq!(counted.figures(), (1, 0));
    service.call("DELETE", BASE, "").await.expect(200);
    assert_eq!(counted.figures(), (1, 4), "all lanes have let go of theirs");
    service.put(BASE, r#"{"operator":"counted"}"#).await.expect(201);
    service.elements("?ack=synced", element).await.expect(200);
    let metrics = service.get("/metrics").await.expect(200).text();
    assert!(metrics.contains("stormwheel_function_close_panics_total 4\n"), "{metrics}");
    assert!(service.server.stop().await, "it stops as ever");
    assert_eq!(counted.figures(), (2, 8));
}
