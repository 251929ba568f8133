//! The stream of outputs: bounded, endless, as lines and as events, with cursors and filters.

use crate::harness::{Lines, Service};
use serde_json::{Value, json};

const T: i64 = 1_767_225_600_000;

/// A manual namespace in which `a` to `e` fired, one a millisecond; and their cursors.
async fn with_five_fires() -> (Service, Vec<u64>) {
    let service = Service::manual(T).await;
    for (offset, key) in (1..).zip(["a", "b", "c", "d", "e"]) {
        let path = format!(
            "/v1/namespaces/m/keys/{key}/timers/{}",
            if offset % 2 == 0 { "even" } else { "odd" }
        );
        service.put(&path, &format!("{{\"at\":{}}}", T + offset)).await.expect(201);
        service.set_clock(T + offset).await;
    }
    let cursors =
        service.fired().await.iter().map(|fire| fire["cursor"].as_u64().unwrap()).collect();
    (service, cursors)
}

fn keys(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["key"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_bounded_read_goes_on_from_its_cursor() {
    let (service, cursors) = with_five_fires().await;
    let first = service.get("/v1/namespaces/m/outputs?limit=2").await.expect(200);
    assert_eq!(first.header("content-type"), "application/x-ndjson");
    assert_eq!(keys(&first.lines()), ["a", "b"]);
    let cursor = first.header("stormwheel-cursor").to_owned();
    assert_eq!(cursor, cursors[1].to_string());
    let rest = service.get(&format!("/v1/namespaces/m/outputs?limit=9&cursor={cursor}")).await;
    assert_eq!(keys(&rest.lines()), ["c", "d", "e"]);
    let end = rest.header("stormwheel-cursor").to_owned();
    let none =
        service.get(&format!("/v1/namespaces/m/outputs?wait=0s&cursor={end}")).await.expect(200);
    assert!(none.body.is_empty());
    assert_eq!(none.header("stormwheel-cursor"), end);
    let latest = service.get("/v1/namespaces/m/outputs?limit=9&cursor=latest").await.expect(200);
    assert!(latest.body.is_empty());
    let earliest = service.get("/v1/namespaces/m/outputs?limit=9&cursor=earliest").await;
    assert_eq!(earliest.lines().len(), 5);
    let by_time = "/v1/namespaces/m/outputs?limit=9&cursor=2020-01-01T00:00:00Z";
    assert_eq!(service.get(by_time).await.expect(200).lines().len(), 5);
}

#[tokio::test]
async fn a_bounded_read_waits_for_the_first_record() {
    let service = Service::manual(T).await;
    let path = "/v1/namespaces/m/keys/k/timers/t";
    service.put(path, &format!("{{\"at\":{}}}", T + 1)).await.expect(201);
    let (answer, _) =
        tokio::join!(service.get("/v1/namespaces/m/outputs?wait=60s"), service.set_clock(T + 1));
    assert_eq!(keys(&answer.expect(200).lines()), ["k"]);
}

#[tokio::test]
async fn filters_are_or_within_and_and_between() {
    let (service, _) = with_five_fires().await;
    for (query, expected) in [
        ("key=a&key=e", vec!["a", "e"]),
        ("name=even", vec!["b", "d"]),
        ("name=even&key_prefix=d", vec!["d"]),
        ("domain=event", vec![]),
        ("domain=event&domain=processing&key=c", vec!["c"]),
        ("tag=", vec!["a", "b", "c", "d", "e"]),
        ("tag=late", vec![]),
    ] {
        let path = format!("/v1/namespaces/m/outputs?limit=9&{query}");
        assert_eq!(keys(&service.get(&path).await.expect(200).lines()), expected, "{query}");
    }
}

#[tokio::test]
async fn an_endless_stream_sends_its_head_at_once_and_then_what_fires() {
    let service = Service::manual(T).await;
    let request = service.request("GET", "/v1/namespaces/m/outputs", &[], "");
    let response = service.open(request).await;
    assert!(response.headers().contains_key("stormwheel-cursor"));
    let mut lines = Lines::of(response);
    for offset in 1..4 {
        let path = format!("/v1/namespaces/m/keys/k{offset}/timers");
        service.post(&path, &format!("{{\"at\":{}}}", T + offset)).await.expect(201);
        service.set_clock(T + offset).await;
        let line: Value = serde_json::from_str(&lines.next_full().await.unwrap()).unwrap();
        assert_eq!(line["key"], format!("k{offset}"));
        assert_eq!(line["fire_at"], T + offset);
    }
    // It ends with its namespace.
    service.delete("/v1/namespaces/m?force=true").await.expect(200);
    assert_eq!(lines.next_full().await, None);
}

#[tokio::test]
async fn a_quiet_stream_gives_signs_of_life() {
    let service = Service::manual(T).await;
    let request = service.request("GET", "/v1/namespaces/m/outputs", &[], "");
    let mut lines = Lines::of(service.open(request).await);
    assert_eq!(lines.next().await.as_deref(), Some(""));
    let sse = [("accept", "text/event-stream")];
    let request = service.request("GET", "/v1/namespaces/m/outputs", &sse, "");
    let mut events = Lines::of(service.open(request).await);
    let sign = events.next().await.unwrap();
    assert!(sign.starts_with("id: "), "{sign}");
    assert_eq!(events.next().await.as_deref(), Some(""));
}

#[tokio::test]
async fn events_carry_their_cursor_and_a_reader_comes_back_by_it() {
    let (service, cursors) = with_five_fires().await;
    let sse = [("accept", "text/event-stream"), ("last-event-id", &cursors[3].to_string())];
    let request = service.request("GET", "/v1/namespaces/m/outputs", &sse, "");
    let response = service.open(request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut lines = Lines::of(response);
    assert_eq!(lines.next().await.unwrap(), "event: output");
    assert_eq!(lines.next().await.unwrap(), format!("id: {}", cursors[4]));
    let data = lines.next().await.unwrap();
    let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(data["key"], "e");
    assert_eq!(lines.next().await.unwrap(), "");
}

#[tokio::test]
async fn cursors_that_cannot_be_read_from_are_told_apart() {
    let (service, cursors) = with_five_fires().await;
    let read = async |cursor: &str| {
        service.get(&format!("/v1/namespaces/m/outputs?limit=1&cursor={cursor}")).await
    };
    let ahead = (cursors[4] + 1_000).to_string();
    read(&ahead).await.expect_problem(409, "cursor-ahead");
    service.delete("/v1/namespaces/m").await.expect(200);
    service.put("/v1/namespaces/m", r#"{"clock":"manual"}"#).await.expect(201);
    let earlier = read(&cursors[0].to_string()).await.expect_problem(409, "cursor-ahead");
    assert!(earlier["detail"].as_str().unwrap().contains("earlier namespace"), "{earlier}");
    for bad in ["x", "-1", "1.5", "99999999999999999999", "5s"] {
        read(bad).await.expect_problem(400, "invalid-query");
    }
    for query in ["limit=0", "limit=10001", "wait=61s", "wait=5", "on_gap=maybe"] {
        let path = format!("/v1/namespaces/m/outputs?{query}");
        service.get(&path).await.expect_problem(400, "invalid-query");
    }
    let id = [("last-event-id", "nonsense")];
    service
        .call_with("GET", "/v1/namespaces/m/outputs", &id, "")
        .await
        .expect_problem(400, "unsupported-header");
}

#[tokio::test]
async fn a_reader_that_fell_behind_is_told_of_the_gap() {
    let service = Service::start_with(|config| {
        config.output_bytes_max = stormwheel_server::config::ByteSize(64 << 10);
    })
    .await;
    service.put("/v1/namespaces/m", r#"{"clock":"manual"}"#).await.expect(201);
    service.set_clock(T).await;
    let start = service.get("/v1/namespaces/m/outputs?limit=1&cursor=earliest").await;
    let start = start.header("stormwheel-cursor").to_owned();
    // Far more than is kept: 400 KiB of payload.
    for round in 1..=20 {
        let line = |n: usize| {
            format!(
                r#"{{"op":"register","key":"k{n}","at":{},"payload":"{}"}}"#,
                T + round,
                "x".repeat(1_000)
            )
        };
        let body: Vec<_> = (0..20).map(line).collect();
        service.post("/v1/namespaces/m/timers/batch", &body.join("\n")).await.expect(200);
        service.set_clock(T + round).await;
    }
    let path = format!("/v1/namespaces/m/outputs?limit=10000&cursor={start}");
    let problem = service.get(&path).await.expect_problem(410, "cursor-gone");
    let earliest = problem["earliest"].as_u64().unwrap();
    let skipped = service.get(&format!("{path}&on_gap=skip")).await.expect(200).lines();
    assert_eq!(skipped[0]["gap"]["earliest"], earliest);
    let resumed = format!("/v1/namespaces/m/outputs?limit=10000&cursor={earliest}");
    let resumed = service.get(&resumed).await.expect(200).lines();
    assert_eq!(skipped[1..], resumed[..]);
    assert!(!resumed.is_empty());
    let last = &resumed[resumed.len() - 1];
    assert_eq!(last["fire_at"], json!(T + 20));
}

#[tokio::test]
async fn a_stream_whose_reader_falls_behind_ends_with_the_gap() {
    let service = Service::start_with(|config| {
        config.output_bytes_max = stormwheel_server::config::ByteSize(1 << 20);
    })
    .await;
    service.put("/v1/namespaces/m", r#"{"clock":"manual"}"#).await.expect(201);
    service.set_clock(T).await;
    let request = service.request("GET", "/v1/namespaces/m/outputs", &[], "");
    let mut lines = Lines::of(service.open(request).await);
    // 40 MB, more than the sockets and the log hold together, while nobody reads.
    let payload = "x".repeat(60_000);
    for round in 1..=7 {
        let body: Vec<_> = (0..100)
            .map(|n| {
                format!(
                    r#"{{"op":"register","key":"k{n}","at":{},"payload":"{payload}"}}"#,
                    T + round
                )
            })
            .collect();
        service.post("/v1/namespaces/m/timers/batch", &body.join("\n")).await.expect(200);
        service.set_clock(T + round).await;
    }
    let mut last = Value::Null;
    while let Some(line) = lines.next_full().await {
        last = serde_json::from_str(&line).unwrap();
    }
    assert_eq!(last["error"]["status"], 410, "{last}");
    assert!(last["error"]["earliest"].is_u64(), "{last}");
}

#[tokio::test]
async fn streams_end_when_the_service_stops() {
    let service = Service::manual(T).await;
    let request = service.request("GET", "/v1/namespaces/m/outputs", &[], "");
    let mut lines = Lines::of(service.open(request).await);
    let waiting = service.request("GET", "/v1/namespaces/m/outputs?wait=60s", &[], "");
    let mut sender = service.connect().await;
    let waiting = tokio::spawn(async move { sender.send_request(waiting).await });
    assert_eq!(lines.next().await.as_deref(), Some(""), "the stream is up");
    let stopped = tokio::time::timeout(crate::harness::HANG, service.server.stop());
    assert!(stopped.await.unwrap(), "the stop was clean");
    assert_eq!(lines.next_full().await, None);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_bounded_read_finds_what_stands_behind_much_that_it_filters_out() {
    let service = Service::manual(T).await;
    // Far more than is read from the log at a time, or written down in a moment.
    let lines: Vec<_> = (0..9_999)
        .map(|n| {
            let at = T + 1 + i64::from(n == 9_998);
            format!(r#"{{"op":"register","key":"key-{n}","at":{at},"payload":"{n:0200}"}}"#)
        })
        .collect();
    service.post("/v1/namespaces/m/timers/batch", &lines.join("\n")).await.expect(200);
    service.set_clock(T + 1).await;
    service.set_clock(T + 2).await;
    let found = service.get("/v1/namespaces/m/outputs?limit=1&key=key-9998").await.expect(200);
    assert_eq!(keys(&found.lines()), ["key-9998"]);
    let all = service.get("/v1/namespaces/m/outputs?limit=10000").await.expect(200);
    assert_eq!(all.lines().len(), 9_999, "up to the limit, without a wait");
    let none = service.get("/v1/namespaces/m/outputs?limit=1&key=other").await.expect(200);
    assert!(none.body.is_empty());
    let last = all.lines()[9_998]["cursor"].to_string();
    assert_eq!(none.header("stormwheel-cursor"), last, "it looked at all there is");
}

#[tokio::test]
async fn a_cursor_may_be_a_time_with_a_plain_plus() {
    let (service, _) = with_five_fires().await;
    let path = "/v1/namespaces/m/outputs?limit=9&cursor=2020-01-01T00:00:00+01:00";
    assert_eq!(service.get(path).await.expect(200).lines().len(), 5);
}
