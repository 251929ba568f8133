//! Bad input: each gets its status and a message that names the field and the limit, and none of it
//! takes effect.

use crate::harness::Service;
use serde_json::json;

async fn check(service: &Service, body: &str, status: u16, slug: &str, field: Option<&str>) {
    let answer = service.put("/v1/keys/k/timers/n", body).await;
    let problem = answer.expect_problem(status, slug);
    assert_eq!(problem.get("field").and_then(|f| f.as_str()), field, "{body}: {problem}");
    service.get("/v1/keys/k/timers/n").await.expect_problem(404, "timer-not-found");
}

#[tokio::test]
async fn bodies_that_cannot_be() {
    let service = Service::start().await;
    for (body, status, slug, field) in [
        ("", 400, "invalid-json", None),
        ("{", 400, "invalid-json", None),
        ("[]", 400, "invalid-json", None),
        ("{\"after\":\"1s\"} x", 400, "invalid-json", None),
        ("{}", 400, "missing-field", Some("at")),
        ("{\"att\":5}", 400, "unknown-field", Some("att")),
        ("{\"at\":1.5}", 400, "invalid-time", Some("at")),
        ("{\"at\":9223372036854775808}", 400, "invalid-time", Some("at")),
        ("{\"at\":\"2026-01-01\"}", 400, "invalid-time", Some("at")),
        ("{\"after\":60}", 400, "invalid-duration", Some("after")),
        ("{\"after\":\"-1s\"}", 400, "invalid-duration", Some("after")),
        ("{\"after\":\"9223372036854775807ms\"}", 422, "time-overflow", Some("after")),
        ("{\"after\":\"1h\",\"only\":\"sometimes\"}", 400, "invalid-field", Some("only")),
        ("{\"after\":\"1h\",\"domain\":\"wall\"}", 400, "invalid-field", Some("domain")),
    ] {
        check(&service, body, status, slug, field).await;
    }
}

#[tokio::test]
async fn at_and_after_exclude_each_other() {
    let service = Service::start().await;
    let both = r#"{"at":1,"after":"1s"}"#;
    let problem = service.put("/v1/keys/k/timers/n", both).await.expect(400).json();
    assert!(problem["field"].is_string(), "{problem}");
}

#[tokio::test]
async fn json_is_not_nested_without_end() {
    let service = Service::start().await;
    let payload = |depth: usize| {
        format!("{{\"after\":\"1h\",\"payload\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
    };
    service
        .put("/v1/keys/k/timers/deep", &payload(500_000))
        .await
        .expect_problem(400, "invalid-json");
    service.put("/v1/keys/k/timers/flat", &payload(20)).await.expect(201);
}

#[tokio::test]
async fn keys_and_names_out_of_bounds() {
    let service = Service::start().await;
    let body = r#"{"after":"1h"}"#;
    let key = |key: &str| format!("/v1/keys/{key}/timers/n");
    service.put(&key(&"k".repeat(1_024)), body).await.expect(201);
    let long = service.put(&key(&"k".repeat(1_025)), body).await.expect_problem(400, "invalid-key");
    assert_eq!(
        (&long["field"], &long["limit"], &long["actual"]),
        (&json!("key"), &json!(1_024), &json!(1_025))
    );
    let empty = service.put(&key(""), body).await.expect_problem(400, "invalid-key");
    assert_eq!(empty["field"], "key");
    let not_text = service.put(&key("%FF"), body).await.expect_problem(400, "invalid-utf8");
    assert_eq!(not_text["field"], "key");
    service.put(&key("~not%20base64"), body).await.expect(400);
    let name = |name: &str| format!("/v1/keys/k/timers/{name}");
    service.put(&name(&"n".repeat(255)), body).await.expect(201);
    let long = service.put(&name(&"n".repeat(256)), body).await.expect_problem(400, "invalid-name");
    assert_eq!((&long["field"], &long["limit"]), (&json!("name"), &json!(255)));
}

#[tokio::test]
async fn invalid_utf8_in_a_body() {
    let service = Service::start().await;
    let body = b"{\"after\":\"1h\",\"payload\":\"\xff\"}".to_vec();
    let answer = service.call("PUT", "/v1/keys/k/timers/n", body).await;
    answer.expect_problem(400, "invalid-utf8");
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let service = Service::start().await;
    let large = vec![b' '; (1 << 20) + 1];
    let problem = service
        .call("PUT", "/v1/keys/k/timers/n", large)
        .await
        .expect_problem(413, "body-too-large");
    assert_eq!((&problem["limit"], &problem["actual"]), (&json!(1 << 20), &json!((1 << 20) + 1)));
    let large = vec![b' '; (8 << 20) + 1];
    let problem =
        service.call("POST", "/v1/timers/batch", large).await.expect_problem(413, "body-too-large");
    assert_eq!(problem["limit"], 8 << 20);
}

#[tokio::test]
async fn epoch_seconds_are_taken_and_told_to_be_overdue() {
    let service = Service::start().await;
    let answer =
        service.put("/v1/keys/k/timers/n", r#"{"at":1767225600}"#).await.expect(201).json();
    assert_eq!(answer["overdue"], true);
}

#[tokio::test]
async fn a_full_queue_is_told_with_when_to_come_back() {
    let service = Service::start_with(|config| {
        config.shards = 1;
        config.queue_bytes_max = stormwheel_server::config::ByteSize(1);
    })
    .await;
    // A reply that does not come back holds the shard, so that its queue fills up.
    let engine = service.server.engine();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let namespace = engine.namespace("default").unwrap();
    let (entered, mut holding) = tokio::sync::mpsc::unbounded_channel();
    engine.key_timers(
        &namespace,
        b"k",
        Box::new(move |_| {
            entered.send(()).unwrap();
            held.recv().unwrap();
        }),
    );
    holding.recv().await.unwrap();
    let mut first = service.connect().await;
    let request = service.request("PUT", "/v1/keys/k/timers/first", &[], r#"{"after":"1h"}"#);
    let first = tokio::spawn(async move { first.send_request(request).await });
    while engine.metrics().shards[0].queue_bytes == 0 {
        tokio::task::yield_now().await;
    }
    let answer = service.put("/v1/keys/k/timers/n", r#"{"after":"1h"}"#).await;
    assert!(!answer.header("retry-after").is_empty());
    let problem = answer.expect_problem(429, "queue-full");
    assert!(problem["retry_after_ms"].as_u64().unwrap() > 0);
    let lines = "{\"op\":\"touch\",\"key\":\"a\",\"after\":\"1s\"}\n".repeat(3);
    let refused = service.post("/v1/timers/batch", &lines).await.expect(429);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(refused.header("stormwheel-failed"), "3");
    assert_eq!(refused.lines()[2]["error"]["status"], 429);
    release.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), 201);
}
