//! The table *Timers* of the interface, row by row.

use crate::harness::Service;
use serde_json::json;

const T: i64 = 1_767_225_600_000;

#[tokio::test]
async fn a_named_timer_is_created_then_unchanged_then_replaced() {
    let service = Service::manual(T).await;
    let path = "/v1/namespaces/m/keys/order-17/timers/expiry";
    let at = |offset: i64| format!("{{\"at\":{},\"payload\":{{\"n\":1}}}}", T + offset);
    let created = service.put(path, &at(1_000)).await.expect(201);
    assert_eq!(created.header("stormwheel-ack"), "accepted");
    assert_eq!(
        created.json(),
        json!({"key":"order-17","name":"expiry","domain":"processing","result":"created","fire_at":T + 1_000})
    );
    let unchanged = service.put(path, &at(1_000)).await.expect(200);
    assert_eq!(unchanged.json()["result"], "unchanged");
    let replaced = service.put(path, &at(2_000)).await.expect(200).json();
    assert_eq!(replaced["result"], "replaced");
    assert_eq!(replaced["fire_at"], T + 2_000);
    assert_eq!(service.set_clock(T + 2_000).await["fired"], 1);
    let fired = service.fired().await;
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0]["fire_at"], T + 2_000);
    assert_eq!(fired[0]["payload"], json!({"n":1}));
}

#[tokio::test]
async fn an_unnamed_timer_is_identified_by_its_time_and_keeps_its_first_payload() {
    let service = Service::manual(T).await;
    let path = "/v1/namespaces/m/keys/k/timers";
    let body = |n: u8| format!("{{\"at\":{},\"payload\":{n}}}", T + 5);
    let created = service.post(path, &body(1)).await.expect(201);
    assert_eq!(created.json()["result"], "created");
    let duplicate = service.post(path, &body(2)).await.expect(200).json();
    assert_eq!(duplicate["result"], "duplicate");
    service.set_clock(T + 5).await;
    let fired = service.fired().await;
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0]["payload"], 1);
}

#[tokio::test]
async fn timers_of_a_key_are_shown_one_and_all() {
    let service = Service::manual(T).await;
    let base = "/v1/namespaces/m/keys/k/timers";
    let empty = service.get(base).await.expect(200).json();
    assert_eq!(empty, json!({"key":"k","timers":[]}));
    let problem = service.get(&format!("{base}/a")).await.expect_problem(404, "timer-not-found");
    assert_eq!(problem["field"], "name");
    let body = format!("{{\"at\":{}}}", T + 9);
    service.put(&format!("{base}/a"), &body).await.expect(201);
    service.post(base, &body).await.expect(201);
    let one = service.get(&format!("{base}/a")).await.expect(200).json();
    assert_eq!(one["fire_at"], T + 9);
    let spelled = service.get(&format!("{base}/a?times=rfc3339")).await;
    assert_eq!(spelled.json()["fire_at"], "2026-01-01T00:00:00.009Z");
    let all = service.get(base).await.expect(200).json();
    assert_eq!(all["timers"].as_array().unwrap().len(), 2);
    let event = service.get(&format!("{base}?domain=event")).await.json();
    assert_eq!(event["timers"], json!([]));
    // Names are per domain.
    service.get(&format!("{base}/a?domain=event")).await.expect_problem(404, "timer-not-found");
}

#[tokio::test]
async fn what_is_cancelled_never_fires() {
    let service = Service::manual(T).await;
    let base = "/v1/namespaces/m/keys/k/timers";
    for (name, offset) in [("a", 1), ("b", 2), ("c", 3)] {
        let body = format!("{{\"at\":{}}}", T + offset);
        service.put(&format!("{base}/{name}"), &body).await.expect(201);
        service.post(base, &body).await.expect(201);
    }
    let cancelled = |answer: crate::harness::Answer| answer.expect(200).json()["cancelled"].clone();
    assert_eq!(cancelled(service.delete(&format!("{base}/a")).await), 1);
    let absent = service.delete(&format!("{base}/a")).await.expect(200).json();
    assert_eq!((&absent["result"], &absent["cancelled"]), (&json!("absent"), &json!(0)));
    let at = format!("{base}?at={}", T + 1);
    assert_eq!(cancelled(service.delete(&at).await), 1);
    let fire_at = format!("{base}?fire_at=2026-01-01T00:00:00.002Z");
    assert_eq!(cancelled(service.delete(&fire_at).await), 1);
    assert_eq!(cancelled(service.delete(base).await), 3);
    assert_eq!(service.set_clock(T + 10).await["fired"], 0);
    assert!(service.fired().await.is_empty());
}

#[tokio::test]
async fn a_mistyped_filter_deletes_nothing() {
    let service = Service::manual(T).await;
    let base = "/v1/namespaces/m/keys/k/timers";
    let body = format!("{{\"at\":{}}}", T + 5);
    service.post(base, &body).await.expect(201);
    for query in ["att=5", "at=", "at", "at=x", "domain=event", "spread=1s", "at=1&fire_at=1"] {
        let problem =
            service.delete(&format!("{base}?{query}")).await.expect_problem(400, "invalid-query");
        assert!(problem["field"].is_string(), "{query}: {problem}");
    }
    service
        .call("DELETE", base, format!("{{\"at\":{}}}", T + 9))
        .await
        .expect_problem(400, "unexpected-body");
    let left = service.get(base).await.json();
    assert_eq!(left["timers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_touch_moves_the_timer_and_keeps_its_payload() {
    let service = Service::manual(T).await;
    let touch = "/v1/namespaces/m/keys/d/touch";
    let made = service.post(touch, r#"{"after":"60s"}"#).await.expect(201).json();
    assert_eq!((&made["name"], &made["fire_at"]), (&json!("timeout"), &json!(T + 60_000)));
    let payload = format!("{{\"at\":{},\"payload\":7}}", T + 60_000);
    service.put("/v1/namespaces/m/keys/d/timers/timeout", &payload).await.expect(200);
    service.set_clock(T + 59_000).await;
    let moved = service.post(touch, r#"{"after":"60s"}"#).await.expect(200).json();
    assert_eq!(moved["result"], "replaced");
    assert_eq!(service.set_clock(T + 118_999).await["fired"], 0);
    assert_eq!(service.set_clock(T + 119_000).await["fired"], 1);
    assert_eq!(service.fired().await[0]["payload"], 7);
    // Without `after` the namespace has to say what it means.
    service.post(touch, "").await.expect(400);
    service.call("PATCH", "/v1/namespaces/m", r#"{"touch_after":"5s"}"#).await.expect(200);
    let said = service.post(touch, "").await.expect(201).json();
    assert_eq!(said["fire_at"], T + 119_000 + 5_000);
}

#[tokio::test]
async fn conditions_keep_what_stands() {
    let service = Service::manual(T).await;
    let path = "/v1/namespaces/m/keys/k/timers/n";
    let body = |offset: i64, only: &str| format!("{{\"at\":{},\"only\":\"{only}\"}}", T + offset);
    let kept = service.put(path, &body(5, "present")).await.expect(200).json();
    assert_eq!(kept["result"], "kept");
    service.put(path, &body(5, "absent")).await.expect(201);
    for (offset, only, result) in [
        (9, "absent", "kept"),
        (9, "earlier", "kept"),
        (3, "earlier", "replaced"),
        (1, "later", "kept"),
        (7, "later", "replaced"),
        (8, "present", "replaced"),
    ] {
        let answer = service.put(path, &body(offset, only)).await.expect(200).json();
        assert_eq!(answer["result"], result, "{only}");
    }
    // The header means the same as `absent`, and tells by its status.
    let unmet = service.call_with("PUT", path, &[("if-none-match", "*")], body(1, "absent")).await;
    unmet.expect_problem(412, "precondition-failed");
    let other = "/v1/namespaces/m/keys/k/timers/other";
    let met = format!("{{\"at\":{}}}", T + 1);
    let met = service.call_with("PUT", other, &[("if-none-match", "*")], met).await;
    assert_eq!(met.expect(201).json()["result"], "created");
    // Neither of two conditions that contradict each other wins.
    let third = "/v1/namespaces/m/keys/k/timers/third";
    for only in ["present", "earlier", "later"] {
        let both = service.call_with("PUT", third, &[("if-none-match", "*")], body(1, only)).await;
        assert_eq!(both.expect_problem(400, "invalid-field")["field"], "only");
    }
    service.get(third).await.expect_problem(404, "timer-not-found");
}

#[tokio::test]
async fn resolution_and_spread_settle_the_time_at_the_door() {
    let service = Service::manual(T).await;
    let path = "/v1/namespaces/m/keys/k/timers";
    let body = format!("{{\"at\":{},\"resolution\":\"1s\"}}", T + 1_999);
    let rounded = service.post(path, &body).await.expect(201).json();
    assert_eq!(rounded["fire_at"], T + 1_000);
    let gone = format!("{path}?at={}&resolution=1s", T + 1_999);
    assert_eq!(service.delete(&gone).await.json()["cancelled"], 1);
    let body = format!("{{\"at\":{},\"spread\":\"30s\"}}", T + 60_000);
    let spread = service.post(path, &body).await.expect(201).json();
    let fire_at = spread["fire_at"].as_i64().unwrap();
    assert!((T + 60_000..=T + 90_000).contains(&fire_at));
    let gone = format!("{path}?at={}&spread=30s", T + 60_000);
    assert_eq!(service.delete(&gone).await.json()["cancelled"], 1);
}

#[tokio::test]
async fn pending_timers_are_paged_in_order() {
    let service = Service::manual(T).await;
    for number in 0..25 {
        let path = format!("/v1/namespaces/m/keys/k{number:02}/timers");
        let body = format!("{{\"at\":{}}}", T + 100 - number);
        service.post(&path, &body).await.expect(201);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/namespaces/m/timers?limit=10".to_owned();
    loop {
        let page = service.get(&path).await.expect(200).json();
        let timers = page["timers"].as_array().unwrap();
        seen.extend(timers.iter().map(|timer| timer["fire_at"].as_i64().unwrap()));
        match page["next_page_token"].as_str() {
            Some(token) => path = format!("/v1/namespaces/m/timers?limit=10&page_token={token}"),
            None => break,
        }
    }
    let expected: Vec<_> = (76..=100).map(|offset| T + offset).collect();
    assert_eq!(seen, expected);
    let some = format!(
        "/v1/namespaces/m/timers?due_after={}&due_before={}&key_prefix=k2&domain=processing",
        T + 77,
        T + 80
    );
    let page = service.get(&some).await.expect(200).json();
    let keys: Vec<_> =
        page["timers"].as_array().unwrap().iter().map(|t| t["key"].clone()).collect();
    assert_eq!(keys, ["k23", "k22", "k21"]);
    // A prefix may be a dot, which as a key would be a step in a path; the bounds are a key's.
    service.put("/v1/namespaces/m/keys/.hidden/timers/n", "{\"at\":1}").await.expect(201);
    service.get("/v1/namespaces/m/timers?key_prefix=.").await.expect(200);
    let long = format!("/v1/namespaces/m/timers?key_prefix={}", "k".repeat(1_025));
    let problem = service.get(&long).await.expect_problem(400, "invalid-key");
    assert_eq!((&problem["field"], &problem["limit"]), (&json!("key_prefix"), &json!(1_024)));
    service
        .get("/v1/namespaces/m/timers?page_token=zzz")
        .await
        .expect_problem(400, "invalid-query");
}

#[tokio::test]
async fn the_forecast_counts_what_falls_due() {
    let service = Service::manual(T).await;
    for (key, offset) in [("a", 1), ("b", 30_000), ("c", 90_000), ("d", 7_200_000)] {
        let path = format!("/v1/namespaces/m/keys/{key}/timers");
        service.post(&path, &format!("{{\"at\":{}}}", T + offset)).await.expect(201);
    }
    let forecast = service.get("/v1/namespaces/m/forecast").await.expect(200).json();
    assert_eq!(forecast["domain"], "processing");
    assert_eq!((&forecast["from"], &forecast["step_ms"]), (&json!(T), &json!(60_000)));
    let counts = forecast["counts"].as_array().unwrap();
    assert_eq!((counts.len(), &counts[0], &counts[1]), (60, &json!(2), &json!(1)));
    assert_eq!((&forecast["before"], &forecast["after"]), (&json!(0), &json!(1)));
    // A finer step than is kept is widened, and the answer says so.
    let path = format!("/v1/namespaces/m/forecast?from={T}&to={}&step=1s", T + 120_000);
    let widened = service.get(&path).await.expect(200).json();
    assert_eq!((&widened["step_ms"], &widened["counts"]), (&json!(60_000), &json!([2, 1])));
    let path = format!("/v1/namespaces/m/forecast?from={T}&to={}", T + 2_001 * 60_000);
    let problem = service.get(&path).await.expect_problem(400, "invalid-query");
    assert_eq!(problem["limit"], 2_000);
    service
        .get("/v1/namespaces/m/forecast?domain=event")
        .await
        .expect_problem(422, "watermark-unset");
}

#[tokio::test]
async fn default_is_reached_by_its_name_and_without() {
    let service = Service::start().await;
    let body = r#"{"after":"1h"}"#;
    service.put("/v1/keys/k/timers/n", body).await.expect(201);
    let named = "/v1/namespaces/default/keys/k/timers/n";
    assert_eq!(service.get(named).await.expect(200).json()["name"], "n");
    for path in ["/v1/timers", "/v1/forecast", "/v1/watermark", "/v1/outputs?limit=1"] {
        service.get(path).await.expect(200);
    }
    let batch = r#"{"op":"delete","key":"k","name":"n"}"#;
    let lines = service.post("/v1/timers/batch", batch).await.expect(200).lines();
    assert_eq!(lines[0]["cancelled"], 1);
}

#[tokio::test]
async fn keys_are_spelled_the_same_in_paths_and_bodies() {
    let service = Service::manual(T).await;
    let body = format!("{{\"at\":{}}}", T + 1);
    for (in_path, spelled) in
        [("a%2Fb", "a/b"), ("%C3%A4", "ä"), ("~_w", "~_w"), ("~fg", "~fg"), ("a%20b", "a b")]
    {
        let path = format!("/v1/namespaces/m/keys/{in_path}/timers");
        let answer = service.post(&path, &body).await.expect(201).json();
        assert_eq!(answer["key"], spelled);
    }
    service.set_clock(T + 1).await;
    let keys: Vec<_> = service.fired().await.iter().map(|fire| fire["key"].clone()).collect();
    for key in ["a/b", "ä", "~_w", "~fg", "a b"] {
        assert!(keys.contains(&json!(key)), "{key} in {keys:?}");
    }
}

#[tokio::test]
async fn payloads_come_back_as_they_went_in() {
    let service = Service::manual(T).await;
    let path = "/v1/namespaces/m/keys/k/timers";
    for (offset, payload) in [
        (1, r#""payload":{"b":1,"a":1.50}"#),
        (2, r#""payload_base64":"/wA=""#),
        (3, r#""payload":null"#),
        // Half of a pair: no text has it, and JSON allows its escape.
        (4, r#""payload":"\ud800 \/ \u0061""#),
    ] {
        let body = format!("{{\"at\":{},{payload}}}", T + offset);
        service.post(path, &body).await.expect(201);
    }
    let listed = service.get(path).await.text();
    assert!(listed.contains(r#""payload":"\ud800 \/ \u0061""#), "{listed}");
    service.set_clock(T + 4).await;
    let text = service.get("/v1/namespaces/m/outputs?limit=9").await.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains(r#""payload":{"b":1,"a":1.50}"#), "{text}");
    assert!(lines[1].contains(r#""payload_base64":"/wA=""#), "{text}");
    assert!(!lines[2].contains("payload"), "{text}");
    assert!(lines[3].contains(r#""payload":"\ud800 \/ \u0061""#), "{text}");
}
