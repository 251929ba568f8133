//! Windows as they are defined: all elements that still belong to one, looked through anew each time.

use super::host;
use crate::operators::seeds::{Rng, for_each_seed};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Aligned { size: i64, slide: i64, offset: i64 },
    Session { gap: i64 },
}

#[derive(Debug)]
struct Oracle {
    kind: Kind,
    is_event: bool,
    lateness: i64,
    every: Option<i64>,
    elements: Option<usize>,
    is_discarding: bool,
    watermark: Option<i64>,
    clock: i64,
    keys: BTreeMap<&'static str, Vec<Member>>,
    late: u64,
    panes: Vec<(&'static str, i64, Value)>,
}

/// An element in a window.
#[derive(Debug, Clone)]
struct Member {
    /// Of aligned windows, which one it is; sessions follow from the times.
    window: i64,
    at: i64,
    serial: i64,
    value: Value,
    is_fresh: bool,
    is_gone: bool,
    early_at: Option<i64>,
}

/// A window: its start, its end, and the places of its members.
type Group = (i64, i64, Vec<usize>);

impl Oracle {
    fn groups(&self, members: &[Member]) -> Vec<Group> {
        let mut places: Vec<usize> = (0..members.len()).collect();
        match self.kind {
            Kind::Aligned { size, .. } => {
                let mut by_start: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
                for place in places {
                    by_start.entry(members[place].window).or_default().push(place);
                }
                by_start.into_iter().map(|(start, of)| (start, start + size, of)).collect()
            }
            Kind::Session { gap } => {
                places.sort_by_key(|place| members[*place].at);
                let apart = |a: &usize, b: &usize| members[*b].at - members[*a].at <= gap;
                let sessions = places.chunk_by(apart);
                let of = |session: &[usize]| {
                    let (first, last) = (session[0], session[session.len() - 1]);
                    (members[first].at, members[last].at + gap, session.to_vec())
                };
                sessions.map(of).collect()
            }
        }
    }

    fn has_passed(&self, time: i64) -> bool {
        self.watermark.is_some_and(|watermark| time <= watermark)
    }

    fn element(&mut self, key: &'static str, timestamp: i64, serial: i64, value: &Value) {
        let at = if self.is_event { timestamp } else { self.clock };
        let starts: Vec<i64> = match self.kind {
            Kind::Aligned { size, slide, offset } => {
                let begins = |start: &i64| (start - offset).rem_euclid(slide) == 0;
                (at - size + 1..=at).filter(begins).collect()
            }
            Kind::Session { .. } => vec![0],
        };
        let mut is_late = true;
        for window in starts {
            let mut members = self.keys.get(key).cloned().unwrap_or_default();
            let value = value.clone();
            let (is_fresh, is_gone, early_at) = (true, false, None);
            members.push(Member { window, at, serial, value, is_fresh, is_gone, early_at });
            let newest = members.len() - 1;
            let groups = self.groups(&members);
            let group = groups.into_iter().find(|(_, _, of)| of.contains(&newest)).unwrap();
            let (_, end, of) = &group;
            if self.is_event && self.has_passed(end - 1 + self.lateness) {
                continue;
            }
            is_late = false;
            let is_past = self.is_event && self.has_passed(end - 1);
            let fresh = of.iter().filter(|place| members[**place].is_fresh).count();
            let has_early = of.iter().any(|place| members[*place].early_at.is_some());
            if let Some(every) = self.every
                && !is_past
                && !has_early
                && (self.is_event || self.clock + every < *end)
            {
                members[newest].early_at = Some(self.clock + every);
            }
            self.keys.insert(key, members);
            if is_past {
                self.show(key, &group, "late");
            } else if self.elements.is_some_and(|count| fresh >= count) {
                self.show(key, &group, "early");
            }
        }
        self.late += u64::from(is_late);
    }

    fn show(&mut self, key: &'static str, (start, end, of): &Group, pane: &str) {
        let members = self.keys.get_mut(key).unwrap();
        let mut shown: Vec<Member> = Vec::new();
        for place in of {
            let member = &mut members[*place];
            if !member.is_gone {
                shown.push(member.clone());
            }
            member.is_fresh = false;
            member.is_gone = self.is_discarding;
            member.early_at = None;
        }
        if shown.is_empty() {
            return;
        }
        shown.sort_by_key(|member| (member.at, member.serial));
        let number = |member: &Member| member.value.as_f64().unwrap();
        let total: f64 = shown.iter().map(number).sum();
        let is_whole = shown.iter().all(|member| member.value.is_i64());
        let least = shown.iter().min_by(|a, b| number(a).total_cmp(&number(b))).unwrap();
        let most = shown.iter().max_by(|a, b| number(a).total_cmp(&number(b))).unwrap();
        let serials: Vec<i64> = shown.iter().map(|member| member.serial).collect();
        let value = json!({
            "start": start, "end": end, "pane": pane,
            "n": shown.len(),
            "sum": if is_whole { json!(total as i64) } else { json!(total) },
            "min": least.value, "max": most.value,
            "avg": total / shown.len() as f64,
            "first": serials[0], "last": serials[serials.len() - 1],
            "all": serials,
        });
        // Read as what came out is read: it may lose the last bit of a fraction.
        let value = serde_json::from_str(&value.to_string()).unwrap();
        self.panes.push((key, end - 1, value));
    }

    fn advance_watermark(&mut self, to: i64) {
        let before = self.watermark.replace(to);
        if !self.is_event {
            return;
        }
        for key in self.keys.keys().copied().collect::<Vec<_>>() {
            for group in self.groups(&self.keys[key]) {
                let max = group.1 - 1;
                if max <= to && before.is_none_or(|before| max > before) {
                    self.show(key, &group, "on_time");
                }
            }
            self.remove(key, |oracle, end| {
                oracle.has_passed((end - 1).saturating_add(oracle.lateness))
            });
        }
    }

    fn advance_clock(&mut self, to: i64) {
        self.clock = to;
        for key in self.keys.keys().copied().collect::<Vec<_>>() {
            for group in self.groups(&self.keys[key]) {
                let early_at = group.2.iter().filter_map(|place| self.keys[key][*place].early_at);
                if early_at.min().is_some_and(|early_at| early_at <= to) {
                    self.show(key, &group, "early");
                }
                if !self.is_event && group.1 <= to {
                    self.show(key, &group, "on_time");
                }
            }
            self.remove(key, |oracle, end| !oracle.is_event && end <= oracle.clock);
        }
    }

    fn remove(&mut self, key: &'static str, is_over: impl Fn(&Self, i64) -> bool) {
        let members = &self.keys[key];
        let over = self.groups(members).into_iter().filter(|group| is_over(self, group.1));
        let over: Vec<usize> = over.flat_map(|group| group.2).collect();
        let left = members.iter().enumerate().filter(|(place, _)| !over.contains(place));
        let left: Vec<_> = left.map(|(_, member)| member.clone()).collect();
        self.keys.insert(key, left);
        self.keys.retain(|_, members| !members.is_empty());
    }
}

fn play(rng: &mut Rng) {
    let size = rng.between(1, 20);
    let slide = if rng.one_in(2) { size } else { rng.between(1, size) };
    let offset = rng.between(1 - slide, slide - 1);
    let kind = match rng.between(0, 1) {
        0 => Kind::Aligned { size, slide, offset },
        _ => Kind::Session { gap: rng.between(1, 8) },
    };
    let window = match kind {
        Kind::Aligned { .. } if size == slide => {
            json!({"tumbling": {"size": size, "offset": offset}})
        }
        Kind::Aligned { .. } => {
            json!({"sliding": {"size": size, "slide": slide, "offset": offset}})
        }
        Kind::Session { gap } => json!({"session": {"gap": gap}}),
    };
    let is_event = !rng.one_in(4);
    let lateness = if is_event && rng.one_in(2) { rng.between(0, 15) } else { 0 };
    let (every, elements) = match rng.between(0, 3) {
        0 => (Some(rng.between(1, 10)), None),
        1 => (None, Some(rng.between(1, 4))),
        _ => (None, None),
    };
    let is_discarding = rng.one_in(2);
    let early = json!({"every": every, "elements": elements});
    let mut host = host(&json!({
        "window": window, "domain": if is_event { "event" } else { "processing" },
        "lateness": lateness, "discard": is_discarding,
        "early": if every.or(elements).is_some() { early } else { Value::Null },
        "aggregate": {
            "n": "count", "sum": {"sum": "/v"}, "min": {"min": "/v"}, "max": {"max": "/v"},
            "avg": {"avg": "/v"}, "first": {"first": "/n"}, "last": {"last": "/n"},
            "all": {"collect": "/n"},
        },
    }));
    let mut oracle = Oracle {
        kind,
        is_event,
        lateness,
        every,
        elements: elements.map(|elements| elements as usize),
        is_discarding,
        watermark: None,
        clock: 0,
        keys: BTreeMap::new(),
        late: 0,
        panes: Vec::new(),
    };
    let (mut base, mut clock) = (rng.between(-40, 10), 0);
    for serial in 0..60 {
        match rng.between(0, 19) {
            0..=3 => {
                base += rng.between(0, 15);
                host.advance_watermark(base);
                oracle.advance_watermark(base);
            }
            4..=6 => {
                clock += rng.between(0, 8);
                host.advance_clock(clock);
                oracle.advance_clock(clock);
            }
            _ => {
                let key = *rng.pick(&["a", "b"]);
                let at = base + rng.between(-25, 25);
                let whole = rng.between(-5, 5);
                let value = if rng.one_in(4) { json!(whole as f64 + 0.5) } else { json!(whole) };
                host.element(key, at, &json!({"v": value, "n": serial}).to_string()).unwrap();
                oracle.element(key, at, serial, &value);
            }
        }
        check(&mut host, &mut oracle);
    }
    clock += 1_000;
    host.advance_clock(clock);
    oracle.advance_clock(clock);
    check(&mut host, &mut oracle);
    host.advance_watermark(i64::MAX);
    oracle.advance_watermark(i64::MAX);
    check(&mut host, &mut oracle);
    assert_eq!((host.keys(), host.failed()), (0, 0));
}

fn check(host: &mut super::Host, oracle: &mut Oracle) {
    let mut found: Vec<_> = Vec::new();
    let mut last = BTreeMap::new();
    for output in host.take_outputs() {
        let value: Value = serde_json::from_str(&output.value).unwrap();
        let timestamp = output.timestamp.unwrap();
        if value["pane"] == "on_time" {
            let before = last.insert(output.key.clone(), timestamp);
            assert!(before.is_none_or(|before| before <= timestamp), "a key's panes are in order");
        }
        found.push((output.key, timestamp, value));
    }
    let order = |(key, timestamp, value): &(String, i64, Value)| {
        (key.clone(), *timestamp, value.to_string())
    };
    found.sort_by_key(order);
    let panes = std::mem::take(&mut oracle.panes).into_iter();
    let mut expected: Vec<_> = panes.map(|(key, at, pane)| (key.to_owned(), at, pane)).collect();
    expected.sort_by_key(order);
    assert_eq!(found, expected, "{oracle:?}");
    assert_eq!((host.late(), host.keys()), (oracle.late, oracle.keys.len()), "{oracle:?}");
}

#[test]
fn windows_agree_with_their_definition() {
    for_each_seed(play);
}
