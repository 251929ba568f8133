//! Broadcasts: elements for all keys, from the request to what they leave.

use crate::harness::Service;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stormwheel::function::{
    BroadcastContext, Context, FunctionError, KeyedBroadcastProcessFunction, OnTimerContext, Result,
};
use stormwheel::time::Timestamp;
use stormwheel_server::{Server, ServerBuilder};

/// Emits what is above the threshold of its kind, and counts it for its key.
struct Above;

#[derive(Deserialize)]
struct Reading {
    kind: String,
    value: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Threshold {
        kind: String,
        value: i64,
    },
    /// Every key tells how many it has counted, and begins anew.
    Report,
}

#[derive(Default, Serialize, Deserialize)]
struct Count(u64);

impl KeyedBroadcastProcessFunction for Above {
    type Input = Reading;
    type Broadcast = Rule;
    type State = Count;
    type BroadcastState = BTreeMap<String, i64>;
    type Output = Value;

    fn process_element(
        &mut self,
        reading: Reading,
        count: &mut Count,
        thresholds: &BTreeMap<String, i64>,
        ctx: &mut Context<Value>,
    ) -> Result<()> {
        if thresholds.get(&reading.kind).is_some_and(|threshold| reading.value > *threshold) {
            count.0 += 1;
            ctx.emit(json!({ "kind": reading.kind, "value": reading.value }));
            let time = ctx.timestamp() + 10;
            ctx.timers().named("check").register_event_time(time);
        }
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        rule: Rule,
        thresholds: &mut BTreeMap<String, i64>,
        ctx: &mut BroadcastContext<Self>,
    ) -> Result<()> {
        match rule {
            Rule::Threshold { value, .. } if value < 0 => {
                return Err(FunctionError::new(format!("{value} is negative")));
            }
            Rule::Threshold { kind, value } => {
                ctx.emit(json!([&kind, value]));
                thresholds.insert(kind, value);
            }
            Rule::Report => ctx.apply_to_keyed_state(|count, ctx| {
                ctx.emit(json!({ "counted": count.0 }));
                ctx.clear_state();
                Ok(())
            }),
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timestamp,
        count: &mut Count,
        thresholds: &BTreeMap<String, i64>,
        ctx: &mut OnTimerContext<Value>,
    ) -> Result<()> {
        ctx.emit(json!([count.0, thresholds]));
        Ok(())
    }
}

fn builder() -> ServerBuilder {
    Server::builder().broadcast_operator("above", || Above)
}

async fn running(config: &str) -> Service {
    let service = Service::start_built(builder(), |_| {}).await;
    service.put("/v1/namespaces/m", config).await.expect(201);
    service
}

const ABOVE: &str = r#"{"operator":"above"}"#;
const PATH: &str = "/v1/namespaces/m/broadcast";
/// What it emits can be read once it is answered.
const SETTLED: &str = "/v1/namespaces/m/broadcast?settle=true";

fn threshold(kind: &str, value: i64, timestamp: i64) -> String {
    let rule = json!({ "threshold": { "kind": kind, "value": value } });
    json!({ "value": rule, "timestamp": timestamp }).to_string()
}

/// What `m` has emitted, as lines, without what differs from run to run.
async fn emitted(service: &Service) -> Vec<Value> {
    let lines = service.get("/v1/namespaces/m/outputs?limit=100").await.expect(200).lines();
    let mut values: Vec<Value> = lines
        .into_iter()
        .map(|mut line| {
            let fields = line.as_object_mut().unwrap();
            assert!(fields.remove("id").is_some() && fields.remove("cursor").is_some());
            line
        })
        .collect();
    // What one key emits is in order already.
    values.sort_by_key(|value| value["key"].as_str().map(str::to_owned));
    values
}

#[tokio::test]
async fn a_broadcast_holds_for_all_keys_and_visits_them() {
    let service = running(ABOVE).await;
    let answer = service.post(PATH, &threshold("heat", 30, 5)).await.expect(200);
    assert_eq!(answer.json(), json!({ "result": "processed" }));
    assert_eq!(answer.header("stormwheel-ack"), "accepted");
    let reading = |key: &str, value: i64| {
        let value = json!({ "kind": "heat", "value": value });
        json!({ "key": key, "timestamp": 20, "value": value }).to_string() + "\n"
    };
    let lines = [reading("a", 31), reading("b", 30), reading("c", 99)].concat();
    service.elements("", &lines).await.expect(200);
    service.post(PATH, &threshold("heat", 98, 6)).await.expect(200);
    service.elements("", &[reading("a", 98), reading("c", 99)].concat()).await.expect(200);
    let answer = service.post(SETTLED, r#"{"value":"report","timestamp":40}"#).await.expect(200);
    assert_eq!(answer.json(), json!({ "result": "processed", "visited": 2 }));
    service.watermark("default", 30).await;
    let heat = |key: &str, value: i64| {
        let value = json!({ "kind": "heat", "value": value });
        json!({ "key": key, "timestamp": 20, "value": value })
    };
    let thresholds = json!({ "heat": 98 });
    assert_eq!(
        emitted(&service).await,
        [
            json!({ "timestamp": 5, "value": ["heat", 30] }),
            json!({ "timestamp": 6, "value": ["heat", 98] }),
            heat("a", 31),
            json!({ "key": "a", "timestamp": 40, "value": { "counted": 1 } }),
            json!({ "key": "a", "timestamp": 30, "value": [0, thresholds] }),
            heat("c", 99),
            heat("c", 99),
            json!({ "key": "c", "timestamp": 40, "value": { "counted": 2 } }),
            json!({ "key": "c", "timestamp": 30, "value": [0, thresholds] }),
        ]
    );
}

#[tokio::test]
async fn what_is_no_broadcast_is_refused() {
    let service = running(ABOVE).await;
    service.post(PATH, "").await.expect_problem(400, "invalid-json");
    service.post(PATH, "[1]").await.expect_problem(400, "invalid-json");
    service.post(PATH, "{}").await.expect_problem(400, "missing-field");
    service.post(PATH, r#"{"value":1,"key":"a"}"#).await.expect_problem(400, "unknown-field");
    service.post(PATH, r#"{"value":1,"value":2}"#).await.expect_problem(400, "invalid-field");
    let wrong_time = r#"{"value":1,"timestamp":"soon"}"#;
    service.post(PATH, wrong_time).await.expect_problem(400, "invalid-time");
    let settle = format!("{PATH}?settle=maybe");
    service.post(&settle, r#"{"value":1}"#).await.expect_problem(400, "invalid-query");
    let large = json!({ "value": "x".repeat(70_000) }).to_string();
    let problem = service.post(PATH, &large).await.expect_problem(413, "payload-too-large");
    assert_eq!((&problem["field"], &problem["limit"]), (&json!("value"), &json!(65_536)));
    let huge = json!({ "value": "x".repeat(2 << 20) }).to_string();
    service.post(PATH, &huge).await.expect_problem(413, "body-too-large");
    service
        .post("/v1/namespaces/nobody/broadcast", r#"{"value":1}"#)
        .await
        .expect_problem(404, "namespace-not-found");
    // The default namespace turns timers into fires.
    let problem = service.post("/v1/broadcast", r#"{"value":1}"#).await;
    problem.expect_problem(409, "broadcast-unwanted");
    service.put("/v1/namespaces/d", r#"{"operator":"debounce","options":{"after":"1s"}}"#).await;
    let problem = service.post("/v1/namespaces/d/broadcast", r#"{"value":1}"#).await;
    problem.expect_problem(409, "broadcast-unwanted");
    assert!(emitted(&service).await.is_empty(), "nothing was taken of all that");
}

#[tokio::test]
async fn a_broadcast_that_fails_says_so_and_changes_nothing() {
    let service = running(ABOVE).await;
    for (body, error) in [
        (threshold("heat", -1, 7), "-1 is negative"),
        (r#"{"value":7,"timestamp":7}"#.to_owned(), "the element is not what the function takes"),
    ] {
        let problem = service.post(SETTLED, &body).await.expect_problem(422, "function-failed");
        assert!(problem["detail"].as_str().unwrap().contains("`errors`"));
        let last = emitted(&service).await.pop().unwrap();
        assert_eq!((&last["tag"], &last["timestamp"]), (&json!("errors"), &json!(7)), "{last}");
        assert!(last["value"]["error"].as_str().unwrap().starts_with(error), "{last}");
        assert!(last.get("key").is_none() && !last["value"]["broadcast"].is_null(), "{last}");
    }
}

#[tokio::test]
async fn without_a_timestamp_it_has_the_namespaces_now() {
    let service = running(r#"{"operator":"above","clock":"manual"}"#).await;
    let body = r#"{"value":{"threshold":{"kind":"heat","value":1}}}"#;
    service.post(PATH, body).await.expect_problem(422, "clock-unset");
    service.put("/v1/namespaces/m/clock", r#"{"now":77}"#).await.expect(200);
    service.post(SETTLED, body).await.expect(200);
    assert_eq!(emitted(&service).await[0]["timestamp"], 77);
    service.watermark("s", 5).await;
    service.post(PATH, body).await.expect_problem(400, "missing-field");
}

#[tokio::test]
async fn a_producers_broadcast_is_taken_once() {
    let service = running(ABOVE).await;
    let send = async |sequence: &str| {
        let headers = [("Stormwheel-Producer", "p"), ("Stormwheel-Sequence", sequence)];
        let body = threshold("heat", 1, 5);
        let answer = service.call_with("POST", SETTLED, &headers, body).await;
        answer.expect(200).json()["result"].clone()
    };
    assert_eq!(send("3").await, "processed");
    assert_eq!(send("3").await, "repeated");
    assert_eq!(send("2").await, "repeated");
    assert_eq!(send("4").await, "processed");
    assert_eq!(emitted(&service).await.len(), 2);
}
