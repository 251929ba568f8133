//! One consumer of a namespace's outputs: it follows the endless stream while it lasts, resumes
//! from its cursor, and checks whatever can be said of a record alone.

use crate::act::Slot;
use crate::findings::{Finding, Findings};
use crate::model::Fire;
use crate::shared::Shared;
use serde_json::Value;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;
use stormwheel_tests::Client;

/// Records of one bounded read.
const PAGE: usize = 1_000;

/// Follows one namespace.
#[derive(Debug)]
pub(crate) struct Consumer {
    namespace: &'static str,
    is_manual: bool,
    /// Resumes behind this record.
    cursor: Option<u64>,
    /// Up to here the log was read a second time.
    audited: Option<u64>,
    /// What came since, to be compared with the second reading.
    unaudited: Vec<(u64, u64)>,
    /// Of the whole run: cursor and digest of each record.
    all: Vec<(u64, u64)>,
    /// The cursor of each id, by its digest.
    ids: HashMap<u64, u64>,
    /// The id of each timer that fired: one registration fires once.
    instances: HashMap<u64, u64>,
    fires: Vec<(String, Fire)>,
    pub(crate) findings: Findings,
}

impl Consumer {
    pub(crate) fn new(namespace: &'static str) -> Self {
        Self {
            namespace,
            is_manual: namespace == crate::world::MANUAL,
            cursor: None,
            audited: None,
            unaudited: Vec::new(),
            all: Vec::new(),
            ids: HashMap::new(),
            instances: HashMap::new(),
            fires: Vec::new(),
            findings: Findings::default(),
        }
    }

    /// Follows the endless stream until the connection dies, or the load is over.
    pub(crate) fn follow(&mut self, client: &Client, shared: &Shared) {
        match client.stream(&self.path(self.cursor, "")) {
            Err(error) => shared.died(&error),
            Ok(lines) => {
                for line in lines {
                    if !line.is_empty() {
                        self.enter(&line, shared);
                    }
                    if shared.is_over() {
                        return;
                    }
                }
                shared.died(&"a stream ended");
            }
        }
    }

    /// Reads, in bounded steps, all that is there.
    pub(crate) fn drain(&mut self, client: &Client, shared: &Shared) {
        loop {
            let path = self.path(self.cursor, &format!("limit={PAGE}"));
            let lines = client.get(&path).expect_status(200).text;
            for line in lines.lines() {
                self.enter(line, shared);
            }
            if lines.is_empty() {
                return;
            }
        }
    }

    /// Reads a second time what came since the last audit: it must be the same, in the same order.
    pub(crate) fn audit(&mut self, client: &Client) {
        let first = std::mem::take(&mut self.unaudited);
        let from = self.audited;
        self.audited = self.cursor;
        self.compare(client, from, &first);
    }

    /// Reads everything once more, from the beginning.
    pub(crate) fn audit_all(&mut self, client: &Client) {
        let first = std::mem::take(&mut self.all);
        self.compare(client, None, &first);
    }

    /// The fires that came since the last call.
    pub(crate) fn take_fires(&mut self) -> Vec<(String, Fire)> {
        std::mem::take(&mut self.fires)
    }

    /// Records so far.
    pub(crate) fn count(&self) -> usize {
        self.ids.len()
    }

    fn compare(&mut self, client: &Client, from: Option<u64>, first: &[(u64, u64)]) {
        let mut second: Vec<(u64, u64)> = Vec::with_capacity(first.len());
        let mut cursor = from;
        while second.len() < first.len() {
            let limit = PAGE.min(first.len() - second.len());
            let path = self.path(cursor, &format!("limit={limit}"));
            let page = client.get(&path).expect_status(200).text;
            let records = page.lines().map(|line| (cursor_of(&parsed(line)), digest(line)));
            let before = second.len();
            second.extend(records);
            if before == second.len() {
                break;
            }
            cursor = second.last().map(|record| record.0);
        }
        if first != second {
            let at = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
            self.findings.add(Finding::Order, || {
                format!(
                    "{}: read {} records, then {}; they differ from record {at} on: {:?}, {:?}",
                    self.namespace,
                    first.len(),
                    second.len(),
                    first.get(at),
                    second.get(at)
                )
            });
        }
    }

    fn path(&self, cursor: Option<u64>, query: &str) -> String {
        let cursor = cursor.map_or_else(String::new, |cursor| format!("cursor={cursor}&"));
        format!("/v1/namespaces/{}/outputs?{cursor}{query}", self.namespace)
            .trim_end_matches(['?', '&'])
            .to_owned()
    }

    fn enter(&mut self, line: &str, shared: &Shared) {
        let record = parsed(line);
        let cursor = cursor_of(&record);
        let findings = &mut self.findings;
        if self.cursor.is_some_and(|last| last >= cursor) {
            findings.add(Finding::Order, || format!("behind {:?} came {line}", self.cursor));
        }
        self.cursor = Some(cursor);
        self.all.push((cursor, digest(line)));
        self.unaudited.push((cursor, digest(line)));
        let id = record["id"].as_str().unwrap_or_default();
        if let Some(first) = self.ids.insert(digest(id), cursor) {
            findings.add(Finding::TwoCursors, || format!("first at {first}, now: {line}"));
            return;
        }
        if is_early(&record, self.is_manual, shared) {
            findings.add(Finding::Early, || line.to_owned());
        }
        let (Some(slot), Some(key)) = (Slot::of(&record), record["key"].as_str()) else {
            findings.add(Finding::Unknown, || line.to_owned());
            return;
        };
        let serial = record["payload"]["n"].as_u64();
        let fire_at = record["fire_at"].as_i64().unwrap_or_default();
        // Touches carry no serial; but no timer falls due at its time twice.
        let instance = (key, slot, serial, if serial.is_none() { fire_at } else { 0 });
        if let Some(other) = self.instances.insert(digest(instance), digest(id))
            && other != digest(id)
        {
            findings.add(Finding::TwoIds, || line.to_owned());
        }
        let fire = Fire { slot, fire_at, serial, id: id.to_owned(), cursor };
        self.fires.push((key.to_owned(), fire));
    }
}

/// Whether a record came before its time, by what it says itself and by what the client knows.
fn is_early(record: &Value, is_manual: bool, shared: &Shared) -> bool {
    let Some(fire_at) = record["fire_at"].as_i64() else { return true };
    let (reached, read_at_most) = if record["domain"] == "event" {
        (&record["watermark"], shared.watermark.sent())
    } else if is_manual {
        (&record["fired_at"], shared.clock.sent())
    } else {
        (&record["fired_at"], shared.wall_ms())
    };
    reached.as_i64().is_none_or(|reached| reached < fire_at || reached > read_at_most)
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn cursor_of(record: &Value) -> u64 {
    record["cursor"].as_u64().unwrap_or_else(|| panic!("a record without a cursor: {record}"))
}

fn digest(of: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
