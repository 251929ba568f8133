//! The same games on the engine itself: it does what the plain host does that the definitions are
//! held against.

use super::oracle::{ByKey, Game, Step, play};
use super::{NAMES, built_in, config};
use crate::namespace::{LateElements, NamespaceConfig};
use crate::op::{Action, Element, Op, Payload, ResultKind};
use crate::operators::seeds::Rng;
use crate::output::{OutputKind, OutputRecord};
use crate::solo::Solo;
use crate::time::Timestamp;
use serde_json::{Value, json};

const GAMES: u64 = 60;

fn options(rng: &mut Rng, name: &str, domain: &str) -> Value {
    let span = 1 + rng.below(30);
    match name {
        "timeout" => json!({"after": span, "domain": domain, "recover": rng.one_in(2)}),
        "debounce" => json!({"after": span, "max": span + 20, "domain": domain}),
        "throttle" => json!({"every": span, "domain": domain}),
        "delay" => json!({"after": span, "domain": domain}),
        _ => json!({"every": span, "times": 1 + rng.below(5), "domain": domain}),
    }
}

/// What comes out of the engine, what of it is late, and how many timers it has left.
fn on_engine(name: &str, options: &Value, game: &Game) -> (ByKey, ByKey, u64) {
    let mut now = Timestamp::from_millis(0);
    let config = NamespaceConfig {
        lateness_ms: game.lateness_ms,
        late_elements: LateElements::SideOutput,
        ..config(name, options)
    };
    let mut solo = Solo::with_operators(&config, built_in(), now).unwrap();
    let (mut by_key, mut late) = (ByKey::new(), ByKey::new());
    let mut each = |record: OutputRecord<'_>| {
        let OutputKind::Value { tag, timestamp } = record.kind else {
            panic!("{record:?} is no value");
        };
        assert!(tag.is_none_or(|tag| tag == "late"), "{record:?}");
        let by_key = if tag.is_some() { &mut late } else { &mut by_key };
        let key = String::from_utf8(record.key.to_vec()).unwrap();
        let value = record.payload.expect("a value").bytes().to_vec();
        let value = (timestamp.map(Timestamp::as_millis), String::from_utf8(value).unwrap());
        by_key.entry(key).or_default().push(value);
    };
    for step in &game.steps {
        match step {
            Step::Element(key, at, value) | Step::Late(key, at, value) => {
                let timestamp = Timestamp::from_millis(*at);
                let value = Payload::Json(value.as_bytes());
                let action = Action::Element(Element { timestamp, input: 0, value });
                let op = Op { key: key.as_bytes(), action };
                let outcomes = solo.apply_with(&[op], now, &mut each);
                let is_late = matches!(step, Step::Late(..));
                let expected = if is_late { ResultKind::Late } else { ResultKind::Processed };
                assert_eq!(outcomes[0].as_ref().unwrap().result, expected);
            }
            Step::Watermark(to) => {
                solo.advance_watermark(Timestamp::from_millis(*to), now, &mut each);
            }
            Step::Clock(to) => {
                now = Timestamp::from_millis(*to);
                solo.advance(now, &mut each);
            }
        }
    }
    (by_key, late, solo.pending())
}

#[test]
fn the_engine_does_what_the_plain_host_does() {
    let (mut found_late, mut taken_late) = (0, 0);
    for (name, seed) in NAMES.into_iter().flat_map(|name| (0..GAMES).map(move |seed| (name, seed)))
    {
        let domain = if seed % 2 == 0 { "event" } else { "processing" };
        let mut rng = Rng::of(seed);
        let options = options(&mut rng, name, domain);
        let game = play(&mut rng, name, &options, false);
        let (emitted, late, pending) = on_engine(name, &options, &game);
        assert_eq!(emitted, game.emitted, "{name}, seed {seed}");
        let mut expected = ByKey::new();
        for step in &game.steps {
            if let Step::Late(key, at, value) = step {
                let of_key = expected.entry((*key).to_owned()).or_default();
                of_key.push((Some(*at), value.clone()));
                found_late += 1;
            }
        }
        assert_eq!(late, expected, "{name}, seed {seed}");
        taken_late += game.taken_late();
        let timers = ["a", "b"].map(|key| game.host.timers(key).len() as u64);
        assert_eq!(pending, timers.iter().sum::<u64>(), "{name}, seed {seed}");
    }
    assert!(found_late > 20 && taken_late > 20, "too few were late: {found_late} {taken_late}");
}
