//! What is kept and what is told of it: acknowledgements, producers, checkpoints, the start.

use crate::harness::{HANG, Service};
use crate::running::StickyClock;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use stormwheel::runtime::SystemClock;
use stormwheel_server::config::{AckLevel, ServerConfig};
use stormwheel_server::{Server, StartError};
use stormwheel_tests::free_port;
use tempfile::TempDir;
use tokio::net::TcpStream;

const TIMER: &str = "/v1/keys/k/timers/t";
const BODY: &str = r#"{"after":"1h"}"#;

/// A service that keeps what it is told, below a folder that goes with the test.
async fn durable(ack: AckLevel) -> (Service, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with(|config| {
        config.in_memory = false;
        config.data_dir = folder.path().join("data");
        config.ack = ack;
    });
    (service.await, folder)
}

#[tokio::test]
async fn what_was_given_is_what_is_told() {
    let (service, _folder) = durable(AckLevel::Synced).await;
    for (query, given) in [
        ("", "synced"),
        ("?ack=accepted", "accepted"),
        ("?ack=written", "written"),
        ("?ack=synced", "synced"),
    ] {
        let put = service.put(&format!("{TIMER}{query}"), BODY).await;
        assert_eq!(put.header("stormwheel-ack"), given);
        let line = r#"{"op":"touch","key":"k","after":"1h"}"#;
        let batch = service.post(&format!("/v1/timers/batch{query}"), line).await.expect(200);
        assert_eq!(batch.header("stormwheel-ack"), given);
        let touch = service.post(&format!("/v1/keys/k/touch{query}"), BODY).await;
        assert_eq!(touch.header("stormwheel-ack"), given);
        let delete = service.delete(&format!("{TIMER}{query}")).await.expect(200);
        assert_eq!(delete.header("stormwheel-ack"), given);
        // Commands are always synced, and say so.
        let watermark = format!("/v1/watermarks/s{query}");
        let moved = service.put(&watermark, r#"{"watermark":1}"#).await.expect(200);
        assert_eq!(moved.header("stormwheel-ack"), "synced");
        let made = service.put(&format!("/v1/namespaces/m{query}"), r#"{"clock":"manual"}"#).await;
        assert_eq!(made.header("stormwheel-ack"), "synced");
        let clock = format!("/v1/namespaces/m/clock{query}");
        let set = service.put(&clock, r#"{"now":1}"#).await.expect(200);
        assert_eq!(set.header("stormwheel-ack"), "synced");
    }
    for path in [TIMER, "/v1/namespaces/m"] {
        let wrong = service.put(&format!("{path}?ack=sunk"), "{}").await;
        let problem = wrong.expect_problem(400, "invalid-query");
        assert_eq!(problem["field"], "ack");
    }
}

#[tokio::test]
async fn the_level_that_nobody_asks_for_is_configured() {
    let (service, _folder) = durable(AckLevel::Written).await;
    assert_eq!(service.put(TIMER, BODY).await.header("stormwheel-ack"), "written");
    let asked = service.put(&format!("{TIMER}?ack=synced"), BODY).await;
    assert_eq!(asked.header("stormwheel-ack"), "synced");
}

#[tokio::test]
async fn a_producer_is_named_with_a_sequence_or_not_at_all() {
    let service = Service::start().await;
    let name = ("stormwheel-producer", "orders-1");
    let sequence = ("stormwheel-sequence", "7");
    let batch = "/v1/timers/batch";
    let line = r#"{"op":"register","key":"k","after":"1h"}"#;
    service.call_with("POST", batch, &[name, sequence], line).await.expect(200);
    service.call_with("PUT", TIMER, &[name, ("stormwheel-sequence", "8")], BODY).await.expect(201);
    for (headers, slug, field) in [
        (vec![name], "missing-field", "Stormwheel-Sequence"),
        (vec![sequence], "missing-field", "Stormwheel-Producer"),
        (vec![("stormwheel-producer", "a b"), sequence], "invalid-name", "Stormwheel-Producer"),
        (vec![name, ("stormwheel-sequence", "-1")], "invalid-field", "Stormwheel-Sequence"),
    ] {
        for (method, path, body) in [("POST", batch, line), ("PUT", TIMER, BODY)] {
            let refused = service.call_with(method, path, &headers, body).await;
            assert_eq!(refused.expect_problem(400, slug)["field"], field);
        }
    }
    for (method, path, body) in
        [("PUT", "/v1/watermarks/s", r#"{"watermark":1}"#), ("GET", TIMER, "")]
    {
        let refused = service.call_with(method, path, &[name, sequence], body).await;
        refused.expect_problem(400, "unsupported-header");
    }
}

#[tokio::test]
async fn checkpoints_are_begun_and_waited_for() {
    let (service, _folder) = durable(AckLevel::Synced).await;
    let waited = service.post("/v1/checkpoints?wait=30s", "").await.expect(200);
    let number = waited.json()["checkpoint"].as_u64().unwrap();
    assert_eq!(waited.header("location"), format!("/v1/checkpoints/{number}"));
    assert_eq!(waited.json()["status"], "done");
    let begun = service.post("/v1/checkpoints", "").await.expect(202);
    let number = begun.json()["checkpoint"].as_u64().unwrap();
    assert_eq!(begun.header("location"), format!("/v1/checkpoints/{number}"));
    let all = service.get("/v1/checkpoints").await.expect(200).json();
    assert!(all["checkpoints"].is_array(), "{all}");
    for absent in ["18446744073709551615", "x"] {
        let absent = format!("/v1/checkpoints/{absent}");
        service.get(&absent).await.expect_problem(404, "checkpoint-not-found");
    }
    let long = service.post("/v1/checkpoints?wait=1h", "").await;
    assert_eq!(long.expect_problem(400, "invalid-query")["field"], "wait");
}

#[tokio::test]
async fn in_memory_there_are_no_checkpoints() {
    let service = Service::start().await;
    service.post("/v1/checkpoints", "").await.expect_problem(409, "not-durable");
    service.get("/v1/checkpoints").await.expect_problem(409, "not-durable");
    service.get("/v1/checkpoints/1").await.expect_problem(409, "not-durable");
    let ready = service.get("/readyz?verbose").await.expect(200).json();
    let detail = ready["checks"].as_array().unwrap().last().unwrap()["detail"].clone();
    assert_eq!(detail, "nothing is kept: everything is in memory");
}

#[tokio::test]
async fn a_data_directory_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: file,
        ..ServerConfig::default()
    };
    let refused = Server::start(config, Arc::new(SystemClock)).await.err().unwrap();
    assert!(matches!(refused, StartError::Directory(_)), "{refused}");
}

/// Asks a service that may not be there yet.
async fn ask(local: SocketAddr, method: &str, path: &str) -> Option<(u16, Value)> {
    let stream = TcpStream::connect(local).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", local.to_string());
    let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.collect().await.unwrap().to_bytes();
    Some((status, serde_json::from_slice(&body).unwrap()))
}

#[tokio::test]
async fn while_it_starts_it_says_that_it_lives_and_how_far_it_is() {
    let clock = Arc::new(StickyClock::default());
    clock.set_stuck(true);
    let local = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = ServerConfig { listen: local, in_memory: true, ..ServerConfig::default() };
    let starting = tokio::spawn(Server::start(config, clock.clone()));
    let seen = tokio::time::timeout(HANG, async {
        loop {
            if let Some(seen) = ask(local, "GET", "/readyz").await {
                break seen;
            }
            tokio::task::yield_now().await;
        }
    });
    let seen = seen.await;
    let alive = ask(local, "GET", "/livez").await;
    let refused = ask(local, "GET", "/v1/namespaces").await;
    // Before anything can fail: the runtime of this test waits for the thread that starts it.
    clock.set_stuck(false);
    let (status, body) = seen.unwrap();
    assert_eq!((status, &body["status"]), (503, &json!("starting")));
    assert_eq!(body["checks"][0]["name"], "recovery");
    assert_eq!(alive, Some((200, json!({"status":"ok"}))));
    let (status, problem) = refused.unwrap();
    assert_eq!((status, &problem["type"]), (503, &json!("/problems/starting")));
    assert_eq!(problem["retry_after_ms"], 1_000);
    let server = tokio::time::timeout(HANG, starting).await.unwrap().unwrap().unwrap();
    assert_eq!(ask(local, "GET", "/v1/namespaces").await.unwrap().0, 200);
    server.stop().await;
}
