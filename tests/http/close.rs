//! The end of a namespace's input: what fires, what is refused, and how streams end.

use crate::functions::running;
use crate::harness::{Lines, Service};
use serde_json::{Value, json};
use stormwheel_tests::{Server as Process, fail_stormwheel, run_stormwheel};

const BASE: &str = "/v1/namespaces/m";

/// A manual namespace at 1,000 with two timers of its clock and one of event time.
async fn filled() -> Service {
    let service = Service::manual(1_000).await;
    for (name, body) in [
        ("late", r#"{"at":3000}"#),
        ("soon", r#"{"at":2000}"#),
        ("event", r#"{"at":40,"domain":"event"}"#),
    ] {
        let path = format!("{BASE}/keys/k/timers/{name}");
        service.put(&path, body).await.expect(201);
    }
    service
}

async fn close(service: &Service, timers: &str) -> Value {
    let body = json!({ "processing_timers": timers }).to_string();
    let answer = service.post(&format!("{BASE}/close"), &body).await.expect(200);
    assert_eq!(answer.header("stormwheel-ack"), "accepted");
    answer.json()
}

async fn state(service: &Service) -> [Value; 2] {
    let status = service.get(BASE).await.expect(200).json()["status"].take();
    [status["state"].clone(), status["processing_timers"].clone()]
}

fn names(fired: &[Value]) -> Vec<&str> {
    fired.iter().map(|it| it["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_namespace_that_is_drained_fires_all_it_has_and_takes_nothing_more() {
    let service = filled().await;
    assert_eq!(state(&service).await, [json!("open"), json!(null)]);
    let closed = close(&service, "drain").await;
    let expected = json!({"namespace":"m","result":"closed","state":"closed",
        "processing_timers":"drain","drained":2});
    assert_eq!(closed, expected);
    let fired = service.fired().await;
    assert_eq!(names(&fired), ["event", "soon", "late"]);
    assert_eq!(fired[0]["watermark"], i64::MAX);
    let soon = (&fired[1]["fire_at"], &fired[1]["fired_at"], &fired[1]["lateness_ms"]);
    assert_eq!(soon, (&json!(2_000), &json!(1_000), &json!(0)), "it says that it is early");
    assert_eq!(state(&service).await, [json!("closed"), json!("drain")]);
    let again = close(&service, "discard").await;
    assert_eq!(
        (&again["result"], &again["processing_timers"]),
        (&json!("ignored"), &json!("drain"))
    );
    assert!(again.get("drained").is_none());

    let timers = format!("{BASE}/keys/k/timers");
    let named = format!("{timers}/t");
    let closed = "namespace-closed";
    service.put(&named, r#"{"at":9000}"#).await.expect_problem(409, closed);
    service.post(&timers, r#"{"at":9000}"#).await.expect_problem(409, closed);
    service.delete(&named).await.expect_problem(409, closed);
    service.delete(&timers).await.expect_problem(409, closed);
    let touch = format!("{BASE}/keys/k/touch");
    service.post(&touch, r#"{"after":"1s"}"#).await.expect_problem(409, closed);
    let batch = format!("{BASE}/timers/batch");
    let line = "{\"op\":\"register\",\"key\":\"k\",\"at\":9000}\n";
    let lines = [("content-type", "application/x-ndjson")];
    let refused = service.call_with("POST", &batch, &lines, line).await;
    assert_eq!(
        refused.expect_problem(409, closed)["detail"],
        "the namespace is closed, and takes nothing more in"
    );
    let source = format!("{BASE}/watermarks/s");
    service.put(&source, r#"{"watermark":50}"#).await.expect_problem(409, closed);
    service.put(&format!("{BASE}/clock"), r#"{"now":9000}"#).await.expect_problem(409, closed);
    service.post(&format!("{BASE}/pause"), "").await.expect_problem(409, closed);
    assert_eq!(service.get(&timers).await.expect(200).json()["timers"], json!([]));
    assert_eq!(service.get(&format!("{BASE}/watermark")).await.json()["watermark"], i64::MAX);
    let metrics = service.get("/metrics").await.text();
    assert!(metrics.contains("\nstormwheel_timers_discarded_total 0\n"), "{metrics}");
}

#[tokio::test]
async fn what_is_waited_for_fires_at_its_time_and_what_is_discarded_does_not() {
    let service = filled().await;
    let closing = json!({"namespace":"m","result":"closing","state":"closing",
        "processing_timers":"wait"});
    assert_eq!(close(&service, "wait").await, closing);
    assert_eq!(names(&service.fired().await), ["event"]);
    let named = format!("{BASE}/keys/k/timers/late");
    service.delete(&named).await.expect_problem(409, "namespace-closed");
    assert_eq!(service.set_clock(2_000).await["fired"], 1);
    assert_eq!(state(&service).await, [json!("closing"), json!("wait")]);
    let discarded = close(&service, "discard").await;
    let expected = json!({"namespace":"m","result":"closed","state":"closed",
        "processing_timers":"discard","discarded":1});
    assert_eq!(discarded, expected);
    assert_eq!(names(&service.fired().await), ["event", "soon"]);
    service.get(&named).await.expect_problem(404, "timer-not-found");
    let metrics = service.get("/metrics").await.text();
    assert!(metrics.contains("\nstormwheel_timers_discarded_total 1\n"), "{metrics}");

    let service = filled().await;
    assert_eq!(close(&service, "wait").await, closing);
    assert_eq!(service.set_clock(3_000).await["fired"], 2);
    let ended = service.get(&format!("{BASE}/outputs?wait=60s&cursor=latest")).await.expect(200);
    assert!(ended.body.is_empty(), "nothing will come, and nobody waits for it");
    assert_eq!(state(&service).await, [json!("closed"), json!("wait")]);
}

#[tokio::test]
async fn streams_of_a_closed_namespace_end_and_others_go_on() {
    let service = filled().await;
    let open = async |path: &str, accept: &str| {
        let request = service.request("GET", path, &[("accept", accept)], "");
        let response = service.open(request).await;
        assert_eq!(response.status(), 200);
        Lines::of(response)
    };
    let own = format!("{BASE}/outputs");
    let mut lines = open(&own, "application/x-ndjson").await;
    let mut events = open(&own, "text/event-stream").await;
    let mut other = open("/v1/outputs", "application/x-ndjson").await;
    close(&service, "wait").await;
    let line = lines.next_full().await.unwrap();
    assert!(line.contains("\"event\""), "{line}");
    close(&service, "drain").await;
    let mut rest = Vec::new();
    while let Some(line) = lines.next_full().await {
        rest.push(serde_json::from_str::<Value>(&line).unwrap());
    }
    assert_eq!(names(&rest), ["soon", "late"]);
    let mut seen = 0;
    while let Some(line) = events.next_full().await {
        seen += usize::from(line.starts_with("data:"));
    }
    assert_eq!(seen, 3);
    // One that begins later gives what there is, and ends.
    let mut later = open(&own, "application/x-ndjson").await;
    let mut count = 0;
    while later.next_full().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    service.put("/v1/keys/k/timers/t", r#"{"at":1}"#).await.expect(201);
    let line = other.next_full().await.unwrap();
    assert!(line.contains("\"name\":\"t\""), "{line}");
    // A new life of the name begins open.
    service.delete(BASE).await.expect(200);
    service.put(BASE, r#"{"clock":"manual"}"#).await.expect(201);
    assert_eq!(state(&service).await, [json!("open"), json!(null)]);
}

#[tokio::test]
async fn a_function_gets_no_more_elements_and_its_last_timers() {
    let service = running(r#"{"operator":"sum"}"#).await;
    let line = "{\"key\":\"a\",\"timestamp\":5,\"value\":{\"n\":3}}\n";
    service.elements("", line).await.expect(200);
    assert_eq!(close(&service, "drain").await["state"], "closed");
    assert_eq!(service.values("").await, ["a @15 3"]);
    service.elements("", line).await.expect_problem(409, "namespace-closed");
    service.elements("", "{\"watermark\":9}\n").await.expect_problem(409, "namespace-closed");
}

#[tokio::test]
async fn a_close_says_what_becomes_of_the_timers() {
    let service = Service::manual(0).await;
    let path = format!("{BASE}/close");
    for (body, slug) in [
        ("", "invalid-json"),
        ("{}", "missing-field"),
        (r#"{"processing_timers":"fire"}"#, "invalid-field"),
        (r#"{"processing_timers":null}"#, "invalid-field"),
        (r#"{"timers":"drain"}"#, "unknown-field"),
    ] {
        service.post(&path, body).await.expect_problem(400, slug);
    }
    service
        .post("/v1/namespaces/nobody/close", r#"{"processing_timers":"wait"}"#)
        .await
        .expect_problem(404, "namespace-not-found");
    service.post(&format!("{BASE}/pause"), "").await.expect(200);
    service
        .post(&path, r#"{"processing_timers":"wait"}"#)
        .await
        .expect_problem(409, "namespace-paused");
    assert_eq!(state(&service).await, [json!("open"), json!(null)]);
}

#[test]
fn a_namespace_is_closed_from_a_shell() {
    let server = Process::start();
    let address = format!("http://127.0.0.1:{}", server.port());
    let run =
        |args: &[&str]| run_stormwheel(&[&["namespaces"], args, &["--server", &address]].concat());
    run(&["create", "orders"]);
    let timer = "/v1/namespaces/orders/keys/k/timers/t";
    server.client().put(timer, r#"{"after":"1h"}"#).expect_status(201);
    let wait = run(&["close", "orders", "--processing-timers", "wait"]);
    assert_eq!(wait, "orders is closing: it waits for its processing timers\n");
    let drained = run(&["close", "orders", "--processing-timers", "drain"]);
    assert_eq!(drained, "closed orders; processing timers drained: 1\n");
    let again = run(&["close", "orders", "--processing-timers", "wait"]);
    assert_eq!(again, "orders was closed before, by drain; it is closed\n");
    let place = ["--server", &address];
    let (code, said) = fail_stormwheel(&[&["namespaces", "close", "orders"][..], &place].concat());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--processing-timers"), "{said}");
}
