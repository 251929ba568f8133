//! Watermarks by source, and manual clocks.

use crate::harness::Service;
use serde_json::json;

#[tokio::test]
async fn the_watermark_is_the_minimum_over_the_sources() {
    let service = Service::start().await;
    let config = r#"{"watermark":{"sources":["a","b"]}}"#;
    service.put("/v1/namespaces/n", config).await.expect(201);
    let base = "/v1/namespaces/n";
    let event = |at: i64| format!("{{\"at\":{at},\"domain\":\"event\"}}");
    service.post(&format!("{base}/keys/k/timers"), &event(100)).await.expect(201);
    service.post(&format!("{base}/keys/k/timers"), &event(200)).await.expect(201);
    // `after` in event time has nothing to count from yet.
    let after = r#"{"after":"1s","domain":"event"}"#;
    service
        .post(&format!("{base}/keys/k/timers"), after)
        .await
        .expect_problem(422, "watermark-unset");
    let report = async |source: &str, body: &str| {
        let path = format!("{base}/watermarks/{source}?settle=true");
        service.put(&path, body).await.expect(200).json()
    };
    let first = report("a", r#"{"watermark":150}"#).await;
    assert_eq!(
        (&first["result"], &first["watermark"], &first["fired"]),
        (&json!("advanced"), &json!(null), &json!(0))
    );
    let second = report("b", r#"{"watermark":120}"#).await;
    assert_eq!((&second["watermark"], &second["fired"]), (&json!(120), &json!(1)));
    let smaller = report("b", r#"{"watermark":110}"#).await;
    assert_eq!((&smaller["result"], &smaller["watermark"]), (&json!("ignored"), &json!(120)));
    let idle = report("b", r#"{"idle":true}"#).await;
    assert_eq!((&idle["result"], &idle["watermark"]), (&json!("idle"), &json!(150)));
    let shown = service.get(&format!("{base}/watermark")).await.expect(200).json();
    assert_eq!(shown["watermark"], 150);
    let b =
        shown["sources"].as_array().unwrap().iter().find(|s| s["source"] == "b").unwrap().clone();
    assert_eq!(
        (&b["idle"], &b["watermark"], &b["listed"]),
        (&json!(true), &json!(120), &json!(true))
    );
    let last = report("a", r#"{"watermark":"1970-01-01T00:00:00.200Z"}"#).await;
    assert_eq!(last["fired"], 1);
    let fired = service.get(&format!("{base}/outputs?limit=9")).await.expect(200).lines();
    let times: Vec<_> =
        fired.iter().map(|fire| (fire["fire_at"].clone(), fire["watermark"].clone())).collect();
    assert_eq!(times, [(json!(100), json!(120)), (json!(200), json!(200))]);
    assert!(fired[0].get("lateness_ms").is_none());
}

#[tokio::test]
async fn sources_join_by_reporting_and_can_be_forgotten() {
    let service = Service::start().await;
    service.put("/v1/watermarks/x", r#"{"watermark":10}"#).await.expect(200);
    service.put("/v1/watermarks/y", r#"{"watermark":20}"#).await.expect(200);
    assert_eq!(service.get("/v1/watermark").await.json()["watermark"], 10);
    let gone = service.delete("/v1/watermarks/x?settle=true").await.expect(200).json();
    assert_eq!((&gone["result"], &gone["watermark"]), (&json!("forgotten"), &json!(20)));
    service.delete("/v1/watermarks/x").await.expect_problem(404, "source-not-found");
    service
        .put("/v1/watermarks/-x", r#"{"watermark":10}"#)
        .await
        .expect_problem(400, "invalid-name");
    service
        .put("/v1/watermarks/x", r#"{"watermark":1.5}"#)
        .await
        .expect_problem(400, "invalid-time");
}

#[tokio::test]
async fn a_manual_clock_moves_only_forward_and_only_when_told() {
    let service = Service::start().await;
    let base = "/v1/namespaces/m";
    service.put(base, r#"{"clock":"manual"}"#).await.expect(201);
    let after = r#"{"after":"10s"}"#;
    let timer = format!("{base}/keys/k/timers/t");
    service.put(&timer, after).await.expect_problem(422, "clock-unset");
    assert_eq!(service.get(base).await.json()["status"]["now"], json!(null));
    let set = service.set_clock(1_000).await;
    assert_eq!(set, json!({"result":"advanced","now":1_000,"fired":0}));
    assert_eq!(service.put(&timer, after).await.expect(201).json()["fire_at"], 11_000);
    let back = service.set_clock(500).await;
    assert_eq!(back, json!({"result":"ignored","now":1_000,"fired":0}));
    let clock = format!("{base}/clock");
    let short = service.put(&clock, r#"{"advance":"9999ms"}"#).await.expect(200).json();
    assert_eq!(short["fired"], 0);
    let due = service.put(&clock, r#"{"advance":"1ms"}"#).await.expect(200).json();
    assert_eq!((&due["now"], &due["fired"]), (&json!(11_000), &json!(1)));
    let fired = service.fired().await;
    assert_eq!((&fired[0]["fired_at"], &fired[0]["lateness_ms"]), (&json!(11_000), &json!(0)));
    service
        .put("/v1/namespaces/default/clock", r#"{"now":1}"#)
        .await
        .expect_problem(409, "clock-not-manual");
    service.put(&clock, r#"{"advance":"-1s"}"#).await.expect_problem(400, "invalid-duration");
    service.put(&clock, r#"{"next":1}"#).await.expect_problem(400, "unknown-field");
    let twice = r#"{"now":20000,"now":30000}"#;
    assert_eq!(
        service.put(&clock, twice).await.expect_problem(400, "invalid-field")["field"],
        "now"
    );
    service.put(&clock, "").await.expect_problem(400, "invalid-json");
    assert_eq!(service.get(base).await.json()["status"]["now"], 11_000);
}

#[tokio::test]
async fn a_paused_namespace_fires_nothing_until_it_is_resumed() {
    let service = Service::manual(1_000).await;
    let base = "/v1/namespaces/m";
    let timer = async |name: &str, body: &str| {
        let path = format!("{base}/keys/k/timers/{name}");
        service.put(&path, body).await.expect(201).json()["fire_at"].clone()
    };
    timer("before", r#"{"at":1500}"#).await;
    timer("event", r#"{"at":40,"domain":"event"}"#).await;
    let (pause, resume) = (format!("{base}/pause"), format!("{base}/resume"));
    let changed =
        |result: &str, paused: bool| json!({"namespace":"m","result":result,"paused":paused});
    assert_eq!(service.get(base).await.json()["status"]["paused"], false);
    assert_eq!(service.post(&resume, "").await.expect(200).json(), changed("ignored", false));
    assert_eq!(service.post(&pause, "").await.expect(200).json(), changed("paused", true));
    assert_eq!(service.post(&pause, "").await.expect(200).json(), changed("ignored", true));
    assert_eq!(service.get(base).await.json()["status"]["paused"], true);
    let set = service.set_clock(2_000).await;
    assert_eq!(set, json!({"result":"advanced","now":2_000,"fired":0}));
    let path = format!("{base}/watermarks/s?settle=true");
    let reported = service.put(&path, r#"{"watermark":50}"#).await.expect(200).json();
    assert_eq!((&reported["watermark"], &reported["fired"]), (&json!(50), &json!(0)));
    assert_eq!(timer("meanwhile", r#"{"after":"600ms"}"#).await, 1_600, "the clock stands still");
    assert_eq!(service.fired().await.len(), 0);
    assert_eq!(service.post(&resume, "").await.expect(200).json(), changed("resumed", false));
    let mut names: Vec<String> =
        service.fired().await.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["before", "event", "meanwhile"]);
    assert_eq!(service.get(base).await.json()["status"]["paused"], false);
    timer("after", r#"{"at":2100}"#).await;
    assert_eq!(service.set_clock(2_100).await["fired"], 1);
    for call in ["pause", "resume"] {
        let path = format!("/v1/namespaces/nobody/{call}");
        service.post(&path, "").await.expect_problem(404, "namespace-not-found");
    }
}

#[tokio::test]
async fn late_event_timers_may_wait_for_the_next_watermark() {
    let service = Service::manual(0).await;
    let base = "/v1/namespaces/m";
    service.call("PATCH", base, r#"{"late_timers":"next_watermark"}"#).await.expect(200);
    let report = async |to: i64| {
        let path = format!("{base}/watermarks/s?settle=true");
        let body = format!("{{\"watermark\":{to}}}");
        service.put(&path, &body).await.expect(200).json()["fired"].clone()
    };
    assert_eq!(report(100).await, 0);
    let timers = format!("{base}/keys/k/timers");
    let named = |name: &str| format!("{timers}/{name}");
    for (name, at) in [("a", 50), ("b", 100), ("c", 101), ("d", 7)] {
        let body = format!("{{\"at\":{at},\"domain\":\"event\"}}");
        service.put(&named(name), &body).await.expect(201);
    }
    assert_eq!(service.fired().await.len(), 0);
    assert_eq!(report(100).await, 0, "it is not larger");
    assert_eq!(service.get(&timers).await.json()["timers"].as_array().unwrap().len(), 4);
    let gone = service.delete(&format!("{}?domain=event", named("d"))).await.expect(200).json();
    assert_eq!(gone["cancelled"], 1);
    assert_eq!(report(101).await, 3);
    let fired = service.fired().await;
    let fired: Vec<_> = fired.iter().map(|it| (&it["name"], &it["watermark"])).collect();
    let at = json!(101);
    assert_eq!(fired, [(&json!("a"), &at), (&json!("b"), &at), (&json!("c"), &at)]);
    // Behind the final watermark none follows but that of the close.
    assert_eq!(report(i64::MAX).await, 0);
    service.put(&named("e"), r#"{"at":9,"domain":"event"}"#).await.expect(201);
    assert_eq!(service.fired().await.len(), 3);
    let path = format!("{base}/close");
    service.post(&path, r#"{"processing_timers":"drain"}"#).await.expect(200);
    assert_eq!(service.fired().await.len(), 4);
}
