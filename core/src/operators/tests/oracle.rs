//! Random elements, out of order, against the definition of each operator: what must come out is
//! worked out from the list of all elements, by their times.
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

/// The elements of one key: when each happened, and what it is. Sorted by time, then arrival.
type Elements = [(i64, String)];

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
}

const LAST_ELEMENT: i64 = 120;
const HORIZON: i64 = 400;

/// What a game with two keys does.
#[derive(Debug)]
pub(super) enum Step {
    Element(&'static str, i64, String),
    Watermark(i64),
    Clock(i64),
}

/// What came out, by key.
pub(super) type ByKey = BTreeMap<String, Vec<(Option<i64>, String)>>;

/// A game that was played: what each key got, what it emitted, and how it ended.
pub(super) struct Game {
    elements: BTreeMap<&'static str, Vec<(i64, String)>>,
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
    let mut elements = BTreeMap::<_, Vec<_>>::new();
    for (key, at, value) in &arrivals {
        elements.entry(*key).or_default().push((*at, value.clone()));
    }
    for elements in elements.values_mut() {
        elements.sort_by_key(|(at, _)| *at);
    }
    let end = if is_event {
        let mut watermark = -1;
        let mut advance = |table: &mut Table, to: i64| {
            if small_steps {
                (watermark + 1..to).for_each(|step| table.watermark(step));
            }
            if to > watermark {
                table.watermark(to);
                watermark = to;
            }
            watermark
        };
        for (index, (key, at, value)) in arrivals.iter().enumerate() {
            table.element(key, *at, value);
            let ahead = arrivals[index + 1..].iter().map(|(_, at, _)| *at).min();
            if let Some(ahead) = ahead
                && rng.one_in(2)
            {
                advance(&mut table, ahead - 1 - rng.below(10));
            }
        }
        let is_behind = small_steps || rng.one_in(2);
        let to = if is_behind { LAST_ELEMENT + rng.below(HORIZON as u64) } else { -1 };
        let last = advance(&mut table, to);
        table.watermark(i64::MAX);
        End::Final(last)
    } else {
        for now in 0..=LAST_ELEMENT + HORIZON {
            table.clock(now);
            for (key, at, value) in arrivals.iter().filter(|(_, at, _)| *at == now) {
                table.element(key, *at, value);
            }
        }
        End::Clock(LAST_ELEMENT + HORIZON)
    };
    let Table { mut host, steps } = table;
    let mut by_key = BTreeMap::<_, Vec<_>>::new();
    for output in host.take_outputs() {
        by_key.entry(output.key.clone()).or_default().append(&mut emitted(vec![output]));
    }
    Game { elements, emitted: by_key, end, host, steps }
}

impl Game {
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

fn timeouts(
    elements: &Elements,
    end: End,
    after: i64,
    recover: bool,
    repeat: Option<i64>,
) -> Vec<Emitted> {
    let mut out = Vec::new();
    for (index, (at, value)) in elements.iter().enumerate() {
        let next = elements.get(index + 1);
        let mut alarm = at + after;
        let mut is_silent = false;
        loop {
            let comes = match (next, end) {
                (Some((next, _)), End::Final(_)) => alarm < *next,
                (Some((next, _)), End::Clock(_)) => alarm <= *next,
                (None, End::Final(_)) => true,
                (None, End::Clock(stop)) => alarm <= stop,
            };
            if !comes {
                break;
            }
            is_silent = true;
            let text = format!("{{\"event\":\"timeout\",\"last_seen\":{at},\"value\":{value}}}");
            out.push(Emitted(alarm, false, text));
            let is_last = matches!(end, End::Final(last) if next.is_none() && alarm > last);
            let Some(repeat) = repeat.filter(|_| !is_last) else {
                break;
            };
            alarm += repeat;
        }
        if let Some((next, value)) = next
            && is_silent
            && recover
        {
            let silent = next - at;
            let text =
                format!("{{\"event\":\"recovered\",\"silent_ms\":{silent},\"value\":{value}}}");
            out.push(Emitted(*next, true, text));
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
    let (mut out, mut rest) = (Vec::new(), elements);
    while !rest.is_empty() {
        let over = |last: i64| (last + after).min(rest[0].0 + max.unwrap_or(i64::MAX / 2));
        let belongs = |pair: &[(i64, String)]| {
            let over = over(pair[0].0);
            pair[1].0 < over || pair[1].0 == over && end.elements_first()
        };
        let length = 1 + rest.windows(2).take_while(|pair| belongs(pair)).count();
        let (burst, others) = rest.split_at(length);
        let last = &burst[length - 1];
        let value = if first { &burst[0].1 } else { &last.1 };
        out.push(Emitted(over(last.0), false, value.clone()));
        rest = others;
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
            |elements, _| {
                let out = throttled(elements, every, leading, trailing);
                // What anybody may expect of it, whatever the definition.
                assert!(out.windows(2).all(|pair| pair[1].0 - pair[0].0 >= every));
                let (first, last) = (&elements[0], &elements[elements.len() - 1]);
                assert!(!leading || (out[0].0, &out[0].2) == (first.0, &first.1));
                assert!(!trailing || out[out.len() - 1].2 == last.1);
                out
            },
            &options.to_string(),
        );
        assert_eq!(game.host.keys(), 0, "something is left");
    });
}

/// Millisecond by millisecond.
fn throttled(elements: &Elements, every: i64, leading: bool, trailing: bool) -> Vec<Emitted> {
    let (mut out, mut end, mut held) = (Vec::new(), None, None);
    for now in 0..=LAST_ELEMENT + HORIZON {
        if end == Some(now) {
            end = None;
            if let Some(value) = held.take() {
                out.push(Emitted(now, false, value));
                end = Some(now + every);
            }
        }
        for (_, value) in elements.iter().filter(|(at, _)| *at == now) {
            let is_open = end.is_some();
            if !is_open {
                end = Some(now + every);
            }
            if !is_open && leading {
                out.push(Emitted(now, true, value.clone()));
            } else if trailing {
                held = Some(value.clone());
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
                let late = |(at, value): &(i64, String)| Emitted(at + after, false, value.clone());
                elements.iter().map(late).collect()
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

/// Millisecond by millisecond.
fn beats(
    elements: &Elements,
    end: End,
    every: i64,
    times: Option<i64>,
    span: Option<i64>,
) -> Vec<Emitted> {
    let last_element = elements[elements.len() - 1].0;
    let (mut out, mut beat) = (Vec::new(), None);
    let (mut last, mut said) = (&elements[0], 0);
    for now in 0..=LAST_ELEMENT + HORIZON {
        let mut tick = |beat: &mut Option<i64>, last: &(i64, String), said: &mut i64| {
            if *beat != Some(now) {
                return;
            }
            out.push(Emitted(now, false, last.1.clone()));
            *said += 1;
            let next = now + every;
            let is_over = times.is_some_and(|times| *said == times)
                || span.is_some_and(|span| next > last.0 + span)
                || matches!(end, End::Final(reached) if now > reached && now >= last_element);
            *beat = (!is_over).then_some(next);
        };
        if !end.elements_first() {
            tick(&mut beat, last, &mut said);
        }
        for element in elements.iter().filter(|(at, _)| *at == now) {
            (last, said) = (element, 0);
            beat.get_or_insert(now + every);
        }
        if end.elements_first() {
            tick(&mut beat, last, &mut said);
        }
    }
    out
}
