//! Elements for functions, from the request to what they emit.

use crate::functions::{functions, running, running_with};
use crate::harness::{HANG, Service};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use stormwheel::runtime::SystemClock;
use stormwheel_server::config::ServerConfig;
use stormwheel_server::{Server, StartError};
use stormwheel_tests::{Server as Process, built_binary, fail_stormwheel, run_stormwheel};

const SUM: &str = r#"{"operator":"sum"}"#;

/// The counts of a summary that has no errors.
fn counts(summary: &Value) -> Value {
    assert_eq!((&summary["failed"], &summary["errors"]), (&json!(0), &json!([])), "{summary}");
    summary["results"].clone()
}

#[tokio::test]
async fn elements_are_processed_and_watermarks_keep_their_place() {
    let service = running(SUM).await;
    let answer = service
        .elements(
            "",
            "{\"key\":\"a\",\"timestamp\":1,\"value\":{\"n\":1}}\n\
             {\"key\":\"b\",\"timestamp\":5,\"value\":{\"n\":10,\"note\":\"hello\"}}\n\
             {\"key\":\"a\",\"timestamp\":3,\"value\":{\"n\":2}}\n\
             {\"watermark\":14}\n\
             {\"key\":\"a\",\"timestamp\":20,\"value\":{\"n\":4}}\n\
             {\"watermark\":30}\n\
             {\"watermark\":29}\n\
             {\"watermark\":31}\n",
        )
        .await
        .expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("stormwheel-failed"), "0");
    assert_eq!(answer.header("stormwheel-ack"), "accepted");
    let expected = json!({
        "rows": 8,
        "results": {"processed": 4, "watermark": 4},
        "late": 0,
        "watermark": {"source": "default", "result": "advanced", "watermark": 31},
        "failed": 0,
        "errors": [],
        "errors_omitted": 0,
    });
    assert_eq!(answer.json(), expected);
    // The reply to a watermark may be out before all that it made due is.
    service.watermark("default", 32).await;
    let expected = ["a @13 3", "a @30 4", "b [notes] @5 \"hello\"", "b @15 10"];
    assert_eq!(service.values("").await, expected);
    assert_eq!(service.values("&tag=").await, ["a @13 3", "a @30 4", "b @15 10"]);
    assert_eq!(service.values("&tag=notes").await, ["b [notes] @5 \"hello\""]);
    assert_eq!(service.values("&tag=notes&tag=&key=b").await.len(), 2);
}

#[tokio::test]
async fn late_elements_go_where_the_namespace_wants_them() {
    let late = "{\"watermark\":100}\n{\"key\":\"a\",\"timestamp\":100,\"value\":{\"n\":1}}\n\
                {\"key\":\"a\",\"timestamp\":101,\"value\":{\"n\":2}}";
    for (policy, processed, expected) in [
        ("drop", 1, vec!["a @111 2"]),
        ("side_output", 1, vec!["a [late] @100 {\"n\":1}", "a @111 2"]),
        ("process", 2, vec!["a @111 3"]),
    ] {
        let config = format!("{{\"operator\":\"sum\",\"late_elements\":\"{policy}\"}}");
        let service = running(&config).await;
        let summary = service.elements("?source=s", late).await.expect(200).json();
        assert_eq!(summary["results"]["processed"], processed, "{summary}");
        assert_eq!(summary["late"], 2 - processed, "{summary}");
        assert_eq!(summary["watermark"]["source"], "s");
        service.watermark("s", 200).await;
        assert_eq!(service.values("").await, expected, "{policy}");
    }
    let service = running(r#"{"operator":"sum","lateness":"50ms"}"#).await;
    let body = "{\"watermark\":100}\n{\"key\":\"a\",\"timestamp\":51,\"value\":{\"n\":1}}\n\
                {\"key\":\"a\",\"timestamp\":50,\"value\":{\"n\":2}}";
    let summary = service.elements("", body).await.expect(200).json();
    assert_eq!((&summary["results"]["processed"], &summary["late"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_bounded_watermark_follows_the_newest_element() {
    let config = r#"{"operator":"sum","watermark":{"strategy":"bounded","delay":"5ms"}}"#;
    let service = running(config).await;
    let shown = service.get("/v1/namespaces/m").await.expect(200).json();
    assert_eq!(shown["config"]["watermark"]["strategy"], "bounded");
    assert_eq!(shown["config"]["watermark"]["delay"], "5ms");
    let lines = |elements: &[(i64, i64)]| -> String {
        let line = |(timestamp, n): &(i64, i64)| {
            format!("{{\"key\":\"a\",\"timestamp\":{timestamp},\"value\":{{\"n\":{n}}}}}\n")
        };
        elements.iter().map(line).collect()
    };
    let summary = service.elements("?source=s", &lines(&[(100, 1), (90, 2)])).await.json();
    let expected = json!({"source": "s", "result": "advanced", "watermark": 94});
    assert_eq!(summary["watermark"], expected);
    // At the watermark it is late, just above it is not; and the one that is refused moves nothing.
    let body =
        lines(&[(94, 4), (95, 8)]) + "{\"key\":\"a\",\"timestamp\":900,\"value\":1,\"input\":1}";
    let summary = service.elements("?source=s", &body).await.json();
    assert_eq!(summary["results"], json!({"processed": 1, "late": 1}));
    assert_eq!(summary["errors"][0]["error"]["type"], "/problems/input-not-found");
    assert_eq!(summary["watermark"]["result"], "ignored");
    let explicit = r#"{"watermark":{"strategy":"explicit"}}"#;
    let patched = service.call("PATCH", "/v1/namespaces/m", explicit).await.expect(200).json();
    assert_eq!(patched["config"]["watermark"].get("delay"), None);
    let summary = service.elements("?source=s", &lines(&[(500, 1)])).await.json();
    assert_eq!(summary.get("watermark"), None);
}

#[tokio::test]
async fn without_event_time_an_element_happens_when_it_comes() {
    let service = running(r#"{"operator":"echo","clock":"manual"}"#).await;
    let line = "{\"key\":\"a\",\"value\":{\"x\": 1}}";
    let summary = service.elements("", line).await.expect(200).json();
    assert_eq!(summary["errors"][0]["error"]["type"], "/problems/clock-unset");
    service.set_clock(5_000).await;
    counts(&service.elements("", line).await.expect(200).json());
    service.set_clock(5_999).await;
    assert_eq!(service.values("").await, ["a @5000 {\"x\":1}"]);
    service.set_clock(6_000).await;
    // From a processing-time timer the main output has no timestamp.
    assert_eq!(service.values("").await, ["a @5000 {\"x\":1}", "a [{\"x\":1}]"]);
    // Once there is event time, an element has to say where in it it stands.
    service.watermark("s", 1).await;
    let summary = service.elements("", line).await.expect(200).json();
    let error = &summary["errors"][0]["error"];
    assert_eq!(error["type"], "/problems/missing-field");
    assert_eq!(error["field"], "timestamp");

    let system = running(r#"{"operator":"echo"}"#).await;
    let both = format!("{line}\n{{\"key\":\"b\",\"timestamp\":7,\"value\":2}}");
    let summary = system.elements("", &both).await.expect(200).json();
    assert_eq!(counts(&summary), json!({"processed": 2}));
}

#[tokio::test]
async fn rows_of_arrow_are_elements_too() {
    let service = running(r#"{"operator":"sum","on_error":{"retry":0,"then":"skip"}}"#).await;
    let keys = || -> ArrayRef { Arc::new(StringArray::from(vec!["a", "b", "a"])) };
    let times = || -> ArrayRef { Arc::new(Int64Array::from(vec![1, 2, 3])) };
    let fields: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(-2), Some(4)]));
    let notes: ArrayRef = Arc::new(StringArray::from(vec![None, None, Some("x")]));
    let values: ArrayRef =
        Arc::new(StringArray::from(vec![r#"{"n":8}"#, r#"{"n":16}"#, r#"{"m":32}"#]));
    let by_field = vec![("key", keys()), ("timestamp", times()), ("n", fields), ("note", notes)];
    let whole = vec![("key", keys()), ("timestamp", times()), ("value", values)];
    let arrow = [("content-type", "application/vnd.apache.arrow.stream")];
    for (columns, index, part) in [(by_field, 1, "negative"), (whole, 2, "missing field `n`")] {
        let records = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        );
        let records = records.unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), records.schema_ref()).unwrap();
        writer.write(&records).unwrap();
        writer.finish().unwrap();
        let body = writer.into_inner().unwrap();
        let path = "/v1/namespaces/m/elements";
        let summary = service.call_with("POST", path, &arrow, body).await.expect(200).json();
        assert_eq!(summary["rows"], 3);
        assert_eq!(summary["results"], json!({"processed": 2}), "{summary}");
        assert_eq!(summary["errors"][0]["index"], index);
        assert_eq!(summary["errors"][0]["error"]["type"], "/problems/function-failed");
        service.watermark("s", 0).await;
        let errors = service.values("&tag=errors").await;
        assert!(errors.iter().any(|error| error.contains(part)), "{errors:?}");
    }
    service.watermark("s", 100).await;
    assert_eq!(service.values("&tag=").await, ["a @11 13", "b @12 16"]);
    assert_eq!(service.values("&tag=notes").await, ["a [notes] @3 \"x\""]);
}

#[tokio::test]
async fn what_a_producer_repeats_is_taken_once() {
    let service = running(SUM).await;
    let mut body = String::new();
    for index in 0..10 {
        let key = index % 3;
        writeln!(body, "{{\"key\":\"k{key}\",\"timestamp\":{index},\"value\":{{\"n\":1}}}}")
            .unwrap();
        if index % 4 == 3 {
            writeln!(body, "{{\"watermark\":{}}}", index - 3).unwrap();
        }
    }
    let headers = [("stormwheel-producer", "p"), ("stormwheel-sequence", "1")];
    let path = "/v1/namespaces/m/elements";
    let first = service.call_with("POST", path, &headers, body.clone()).await.expect(200).json();
    assert_eq!(counts(&first), json!({"processed": 10, "watermark": 2}));
    let again = service.call_with("POST", path, &headers, body).await.expect(200).json();
    assert_eq!(counts(&again), json!({"repeated": 10, "watermark": 2}));
    service.watermark("default", 100).await;
    assert_eq!(service.values("").await, ["k0 @19 4", "k1 @17 3", "k2 @18 3"]);
}

#[tokio::test]
async fn the_figures_count_elements() {
    let service = running(r#"{"operator":"sum","on_error":{"retry":0,"then":"skip"}}"#).await;
    let body = "{\"watermark\":10}\n{\"key\":\"a\",\"timestamp\":10,\"value\":{\"n\":1}}\n\
                {\"key\":\"a\",\"timestamp\":11,\"value\":{\"n\":1}}\n\
                {\"key\":\"a\",\"timestamp\":12,\"value\":{\"n\":-1}}";
    service.elements("", body).await.expect(200);
    let last = "stormwheel_elements_total{result=\"failed\"} 1";
    let text = tokio::time::timeout(HANG, async {
        loop {
            let text = service.get("/metrics").await.expect(200).text();
            if text.lines().any(|line| line == last) {
                break text;
            }
        }
    });
    let text = text.await.unwrap();
    for line in [
        "stormwheel_elements_total{result=\"processed\"} 1",
        "stormwheel_late_elements_total 1",
        "stormwheel_function_timers_failed_total 0",
        "stormwheel_function_retries_total 0",
        "stormwheel_function_timers_refused_at_the_end_total 0",
        "stormwheel_function_close_panics_total 0",
        "stormwheel_keys 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn state_outlives_the_process_and_needs_its_function() {
    let folder = tempfile::tempdir().unwrap();
    let durable = |config: &mut ServerConfig| {
        config.in_memory = false;
        config.data_dir = folder.path().join("data");
    };
    let service = running_with(SUM, durable).await;
    let line = |timestamp: i64, n: i64| {
        format!("{{\"key\":\"a\",\"timestamp\":{timestamp},\"value\":{{\"n\":{n}}}}}\n")
    };
    let answer = service.elements("", &line(1, 1)).await.expect(200);
    assert_eq!(answer.header("stormwheel-ack"), "synced");
    assert!(service.server.stop().await);

    // A program without the function opens nothing, and says what it lacks.
    let mut config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    durable(&mut config);
    match Server::start(config, Arc::new(SystemClock)).await {
        Err(error @ StartError::Engine(_)) => {
            let said = error.to_string();
            assert!(said.contains("there is no operator `sum`"), "{said}");
        }
        other => panic!("{:?}", other.err()),
    }

    let service = Service::start_built(functions(), durable).await;
    service.elements("", &line(2, 2)).await.expect(200);
    service.watermark("default", 100).await;
    assert_eq!(service.values("").await, ["a @12 3"]);
    assert!(service.server.stop().await);
}

#[test]
fn the_example_is_a_service_around_its_function() {
    let binary = built_binary("count-with-timeout");
    let said = std::process::Command::new(&binary).arg("--version").output().unwrap();
    let expected = concat!("count-with-timeout ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&said.stdout), expected);
    let server = Process::start_binary(&binary, &[]);
    let client = server.client();
    let config = r#"{"operator":"count-with-timeout"}"#;
    client.put("/v1/namespaces/clicks", config).expect_status(201);
    let lines = "{\"key\":\"anna\",\"timestamp\":1000,\"value\":\"/home\"}\n\
                 {\"key\":\"anna\",\"timestamp\":2000,\"value\":\"/cart\"}\n\
                 {\"watermark\":62000}\n";
    let answer = client.post_lines("/v1/namespaces/clicks/elements", lines).expect_status(200);
    assert_eq!(answer.json()["results"], json!({"processed": 2, "watermark": 1}));
    let outputs = client.get("/v1/namespaces/clicks/outputs?limit=1&wait=60s").expect_status(200);
    let found = &outputs.lines()[0];
    assert_eq!((&found["timestamp"], &found["value"]), (&json!(62_000), &json!(["anna", 2])));

    // The same from a shell.
    let address = format!("http://127.0.0.1:{}", server.port());
    let place = ["-n", "clicks", "--server", &address];
    let put = ["elements", "put", "bert", "\"/home\"", "--timestamp", "90000"];
    assert_eq!(run_stormwheel(&[&put[..], &place].concat()), "processed\n");
    let moved = run_stormwheel(&[&["elements", "watermark", "150000"][..], &place].concat());
    assert_eq!(moved, "source default advanced, watermark 1970-01-01T00:02:30.000Z\n");
    let outputs = ["outputs", "--key", "bert", "--tag", "", "--wait", "60s", "--limit", "1"];
    let said = run_stormwheel(&[&outputs[..], &place].concat());
    assert!(said.starts_with("1970-01-01T00:02:30.000Z  bert  [\"bert\",1]\n"), "{said}");
    let (code, said) = fail_stormwheel(&[&["elements", "put", "a", "1"][..], &place[2..]].concat());
    assert_eq!(code, Some(1));
    assert!(said.contains("takes no elements"), "{said}");
}
