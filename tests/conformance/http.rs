//! The cases over HTTP: a whole service in this process, a namespace for each case, each with a clock
//! that only moves when it is told to.
//!
//! Nothing can be taken back over HTTP: a `restore` directly behind its `snapshot` changes nothing, and a
//! case with another one is not played here. Neither is a rescale seen.

use crate::broadcast::ScriptWithBroadcasts;
use crate::case::{
    Broadcast, Case, Element, LateElements, LateTimers, Operation, Output, SCRIPT, SCRIPT_OF_TWO,
    SCRIPT_WITH_BROADCASTS,
};
use crate::compare::Expectation;
use crate::load::{self, Loaded};
use crate::script::{Script, ScriptOfTwo};
use serde_json::{Value, json};
use std::sync::Arc;
use stormwheel::runtime::SystemClock;
use stormwheel_server::Server;
use stormwheel_server::config::ServerConfig;
use stormwheel_tests::Client;

/// Longest wait for the service to end.
const END: std::time::Duration = std::time::Duration::from_mins(1);

/// A case on its way.
struct Player<'a> {
    client: &'a Client,
    /// The path of its namespace.
    path: String,
    /// Outputs up to here were read.
    cursor: Option<String>,
    owed: Expectation,
}

#[test]
fn over_http() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        in_memory: true,
        // One after the other: what is answered later has been done later.
        shards: 1,
        ..ServerConfig::default()
    };
    let builder = Server::builder()
        .operator(SCRIPT, || Script)
        .co_operator(SCRIPT_OF_TWO, || ScriptOfTwo)
        .broadcast_operator(SCRIPT_WITH_BROADCASTS, || ScriptWithBroadcasts);
    let server = runtime.block_on(builder.start(config, Arc::new(SystemClock))).unwrap();
    let client = Client::new(&format!("http://{}", server.local_addr()));
    client.put("/v1/namespaces/barrier", "{}").expect_status(201);

    let cases = load::all();
    let mut failures = Vec::new();
    let (mut played, mut left_out) = (0, 0);
    for (index, Loaded { place, case }) in cases.iter().enumerate() {
        if takes_back(case) {
            left_out += 1;
            continue;
        }
        played += 1;
        if let Err(problem) = Player::play(&client, index, case) {
            failures.push(format!("{place} {}\n    {problem}", case.name));
        }
    }
    println!("{played} cases over HTTP; {left_out} that take something back left out");
    drop(client);
    runtime.shutdown_timeout(END);
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
}

/// Whether a case restores something that is not as it stands.
fn takes_back(case: &Case) -> bool {
    case.steps.windows(2).any(|steps| match (&steps[0].operation, &steps[1].operation) {
        (Operation::Snapshot(snapshot), Operation::Restore(restored)) => snapshot != restored,
        (Operation::Restore(before), Operation::Restore(restored)) => before != restored,
        (_, Operation::Restore(_)) => true,
        _ => false,
    })
}

impl Player<'_> {
    fn play(client: &Client, index: usize, case: &Case) -> Result<(), String> {
        let path = format!("/v1/namespaces/case-{index}");
        let answer = client.put(&path, &config(case).to_string());
        if answer.status != 201 {
            return Err(format!("the configuration is refused: {}", answer.json()["detail"]));
        }
        let mut player = Player { client, path, cursor: None, owed: Expectation::default() };
        player.clock(case.config.clock);
        for (index, step) in case.steps.iter().enumerate() {
            let result = match &step.operation {
                Operation::Element(element) => player.element(element),
                Operation::Broadcast(it) => player.broadcast(it),
                Operation::Watermark { source, to } => {
                    player.source(source, &json!({ "watermark": to }))
                }
                Operation::Idle(source) => player.source(source, &json!({ "idle": true })),
                Operation::Clock(to) => player.clock(*to),
                Operation::Close(timers) => player.close(timers),
                Operation::Snapshot(_) | Operation::Restore(_) | Operation::Rescale(_) => {
                    "done".to_owned()
                }
            };
            if result != step.result {
                let expected = &step.result;
                return Err(format!("step {index}: it is `{result}`, expected is `{expected}`"));
            }
            player.owed.expected.extend_from_slice(&step.expect);
            player.read();
            player.owed.settle(false).map_err(|problem| format!("step {index}: {problem}"))?;
        }
        Ok(())
    }

    fn element(&mut self, element: &Element) -> String {
        let Element { key, timestamp, input, value } = element;
        let line = json!({ "key": key, "timestamp": timestamp, "input": input, "value": value });
        let path = format!("{}/elements", self.path);
        let answer = self.client.post_lines(&path, &line.to_string());
        if answer.status == 409 {
            return "refused".to_owned();
        }
        let summary = answer.expect_status(200).json();
        let error = &summary["errors"][0]["error"];
        let result = if error["type"] == "/problems/function-failed" {
            "failed"
        } else if !error.is_null() {
            "refused"
        } else if summary["results"]["late"] == 1 {
            "late"
        } else if summary["results"]["processed"] == 1 {
            "processed"
        } else {
            return summary.to_string();
        };
        result.to_owned()
    }

    fn broadcast(&mut self, it: &Broadcast) -> String {
        let path = format!("{}/broadcast?settle=true", self.path);
        let body = json!({ "timestamp": it.timestamp, "value": it.value() }).to_string();
        let answer = self.client.post(&path, &body);
        if answer.json()["type"] == "/problems/function-failed" {
            return "failed".to_owned();
        }
        result(&answer.expect_status(200).json())
    }

    fn source(&mut self, source: &str, change: &Value) -> String {
        let path = format!("{}/watermarks/{source}?settle=true", self.path);
        result(&self.client.put(&path, &change.to_string()).expect_status(200).json())
    }

    fn clock(&mut self, now: i64) -> String {
        let path = format!("{}/clock", self.path);
        let body = json!({ "now": now }).to_string();
        result(&self.client.put(&path, &body).expect_status(200).json())
    }

    fn close(&mut self, timers: &str) -> String {
        let path = format!("{}/close", self.path);
        let body = json!({ "processing_timers": timers }).to_string();
        let answer = self.client.post(&path, &body).expect_status(200).json();
        answer["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Reads what has come out by now.
    fn read(&mut self) {
        // What the shard does for this it does after everything that was answered before.
        let barrier = "/v1/namespaces/barrier/watermarks/nobody?settle=true";
        self.client.put(barrier, r#"{"idle":true}"#).expect_status(200);
        let cursor = self.cursor.as_ref().map(|cursor| format!("&cursor={cursor}"));
        let path = format!("{}/outputs?limit=10000{}", self.path, cursor.unwrap_or_default());
        let answer = self.client.get(&path).expect_status(200);
        self.cursor = Some(answer.header("stormwheel-cursor").to_owned());
        self.owed.came.extend(answer.lines().iter().map(output));
    }
}

fn result(answer: &Value) -> String {
    answer["result"].as_str().unwrap_or_default().to_owned()
}

fn output(record: &Value) -> Output {
    Output {
        // What a broadcast emits is of no key.
        key: record["key"].as_str().unwrap_or_default().to_owned(),
        value: record["value"].clone(),
        timestamp: record["timestamp"].as_i64(),
        tag: record["tag"].as_str().map(str::to_owned),
    }
}

fn config(case: &Case) -> Value {
    let config = &case.config;
    let mut it = json!({
        "operator": config.operator(),
        "clock": "manual",
        "watermark": { "sources": config.sources },
        "lateness": format!("{}ms", config.lateness_ms),
        "late_timers": match config.late_timers {
            LateTimers::Fire => "fire",
            LateTimers::NextWatermark => "next_watermark",
        },
        "late_elements": match config.late_elements {
            LateElements::Drop => "drop",
            LateElements::SideOutput => "side_output",
            LateElements::Process => "process",
        },
        "on_error": { "retry": config.retry, "then": "skip" },
    });
    if !config.options.is_null() {
        it["options"] = config.options.clone();
    }
    it
}
