//! Moves what belongs to namespaces as a whole: a watermark, a manual clock, a number in the
//! configuration, each of which only rises; makes and removes namespaces; asks for checkpoints.

use crate::rng::Rng;
use crate::shared::{Gauge, Shared, linger};
use crate::world::{LIVE, MANUAL};
use serde_json::Value;
use std::sync::atomic::Ordering;
use stormwheel_tests::{Answer, Client};
use ureq::http::Method;

/// The source that reports the watermark.
const SOURCE: &str = "load";

/// Namespaces that come and go.
const PASSING: [&str; 3] = ["passing-a", "passing-b", "passing-c"];

/// One of it goes with the load.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) rng: Rng,
    /// Asks for checkpoints.
    pub(crate) has_checkpoints: bool,
    /// Whether each of the namespaces that come and go may be there, and may be gone.
    passing: [(bool, bool); PASSING.len()],
}

impl Driver {
    pub(crate) fn new(rng: Rng, has_checkpoints: bool) -> Self {
        Self { rng, has_checkpoints, passing: [(false, true); PASSING.len()] }
    }

    /// Moves things until it is over or the connection dies.
    pub(crate) fn run(&mut self, client: &Client, shared: &Shared) {
        while !shared.is_over() {
            let by = self.rng.between(1, 40);
            let moved = match self.rng.below(20) {
                0..8 => raise_watermark(client, shared, by),
                8..15 => raise_clock(client, shared, by),
                15 | 16 => raise_limit(client, shared),
                17 | 18 => self.turn_one(client, shared),
                _ if self.has_checkpoints => begin_checkpoint(client, shared),
                _ => Ok(()),
            };
            if let Err(error) = moved {
                shared.died(&error);
                return;
            }
            linger(self.rng.below(8_000));
        }
    }

    /// Makes a namespace with a timer in it that is not there, or removes one that is.
    fn turn_one(&mut self, client: &Client, shared: &Shared) -> Moved {
        let index = self.rng.below(PASSING.len() as u64) as usize;
        let base = format!("/v1/namespaces/{}", PASSING[index]);
        let (may_be_there, _) = self.passing[index];
        self.passing[index] = (true, true);
        if may_be_there {
            let path = format!("{base}?force=true");
            let answer = client.try_send(&Method::DELETE, &path, &[], None)?;
            if !is_refused(&answer, shared) {
                assert!(matches!(answer.status, 200 | 404), "{}", answer.text);
                self.passing[index] = (false, true);
            }
            return Ok(());
        }
        let body = Some(("application/json", r#"{"clock":"manual"}"#));
        let answer = client.try_send(&Method::PUT, &base, &[], body)?;
        if is_refused(&answer, shared) {
            return Ok(());
        }
        assert_eq!(answer.status, 201, "{}", answer.text);
        self.passing[index] = (true, false);
        let body = Some(("application/json", r#"{"at":1}"#));
        let answer =
            client.try_send(&Method::PUT, &format!("{base}/keys/k/timers/t"), &[], body)?;
        assert!(is_refused(&answer, shared) || answer.status == 201, "{}", answer.text);
        Ok(())
    }

    /// Compares what the server holds with what was acknowledged and sent.
    pub(crate) fn check(&mut self, client: &Client, shared: &Shared) -> Result<(), String> {
        for (name, may) in PASSING.iter().zip(&mut self.passing) {
            let status = client.get(&format!("/v1/namespaces/{name}")).status;
            let (may_be_there, may_be_gone) = *may;
            // One whose request was cut off by the crash may come up a moment after the start, once all
            // lanes have heard of it.
            let may_come_up = may_be_there && may_be_gone;
            *may = (status == 200 || may_come_up, status != 200);
            if !matches!((status, may_be_there, may_be_gone), (200, true, _) | (404, _, true)) {
                return Err(format!("{name}: {status}, may be there: {may_be_there}"));
            }
        }
        check_gauges(client, shared)
    }
}

/// Makes the two namespaces.
pub(crate) fn set_up(client: &Client, shared: &Shared) {
    let limit = format!("{{\"limits\":{{\"timers\":{}}}}}", shared.limit.sent());
    client.put(&format!("/v1/namespaces/{LIVE}"), &limit).expect_status(201);
    client.put(&format!("/v1/namespaces/{MANUAL}"), r#"{"clock":"manual"}"#).expect_status(201);
    settle(client, shared, 1);
}

/// Moves watermark and manual clock past all that is near.
pub(crate) fn settle(client: &Client, shared: &Shared, by: i64) {
    raise_watermark(client, shared, by).unwrap();
    raise_clock(client, shared, by).unwrap();
}

fn check_gauges(client: &Client, shared: &Shared) -> Result<(), String> {
    let live = client.get(&format!("/v1/namespaces/{LIVE}")).expect_status(200).json();
    let manual = client.get(&format!("/v1/namespaces/{MANUAL}")).expect_status(200).json();
    let watermark = client.get(&format!("/v1/namespaces/{LIVE}/watermark")).expect_status(200);
    for (what, gauge, held) in [
        ("the limit", &shared.limit, &live["config"]["limits"]["timers"]),
        ("the manual clock", &shared.clock, &manual["status"]["now"]),
        ("the watermark", &shared.watermark, &watermark.json()["watermark"]),
    ] {
        let held = held.as_i64().ok_or_else(|| format!("{what} is {held}"))?;
        gauge.check(what, held)?;
    }
    Ok(())
}

type Moved = Result<(), ureq::Error>;

fn raise_watermark(client: &Client, shared: &Shared, by: i64) -> Moved {
    let path = format!("/v1/namespaces/{LIVE}/watermarks/{SOURCE}");
    raise(client, shared, &Method::PUT, &path, &shared.watermark, by, |to| {
        format!("{{\"watermark\":{to}}}")
    })
}

fn raise_clock(client: &Client, shared: &Shared, by: i64) -> Moved {
    let path = format!("/v1/namespaces/{MANUAL}/clock");
    raise(client, shared, &Method::PUT, &path, &shared.clock, by, |to| format!("{{\"now\":{to}}}"))
}

fn raise_limit(client: &Client, shared: &Shared) -> Moved {
    let path = format!("/v1/namespaces/{LIVE}");
    raise(client, shared, &Method::PATCH, &path, &shared.limit, 1, |to| {
        format!("{{\"limits\":{{\"timers\":{to}}}}}")
    })
}

fn raise(
    client: &Client,
    shared: &Shared,
    method: &Method,
    path: &str,
    gauge: &Gauge,
    by: i64,
    body: impl FnOnce(i64) -> String,
) -> Moved {
    let to = gauge.raise(by);
    let answer = client.try_send(method, path, &[], Some(("application/json", &body(to))))?;
    if is_refused(&answer, shared) {
        return Ok(());
    }
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
    gauge.acknowledge(to);
    Ok(())
}

fn begin_checkpoint(client: &Client, shared: &Shared) -> Moved {
    let answer =
        client.try_send(&Method::POST, "/v1/checkpoints", &[], Some(("application/json", "")))?;
    // One that is under way already, or a disk that is full, is no news.
    let is_fine = matches!(answer.status, 200 | 202 | 409) || is_refused(&answer, shared);
    assert!(is_fine, "{}: {}", answer.status, answer.text);
    Ok(())
}

fn is_refused(answer: &Answer, shared: &Shared) -> bool {
    let is_refused = matches!(answer.status, 429 | 507);
    if is_refused {
        let problem: Value = answer.json();
        assert!(problem["retry_after_ms"].is_u64(), "{problem}");
        shared.refused.fetch_add(1, Ordering::SeqCst);
    }
    is_refused
}
