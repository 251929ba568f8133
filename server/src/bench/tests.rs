//! Whole runs against a small peer that answers as api.md says, rightly or with one fault: what
//! the generator is for is to notice.

use super::plan::{Format, Plan, Workload, tests::plan};
use super::report::Report;
use super::run::{Manners, run};
use super::wall_ms;
use crate::cli::Client;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// What the peer does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LosesOne,
    RepeatsOne,
    FiresEarly,
    FiresTheCancelled,
    ForgetsPushes,
    RefusesOne,
    EndsTheStream,
}

/// The missing are given up sooner than by default; a slow machine may miss more, never fewer.
const MANNERS: Manners = Manners { keep: false, bar: false, give_up_ms: 2000 };

type Timer = (String, String, String);

/// The peer: namespaces, their streams, and what is pending.
#[derive(Clone)]
struct Peer {
    fault: Fault,
    streams: Arc<Mutex<HashMap<String, Option<mpsc::UnboundedSender<Bytes>>>>>,
    pending: Arc<Mutex<HashMap<Timer, i64>>>,
}

impl Peer {
    async fn start(fault: Fault) -> Client {
        let peer = Self { fault, streams: Arc::default(), pending: Arc::default() };
        let namespace = get(describe).put(create).delete(remove);
        let routes = Router::new()
            .route("/v1/namespaces/{ns}", namespace)
            .route("/v1/namespaces/{ns}/timers/batch", post(batch))
            .route("/v1/namespaces/{ns}/keys/{key}/timers", post(single))
            .route("/v1/namespaces/{ns}/outputs", get(outputs))
            .with_state(peer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&listener.local_addr().unwrap().to_string()).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(routes.clone());
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        client
    }

    /// Carries one operation out and returns its result without the index.
    fn apply(&self, ns: &str, op: &Value) -> Value {
        let text = |name: &str| op[name].as_str().unwrap_or_default().to_owned();
        let mut timer = (ns.to_owned(), text("key"), text("name"));
        match op["op"].as_str() {
            Some("delete") => {
                let is_there = self.pending.lock().unwrap().remove(&timer).is_some();
                if is_there && self.fault == Fault::FiresTheCancelled && timer.1.ends_with('8') {
                    self.emit(&timer, op["at"].as_i64().unwrap(), 0);
                }
                let result = if is_there { "cancelled" } else { "absent" };
                json!({"result": result, "cancelled": i32::from(is_there)})
            }
            op_name => {
                let refused = self.fault == Fault::RefusesOne && timer.1.ends_with("00000042");
                if refused {
                    return json!({"error": {"status": 429, "title": "full", "detail": "full"}});
                }
                let after = text("after").trim_end_matches("ms").parse::<i64>();
                let fire_at = op["at"].as_i64().unwrap_or_else(|| wall_ms() + after.unwrap());
                if op_name == Some("touch") {
                    "timeout".clone_into(&mut timer.2);
                }
                self.pending.lock().unwrap().insert(timer.clone(), fire_at);
                self.arm(timer, fire_at);
                json!({"result": "created", "fire_at": fire_at})
            }
        }
    }

    fn arm(&self, timer: Timer, fire_at: i64) {
        let peer = self.clone();
        let early = if self.fault == Fault::FiresEarly { 100 } else { 0 };
        tokio::spawn(async move {
            let wait_ms = (fire_at - early - wall_ms()).max(0) as u64;
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let mut pending = peer.pending.lock().unwrap();
            let is_mine = pending.get(&timer) == Some(&fire_at);
            if !is_mine && (peer.fault != Fault::ForgetsPushes || !pending.contains_key(&timer)) {
                return;
            }
            pending.remove(&timer);
            let is_chosen = timer.1.ends_with("00000042");
            match peer.fault {
                Fault::LosesOne if is_chosen => return,
                Fault::RepeatsOne if is_chosen => peer.emit(&timer, fire_at, 0),
                Fault::EndsTheStream if is_chosen => {
                    peer.streams.lock().unwrap().insert(timer.0, None);
                    return;
                }
                _ => {}
            }
            peer.emit(&timer, fire_at, early);
        });
    }

    fn emit(&self, (ns, key, name): &Timer, fire_at: i64, early: i64) {
        let mut record = json!({"id": "x", "cursor": 1, "key": key, "domain": "processing",
            "fire_at": fire_at, "fired_at": fire_at - early, "lateness_ms": 0});
        if !name.is_empty() {
            record["name"] = name.as_str().into();
        }
        if let Some(Some(stream)) = self.streams.lock().unwrap().get(ns) {
            drop(stream.send(Bytes::from(format!("\n{record}\n"))));
        }
    }
}

async fn describe(State(peer): State<Peer>, Path(ns): Path<String>) -> StatusCode {
    let is_there = peer.streams.lock().unwrap().contains_key(&ns);
    if is_there { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

async fn create(State(peer): State<Peer>, Path(ns): Path<String>) -> StatusCode {
    peer.streams.lock().unwrap().insert(ns, None);
    StatusCode::CREATED
}

async fn remove(State(peer): State<Peer>, Path(ns): Path<String>) -> StatusCode {
    peer.streams.lock().unwrap().remove(&ns);
    StatusCode::OK
}

async fn batch(State(peer): State<Peer>, Path(ns): Path<String>, body: String) -> String {
    let line = |(index, line): (usize, &str)| {
        let mut result = peer.apply(&ns, &serde_json::from_str(line).unwrap());
        result["index"] = index.into();
        format!("{result}\n")
    };
    body.lines().enumerate().map(line).collect::<Vec<_>>().concat()
}

async fn single(
    State(peer): State<Peer>,
    Path((ns, key)): Path<(String, String)>,
    body: String,
) -> String {
    let mut op: Value = serde_json::from_str(&body).unwrap();
    op["key"] = key.into();
    peer.apply(&ns, &op).to_string()
}

async fn outputs(State(peer): State<Peer>, Path(ns): Path<String>) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    peer.streams.lock().unwrap().insert(ns, Some(sender));
    Body::from_stream(futures_util::stream::unfold(receiver, async |mut receiver| {
        let line = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(line), receiver))
    }))
}

/// The report of a plan against a peer with a fault.
async fn report(fault: Fault, plan: &Plan) -> Report {
    let client = Peer::start(fault).await;
    let report = run(&client, plan, MANNERS).await.unwrap();
    let gone = client.send(http::Method::GET, "/v1/namespaces/bench-7", None).await;
    assert_eq!(gone.unwrap_err().status(), Some(404), "the namespace is removed");
    report
}

fn short(workload: Workload, timers: u64, keys: u64) -> Plan {
    Plan { lead_ms: 300, over_ms: 300, ..plan(workload, timers, keys, 30) }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_runs_are_verified() {
    let uniform = short(Workload::Uniform, 200, 200);
    let plans = [
        uniform.clone(),
        Plan { rate: Some(1000.0), keys: 50, ..uniform.clone() },
        Plan { format: Format::Single, batch: 1, connections: 8, ..uniform },
        short(Workload::Cancel, 200, 200),
        Plan { rate: Some(1000.0), ..short(Workload::Heartbeat, 150, 50) },
        Plan { probe_rate: 100, ..short(Workload::Storm, 200, 200) },
    ];
    for plan in plans {
        let report = report(Fault::None, &plan).await;
        assert!(report.is_ok(), "{plan:?}\n{}", report.to_text());
        let expected = match plan.workload {
            Workload::Heartbeat => 50,
            Workload::Cancel => 25,
            _ => 200,
        };
        assert_eq!((report.verification.expected, report.fires), (expected, expected));
        assert_eq!(report.probe_latency.is_some(), plan.workload == Workload::Storm);
    }
}

/// Runs against the fault; the report must not be good, and say so with these words.
async fn check(fault: Fault, plan: Plan, words: &str) {
    let report = report(fault, &plan).await;
    let text = report.to_text();
    assert!(!report.is_ok() && text.contains(words), "{fault:?}\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_noticed() {
    let uniform = || short(Workload::Uniform, 200, 200);
    check(Fault::RepeatsOne, uniform(), "timer 42 fired again").await;
    check(Fault::FiresEarly, uniform(), "200 early").await;
    check(Fault::EndsTheStream, uniform(), "the server ended the stream").await;
    let cancel = short(Workload::Cancel, 200, 200);
    check(Fault::FiresTheCancelled, cancel, "was cancelled but fired").await;
    let heartbeat = Plan { rate: Some(300.0), ..short(Workload::Heartbeat, 100, 50) };
    check(Fault::ForgetsPushes, heartbeat, "repeated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_timer_is_missed() {
    check(Fault::LosesOne, short(Workload::Uniform, 200, 200), "timer 42 is missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_refused_by_load_is_told_and_not_missed() {
    let report = report(Fault::RefusesOne, &short(Workload::Uniform, 200, 200)).await;
    assert!(report.is_ok(), "{}", report.to_text());
    assert_eq!((report.verification.expected, report.errors[&429].operations), (199, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_exists_is_left_alone() {
    let client = Peer::start(Fault::None).await;
    let path = "/v1/namespaces/bench-7";
    client.send(http::Method::PUT, path, Some("{}".to_owned())).await.unwrap();
    let failure = run(&client, &short(Workload::Uniform, 10, 10), MANNERS).await.unwrap_err();
    assert!(failure.to_string().contains("bench-7 exists"), "{failure}");
    client.send(http::Method::GET, path, None).await.unwrap();
}
