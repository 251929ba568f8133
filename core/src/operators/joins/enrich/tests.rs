//! The operator `enrich`, case by case, and against its definition.

use super::Enrich;
use crate::function::host::Host;
use crate::operators::BuiltIn as _;
use crate::operators::seeds::{Rng, for_each_seed};
use serde_json::{Value, json};

fn host(options: &Value) -> Host {
    Host::new(Enrich::from_options(options).unwrap())
}

/// What came out since the last time: `left right final @timestamp`.
fn taken(host: &mut Host) -> Vec<String> {
    let outputs = host.take_outputs().into_iter().map(|output| {
        let value: Value = serde_json::from_str(&output.value).unwrap();
        let is_final = if value["final"].as_bool().unwrap() { "final" } else { "first" };
        let timestamp = output.timestamp.unwrap();
        format!("{} {} {is_final} @{timestamp}", value["left"], value["right"])
    });
    outputs.collect()
}

const FACT: u8 = 0;
const VERSION: u8 = 1;

#[test]
fn a_fact_is_answered_at_once_and_again_if_the_answer_has_changed() {
    let mut host = host(&json!({}));
    host.element_on(VERSION, "k", 5, "\"v5\"").unwrap();
    host.element_on(FACT, "k", 10, "1").unwrap();
    host.element_on(FACT, "k", 20, "2").unwrap();
    assert_eq!(taken(&mut host), ["1 \"v5\" first @10", "2 \"v5\" first @20"]);
    // Out of order, and in between.
    host.element_on(VERSION, "k", 15, "\"v15\"").unwrap();
    assert_eq!(taken(&mut host), Vec::<String>::new());
    host.advance_watermark(10);
    // The answer of the first is the same still.
    assert_eq!(taken(&mut host), Vec::<String>::new());
    host.advance_watermark(20);
    assert_eq!(taken(&mut host), ["2 \"v15\" final @20"]);
    // The last version stays.
    host.element_on(FACT, "k", 1_000, "3").unwrap();
    assert_eq!(taken(&mut host), ["3 \"v15\" first @1000"]);
    host.advance_watermark(i64::MAX);
    assert_eq!((taken(&mut host), host.keys()), (Vec::new(), 0));
}

#[test]
fn where_nothing_was_known_the_final_answer_always_comes() {
    let mut host = host(&json!({}));
    host.element_on(FACT, "k", 10, "1").unwrap();
    host.element_on(FACT, "k", 12, "2").unwrap();
    host.element_on(VERSION, "k", 11, "\"v\"").unwrap();
    assert_eq!(taken(&mut host), ["1 null first @10", "2 null first @12"]);
    host.advance_watermark(15);
    assert_eq!(taken(&mut host), ["1 null final @10", "2 \"v\" final @12"]);
    // What comes after its time has passed has its final answer at once.
    host.element_on(FACT, "k", 14, "3").unwrap();
    assert_eq!(taken(&mut host), ["3 \"v\" final @14"]);
    assert_eq!(host.timers("k").len(), 1, "the last version goes at the end of time");
}

#[test]
fn of_one_time_the_version_that_came_last_counts() {
    let mut host = host(&json!({}));
    for (input, at, value) in
        [(VERSION, 5, "\"a\""), (FACT, 5, "1"), (VERSION, 5, "\"b\""), (VERSION, 5, "\"a\"")]
    {
        host.element_on(input, "k", at, value).unwrap();
    }
    host.advance_watermark(5);
    // It is back to what was told.
    assert_eq!(taken(&mut host), ["1 \"a\" first @5"]);
}

#[test]
fn only_versions_that_an_answer_may_need_are_kept() {
    let mut host = host(&json!({"keep": 100}));
    let mut sizes = Vec::new();
    for at in 0..50 {
        host.element_on(VERSION, "k", at, "\"a version\"").unwrap();
        host.advance_watermark(at);
        sizes.push(host.state("k").unwrap().len());
    }
    assert!(sizes.iter().all(|size| *size <= sizes[0] + 8), "{sizes:?}");
    host.advance_watermark(148);
    assert_eq!(host.keys(), 1);
    host.element_on(FACT, "k", 149, "1").unwrap();
    // It has held from 49 to 149, and does no longer.
    assert_eq!(taken(&mut host), ["1 null first @149"]);
    host.advance_watermark(149);
    assert_eq!((taken(&mut host), host.keys()), (vec!["1 null final @149".to_owned()], 0));
}

#[test]
fn what_is_wrong_is_named() {
    let error = Enrich::from_options(&json!({"keep": "0s"})).err().expect("it is wrong");
    assert_eq!(error.message(), "`keep` is 0s, allowed is 1ms to 36525d");
    let error = Enrich::from_options(&json!({"ttl": 1})).err().expect("it is wrong");
    assert_eq!(error.message(), "there is no option `ttl`; there are keep");
}

/// By its definition: every version that ever came is looked through.
fn play(rng: &mut Rng) {
    let keep = rng.one_in(2).then(|| rng.between(1, 20));
    let lateness = if rng.one_in(2) { rng.between(0, 15) } else { 0 };
    let mut host = host(&json!({"keep": keep}));
    host.lateness_ms = lateness;
    // (key, at, text), in the order in which they came; facts with what was told.
    let mut versions: Vec<(&str, i64, String)> = Vec::new();
    let mut facts: Vec<(i64, &str, i64, String)> = Vec::new();
    let answer = |versions: &[(&str, i64, String)], key: &str, at: i64| {
        let known = versions.iter().filter(|it| it.0 == key && it.1 <= at);
        let latest = known.max_by_key(|it| it.1);
        let holds = latest.filter(|it| keep.is_none_or(|keep| at < it.1 + keep));
        holds.map_or("null".to_owned(), |it| it.2.clone())
    };
    let (mut watermark, mut base) = (None, rng.between(-30, 5));
    for serial in 0..80 {
        let is_end = serial == 79;
        if rng.one_in(5) || is_end {
            base = if is_end { 10_000 } else { base + rng.between(0, 12) };
            watermark = Some(base);
            host.advance_watermark(base);
            let mut expected = Vec::new();
            facts.sort();
            for (at, key, fact, told) in &facts {
                let answer = answer(&versions, key, *at);
                if *at <= base - lateness && (answer != *told || told == "null") {
                    expected.push(format!("{fact} {answer} final @{at}"));
                }
            }
            facts.retain(|(at, ..)| *at > base - lateness);
            // Keys come in their order at one time, and facts of a key as they came.
            assert_eq!(taken(&mut host), expected, "{keep:?} {versions:?}");
            continue;
        }
        let key = *rng.pick(&["a", "b"]);
        // What is late beyond the lateness does not reach it, unless the namespace wants it to.
        let first = watermark.map_or(base, |watermark| watermark - lateness + 1);
        let at = first + rng.between(0, 25);
        if rng.one_in(2) {
            let text = rng.between(0, 3).to_string();
            host.element_on(VERSION, key, at, &text).unwrap();
            versions.push((key, at, text));
            assert_eq!(taken(&mut host), Vec::<String>::new());
        } else {
            host.element_on(FACT, key, at, &serial.to_string()).unwrap();
            let told = answer(&versions, key, at);
            assert_eq!(taken(&mut host), [format!("{serial} {told} first @{at}")]);
            facts.push((at, key, serial, told));
        }
    }
    // What holds for ever is the last that each key has.
    host.advance_watermark(i64::MAX);
    assert_eq!((host.keys(), host.failed()), (0, 0));
}

#[test]
fn it_agrees_with_its_definition() {
    for_each_seed(play);
}
