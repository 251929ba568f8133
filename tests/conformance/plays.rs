//! The ways in which every case is played, and what is compared.
//!
//! - `plain`: step by step, on a harness of several lanes.
//! - `one lane`: the same with all keys in one lane: there an advance has an order over all keys.
//! - `slices`: the engine fires one timer at a time, and the next step comes while timers of the one
//!   before are still firing; other keys, which emit nothing, have more that is due before them. What
//!   comes out for each key must not show any of that.
//! - `restored`: after every step the harness is written down and restored.
//! - `crashed`: after every step the power goes: what comes back is a snapshot and the log.
//! - `rescaled`: one shard, then four from the second third of the steps on, then two.

use crate::broadcast::ScriptWithBroadcasts;
use crate::case::{
    Case, Config, Element, LateElements, LateTimers, Operation, Output, SCRIPT, SCRIPT_OF_TWO,
    SCRIPT_WITH_BROADCASTS, Step,
};
use crate::compare::Expectation;
use crate::load::{self, Loaded};
use crate::script::{Script, ScriptOfTwo};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use stormwheel::function::Operators;
use stormwheel::namespace::{
    Closing, ErrorPolicy, NamespaceConfig, OnError, ProcessingTimers, SourceChange, SourceResult,
};
use stormwheel::op::{Payload, ResultKind};
use stormwheel::operators::built_in;
use stormwheel::runtime::EngineOptions;
use stormwheel::testing::{HarnessSnapshot, OperatorHarness};
use stormwheel::time::Timestamp;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Play {
    Plain,
    OneLane,
    Slices,
    Restored,
    Crashed,
    Rescaled,
}

/// What the keys begin with that only keep the engine busy.
const BALLAST: &str = "ballast-";
/// How many they are: more than an answer takes turns.
const BALLAST_KEYS: usize = 48;

/// A case on its way.
struct Player {
    play: Play,
    harness: OperatorHarness,
    snapshots: BTreeMap<String, (HarnessSnapshot, Expectation)>,
    /// What has to have come out, and has, since it was compared last.
    owed: Expectation,
}

#[test]
fn plain() {
    play_all(Play::Plain);
}

#[test]
fn in_one_lane() {
    play_all(Play::OneLane);
}

#[test]
fn in_slices_of_one() {
    play_all(Play::Slices);
}

#[test]
fn with_a_snapshot_and_a_restore_after_every_step() {
    play_all(Play::Restored);
}

#[test]
fn with_a_crash_after_every_step() {
    play_all(Play::Crashed);
}

#[test]
fn rescaled_from_one_to_four_to_two() {
    play_all(Play::Rescaled);
}

/// Plays every case; fails with all that went wrong.
fn play_all(play: Play) {
    let cases = load::all();
    let mut failures = Vec::new();
    for Loaded { place, case } in &cases {
        if let Err(problem) = Player::play(case, play) {
            failures.push(format!("{place} {}\n    {problem}", case.name));
        }
    }
    println!("{} cases played {play:?}", cases.len());
    let (failed, all) = (failures.len(), cases.len());
    assert!(failed == 0, "{failed} of {all} cases fail, played {play:?}:\n{}", failures.join("\n"));
}

impl Player {
    fn play(case: &Case, play: Play) -> Result<(), String> {
        let lanes = if matches!(play, Play::OneLane | Play::Slices) { 1 } else { 8 };
        let options = EngineOptions {
            shards: 1,
            lanes,
            max_parallelism: 32,
            slice: u32::from(play == Play::Slices),
            operators: operators(),
            ..EngineOptions::default()
        };
        let mut harness = OperatorHarness::with_options(options, config(&case.config))
            .map_err(|rejection| format!("the configuration is refused: {rejection}"))?;
        harness.advance_clock(case.config.clock);
        let mut player =
            Self { play, harness, snapshots: BTreeMap::new(), owed: Expectation::default() };
        if play == Play::Slices {
            if case.config.operator == SCRIPT {
                player.load_ballast(&case.steps);
            }
            player.harness.go_ahead();
        }
        for (index, step) in case.steps.iter().enumerate() {
            player.between(index, case.steps.len());
            player
                .step(step, case.ordered)
                .map_err(|problem| format!("step {index}: {problem}"))?;
        }
        player.owed.came.extend(outputs(&mut player.harness));
        player.owed.settle(false).map_err(|problem| format!("at the end: {problem}"))
    }

    /// What happens between two steps and is not to be seen.
    fn between(&mut self, index: usize, steps: usize) {
        match self.play {
            Play::Restored => {
                let snapshot = self.harness.snapshot();
                self.harness.restore(&snapshot);
            }
            Play::Crashed => self.harness.crash(),
            Play::Rescaled if index == steps.div_ceil(3) => self.harness.rescale(4),
            Play::Rescaled if index == (2 * steps).div_ceil(3) => self.harness.rescale(2),
            Play::Plain | Play::OneLane | Play::Slices | Play::Rescaled => {}
        }
    }

    fn step(&mut self, step: &Step, is_ordered: bool) -> Result<(), String> {
        let result = match &step.operation {
            Operation::Element(element) => process(&mut self.harness, element),
            Operation::Broadcast(it) => {
                let timestamp = Timestamp::from_millis(it.timestamp);
                match self.harness.broadcast(&it.value().to_string(), timestamp) {
                    Ok(result) => result.as_str().to_owned(),
                    Err(_) => "refused".to_owned(),
                }
            }
            Operation::Watermark { source, to } => {
                let change = SourceChange::Watermark(Timestamp::from_millis(*to));
                source_result(self.harness.change_source(source, change))
            }
            Operation::Idle(source) => {
                source_result(self.harness.change_source(source, SourceChange::Idle))
            }
            Operation::Clock(to) => {
                if self.harness.advance_clock(*to) { "advanced" } else { "ignored" }.to_owned()
            }
            Operation::Close(timers) => {
                let mut known = ProcessingTimers::ALL.into_iter();
                let timers = known.find(|it| it.as_str() == timers);
                let timers = timers.ok_or("there is no such way to close")?;
                match self.harness.close(timers) {
                    Ok(Closing { is_closed: true, .. }) => "closed".to_owned(),
                    Ok(Closing { is_closed: false, .. }) => "closing".to_owned(),
                    Err(rejection) => format!("refused: {rejection}"),
                }
            }
            Operation::Snapshot(name) => {
                self.owed.came.extend(outputs(&mut self.harness));
                self.snapshots.insert(name.clone(), (self.harness.snapshot(), self.owed.clone()));
                "done".to_owned()
            }
            Operation::Restore(name) => {
                self.owed.came.extend(outputs(&mut self.harness));
                self.owed.settle(false)?;
                let (snapshot, owed) = &self.snapshots[name];
                self.owed = owed.clone();
                self.harness.restore(snapshot);
                "done".to_owned()
            }
            Operation::Rescale(shards) => {
                self.harness.rescale(*shards);
                "done".to_owned()
            }
        };
        if result != step.result {
            return Err(format!("the result is `{result}`, expected is `{}`", step.result));
        }
        self.owed.expected.extend_from_slice(&step.expect);
        if self.play == Play::Slices {
            // What was made due may still be firing.
            return Ok(());
        }
        self.owed.came.extend(outputs(&mut self.harness));
        self.owed.settle(is_ordered && self.play == Play::OneLane)
    }

    /// Keys that emit nothing, and have something due with each step of time, before anything else is.
    fn load_ballast(&mut self, steps: &[Step]) {
        let (mut watermarks, mut clocks) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            match step.operation {
                Operation::Watermark { to, .. } => drop(watermarks.insert(to)),
                Operation::Clock(to) => drop(clocks.insert(to)),
                _ => {}
            }
        }
        let mut script = Vec::new();
        for (domain, times) in [("event", watermarks), ("processing", clocks)] {
            let mut before: i64 = if domain == "event" { i64::MIN } else { 0 };
            for time in times {
                script.push(json!([domain, before.saturating_add(1), { "do": [] }]));
                before = time;
            }
        }
        for index in 0..BALLAST_KEYS {
            let key = format!("{BALLAST}{index}");
            let value = json!({ "do": script });
            let element = Element { key, timestamp: i64::MAX, input: 0, value };
            assert_eq!(process(&mut self.harness, &element), "processed");
        }
    }
}

fn operators() -> Operators {
    built_in()
        .with_function(SCRIPT, || Script)
        .with_co_function(SCRIPT_OF_TWO, || ScriptOfTwo)
        .with_broadcast_function(SCRIPT_WITH_BROADCASTS, || ScriptWithBroadcasts)
}

fn config(config: &Config) -> NamespaceConfig {
    let mut it = NamespaceConfig {
        operator: config.operator().to_owned(),
        options: config.options.clone(),
        lateness_ms: config.lateness_ms,
        late_timers: match config.late_timers {
            LateTimers::Fire => stormwheel::namespace::LateTimers::Fire,
            LateTimers::NextWatermark => stormwheel::namespace::LateTimers::NextWatermark,
        },
        late_elements: match config.late_elements {
            LateElements::Drop => stormwheel::namespace::LateElements::Drop,
            LateElements::SideOutput => stormwheel::namespace::LateElements::SideOutput,
            LateElements::Process => stormwheel::namespace::LateElements::Process,
        },
        on_error: OnError { retry: config.retry, backoff_ms: 0, then: ErrorPolicy::Skip },
        ..NamespaceConfig::default()
    };
    it.watermark.sources.clone_from(&config.sources);
    it
}

fn process(harness: &mut OperatorHarness, element: &Element) -> String {
    let value = element.value.to_string();
    let value = Payload::Json(value.as_bytes());
    let timestamp = Timestamp::from_millis(element.timestamp);
    match harness.process(element.key.as_bytes(), element.input, value, timestamp) {
        Ok(ResultKind::Processed) => "processed".to_owned(),
        Ok(ResultKind::Late) => "late".to_owned(),
        Ok(ResultKind::Failed) => "failed".to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(_) => "refused".to_owned(),
    }
}

fn source_result(result: Result<SourceResult, impl std::fmt::Display>) -> String {
    match result {
        Ok(result) => result.as_str().to_owned(),
        Err(rejection) => format!("refused: {rejection}"),
    }
}

fn outputs(harness: &mut OperatorHarness) -> Vec<Output> {
    let emitted = harness.take_all().into_iter();
    let outputs = emitted.map(|it| Output {
        key: String::from_utf8(it.key).unwrap(),
        value: serde_json::from_slice(&it.value).unwrap_or(Value::Null),
        timestamp: it.timestamp.map(Timestamp::as_millis),
        tag: it.tag,
    });
    outputs.filter(|it| !it.key.starts_with(BALLAST)).collect()
}
