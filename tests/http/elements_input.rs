//! Elements, and namespaces for them, that are not as they should be.

use crate::functions::{running, running_with};
use crate::harness::Service;
use serde_json::json;
use std::fmt::Write as _;
use stormwheel_server::config::ByteSize;

const SUM: &str = r#"{"operator":"sum"}"#;
const GOOD: &str = "{\"key\":\"a\",\"timestamp\":1,\"value\":{\"n\":1}}";

#[tokio::test]
async fn bad_elements_harm_no_other() {
    let service = running(r#"{"operator":"sum","on_error":{"retry":0,"then":"skip"}}"#).await;
    let body = [
        GOOD,
        "{\"timestamp\":1,\"value\":{\"n\":1}}",
        "{\"key\":\"a\",\"timestamp\":\"soon\",\"value\":{\"n\":1}}",
        "",
        "{\"key\":\"a\",\"timestamp\":1}",
        "{\"key\":\"a\",\"timestamp\":1,\"value\":\"text\"}",
        "{\"key\":\"a\",\"timestamp\":1,\"value\":{\"n\":1},\"input\":1}",
        "{\"key\":\"a\",\"timestamp\":1,\"value\":{\"n\":1},\"input\":7}",
        "{\"key\":\"a\",\"timestamp\":1,\"value\":{\"n\":5000}}",
        "{\"watermark\":1,\"key\":\"a\"}",
        "{\"key\":",
        GOOD,
    ]
    .join("\n");
    let answer = service.elements("", &body).await.expect(200);
    assert_eq!(answer.header("stormwheel-failed"), "9");
    let summary = answer.json();
    assert_eq!(summary["results"], json!({"processed": 2}));
    let errors: Vec<_> = summary["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let (error, field) = (&it["error"], it["error"]["field"].as_str().unwrap_or_default());
            let slug = error["type"].as_str().unwrap().trim_start_matches("/problems/");
            (it["index"].as_u64().unwrap(), slug, field)
        })
        .collect();
    assert_eq!(
        errors,
        [
            (1, "missing-field", "key"),
            (2, "invalid-time", "timestamp"),
            (3, "missing-field", "value"),
            (4, "function-failed", ""),
            (5, "input-not-found", "input"),
            (6, "invalid-option", "input"),
            (7, "function-failed", ""),
            (8, "invalid-field", "key"),
            (9, "invalid-json", ""),
        ]
    );
    // An answer may be out before what the elements have led to can be read.
    service.watermark("default", 0).await;
    let errors = service.values("&tag=errors").await;
    assert!(errors[0].contains("the element is not what the function takes"), "{errors:?}");
    assert!(errors[1].contains("5000 is too much"), "{errors:?}");
    service.watermark("default", 100).await;
    assert_eq!(service.values("&tag=").await, ["a @11 2"]);
}

#[tokio::test]
async fn a_value_is_as_large_as_the_namespace_allows() {
    let service = running(r#"{"operator":"sum","limits":{"payload_bytes":20}}"#).await;
    let large = "{\"key\":\"a\",\"timestamp\":1,\"value\":{\"n\":1,\"note\":\"long enough\"}}";
    let summary = service.elements("", large).await.expect(200).json();
    let error = &summary["errors"][0]["error"];
    assert_eq!((&error["status"], &error["field"]), (&json!(413), &json!("value")));
    assert_eq!(error["detail"], "value has 28 bytes, allowed are 20");
}

#[tokio::test]
async fn places_for_watermarks_are_bounded() {
    let service = running(SUM).await;
    let mut body = String::new();
    for n in 0..1_002 {
        writeln!(body, "{{\"watermark\":{n}}}\n{{\"key\":\"a\",\"timestamp\":{n},\"value\":null}}")
            .unwrap();
    }
    let summary = service.elements("?ack=accepted", &body).await.expect(200).json();
    assert_eq!(summary["results"]["watermark"], 1_000);
    assert_eq!(summary["late"], 1_000);
    assert_eq!(summary["failed"], 4);
    for error in summary["errors"].as_array().unwrap() {
        assert_eq!(error["error"]["type"], "/problems/too-many-operations");
        assert_eq!(error["error"]["limit"], 1_000);
    }
    assert_eq!(summary["watermark"]["watermark"], 999);
}

#[tokio::test]
async fn elements_and_timers_go_to_their_own_kind_of_namespace() {
    let service = running(SUM).await;
    let unwanted = service.post("/v1/elements", GOOD).await;
    unwanted.expect_problem(409, "elements-unwanted");
    for (method, path, body) in [
        ("PUT", "/v1/namespaces/m/keys/a/timers/t", r#"{"at":1}"#),
        ("POST", "/v1/namespaces/m/keys/a/timers", r#"{"at":1}"#),
        ("POST", "/v1/namespaces/m/keys/a/touch", r#"{"after":"1s"}"#),
        ("DELETE", "/v1/namespaces/m/keys/a/timers", ""),
    ] {
        service.call(method, path, body).await.expect_problem(409, "timers-owned");
    }
    let line = r#"{"op":"register","key":"a","at":1}"#;
    let lines = service.post("/v1/namespaces/m/timers/batch", line).await.expect(200).lines();
    assert_eq!(lines[0]["error"]["type"], "/problems/timers-owned");
    // Looking is allowed.
    service.elements("", GOOD).await.expect(200);
    let timers = service.get("/v1/namespaces/m/keys/a/timers").await.expect(200).json();
    assert_eq!(timers["timers"], json!([{"key": "a", "domain": "event", "fire_at": 11}]));
    service.post("/v1/namespaces/none/elements", GOOD).await.expect(404);
    let source = service.elements("?source=-", GOOD).await;
    assert_eq!(source.expect_problem(400, "invalid-query")["field"], "source");
    let sequence = [("stormwheel-sequence", "1")];
    let path = "/v1/namespaces/m/elements";
    let alone = service.call_with("POST", path, &sequence, GOOD).await;
    alone.expect_problem(400, "missing-field");
    let arrow = [("content-type", "application/vnd.apache.arrow.stream")];
    let broken = service.call_with("POST", path, &arrow, "nonsense").await;
    broken.expect_problem(400, "invalid-arrow");
}

#[tokio::test]
async fn a_namespace_runs_what_there_is_with_options_that_it_takes() {
    let service = running(SUM).await;
    for (config, field, part) in [
        (r#"{"operator":"nope"}"#, "operator", "there is no operator `nope`; there is `timers`, "),
        (r#"{"operator":"sum","options":{"gap_ms":0}}"#, "options", "gap_ms is 0"),
        (r#"{"operator":"sum","options":{"gap":1}}"#, "options", "unknown field `gap`"),
        (r#"{"operator":"echo","options":{"gap":1}}"#, "options", "takes no options"),
        (r#"{"operator":"sum","late_elements":"hide"}"#, "late_elements", "`side_output`"),
        (r#"{"operator":"sum","lateness":"-1s"}"#, "lateness", "allowed is 0"),
        (r#"{"watermark":{"strategy":"bounded"}}"#, "watermark.strategy", "takes none"),
        (
            r#"{"operator":"sum","watermark":{"delay":"1s"}}"#,
            "watermark.delay",
            "only the strategy `bounded`",
        ),
    ] {
        let problem = service.put("/v1/namespaces/n", config).await;
        let problem = problem.expect_problem(400, "invalid-option");
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    service.get("/v1/namespaces/n").await.expect(404);
    let config = r#"{"operator":"sum","options":{"gap_ms":5},"lateness":"1s"}"#;
    let made = service.put("/v1/namespaces/n", config).await.expect(201).json();
    assert_eq!(made["config"]["options"], json!({"gap_ms": 5}));
    assert_eq!(made["config"]["lateness"], "1s");
    fixed_once_there_are_keys(&service).await;
}

async fn fixed_once_there_are_keys(service: &Service) {
    service.elements("", GOOD).await.expect(200);
    let other = service.put("/v1/namespaces/m", r#"{"operator":"echo"}"#).await;
    assert_eq!(other.expect_problem(409, "option-fixed")["field"], "operator");
    let gone = service.delete("/v1/namespaces/m").await;
    gone.expect_problem(409, "namespace-not-empty");
    service.delete("/v1/namespaces/m?force=true").await.expect(200);
}

#[tokio::test]
async fn what_load_refuses_holds_time_back() {
    let service = running_with(SUM, |config| {
        config.shards = 1;
        config.queue_bytes_max = ByteSize(1);
    })
    .await;
    // A reply that does not come back holds the shard, so that its queue fills up.
    let engine = service.server.engine();
    let namespace = engine.namespace("m").unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (entered, mut holding) = tokio::sync::mpsc::unbounded_channel();
    let hold = Box::new(move |_| {
        entered.send(()).unwrap();
        held.recv().unwrap();
    });
    engine.key_timers(&namespace, b"a", hold);
    holding.recv().await.unwrap();
    let mut first = service.connect().await;
    let request = service.request("POST", "/v1/namespaces/m/elements", &[], GOOD);
    let first = tokio::spawn(async move { first.send_request(request).await });
    while engine.metrics().shards[0].queue_bytes == 0 {
        tokio::task::yield_now().await;
    }
    let body = format!("{GOOD}\n{GOOD}\n{{\"watermark\":50}}\n{GOOD}\nnonsense");
    let answer = service.elements("", &body).await.expect(429);
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(answer.header("stormwheel-failed"), "5");
    let summary = answer.json();
    assert_eq!((&summary["results"], &summary["failed"]), (&json!({}), &json!(5)));
    let slugs: Vec<_> =
        summary["errors"].as_array().unwrap().iter().map(|it| &it["error"]["type"]).collect();
    assert_eq!(slugs[..4], ["/problems/queue-full"; 4]);
    assert_eq!(slugs[4], "/problems/invalid-json");
    assert_eq!(summary.get("watermark"), None);
    release.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    let watermark = service.get("/v1/namespaces/m/watermark").await.expect(200).json();
    assert_eq!(watermark["watermark"], json!(null));
    // Sent again it is as if nothing had been.
    let summary = service.elements("", &body).await.expect(200).json();
    assert_eq!(summary["results"], json!({"processed": 2, "late": 1, "watermark": 1}));
}
