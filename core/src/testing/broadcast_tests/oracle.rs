//! Whatever happens to a function with broadcasts, or to the machine that it runs on, against a few maps.

use super::{Factor, Say, harness};
use crate::namespace::BroadcastResult;
use crate::op::ResultKind;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What happens.
#[derive(Debug, Clone)]
enum Deed {
    Element(u8, i64),
    Say(Say),
    Watermark(i64),
    Snapshot,
    Crash,
    Restart,
    Rescale(u16),
    Detour,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let say = prop_oneof![
        3 => (-3..4_i64).prop_map(Say::Factor),
        3 => (-3..4_i64).prop_map(Say::Grow),
        2 => Just(Say::Tell),
        2 => (2..4_i64).prop_map(Say::Clear),
        2 => (2..4_i64).prop_map(Say::FailAt),
        1 => Just(Say::Fail),
        1 => Just(Say::Panic),
    ];
    let deed = prop_oneof![
        12 => (0..40_u8, -5..6_i64).prop_map(|(key, n)| Deed::Element(key, n)),
        6 => say.prop_map(Deed::Say),
        3 => (1..15_i64).prop_map(Deed::Watermark),
        1 => Just(Deed::Snapshot),
        1 => Just(Deed::Crash),
        1 => Just(Deed::Restart),
        1 => (1..5_u16).prop_map(Deed::Rescale),
        1 => Just(Deed::Detour),
    ];
    prop::collection::vec(deed, 1..60)
}

/// The keys, without an engine: sums, timers, and what came out of each; the empty key is none.
#[derive(Default)]
struct Oracle {
    broadcast: Factor,
    sums: BTreeMap<String, i64>,
    timers: BTreeSet<(i64, String)>,
    watermark: Option<i64>,
    out: BTreeMap<String, Vec<Value>>,
}

impl Oracle {
    fn emit(&mut self, key: &str, value: Value) {
        self.out.entry(key.to_owned()).or_default().push(value);
    }

    fn set(&mut self, key: &str, sum: i64) {
        if sum == 0 {
            self.sums.remove(key);
        } else {
            self.sums.insert(key.to_owned(), sum);
        }
    }

    fn sum(&self, key: &str) -> i64 {
        self.sums.get(key).copied().unwrap_or(0)
    }

    fn element(&mut self, key: &str, n: i64, at: i64) {
        let sum = self.sum(key) + n * self.broadcast.factor;
        self.emit(key, json!(["element", sum, self.broadcast.factor]));
        self.set(key, sum);
        self.timers.insert((at + 10, key.to_owned()));
    }

    fn watermark(&mut self, to: i64) {
        self.watermark = Some(to);
        while let Some((time, key)) = self.timers.first().cloned()
            && time <= to
        {
            self.timers.remove(&(time, key.clone()));
            let sum = self.sum(&key) + self.broadcast.factor;
            self.emit(&key, json!(["timer", time, sum, self.broadcast.factor]));
            self.set(&key, sum);
        }
    }

    fn say(&mut self, say: &Say) {
        if matches!(say, Say::Fail | Say::Panic) {
            let message = if matches!(say, Say::Fail) {
                "as asked"
            } else {
                "the callback panicked: as asked"
            };
            let word = if matches!(say, Say::Fail) { "fail" } else { "panic" };
            self.emit("", json!({ "error": message, "broadcast": word }));
            return;
        }
        self.broadcast.changes += 1;
        let sums = self.sums.clone();
        match say {
            Say::Factor(factor) => {
                let before = std::mem::replace(&mut self.broadcast.factor, *factor);
                self.emit("", json!(["factor", before, factor, 0]));
            }
            Say::Grow(by) => sums.iter().for_each(|(key, sum)| self.set(key, sum + by)),
            Say::Tell => {
                self.emit("", json!(self.watermark));
                for (key, sum) in &sums {
                    self.emit(key, json!(["tell", sum, self.broadcast.factor, key]));
                }
            }
            Say::Clear(of) => {
                for key in sums.iter().filter(|(_, sum)| *sum % of == 0).map(|(key, _)| key) {
                    self.sums.remove(key);
                }
            }
            Say::FailAt(of) => {
                for (key, sum) in &sums {
                    let sum = sum + 1;
                    self.set(key, sum);
                    if sum % of == 0 {
                        let error = format!("not {}", sum + 100);
                        self.emit(key, json!({ "error": error, "broadcast": { "fail_at": of } }));
                    } else {
                        self.emit(key, json!(["through", sum + 100]));
                        self.set(key, sum + 100);
                    }
                }
            }
            Say::Fail | Say::Panic => {}
        }
    }
}

fn play(deeds: &[Deed]) {
    let (mut harness, mut oracle) = (harness(), Oracle::default());
    let (mut watermark, mut ids) = (0, Vec::new());
    for deed in deeds {
        match deed {
            Deed::Element(key, n) => {
                let key = format!("k{key}");
                let at = watermark + 1 + i64::from(n.unsigned_abs() as u32);
                assert_eq!(harness.process_element(&key, n, at), Ok(ResultKind::Processed));
                oracle.element(&key, *n, at);
            }
            Deed::Say(say) => {
                let failed = matches!(say, Say::Fail | Say::Panic);
                let expected =
                    if failed { BroadcastResult::Failed } else { BroadcastResult::Processed };
                assert_eq!(harness.process_broadcast(say, watermark), Ok(expected));
                oracle.say(say);
            }
            Deed::Watermark(by) => {
                watermark += by;
                harness.advance_watermark(watermark);
                oracle.watermark(watermark);
            }
            Deed::Snapshot => drop(harness.snapshot()),
            Deed::Crash => harness.crash(),
            Deed::Restart => harness.restart(),
            Deed::Rescale(shards) => harness.rescale(*shards),
            Deed::Detour => {
                let snapshot = harness.snapshot();
                harness.process_broadcast(Say::Factor(77), watermark).expect("taken");
                harness.process_broadcast(Say::Grow(77), watermark).expect("taken");
                harness.restore(&snapshot);
            }
        }
    }
    let mut came: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for it in harness.inner.take_all() {
        ids.push(it.id);
        let key = String::from_utf8(it.key).expect("keys are text");
        let value = serde_json::from_slice(&it.value).expect("values are JSON");
        came.entry(key).or_default().push(value);
    }
    assert_eq!(came, oracle.out);
    assert_eq!(harness.broadcast_state(), Ok(oracle.broadcast.clone()));
    for key in (0..40).map(|key| format!("k{key}")) {
        assert_eq!(harness.state(&key), Ok(oracle.sums.get(&key).copied()), "{key}");
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id stands once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_is_as_if_nothing_had(deeds in deeds()) {
        play(&deeds);
    }
}
