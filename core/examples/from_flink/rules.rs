//! Broadcast state: a stream of rules, a threshold for each kind of reading, and the readings of
//! devices, each judged by the rules as they stand. Whoever stands above a new threshold is told of
//! at once.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stormwheel::error::Rejection;
use stormwheel::function::{BroadcastContext, Context, KeyedBroadcastProcessFunction, Result};
use stormwheel::testing::BroadcastHarness;

struct Alarms;

#[derive(Serialize, Deserialize)]
struct Reading {
    kind: String,
    value: i64,
}

#[derive(Serialize, Deserialize)]
struct Rule {
    kind: String,
    threshold: i64,
}

impl KeyedBroadcastProcessFunction for Alarms {
    type Input = Reading;
    type Broadcast = Rule;
    /// The last reading of a device.
    type State = Option<Reading>;
    /// The threshold of each kind.
    type BroadcastState = BTreeMap<String, i64>;
    type Output = (String, i64);

    fn process_element(
        &mut self,
        reading: Reading,
        last: &mut Option<Reading>,
        rules: &BTreeMap<String, i64>,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        if rules.get(&reading.kind).is_some_and(|threshold| reading.value > *threshold) {
            ctx.emit((reading.kind.clone(), reading.value));
        }
        *last = Some(reading);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        rule: Rule,
        rules: &mut BTreeMap<String, i64>,
        ctx: &mut BroadcastContext<Self>,
    ) -> Result<()> {
        let before = rules.insert(rule.kind.clone(), rule.threshold).unwrap_or(i64::MAX);
        ctx.apply_to_keyed_state(move |last, ctx| {
            if let Some(last) = last
                && last.kind == rule.kind
                && (rule.threshold + 1..=before).contains(&last.value)
            {
                ctx.emit((last.kind.clone(), last.value));
            }
            Ok(())
        });
        Ok(())
    }
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    let heat = |value| Reading { kind: "heat".to_owned(), value };
    let rule = |threshold| Rule { kind: "heat".to_owned(), threshold };
    let alarm = |value| ("heat".to_owned(), value);
    let mut harness = BroadcastHarness::new(|| Alarms);
    harness.process_element("pump-4", heat(99), 1_000)?;
    assert_eq!(harness.take_values(), [], "there is no rule yet");

    harness.process_broadcast(rule(80), 2_000)?;
    assert_eq!(harness.take_values(), [alarm(99)], "the one that pump-4 has told");
    harness.process_element("pump-5", heat(75), 3_000)?;
    harness.process_element("pump-6", heat(81), 3_000)?;
    assert_eq!(harness.take_values(), [alarm(81)]);

    harness.crash();
    harness.rescale(4);
    harness.process_broadcast(rule(72), 4_000)?;
    let alarms = harness.take_outputs();
    assert_eq!(alarms.len(), 1, "the others were above the threshold before");
    assert_eq!((&alarms[0].key[..], &alarms[0].value), (&b"pump-5"[..], &alarm(75)));
    Ok(())
}
