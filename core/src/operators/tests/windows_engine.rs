//! Windows, joins and `deduplicate` on the engine itself: it does what the plain host does that their
//! definitions are held against.

use super::page::{Example, Line, examples};
use super::{built_in, config};
use crate::function::host::Host;
use crate::namespace::{LateElements, NamespaceConfig};
use crate::op::{Action, Element, Op, Payload, ResultKind};
use crate::operators::seeds::Rng;
use crate::output::{OutputKind, OutputRecord};
use crate::solo::Solo;
use crate::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GAMES: u64 = 40;

/// What came out, key by key, which elements were late, and how many timers are left.
#[derive(Debug, Default, PartialEq)]
struct Played {
    by_key: BTreeMap<String, Vec<(Option<i64>, String)>>,
    /// Those that were late, as they came.
    late: Vec<(String, i64, String)>,
    pending: u64,
}

fn on_engine(config: &NamespaceConfig, lines: &[Line]) -> Played {
    let mut now = Timestamp::from_millis(0);
    let mut solo = Solo::with_operators(config, built_in(), now).unwrap();
    let mut played = Played::default();
    let mut refused = 0;
    let Played { by_key, late, .. } = &mut played;
    let mut each = |record: OutputRecord<'_>| {
        let OutputKind::Value { tag, timestamp } = record.kind else {
            panic!("{record:?} is no value");
        };
        let key = String::from_utf8(record.key.to_vec()).unwrap();
        let value = String::from_utf8(record.payload.expect("a value").bytes().to_vec()).unwrap();
        let timestamp = timestamp.map(Timestamp::as_millis);
        match tag {
            None => by_key.entry(key).or_default().push((timestamp, value)),
            Some("late") => late.push((key, timestamp.expect("its own"), value)),
            Some(tag) => panic!("{tag}: {value}"),
        }
    };
    for line in lines {
        match line {
            Line::Element { key, input, at, value } => {
                let timestamp = Timestamp::from_millis(*at);
                let value = Payload::Json(value.as_bytes());
                let action = Action::Element(Element { timestamp, input: *input, value });
                let outcomes =
                    solo.apply_with(&[Op { key: key.as_bytes(), action }], now, &mut each);
                let result = outcomes[0].as_ref().unwrap().result;
                refused += usize::from(result == ResultKind::Late);
                assert!(matches!(result, ResultKind::Late | ResultKind::Processed), "{result:?}");
            }
            Line::Watermark(to) => {
                solo.advance_watermark(Timestamp::from_millis(*to), now, &mut each);
            }
            Line::Clock(to) => {
                now = Timestamp::from_millis(*to);
                solo.advance(now, &mut each);
            }
        }
    }
    assert_eq!(refused, late.len());
    played.pending = solo.pending();
    played
}

fn on_host(config: &NamespaceConfig, lines: &[Line]) -> Played {
    let mut host = Host::new(built_in().make(config).unwrap().unwrap());
    host.lateness_ms = config.lateness_ms;
    let is_judge = built_in().make(config).unwrap().unwrap().judges_lateness();
    let (mut watermark, mut late) = (i64::MIN, Vec::new());
    let mut keys: Vec<&str> = Vec::new();
    for line in lines {
        match line {
            Line::Element { key, input, at, value } => {
                let before = host.late();
                let is_late = !is_judge && *at <= watermark.saturating_sub(config.lateness_ms);
                if !is_late {
                    host.element_on(*input, key, *at, value).unwrap();
                    keys.push(key);
                }
                if is_late || host.late() > before {
                    late.push((key.clone(), *at, value.clone()));
                }
            }
            Line::Watermark(to) => {
                watermark = *to;
                host.advance_watermark(*to);
            }
            Line::Clock(to) => host.advance_clock(*to),
        }
    }
    keys.sort_unstable();
    keys.dedup();
    let mut played = Played { late, ..Played::default() };
    played.pending = keys.iter().map(|key| host.timers(key).len() as u64).sum();
    for output in host.take_outputs() {
        played.by_key.entry(output.key).or_default().push((output.timestamp, output.value));
    }
    played
}

fn options(rng: &mut Rng, name: &str) -> Value {
    let span = rng.between(1, 20);
    let domain = *rng.pick(&["event", "processing"]);
    match name {
        "windows" => {
            let window = match rng.between(1, 3) {
                1 => json!({"tumbling": {"size": span}}),
                2 => json!({"sliding": {"size": span, "slide": (span + 1) / 2}}),
                _ => json!({"session": {"gap": span}}),
            };
            let lateness = if domain == "event" { rng.between(0, 10) } else { 0 };
            let early = rng.one_in(2).then(|| json!({"every": 5}));
            let aggregate = json!({"n": "count", "all": {"collect": ""}});
            json!({
                "window": window, "domain": domain, "lateness": lateness, "early": early,
                "discard": rng.one_in(2), "aggregate": aggregate,
            })
        }
        "interval_join" => json!({"lower": -span, "upper": rng.between(-span, 20)}),
        "enrich" => json!({"keep": rng.one_in(2).then_some(span)}),
        _ => json!({"ttl": span, "domain": domain, "refresh": rng.one_in(2)}),
    }
}

fn lines(rng: &mut Rng, name: &str) -> Vec<Line> {
    let (mut base, mut clock, inputs) =
        (0, 0, i64::from(name == "interval_join" || name == "enrich"));
    let line = |serial: i64| match rng.between(1, 6) {
        1 => {
            base += rng.between(0, 12);
            Line::Watermark(base)
        }
        2 => {
            clock += rng.between(0, 6);
            Line::Clock(clock)
        }
        _ => Line::Element {
            key: (*rng.pick(&["a", "b"])).to_owned(),
            input: rng.between(0, inputs) as u8,
            at: base + rng.between(-15, 25),
            value: if name == "deduplicate" { serial % 4 } else { serial }.to_string(),
        },
    };
    // Where the watermark begins is known to both.
    std::iter::once(Line::Watermark(0)).chain((0..80).map(line)).collect()
}

#[test]
fn the_engine_does_what_the_plain_host_does() {
    for name in ["windows", "interval_join", "enrich", "deduplicate"] {
        let (mut outputs, mut late) = (0, 0);
        for seed in 0..GAMES {
            let mut rng = Rng::of(seed);
            // Only what does not find out itself what is late goes by the namespace's lateness.
            let config = NamespaceConfig {
                lateness_ms: rng.between(0, 10),
                late_elements: LateElements::SideOutput,
                ..config(name, &options(&mut rng, name))
            };
            let mut lines = lines(&mut rng, name);
            let found = on_engine(&config, &lines);
            assert_eq!(found, on_host(&config, &lines), "seed {seed}: {config:?}");
            (outputs, late) = (outputs + found.by_key.len(), late + found.late.len());
            // After the end of time, there is nothing left.
            lines.extend([Line::Clock(10_000), Line::Watermark(i64::MAX)]);
            let found = on_engine(&config, &lines);
            assert_eq!(found.pending, 0, "seed {seed}: {config:?}");
            assert_eq!(found, on_host(&config, &lines), "seed {seed}: {config:?}");
        }
        assert!(outputs > 0 && late > 20, "{name}: {outputs} {late}");
    }
}

#[test]
fn the_examples_of_the_page_are_what_happens() {
    let mut names = Vec::new();
    for Example { config: given, lines, outputs } in examples() {
        let name = given["operator"].as_str().unwrap().to_owned();
        let late_elements = LateElements::SideOutput;
        let config = NamespaceConfig { late_elements, ..config(&name, &given["options"]) };
        let found = on_engine(&config, &lines);
        assert_eq!(found, on_host(&config, &lines), "{name}");
        let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for output in outputs {
            let key = output["key"].as_str().unwrap().to_owned();
            expected.entry(key).or_default().push(json!([output["timestamp"], output["value"]]));
        }
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let values = |of: Vec<(Option<i64>, String)>| {
            of.iter().map(|(at, text)| json!([at, value(text)])).collect::<Vec<_>>()
        };
        let found: BTreeMap<_, _> =
            found.by_key.into_iter().map(|(key, of)| (key, values(of))).collect();
        assert_eq!(found, expected, "{name}");
        names.push(name);
    }
    assert_eq!(names, ["windows", "interval_join", "enrich", "deduplicate"]);
}
