//! Random elements, out of order and late, against the definition of each operator: what must come out
//! is worked out from the list of all elements, by their times.
//!
//! Time passes millisecond by millisecond. At the time of an element that is not late it happens; one
//! that is late, but within the lateness of its namespace, counts at its timestamp, and happens where
//! the watermark stands by then: behind all that has come of that.
//!
//! `STORMWHEEL_OPERATOR_SEEDS` says how many games each is played.

use super::{emitted, host};
use crate::function::host::Host;
use crate::operators::seeds::{self, Rng};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Something that comes out: when, whether an element let it out, and what.
#[derive(Debug, Clone, PartialEq)]
struct Emitted(i64, bool, String);

/// An element of a key.
#[derive(Debug, Clone)]
struct Came {
    /// Its timestamp.
    at: i64,
    /// When it happens.
    when: i64,
    /// It comes at or below the watermark.
    is_late: bool,
    /// Its place among all elements as they came.
    place: usize,
    value: String,
}

/// The elements of one key that are taken, as they happen.
type Elements = [Came];

/// Those that happen in this millisecond before, or behind, what is due by it.
fn happening(elements: &Elements, now: i64, is_late: bool) -> impl Iterator<Item = &Came> {
    elements.iter().filter(move |it| it.when == now && it.is_late == is_late)
}

/// How the game ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Processing time: the clock stops there, long after everything.
    Clock(i64),
    /// Event time: the final watermark, behind one that stood here.
    Final(i64),
}

impl End {
    /// At one time, elements of event time go first.
    fn elements_first(self) -> bool {
        matches!(self, Self::Final(_))
    }

    /// All the time in which something may happen.
    fn span(self) -> std::ops::RangeInclusive<i64> {
        match self {
            Self::Clock(stop) => 0..=stop,
            Self::Final(_) => 0..=LAST_ELEMENT + 2 * HORIZON,
        }
    }

    /// Whether what is due at this time is the last that the final watermark brings about.
    fn is_last(self, time: i64, elements: &Elements) -> bool {
        matches!(self, Self::Final(last) if time > last)
            && elements.iter().all(|it| it.when <= time)
    }
}

const LAST_ELEMENT: i64 = 120;
const HORIZON: i64 = 400;

/// What a game with two keys does.
#[derive(Debug)]
pub(super) enum Step {
    Element(&'static str, i64, String),
    /// One that is too late for its namespace.
    Late(&'static str, i64, String),
    Watermark(i64),
    Clock(i64),
}

/// What came out, by key.
pub(super) type ByKey = BTreeMap<String, Vec<(Option<i64>, String)>>;

/// A game that was played: what each key got, what it emitted, and how it ended.
pub(super) struct Game {
    elements: BTreeMap<&'static str, Vec<Came>>,
    /// How far behind the watermark elements are still taken.
    pub(super) lateness_ms: i64,
    pub(super) emitted: ByKey,
    end: End,
    pub(super) host: Host,
    pub(super) steps: Vec<Step>,
}

/// The game while it is played.
struct Table {
    host: Host,
    steps: Vec<Step>,
}

impl Table {
    fn element(&mut self, key: &'static str, at: i64, value: &str) {
        self.host.element(key, at, value).unwrap();
        self.steps.push(Step::Element(key, at, value.to_owned()));
    }

    fn watermark(&mut self, to: i64) {
        self.host.advance_watermark(to);
        self.steps.push(Step::Watermark(to));
    }

    fn clock(&mut self, to: i64) {
        self.host.advance_clock(to);
        self.steps.push(Step::Clock(to));
    }
}

/// `small_steps`: no watermark jumps over anything, but the final one.
pub(super) fn play(rng: &mut Rng, name: &str, options: &Value, small_steps: bool) -> Game {
    let mut table = Table { host: host(name, options), steps: Vec::new() };
    let is_event = options["domain"] == "event";
    let count = 1 + rng.below(12);
    let mut arrivals: Vec<_> = (0..count)
        .map(|n| {
            let key = if rng.one_in(3) { "b" } else { "a" };
            (key, rng.below(LAST_ELEMENT as u64), n.to_string())
        })
        .collect();
    let disorder = if is_event { [1, 20, 300][rng.below(3) as usize] } else { 1 };
    arrivals.sort_by_cached_key(|(_, at, _)| at + rng.below(disorder));
    // How far a watermark may run ahead of what is still to come: where it does, that is late.
    let haste = if is_event && rng.one_in(2) { 1 + rng.below(60) } else { 0 };
    // None, some, or as much as takes everything.
    let lateness_ms = [0, rng.below(30), 2 * HORIZON][rng.below(3) as usize];
    let mut elements = BTreeMap::<_, Vec<Came>>::new();
    let end = if is_event {
        let mut watermark = -1;
        let advance = |table: &mut Table, watermark: &mut i64, to: i64| {
            if small_steps {
                (*watermark + 1..to).for_each(|step| table.watermark(step));
            }
            if to > *watermark {
                table.watermark(to);
                *watermark = to;
            }
        };
        for (place, (key, at, value)) in arrivals.iter().enumerate() {
            let edge = watermark - if rng.one_in(2) { lateness_ms } else { 0 } + rng.below(2);
            let is_on_edge = haste > 0 && rng.one_in(3) && (0..LAST_ELEMENT).contains(&edge);
            let at = if is_on_edge { edge } else { *at };
            let value = value.clone();
            if at <= watermark - lateness_ms {
                table.steps.push(Step::Late(key, at, value));
            } else {
                table.element(key, at, &value);
                let (is_late, when) = (at <= watermark, at.max(watermark));
                let came = Came { at, when, is_late, place, value };
                elements.entry(*key).or_default().push(came);
            }
            let ahead = arrivals[place + 1..].iter().map(|(_, at, _)| *at).min();
            if let Some(ahead) = ahead
                && rng.one_in(2)
            {
                let to = ahead - 1 - rng.below(10) + rng.below(haste as u64 + 1);
                advance(&mut table, &mut watermark, to);
            }
        }
        let is_behind = small_steps || rng.one_in(2);
        let to = if is_behind { LAST_ELEMENT + 60 + rng.below(HORIZON as u64) } else { -1 };
        advance(&mut table, &mut watermark, to);
        table.watermark(i64::MAX);
        End::Final(watermark)
    } else {
        for now in 0..=LAST_ELEMENT + HORIZON {
            table.clock(now);
            for (place, (key, at, value)) in arrivals.iter().enumerate() {
                if *at == now {
                    table.element(key, now, value);
                    let (value, is_late) = (value.clone(), false);
                    let came = Came { at: now, when: now, is_late, place, value };
                    elements.entry(*key).or_default().push(came);
                }
            }
        }
        End::Clock(LAST_ELEMENT + HORIZON)
    };
    for elements in elements.values_mut() {
        elements.sort_by_key(|it| (it.when, it.is_late, it.place));
    }
    let Table { mut host, steps } = table;
    let mut by_key = BTreeMap::<_, Vec<_>>::new();
    for output in host.take_outputs() {
        by_key.entry(output.key.clone()).or_default().append(&mut emitted(vec![output]));
    }
    Game { elements, lateness_ms, emitted: by_key, end, host, steps }
}

impl Game {
    /// How many were late, but not too late.
    pub(super) fn taken_late(&self) -> usize {
        self.elements.values().flatten().filter(|it| it.is_late).count()
    }

    fn check(&self, expected: impl Fn(&Elements, End) -> Vec<Emitted>, what: &str) {
        for (key, elements) in &self.elements {
            let is_event = self.end.elements_first();
            let expected: Vec<_> = expected(elements, self.end)
                .into_iter()
                .map(|Emitted(at, by_element, value)| {
                    ((is_event || by_element).then_some(at), value)
                })
                .collect();
            let found = self.emitted.get(*key).cloned().unwrap_or_default();
            assert_eq!(found, expected, "{what}, key {key}, {:?}, {elements:?}", self.end);
        }
    }
}

/// Plays a history for each seed, in one of the two domains.
fn for_each_seed(play: impl Fn(&mut Rng, &str)) {
    seeds::for_each_seed(|rng| {
        let domain = *rng.pick(&["event", "processing"]);
        play(rng, domain);
    });
}

#[test]
fn timeout_keeps_to_its_definition() {
    for_each_seed(|rng, domain| {
        let (after, recover) = (1 + rng.below(40), rng.one_in(2));
        let repeat = rng.one_in(2).then(|| 1 + rng.below(20));
        let options =
            json!({"after": after, "domain": domain, "recover": recover, "repeat": repeat});
        let game = play(rng, "timeout", &options, repeat.is_some());
        game.check(
            |elements, end| timeouts(elements, end, after, recover, repeat),
            &options.to_string(),
        );
        let is_over = !recover && (repeat.is_none() || domain == "event");
        assert!(!is_over || game.host.keys() == 0, "something is left");
    });
}

/// What is known of a key: when it was heard of last, by what, and when the next alarm is due.
struct Heard<'a> {
    last: &'a Came,
    is_silent: bool,
    alarm: Option<i64>,
}

fn timeouts(
    elements: &Elements,
    end: End,
    after: i64,
    recover: bool,
    repeat: Option<i64>,
) -> Vec<Emitted> {
    let (mut out, mut heard) = (Vec::new(), None);
    let element = |heard: &mut Option<Heard<'_>>, out: &mut Vec<Emitted>, it: &Came| match heard {
        Some(Heard { last, .. }) if it.at < last.at => false,
        Some(Heard { last, is_silent: true, .. }) if recover => {
            let silent = it.at - last.at;
            let value = &it.value;
            let text =
                format!("{{\"event\":\"recovered\",\"silent_ms\":{silent},\"value\":{value}}}");
            out.push(Emitted(it.at, true, text));
            true
        }
        _ => true,
    };
    let alarms = |heard: &mut Option<Heard<'_>>, out: &mut Vec<Emitted>, now: i64| {
        while let Some(Heard { last, is_silent, alarm }) = heard
            && let Some(time) = alarm.filter(|time| *time <= now)
        {
            let Came { at, value, .. } = last;
            let text = format!("{{\"event\":\"timeout\",\"last_seen\":{at},\"value\":{value}}}");
            out.push(Emitted(time, false, text));
            // One alarm stands for those that time has run past.
            *alarm = repeat
                .filter(|_| !end.is_last(time, elements))
                .map(|repeat| time + repeat * ((now - time) / repeat + 1));
            *is_silent = true;
            if alarm.is_none() && !recover {
                *heard = None;
            }
        }
    };
    for now in end.span() {
        if !end.elements_first() {
            alarms(&mut heard, &mut out, now);
        }
        for is_late in [false, true] {
            for it in happening(elements, now, is_late) {
                if element(&mut heard, &mut out, it) {
                    heard = Some(Heard { last: it, is_silent: false, alarm: Some(it.at + after) });
                }
                if is_late {
                    alarms(&mut heard, &mut out, now);
                }
            }
            if end.elements_first() && !is_late {
                alarms(&mut heard, &mut out, now);
            }
        }
    }
    out
}

#[test]
fn debounce_keeps_to_its_definition() {
    for_each_seed(|rng, domain| {
        let after = 1 + rng.below(30);
        let max = rng.one_in(2).then(|| after + rng.below(30));
        let first = rng.one_in(2);
        let emit = if first { "first" } else { "last" };
        let options = json!({"after": after, "domain": domain, "max": max, "emit": emit});
        let game = play(rng, "debounce", &options, false);
        game.check(|elements, end| bursts(elements, end, after, max, first), &options.to_string());
        assert_eq!(game.host.keys(), 0, "something is left");
    });
}

fn bursts(
    elements: &Elements,
    end: End,
    after: i64,
    max: Option<i64>,
    first: bool,
) -> Vec<Emitted> {
    let (mut out, mut burst) = (Vec::new(), Vec::<&Came>::new());
    // Of those of one time, the first and the last that came are at the ends.
    let mut over = |burst: &mut Vec<&Came>, now: i64| {
        burst.sort_by_key(|it| it.at);
        if let [oldest, .., newest] | [oldest @ newest] = &burst[..] {
            let time = (newest.at + after).min(oldest.at + max.unwrap_or(i64::MAX / 2));
            if time <= now {
                let value = if first { &oldest.value } else { &newest.value };
                out.push(Emitted(time, false, value.clone()));
                burst.clear();
            }
        }
    };
    for now in end.span() {
        if !end.elements_first() {
            over(&mut burst, now);
        }
        burst.extend(happening(elements, now, false));
        if end.elements_first() {
            over(&mut burst, now);
        }
        for it in happening(elements, now, true) {
            burst.push(it);
            over(&mut burst, now);
        }
    }
    out
}

#[test]
fn throttle_keeps_to_its_definition() {
    for_each_seed(|rng, domain| {
        let every = 1 + rng.below(30);
        let leading = rng.one_in(2);
        let trailing = !leading || rng.one_in(2);
        let options =
            json!({"every": every, "domain": domain, "leading": leading, "trailing": trailing});
        let game = play(rng, "throttle", &options, false);
        game.check(
            |elements, end| {
                let out = throttled(elements, end, every, leading, trailing);
                if elements.iter().any(|it| it.is_late) {
                    return out;
                }
                // What anybody may expect of it, whatever the definition.
                assert!(out.windows(2).all(|pair| pair[1].0 - pair[0].0 >= every));
                let (first, last) = (&elements[0], &elements[elements.len() - 1]);
                assert!(!leading || (out[0].0, &out[0].2) == (first.at, &first.value));
                assert!(!trailing || out[out.len() - 1].2 == last.value);
                out
            },
            &options.to_string(),
        );
        assert_eq!(game.host.keys(), 0, "something is left");
    });
}

fn throttled(
    elements: &Elements,
    end: End,
    every: i64,
    leading: bool,
    trailing: bool,
) -> Vec<Emitted> {
    // When the interval ends that is open, and what it holds back.
    let (mut out, mut open) = (Vec::new(), None::<(i64, Option<&Came>)>);
    let close = |open: &mut Option<(i64, Option<&Came>)>, out: &mut Vec<Emitted>, now: i64| {
        while let Some((over, held)) = open.filter(|(over, _)| *over <= now) {
            *open = held.map(|_| (over + every, None));
            out.extend(held.map(|held| Emitted(over, false, held.value.clone())));
        }
    };
    for now in end.span() {
        close(&mut open, &mut out, now);
        for is_late in [false, true] {
            for it in happening(elements, now, is_late) {
                match &mut open {
                    Some((_, held)) => {
                        if trailing && held.is_none_or(|held| it.at >= held.at) {
                            *held = Some(it);
                        }
                    }
                    None if leading => {
                        out.push(Emitted(it.at, true, it.value.clone()));
                        open = Some((it.at + every, None));
                    }
                    None => open = Some((it.at + every, Some(it))),
                }
                close(&mut open, &mut out, now);
            }
        }
    }
    out
}

#[test]
fn delay_keeps_to_its_definition() {
    for_each_seed(|rng, domain| {
        let after = 1 + rng.below(60);
        let options = json!({"after": after, "domain": domain});
        let game = play(rng, "delay", &options, false);
        game.check(
            |elements, _| {
                // One whose time has come where it is late goes out at once.
                let is_over = |it: &Came| it.is_late && it.at + after <= it.when;
                let mut waiting: Vec<&Came> = elements.iter().collect();
                waiting.sort_by_key(|it| (it.when.max(it.at + after), is_over(it), it.place));
                let out = |it: &Came| Emitted(it.at + after, is_over(it), it.value.clone());
                waiting.into_iter().map(out).collect()
            },
            &options.to_string(),
        );
        assert_eq!(game.host.keys(), 0, "something is left");
    });
}

#[test]
fn delay_by_a_field_keeps_to_its_definition() {
    for_each_seed(|rng, domain| {
        let is_event = domain == "event";
        let mut host = host("delay", &json!({"at": "/at", "domain": domain}));
        let (mut waiting, mut expected) = (Vec::new(), Vec::new());
        let (mut now, mut last) = (0, false);
        host.advance_watermark(now);
        for n in 0..20 {
            if rng.one_in(2) {
                last = n >= 15;
                now += rng.below(20);
                if last {
                    now = i64::MAX;
                }
                if is_event {
                    host.advance_watermark(now);
                } else {
                    host.advance_clock(now);
                }
                waiting.sort_by_key(|(at, _)| *at);
                let due = waiting.iter().take_while(|(at, _)| *at <= now).count();
                for (at, value) in waiting.drain(..due) {
                    expected.push((is_event.then_some(at), value));
                }
            }
            if last {
                break;
            }
            let at = rng.below(150);
            let value = format!("{{\"n\":{n},\"at\":{at}}}");
            host.element("a", now + 1, &value).unwrap();
            if at <= now {
                expected.push((Some(if is_event { at } else { now + 1 }), value));
            } else {
                waiting.push((at, value));
            }
        }
        assert_eq!(emitted(host.take_outputs()), expected);
        assert_eq!(host.keys(), usize::from(!waiting.is_empty()));
    });
}

#[test]
fn periodic_keeps_to_its_definition() {
    for_each_seed(|rng, domain| {
        let every = 1 + rng.below(30);
        let (times, span) = match rng.below(2) {
            0 => (Some(1 + rng.below(6)), None),
            _ => (None, Some(every + rng.below(60))),
        };
        let options = json!({"every": every, "domain": domain, "times": times, "for": span});
        let game = play(rng, "periodic", &options, false);
        game.check(|elements, end| beats(elements, end, every, times, span), &options.to_string());
        assert_eq!(game.host.keys(), 0, "something is left");
    });
}

fn beats(
    elements: &Elements,
    end: End,
    every: i64,
    times: Option<i64>,
    span: Option<i64>,
) -> Vec<Emitted> {
    // The next beat, what it says, and how often it has said that.
    let (mut out, mut ticking) = (Vec::new(), None::<(i64, &Came, i64)>);
    let mut tick = |ticking: &mut Option<(i64, &Came, i64)>, now: i64| {
        while let Some((beat, last, said)) = ticking.filter(|(beat, ..)| *beat <= now) {
            out.push(Emitted(beat, false, last.value.clone()));
            let (next, said) = (beat + every, said + 1);
            let is_over = times.is_some_and(|times| said == times)
                || span.is_some_and(|span| next > last.at + span)
                || end.is_last(beat, elements);
            *ticking = (!is_over).then_some((next, last, said));
        }
    };
    for now in end.span() {
        if !end.elements_first() {
            tick(&mut ticking, now);
        }
        for is_late in [false, true] {
            for it in happening(elements, now, is_late) {
                match &mut ticking {
                    Some((_, last, _)) if it.at < last.at => {}
                    Some((_, last, said)) => (*last, *said) = (it, 0),
                    None => ticking = Some((it.at + every, it, 0)),
                }
                if is_late {
                    tick(&mut ticking, now);
                }
            }
            if end.elements_first() && !is_late {
                tick(&mut ticking, now);
            }
        }
    }
    out
}
