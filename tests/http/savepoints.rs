//! Savepoints over HTTP and at a shell: made, looked at, damaged, restored into another layout.

use crate::functions::running_with;
use crate::harness::Service;
use std::fs;
use std::path::Path;
use stormwheel_server::config::ServerConfig;
use stormwheel_tests::{fail_stormwheel, run_stormwheel};
use tokio::task::spawn_blocking;

async fn durable(data_dir: &Path) -> Service {
    let change = |config: &mut ServerConfig| {
        config.in_memory = false;
        data_dir.clone_into(&mut config.data_dir);
    };
    Service::start_with(change).await
}

/// Runs a command beside the service, which lives on the thread of the test.
async fn shell(args: &[&str]) -> String {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let ran = spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run_stormwheel(&args)
    });
    ran.await.unwrap()
}

#[tokio::test]
async fn savepoints_are_made_listed_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let service = durable(&folder.path().join("data")).await;
    service.put("/v1/namespaces/a", "{}").await.expect(201);
    service.put("/v1/namespaces/a/keys/k/timers/t", r#"{"after":"1h"}"#).await.expect(201);
    let only = service.post("/v1/savepoints?wait=30s", r#"{"namespaces":["a"]}"#).await;
    let made = only.expect(200);
    let shown = made.json();
    let id = shown["savepoint"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/v1/savepoints/{id}"));
    assert_eq!((&shown["status"], &shown["namespaces"][0]["timers"]), (&"done".into(), &1.into()));
    assert_eq!(shown["namespaces"].as_array().unwrap().len(), 1);
    let begun = service.post("/v1/savepoints", "").await.expect(202);
    assert!(begun.header("location").starts_with("/v1/savepoints/sp-"));
    service.post("/v1/savepoints?wait=30s", "{}").await.expect(200);
    let all = service.get("/v1/savepoints").await.expect(200).json();
    assert_eq!(all["savepoints"].as_array().unwrap().len(), 3);
    let one = service.get(&format!("/v1/savepoints/{id}")).await.expect(200).json();
    assert_eq!(one["savepoint"], id);
    service.get("/v1/savepoints/x").await.expect_problem(404, "savepoint-not-found");
    let path = format!("/v1/savepoints/{id}");
    let removed = service.delete(&path).await.expect(204);
    assert!(removed.text().is_empty());
    assert!(!folder.path().join(format!("data/snapshots/savepoints/{id}/savepoint")).exists());
    service.delete(&path).await.expect_problem(404, "savepoint-not-found");
    service.get(&path).await.expect_problem(404, "savepoint-not-found");
    let left = service.get("/v1/savepoints").await.expect(200).json();
    assert_eq!(left["savepoints"].as_array().unwrap().len(), 2);
    for (body, status, slug) in [
        (r#"{"namespaces":["nobody"]}"#, 404, "namespace-not-found"),
        (r#"{"namespaces":[]}"#, 400, "invalid-field"),
        (r#"{"all":true}"#, 400, "unknown-field"),
    ] {
        service.post("/v1/savepoints?wait=1s", body).await.expect_problem(status, slug);
    }
}

#[tokio::test]
async fn in_memory_there_is_nothing_to_copy() {
    let service = Service::start().await;
    service.post("/v1/savepoints", "").await.expect_problem(409, "not-durable");
    service.get("/v1/savepoints").await.expect_problem(409, "not-durable");
    service.get("/v1/savepoints/x").await.expect_problem(409, "not-durable");
    service.delete("/v1/savepoints/x").await.expect_problem(409, "not-durable");
}

#[tokio::test]
async fn what_was_copied_goes_on_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let service = durable(&folder.path().join("data")).await;
    service.put("/v1/namespaces/m", r#"{"clock":"manual"}"#).await.expect(201);
    service.set_clock(1_000).await;
    for n in 0..50 {
        let timer = format!("/v1/namespaces/m/keys/k{n}/timers/t");
        let body = format!("{{\"at\":{},\"payload\":{{\"n\":{n}}}}}", 1_001 + n);
        service.put(&timer, &body).await.expect(201);
    }
    service.set_clock(1_020).await;
    let fired = service.fired().await;
    assert_eq!(fired.len(), 20);
    let server = format!("http://{}", service.server.local_addr());
    let made = shell(&["savepoint", "create", "--server", &server, "--json"]).await;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let id = made["savepoint"].as_str().unwrap().to_owned();
    assert!(shell(&["savepoint", "list", "--server", &server]).await.contains(&id));
    service.server.stop().await;

    let saved = path(&format!("data/snapshots/savepoints/{id}"));
    assert!(shell(&["savepoint", "inspect", &saved]).await.contains("lanes"));
    assert!(shell(&["savepoint", "verify", &saved]).await.contains("every byte"));
    let rows = shell(&["savepoint", "export", &saved]).await;
    assert_eq!(rows.lines().count(), 30);
    let row = rows.lines().find(|row| row.contains("\"key\":\"k33\"")).unwrap();
    let expected = r#"{"namespace":"m","key":"k33","name":"t","domain":"processing","fire_at":1034,"payload":{"n":33}}"#;
    assert_eq!(row, expected);
    let file = path("timers.parquet");
    shell(&["savepoint", "export", &saved, "--format", "parquet", "-o", &file]).await;
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));

    let other = path("other");
    let restore =
        ["restore", "--from", &saved, "--data-dir", &other, "--lanes", "5", "--max-parallelism"];
    let told = shell(&[&restore[..], &["77"]].concat()).await;
    assert!(told.contains("30 timers") && told.contains("20 outputs"), "{told}");
    let (code, refused) = fail_stormwheel(&[&restore[..], &["77"]].concat());
    assert!(code == Some(3) && refused.contains("not empty"), "{refused}");
    let service = durable(Path::new(&other)).await;
    assert_eq!(service.fired().await.len(), 20, "outputs are there again");
    service.set_clock(2_000).await;
    let after = service.fired().await;
    let mut seen: Vec<(String, u64)> = after
        .iter()
        .map(|it| (it["key"].as_str().unwrap().to_owned(), it["payload"]["n"].as_u64().unwrap()))
        .collect();
    seen.sort_unstable_by_key(|it| it.1);
    let expected: Vec<(String, u64)> = (0..50).map(|n| (format!("k{n}"), n)).collect();
    assert_eq!(seen, expected, "each once, with what travelled with it");
    service.server.stop().await;

    // One bit, and it is told where.
    let object = format!("{saved}/objects/0000");
    let mut bytes = fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&object, bytes).unwrap();
    let elsewhere = path("elsewhere");
    for args in [
        vec!["savepoint", "verify", &saved],
        vec!["savepoint", "export", &saved],
        vec!["restore", "--from", &saved, "--data-dir", &elsewhere],
    ] {
        let (code, told) = fail_stormwheel(&args);
        assert!(code == Some(4) && told.contains("objects/0000"), "{told}");
    }
    fs::remove_file(format!("{saved}/savepoint")).unwrap();
    let (code, told) = fail_stormwheel(&["savepoint", "inspect", &saved]);
    assert!(code == Some(1) && told.contains("no savepoint here"), "{told}");
}

#[tokio::test]
async fn what_functions_keep_is_written_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let durable = |config: &mut ServerConfig| {
        config.in_memory = false;
        config.data_dir = folder.path().join("data");
    };
    let service = running_with(r#"{"operator":"sum"}"#, durable).await;
    let timeout = r#"{"operator":"timeout","options":{"after":"10s","domain":"event"}}"#;
    service.put("/v1/namespaces/silence", timeout).await.expect(201);
    let windows = r#"{"operator":"windows",
        "options":{"window":{"tumbling":{"size":"1s"}},"aggregate":{"all":{"collect":"/x"}}}}"#;
    service.put("/v1/namespaces/panes", windows).await.expect(201);
    service.put("/v1/keys/k/timers/t", r#"{"after":"1h"}"#).await.expect(201);
    for (namespace, lines) in [
        ("m", "{\"key\":\"a\",\"timestamp\":1,\"value\":{\"n\":7}}"),
        (
            "silence",
            "{\"key\":\"d\",\"timestamp\":1,\"value\":1.50}\n{\"watermark\":1}\n\
             {\"key\":\"d\",\"timestamp\":2,\"value\":{\"x\":2}}",
        ),
        ("panes", "{\"key\":\"~_w\",\"timestamp\":600,\"value\":{\"x\":1.0}}"),
    ] {
        let path = format!("/v1/namespaces/{namespace}/elements");
        service.post(&path, lines).await.expect(200);
    }
    let keys = service.get("/v1/namespaces/panes/keys/~_w/timers").await.expect(200).json();
    assert_eq!(keys["timers"][0]["timer_namespace"], "0", "{keys}");
    let listed = service.get("/v1/namespaces/panes/timers?domain=event").await.expect(200).json();
    assert_eq!(listed["timers"][0]["timer_namespace"], "0", "{listed}");
    assert!(listed["timers"][0]["name"].is_null());

    let made = service.post("/v1/savepoints?wait=30s", "").await.expect(200).json();
    let id = made["savepoint"].as_str().unwrap().to_owned();
    service.server.stop().await;
    let saved = path(&format!("data/snapshots/savepoints/{id}"));
    let states = shell(&["savepoint", "export", &saved, "--states"]).await;
    let mut states: Vec<&str> = states.lines().collect();
    states.sort_unstable();
    let expected = [
        r#"{"namespace":"m","operator":"sum","key":"a","state_version":1,"state_base64":"AQ4C"}"#,
        r#"{"namespace":"panes","operator":"windows","key":"~_w","state":{"windows":[{"start":0,"size":1000,"fresh":1,"early_at":null,"held":[{"Collect":[[600,1.0]]}]}]}}"#,
        r#"{"namespace":"silence","operator":"timeout","key":"d","state":{"held":{"count":1,"last":2,"elements":[{"at":2,"value":{"x":2}}]},"state":{"at":1,"phase":"Alive","value":1.50}}}"#,
    ];
    assert_eq!(states, expected);
    let file = path("states.parquet");
    let told = ["savepoint", "export", &saved, "--states", "--format", "parquet", "-o", &file];
    assert!(shell(&told).await.starts_with("3 states are in "));
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let timers = shell(&["savepoint", "export", &saved]).await;
    assert_eq!(timers.lines().count(), 4);
    let window =
        r#"{"namespace":"panes","key":"~_w","timer_namespace":"0","domain":"event","fire_at":999}"#;
    assert!(timers.lines().any(|line| line == window), "{timers}");
}
