//! Connections that behave badly: nobody else notices.

use crate::harness::{HANG, Service};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use std::time::Duration;
use stormwheel_server::config::Span;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn raw(service: &Service) -> TcpStream {
    TcpStream::connect(service.server.local_addr()).await.unwrap()
}

/// Everything until the server closes; a hang is a failure.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a close as well.
    let _ = tokio::time::timeout(HANG, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn silence_and_dribbling_heads_are_cut_off_and_others_are_served() {
    let service = Service::start_with(|config| {
        config.http.header_timeout = Span(Duration::from_millis(300));
    })
    .await;
    let mut silent = raw(&service).await;
    let mut dribbling = raw(&service).await;
    let (mut reading, mut writing) = dribbling.split();
    let dribble = async {
        // Until the server has had enough.
        while writing.write_all(b"X").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = async {
        let mut bytes = Vec::new();
        let _ = tokio::time::timeout(HANG, reading.read_to_end(&mut bytes)).await.unwrap();
    };
    tokio::select! { () = dribble => {}, () = closed => {} }
    assert_eq!(rest(&mut silent).await, "");
    service.get("/livez").await.expect(200);
}

#[tokio::test]
async fn the_time_for_a_head_does_not_count_between_two_requests() {
    let service = Service::start_with(|config| {
        config.http.header_timeout = Span(Duration::from_secs(1));
        config.http.idle_timeout = Span(HANG);
    })
    .await;
    let mut kept = service.connect().await;
    let live = async |kept: &mut SendRequest<Full<Bytes>>| {
        let answer = kept.send_request(service.request("GET", "/livez", &[], "")).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    };
    live(&mut kept).await;
    // Opened after that answer: once this one has run out of time, the other would have as well.
    let mut silent = raw(&service).await;
    assert_eq!(rest(&mut silent).await, "");
    live(&mut kept).await;
}

#[tokio::test]
async fn a_body_that_dribbles_is_answered_408() {
    let service = Service::start_with(|config| {
        config.http.body_timeout = Span(Duration::from_millis(200));
    })
    .await;
    let mut stream = raw(&service).await;
    let head =
        "PUT /v1/keys/k/timers/n HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request-timeout"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let service = Service::start().await;
    let mut stream = raw(&service).await;
    let head = format!(
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Big: {}\r\n\r\n",
        "x".repeat(20 << 10)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut stream = raw(&service).await;
    let many = "X-A: 1\r\n".repeat(100);
    let head = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(answer.contains("/problems/headers-too-large"), "{answer}");
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_in_words() {
    let service = Service::start().await;
    for head in [
        "FOO\r\n\r\n",
        "GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        "PUT /v1/keys/k/timers/n HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ] {
        let mut stream = raw(&service).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/problem+json"), "{answer}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["type"], "/problems/malformed-request");
    }
    service.get("/problems/malformed-request").await.expect(200);
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_politely() {
    let service = Service::start_with(|config| config.http.connections_per_ip_max = 2).await;
    let held = [service.connect().await, service.connect().await];
    let mut third = raw(&service).await;
    let answer = rest(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("too-many-connections"), "{answer}");
    drop(held);
    // The places are free again once the server has seen the connections close.
    let served = tokio::time::timeout(HANG, async {
        loop {
            let mut stream = raw(&service).await;
            let head = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            if stream.write_all(head.as_bytes()).await.is_ok()
                && rest(&mut stream).await.starts_with("HTTP/1.1 200 ")
            {
                break;
            }
        }
    });
    served.await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_harms_nobody() {
    let service = Service::start().await;
    for _ in 0..50 {
        let mut stream = raw(&service).await;
        let head = "POST /v1/timers/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{\"op\":";
        stream.write_all(head.as_bytes()).await.unwrap();
        drop(stream);
    }
    service.put("/v1/keys/k/timers/n", r#"{"after":"1h"}"#).await.expect(201);
    let all = service.get("/v1/timers").await.expect(200).json();
    assert_eq!(all["timers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_consumer_that_stops_reading_holds_up_nobody() {
    let service = Service::manual(0).await;
    let mut stuck = raw(&service).await;
    let head = "GET /v1/namespaces/m/outputs HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stuck.write_all(head.as_bytes()).await.unwrap();
    // 40 MB of outputs, far more than the sockets hold; the stuck reader takes none of it.
    let payload = "x".repeat(60_000);
    for round in 1..=7_i64 {
        let lines: Vec<_> = (0..100)
            .map(|n| {
                format!(r#"{{"op":"register","key":"k{n}","at":{round},"payload":"{payload}"}}"#)
            })
            .collect();
        service.post("/v1/namespaces/m/timers/batch", &lines.join("\n")).await.expect(200);
        assert_eq!(service.set_clock(round).await["fired"], 100);
    }
    let mut read = 0;
    let mut cursor = "earliest".to_owned();
    while read < 700 {
        let path = format!("/v1/namespaces/m/outputs?limit=100&cursor={cursor}");
        let answer = service.get(&path).await.expect(200);
        read += answer.lines().len();
        answer.header("stormwheel-cursor").clone_into(&mut cursor);
    }
    assert_eq!(read, 700);
    // It can still go on where it stopped.
    let mut bytes = vec![0; 1 << 20];
    let got = tokio::time::timeout(HANG, stuck.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(got.unwrap(), 1 << 20);
    // Nor does it hold up a stop.
    let stopped = tokio::time::timeout(HANG, service.server.stop()).await;
    assert!(stopped.unwrap(), "the stop was clean");
}

#[tokio::test]
async fn requests_can_be_pipelined() {
    let service = Service::start().await;
    let mut stream = raw(&service).await;
    let one = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{}{last}", one.repeat(9)).as_bytes()).await.unwrap();
    let answers = rest(&mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 10, "{answers}");
}
