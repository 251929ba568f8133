//! What holds for every call: types, origins, headers, compression, unknown things.

use crate::harness::Service;
use std::io::Write as _;

const TIMER: &str = "/v1/keys/k/timers/n";
const BODY: &str = r#"{"after":"1h"}"#;

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let service = Service::start().await;
    service.get("/v1/nope").await.expect_problem(404, "not-found");
    let wrong = service.post(TIMER, BODY).await;
    assert_eq!(wrong.header("allow"), "PUT, GET, HEAD, DELETE");
    wrong.expect_problem(405, "method-not-allowed");
    service.get("/v1/namespaces/nope/timers").await.expect_problem(404, "namespace-not-found");
    let problem =
        service.get("/v1/namespaces/nope").await.expect_problem(404, "namespace-not-found");
    assert!(problem["detail"].as_str().unwrap().contains("nope"));
}

#[tokio::test]
async fn problems_have_ids_for_the_log_and_pages_that_help() {
    let service = Service::start().await;
    let refused = service.get("/v1/timers?x=1").await;
    assert!(!refused.header("x-request-id").is_empty());
    let problem = refused.expect_problem(400, "invalid-query");
    let page = problem["type"].as_str().unwrap();
    let text = service.get(page).await.expect(200);
    assert!(text.header("content-type").starts_with("text/plain"));
    assert!(text.text().contains("invalid-query"));
    let html = service.call_with("GET", page, &[("accept", "text/html,*/*;q=0.1")], "").await;
    assert!(html.header("content-type").starts_with("text/html"));
    assert!(html.text().starts_with("<!doctype html>"));
    assert!(service.get("/problems").await.expect(200).text().contains("queue-full"));
    service.get("/problems/nope").await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn content_types() {
    let service = Service::start().await;
    for good in
        ["application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded"]
    {
        let answer = service.call_with("PUT", TIMER, &[("content-type", good)], BODY).await;
        assert!(answer.status < 300, "{good}: {}", answer.text());
    }
    for bad in [
        "text/plain",
        "application/xml",
        "application/json; charset=latin1",
        "application/x-ndjson",
    ] {
        let answer = service.call_with("PUT", TIMER, &[("content-type", bad)], BODY).await;
        let problem = answer.expect_problem(415, "unsupported-media-type");
        assert!(problem["detail"].as_str().unwrap().contains("application/json"));
    }
    let accept = [("accept", "image/png")];
    service.call_with("GET", TIMER, &accept, "").await.expect_problem(406, "not-acceptable");
    let accept = [("accept", "text/csv, */*;q=0.1")];
    service.call_with("GET", TIMER, &accept, "").await.expect(200);
}

#[tokio::test]
async fn pages_of_other_origins_and_other_names_are_kept_out() {
    let service = Service::start().await;
    let own = format!("http://{}", service.server.local_addr());
    service.call_with("PUT", TIMER, &[("origin", &own)], BODY).await.expect(201);
    let foreign = [("origin", "http://evil.example"), ("content-type", "text/plain")];
    service.call_with("PUT", TIMER, &foreign, BODY).await.expect_problem(403, "foreign-origin");
    for host in ["evil.example", "evil.example:7400", "10.0.0.1"] {
        service
            .call_with("GET", TIMER, &[("host", host)], "")
            .await
            .expect_problem(403, "foreign-host");
    }
    service.call_with("GET", TIMER, &[("host", "localhost")], "").await.expect(200);
}

#[tokio::test]
async fn what_would_not_be_kept_is_refused() {
    let service = Service::start().await;
    for (name, value) in [
        ("if-match", "*"),
        ("if-none-match", "\"x\""),
        ("if-unmodified-since", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("idempotency-key", "x"),
    ] {
        let answer = service.call_with("PUT", TIMER, &[(name, value)], BODY).await;
        answer.expect_problem(400, "unsupported-header");
    }
    let star = [("if-none-match", "*")];
    service.call_with("GET", TIMER, &star, "").await.expect_problem(400, "unsupported-header");
    service.get(TIMER).await.expect_problem(404, "timer-not-found");
}

#[tokio::test]
async fn ack_levels_are_read_and_the_truth_is_echoed() {
    let service = Service::start().await;
    for level in ["accepted", "written", "synced"] {
        let answer = service.put(&format!("{TIMER}?ack={level}"), BODY).await;
        assert_eq!(answer.header("stormwheel-ack"), "accepted");
    }
    service.put(&format!("{TIMER}?ack=sunk"), BODY).await.expect_problem(400, "invalid-query");
}

#[tokio::test]
async fn what_may_stand_once_in_a_head_stands_once() {
    let service = Service::start().await;
    for name in ["host", "content-type", "content-encoding", "origin"] {
        let twice = [(name, "localhost"), (name, "application/json")];
        let refused = service.call_with("PUT", TIMER, &twice, BODY).await;
        let problem = refused.expect_problem(400, "unsupported-header");
        assert_eq!(problem["field"], name);
    }
    service.get(TIMER).await.expect_problem(404, "timer-not-found");
}

#[tokio::test]
async fn paths_that_do_not_exist_are_kept_from_others_too() {
    let service = Service::start().await;
    let host = [("host", "evil.example")];
    service.call_with("GET", "/nope", &host, "").await.expect_problem(403, "foreign-host");
    service.call_with("POST", TIMER, &host, "").await.expect_problem(403, "foreign-host");
}

#[tokio::test]
async fn an_empty_name_is_told_from_a_path_that_does_not_exist() {
    let service = Service::start().await;
    let problem = service.put("/v1/keys/k/timers/", BODY).await.expect_problem(400, "invalid-name");
    assert_eq!(problem["field"], "name");
    let long = format!("/v1/keys/k/timers/{}", "n".repeat(256));
    service.get(&long).await.expect_problem(400, "invalid-name");
    let problem = service.get("/v1/namespaces/-x").await.expect_problem(400, "invalid-name");
    assert_eq!(problem["field"], "namespace");
}

#[tokio::test]
async fn a_body_that_broke_off_inside_of_its_compression_is_refused_whole() {
    let service = Service::start().await;
    let lines: Vec<String> = (0..20_000)
        .map(|n| format!("{{\"op\":\"register\",\"key\":\"k{n}\",\"after\":\"1h\"}}\n"))
        .collect();
    let zipped = zstd::encode_all(lines.concat().as_bytes(), 1).unwrap();
    let cut = zipped[..zipped.len() - 1].to_vec();
    let encoding = [("content-encoding", "zstd")];
    let answer = service.call_with("POST", "/v1/timers/batch", &encoding, cut).await;
    answer.expect_problem(400, "broken-body");
    assert_eq!(service.get("/v1/timers").await.json()["timers"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn compressed_bodies_are_read_within_the_limits() {
    let service = Service::start().await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zipped = [("content-encoding", "gzip")];
    service.call_with("PUT", TIMER, &zipped, gzip(BODY.as_bytes())).await.expect(201);
    let zstd = zstd::encode_all(BODY.as_bytes(), 1).unwrap();
    service.call_with("PUT", TIMER, &[("content-encoding", "zstd")], zstd).await.expect(200);
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    let problem =
        service.call_with("PUT", TIMER, &zipped, bomb).await.expect_problem(413, "body-too-large");
    assert_eq!(problem["limit"], 1 << 20);
    service.call_with("PUT", TIMER, &zipped, "not gzip").await.expect_problem(400, "broken-body");
    let brotli = [("content-encoding", "br")];
    service
        .call_with("PUT", TIMER, &brotli, "x")
        .await
        .expect_problem(415, "unsupported-media-type");
}
