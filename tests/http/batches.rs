//! Batches as NDJSON.

use crate::harness::Service;
use serde_json::json;

const T: i64 = 1_767_225_600_000;
const BATCH: &str = "/v1/namespaces/m/timers/batch";

#[tokio::test]
async fn every_operation_answers_in_its_place() {
    let service = Service::manual(T).await;
    let body = [
        format!(r#"{{"op":"register","key":"order-17","at":{},"payload":{{"n":1}}}}"#, T + 1),
        r#"{"op":"register","key":"order-17","name":"expiry","after":"15m"}"#.to_owned(),
        String::new(),
        r#"{"op":"delete","key":"order-17","name":"expiry"}"#.to_owned(),
        r#"{"op":"touch","key":"device-9","after":"60s"}"#.to_owned(),
        r#"{"op":"delete_all","key":"order-17"}"#.to_owned(),
        r#"{"op":"register","key":""}"#.to_owned(),
    ]
    .join("\n");
    let answer = service.post(BATCH, &body).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.header("stormwheel-failed"), "1");
    assert_eq!(answer.header("stormwheel-ack"), "accepted");
    let lines = answer.lines();
    assert_eq!(lines.len(), 6);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index);
    }
    assert_eq!(lines[0]["fire_at"], T + 1);
    assert_eq!(lines[1]["fire_at"], T + 900_000);
    assert_eq!((&lines[2]["result"], &lines[2]["cancelled"]), (&json!("cancelled"), &json!(1)));
    assert_eq!(lines[3]["result"], "created");
    assert_eq!(lines[4]["cancelled"], 1);
    assert_eq!(lines[5]["error"]["status"], 400);
    assert_eq!(lines[5]["error"]["field"], "key");
}

#[tokio::test]
async fn bad_lines_harm_no_other() {
    let service = Service::manual(T).await;
    let good = |key: &str| format!(r#"{{"op":"register","key":"{key}","at":{}}}"#, T + 1);
    let mut body = Vec::new();
    for line in [
        good("a").into_bytes(),
        b"{\"op\":\"register\",\"key\":\"b\",\"at\":1,\"oops\":2}".to_vec(),
        b"{\"op\":\"register\",\"key\":\"c\"".to_vec(),
        b"{\"op\":\"register\",\"key\":\"\xff\",\"at\":1}".to_vec(),
        b"{\"op\":\"jump\",\"key\":\"d\"}".to_vec(),
        b"{\"op\":\"delete\",\"key\":\"e\"}".to_vec(),
        format!(r#"{{"op":"register","key":"{}","at":1}}"#, "k".repeat(1_025)).into_bytes(),
        good("z").into_bytes(),
    ] {
        body.extend_from_slice(&line);
        body.push(b'\n');
    }
    let answer = service.call("POST", BATCH, body).await.expect(200);
    assert_eq!(answer.header("stormwheel-failed"), "6");
    let lines = answer.lines();
    for line in &lines[1..7] {
        assert_eq!(line["error"]["status"], 400, "{line}");
    }
    assert_eq!(lines[1]["error"]["field"], "oops");
    assert_eq!(lines[6]["error"]["limit"], 1_024);
    assert_eq!(service.set_clock(T + 1).await["fired"], 2);
}

#[tokio::test]
async fn a_single_object_is_a_batch_of_one_and_nothing_is_none() {
    let service = Service::manual(T).await;
    let one = format!(r#"{{"op":"register","key":"a","at":{}}}"#, T + 1);
    let json = [("content-type", "application/json")];
    let answer = service.call_with("POST", BATCH, &json, one).await;
    assert_eq!(answer.expect(200).lines().len(), 1);
    let empty = service.post(BATCH, "").await.expect(200);
    assert_eq!((empty.lines().len(), empty.header("stormwheel-failed")), (0, "0"));
}

#[tokio::test]
async fn lost_newlines_are_told_about() {
    let service = Service::manual(T).await;
    let one = format!(r#"{{"op":"register","key":"a","at":{}}}"#, T + 1);
    let answer = service.post(BATCH, &format!("{one}{one}")).await.expect(200);
    let detail = answer.lines()[0]["error"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("--data-binary"), "{detail}");
}

#[tokio::test]
async fn what_is_not_arrow_is_refused_as_a_whole() {
    let service = Service::manual(T).await;
    let arrow = [("content-type", "application/vnd.apache.arrow.stream")];
    let answer = service.call_with("POST", BATCH, &arrow, "not arrow").await;
    answer.expect_problem(400, "invalid-arrow");
}

#[tokio::test]
async fn who_takes_only_the_other_form_of_answer_is_told_before_anything_is_done() {
    let service = Service::start().await;
    let line = r#"{"op":"register","key":"a","after":"1h"}"#;
    let json = [("accept", "application/json")];
    let problem = service
        .call_with("POST", "/v1/timers/batch", &json, line)
        .await
        .expect_problem(406, "not-acceptable");
    assert!(problem["detail"].as_str().unwrap().contains("application/x-ndjson"), "{problem}");
    assert_eq!(service.get("/v1/timers").await.json()["timers"], serde_json::json!([]));
    let any = [("accept", "application/json, text/plain, */*")];
    service.call_with("POST", "/v1/timers/batch", &any, line).await.expect(200);
}
