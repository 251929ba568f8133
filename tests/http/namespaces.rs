//! Namespaces: made, changed, listed, shown, removed.

use crate::harness::Service;
use serde_json::json;

#[tokio::test]
async fn a_namespace_lives_through_all_its_calls() {
    let service = Service::start().await;
    let path = "/v1/namespaces/orders";
    service.get(path).await.expect_problem(404, "namespace-not-found");
    let made = service.put(path, r#"{"spread":"2s"}"#).await.expect(201).json();
    assert_eq!((&made["result"], &made["config"]["spread"]), (&json!("created"), &json!("2s")));
    // PATCH merges, PUT replaces.
    let merged = service.call("PATCH", path, r#"{"resolution":"1s"}"#).await.expect(200).json();
    assert_eq!(
        (&merged["config"]["spread"], &merged["config"]["resolution"]),
        (&json!("2s"), &json!("1s"))
    );
    let replaced = service.put(path, r#"{"resolution":"5s"}"#).await.expect(200).json();
    assert_eq!(replaced["config"]["spread"], "0s");
    assert!(replaced["version"].as_u64() > made["version"].as_u64());
    let shown = service.get(path).await.expect(200).json();
    assert_eq!(shown["config"]["resolution"], "5s");
    assert_eq!(shown["config"]["limits"]["payload_bytes"], 65_536);
    assert_eq!(shown["status"]["timers"], json!({"event":0,"processing":0}));
    assert_eq!(shown["status"]["watermark"], json!(null));
    let all = service.get("/v1/namespaces").await.expect(200).json();
    let names: Vec<_> =
        all["namespaces"].as_array().unwrap().iter().map(|n| n["namespace"].clone()).collect();
    assert_eq!(names, ["default", "orders"]);
    let page = service.get("/v1/namespaces?limit=1").await.expect(200).json();
    let token = page["next_page_token"].as_str().unwrap();
    let rest = service.get(&format!("/v1/namespaces?page_token={token}")).await.json();
    assert_eq!(rest["namespaces"][0]["namespace"], "orders");
    assert!(rest.get("next_page_token").is_none());
    service.delete(path).await.expect(200);
    service.get(path).await.expect_problem(404, "namespace-not-found");
    service.delete(path).await.expect_problem(404, "namespace-not-found");
}

#[tokio::test]
async fn only_force_removes_what_holds_timers() {
    let service = Service::start().await;
    service.put("/v1/namespaces/n", "{}").await.expect(201);
    let timer = "/v1/namespaces/n/keys/k/timers/t";
    service.put(timer, r#"{"after":"1h"}"#).await.expect(201);
    let problem =
        service.delete("/v1/namespaces/n").await.expect_problem(409, "namespace-not-empty");
    assert_eq!(problem["actual"], 1);
    let gone = service.delete("/v1/namespaces/n?force=true").await.expect(200).json();
    assert_eq!((&gone["result"], &gone["timers"]), (&json!("deleted"), &json!(1)));
    // A successor of the same name has nothing of it.
    service.put("/v1/namespaces/n", "{}").await.expect(201);
    service.get(timer).await.expect_problem(404, "timer-not-found");
}

#[tokio::test]
async fn default_is_emptied_and_not_removed() {
    let service = Service::start().await;
    service.put("/v1/keys/k/timers/t", r#"{"after":"1h"}"#).await.expect(201);
    let gone = service.delete("/v1/namespaces/default?force=true").await.expect(200).json();
    assert_eq!((&gone["result"], &gone["timers"]), (&json!("emptied"), &json!(1)));
    service.get("/v1/namespaces/default").await.expect(200);
    service.get("/v1/keys/k/timers/t").await.expect_problem(404, "timer-not-found");
    service.put("/v1/keys/k/timers/t", r#"{"after":"1h"}"#).await.expect(201);
}

#[tokio::test]
async fn what_is_fixed_or_wrong_is_refused_by_name() {
    let service = Service::start().await;
    let path = "/v1/namespaces/n";
    service.put(path, "{}").await.expect(201);
    service.put("/v1/namespaces/n/keys/k/timers/t", r#"{"after":"1h"}"#).await.expect(201);
    let fixed =
        service.put(path, r#"{"clock":"manual"}"#).await.expect_problem(409, "option-fixed");
    assert_eq!(fixed["field"], "clock");
    for (body, field) in [
        (r#"{"resolution":"0s"}"#, "resolution"),
        (r#"{"operator":"nope"}"#, "operator"),
        (r#"{"watermark":{"sources":["-"]}}"#, "watermark.sources"),
        (r#"{"limits":{"payload_bytes":99999999}}"#, "limits.payload_bytes"),
        (
            r#"{"operator":"timeout","options":{"after":"1s"},"limits":{"timers":5}}"#,
            "limits.timers",
        ),
        (r#"{"spreat":"1s"}"#, "spreat"),
    ] {
        let problem = service.put(path, body).await.expect(400).json();
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
    for name in ["-a", "a%20b", &"x".repeat(129)] {
        let path = format!("/v1/namespaces/{name}");
        service.put(&path, "{}").await.expect_problem(400, "invalid-name");
    }
}

#[tokio::test]
async fn limits_of_a_namespace_hold() {
    let service = Service::start().await;
    let limits = r#"{"limits":{"timers_per_key":1,"payload_bytes":4}}"#;
    service.put("/v1/namespaces/n", limits).await.expect(201);
    let path = |name: &str| format!("/v1/namespaces/n/keys/k/timers/{name}");
    service.put(&path("a"), r#"{"after":"1h"}"#).await.expect(201);
    let full = service.put(&path("b"), r#"{"after":"1h"}"#).await;
    assert!(!full.header("retry-after").is_empty());
    let full = full.expect_problem(429, "quota-exceeded");
    assert_eq!(full["limit"], 1);
    let large = service.put(&path("a"), r#"{"after":"1h","payload":12345}"#).await;
    let large = large.expect_problem(413, "payload-too-large");
    assert_eq!((&large["limit"], &large["actual"]), (&json!(4), &json!(5)));
}

#[tokio::test]
async fn an_option_that_stands_twice_is_refused() {
    let service = Service::start().await;
    let path = "/v1/namespaces/n";
    for body in [r#"{"clock":"manual","clock":"system"}"#, r#"{"clock":"manual","clock":"manual"}"#]
    {
        let problem = service.put(path, body).await.expect_problem(400, "invalid-field");
        assert_eq!(problem["field"], "clock");
    }
    let nested = r#"{"limits":{"timers":1,"timers":2}}"#;
    let problem = service.put(path, nested).await.expect_problem(400, "invalid-field");
    assert_eq!(problem["field"], "limits.timers");
    service.get(path).await.expect_problem(404, "namespace-not-found");
}
