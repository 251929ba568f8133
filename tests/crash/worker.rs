//! One client of the load: it owns its keys, waits for each answer, and remembers everything.

use crate::act::{Act, Ident, NAMES, Only, Outcome, Slot, When};
use crate::history::History;
use crate::model::Event;
use crate::rng::Rng;
use crate::shared::Shared;
use serde_json::Value;
use std::sync::atomic::Ordering;
use stormwheel_tests::{Answer, Client};
use ureq::http::Method;

/// Operations of the largest batch.
const BATCH_MAX: u64 = 120;
/// How far ahead a near timer is; it falls due within the load or soon after.
pub(crate) const NEAR_MS: i64 = 300;
/// How far ahead a far one is; it never falls due by itself.
const FAR_MS: i64 = 3_600_000;

/// A shard reads the clock once a turn: what arrives meanwhile counts `after` from there. How long a
/// turn takes on a machine that does other things as well is no matter of this test.
const TURN_MS_MAX: i64 = 2_000;

/// How a client behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    pub(crate) keys: usize,
    /// Sends producer and sequence, and repeats what got no answer.
    pub(crate) is_producer: bool,
    /// Asks for `written` now and then: a killed process keeps what was written, too.
    pub(crate) mixes_acks: bool,
    /// The level of each answer is looked at.
    pub(crate) checks_acks: bool,
}

/// One client and its keys.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) namespace: &'static str,
    pub(crate) is_manual: bool,
    pub(crate) histories: Vec<History>,
    manners: Manners,
    rng: Rng,
    sequence: u64,
    /// Cut off, and not yet repeated.
    open: Option<Request>,
}

/// Operations that travel together.
#[derive(Debug, Clone)]
struct Request {
    number: u64,
    sequence: u64,
    /// The key's index, and what is asked of it.
    acts: Vec<(usize, Act)>,
    is_batch: bool,
    ack: &'static str,
}

impl Worker {
    pub(crate) fn new(name: String, namespace: &'static str, manners: Manners, rng: Rng) -> Self {
        let histories = (0..manners.keys).map(|key| History::new(&name, key)).collect();
        Self {
            is_manual: namespace == crate::world::MANUAL,
            name,
            namespace,
            histories,
            manners,
            rng,
            sequence: 0,
            open: None,
        }
    }

    /// Sends until it is over or the connection dies.
    pub(crate) fn run(&mut self, client: &Client, shared: &Shared) {
        while !shared.is_over() {
            let request = match self.open.take() {
                Some(open) => open,
                None => self.draw(shared),
            };
            if !self.carry_out(client, shared, request) {
                return;
            }
        }
    }

    /// Reads all keys once, so that the histories end with what stands.
    pub(crate) fn read_all(&mut self, client: &Client, shared: &Shared) {
        for key in 0..self.histories.len() {
            self.look(client, shared, key);
        }
    }

    /// Reads one key.
    pub(crate) fn look(&mut self, client: &Client, shared: &Shared, key: usize) {
        let request = self.request(shared, vec![(key, Act::Read)], false);
        assert!(self.carry_out(client, shared, request), "reads are answered");
    }

    /// Keys about which something is still to be settled.
    pub(crate) fn unsettled(&self) -> Vec<usize> {
        let is_open = |key: &usize| self.histories[*key].last().is_some();
        (0..self.histories.len()).filter(is_open).collect()
    }

    /// Sends one request and enters what came of it; false if no answer came.
    fn carry_out(&mut self, client: &Client, shared: &Shared, request: Request) -> bool {
        let from = self.now(shared).0;
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let answer = self.send(client, &request);
        let clock = (from, self.now(shared).1);
        let outcomes = match &answer {
            Ok(answer) => self.outcomes(answer, &request),
            Err(_) => vec![Outcome::Unknown; request.acts.len()],
        };
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let (key, act) = &request.acts[at];
            let index = request.acts[..at].iter().filter(|(other, _)| other == key).count() as u32;
            let counter = match outcome {
                Outcome::Unknown => &shared.unknown,
                Outcome::Refused => &shared.refused,
                Outcome::Repeated => &shared.repeated,
                Outcome::Done { .. } | Outcome::Timers(_) => &shared.answered,
            };
            counter.fetch_add(1, Ordering::SeqCst);
            let event = Event { request: request.number, index, act: act.clone(), outcome, clock };
            self.histories[*key].enter(event);
        }
        match answer {
            Ok(_) => true,
            Err(error) => {
                shared.died(&error);
                // Not always: whoever goes on without asking again must be served as well.
                if self.manners.is_producer && self.rng.chance(80) {
                    self.open = Some(request);
                }
                false
            }
        }
    }

    fn send(&self, client: &Client, request: &Request) -> Result<Answer, ureq::Error> {
        let base = format!("/v1/namespaces/{}", self.namespace);
        let sequence = request.sequence.to_string();
        let mut headers = Vec::new();
        let is_read = request.acts[0].1 == Act::Read;
        if self.manners.is_producer && !is_read {
            headers.push(("stormwheel-producer", self.name.as_str()));
            headers.push(("stormwheel-sequence", &sequence));
        }
        if request.is_batch {
            let lines: Vec<String> =
                request.acts.iter().map(|(key, act)| act.line(&self.histories[*key].key)).collect();
            let path = format!("{base}/timers/batch?ack={}", request.ack);
            let body = Some(("application/x-ndjson", lines.join("\n")));
            let body = body.as_ref().map(|(kind, text)| (*kind, text.as_str()));
            return client.try_send(&Method::POST, &path, &headers, body);
        }
        let (key, act) = &request.acts[0];
        let (method, path, body) = act.request(&self.histories[*key].key);
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = if is_read {
            format!("{base}/{path}")
        } else {
            format!("{base}/{path}{joint}ack={}", request.ack)
        };
        let body = body.as_deref().map(|text| ("application/json", text));
        client.try_send(&method, &path, &headers, body)
    }

    fn outcomes(&self, answer: &Answer, request: &Request) -> Vec<Outcome> {
        let is_refused = matches!(answer.status, 429 | 507);
        assert!(
            is_refused || matches!(answer.status, 200 | 201),
            "{}: {} {}",
            self.name,
            answer.status,
            answer.text
        );
        if is_refused {
            assert!(!answer.header("retry-after").is_empty(), "{:?}", answer.headers);
        } else if self.manners.checks_acks && request.acts[0].1 != Act::Read {
            assert_eq!(answer.header("stormwheel-ack"), request.ack, "{}", answer.text);
        }
        let said = if request.is_batch { answer.lines() } else { vec![answer.json()] };
        let one = |(index, said): (usize, &Value)| {
            assert!(!request.is_batch || said["index"] == index, "line {index}: {said}");
            Outcome::of(answer.status, said).unwrap_or_else(|what| panic!("{what}"))
        };
        let outcomes: Vec<Outcome> = if is_refused {
            vec![Outcome::Refused; request.acts.len()]
        } else {
            said.iter().enumerate().map(one).collect()
        };
        assert_eq!(outcomes.len(), request.acts.len(), "one answer a line: {}", answer.text);
        outcomes
    }

    /// What the namespace's clock reads: no less than the first, no more than the second.
    fn now(&self, shared: &Shared) -> (i64, i64) {
        if self.is_manual {
            (shared.clock.acknowledged(), shared.clock.sent())
        } else {
            let now = shared.wall_ms();
            (now - TURN_MS_MAX, now)
        }
    }

    fn draw(&mut self, shared: &Shared) -> Request {
        let is_batch = self.rng.chance(50);
        let count = if is_batch { 1 + self.rng.below(BATCH_MAX) } else { 1 };
        let acts = (0..count).map(|_| self.draw_act(shared, is_batch)).collect();
        self.request(shared, acts, is_batch)
    }

    fn request(&mut self, shared: &Shared, acts: Vec<(usize, Act)>, is_batch: bool) -> Request {
        self.sequence += 1;
        let is_lax = self.manners.mixes_acks && self.rng.chance(25);
        Request {
            number: shared.next_serial(),
            sequence: self.sequence,
            acts,
            is_batch,
            ack: if is_lax { "written" } else { "synced" },
        }
    }

    fn draw_act(&mut self, shared: &Shared, is_batch: bool) -> (usize, Act) {
        let key = self.rng.below(self.histories.len() as u64) as usize;
        let act = match self.rng.below(100) {
            0..60 => self.draw_register(shared),
            60..78 => {
                let after_ms = self.rng.between(1, NEAR_MS);
                shared.near_until.fetch_max(shared.wall_ms() + after_ms, Ordering::SeqCst);
                Act::Touch { after_ms }
            }
            78..92 => Act::Delete { slot: self.draw_standing(key) },
            92..95 => Act::DeleteAll,
            _ if is_batch => Act::Delete { slot: self.draw_standing(key) },
            _ => Act::Read,
        };
        (key, act)
    }

    /// A timer that was registered lately if there is one, so that cancels find something.
    fn draw_standing(&mut self, key: usize) -> Slot {
        let recent = self.histories[key].recent();
        if recent.is_empty() {
            return Slot {
                is_event: self.rng.chance(30),
                ident: Ident::Named(self.rng.pick(&NAMES)),
            };
        }
        self.rng.pick(&recent)
    }

    fn draw_register(&mut self, shared: &Shared) -> Act {
        let is_event = !self.is_manual && self.rng.chance(30);
        let is_named = self.rng.chance(60);
        let is_near = self.rng.chance(75);
        let ahead = if is_near {
            self.rng.between(1, NEAR_MS)
        } else {
            FAR_MS + self.rng.between(0, 1_000)
        };
        let now = if is_event { shared.watermark.sent() } else { self.now(shared).1 };
        // Unnamed ones at few times, so that some are registered twice.
        let at = if is_named { now + ahead } else { (now + ahead) / 16 * 16 };
        let spread_ms = if is_named && self.rng.chance(10) { 20 } else { 0 };
        if is_near && !is_event {
            // `after` counts from when the server takes it; the verifier waits for it all the same.
            shared.near_until.fetch_max(at + spread_ms, Ordering::SeqCst);
        }
        let ident = if is_named { Ident::Named(self.rng.pick(&NAMES)) } else { Ident::Unnamed(at) };
        let when = if is_named && !is_event && self.rng.chance(50) {
            When::After(ahead)
        } else {
            When::At(at)
        };
        Act::Register {
            slot: Slot { is_event, ident },
            when,
            serial: shared.next_serial(),
            only: match self.rng.below(20) {
                0 => Only::Absent,
                1 => Only::Present,
                2 => Only::Earlier,
                3 => Only::Later,
                _ => Only::Always,
            },
            resolution_ms: if is_named && self.rng.chance(10) { 10 } else { 1 },
            spread_ms,
        }
    }
}
