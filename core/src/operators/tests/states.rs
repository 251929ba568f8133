//! What operators keep for a key, written out for people: values stand in it as they came, and what is
//! stored is what it was.

use super::host;
use crate::operators::state_as_json;
use serde_json::{Value, json};

/// The state of the key `k` after these elements (input, timestamp, value), as JSON.
#[track_caller]
fn check(name: &str, options: &Value, elements: &[(u8, i64, &str)], expected: &str) {
    let mut host = host(name, options);
    for (input, at, value) in elements {
        host.element_on(*input, "k", *at, value).unwrap();
    }
    let state = host.state("k").expect("something is kept");
    assert_eq!(state_as_json(name, state).as_deref(), Some(expected));
}

#[test]
fn states_of_simple_operators_are_readable() {
    let seen = r#"{"held":null,"state":{"at":0,"phase":"Alive","value":{"x": 1.50}}}"#;
    check("timeout", &json!({"after": 10}), &[(0, 5, r#"{"x": 1.50}"#)], seen);
    let burst = r#"{"held":null,"state":{"first":0,"last":0,"value":"a"}}"#;
    check("debounce", &json!({"after": 10}), &[(0, 5, "7"), (0, 6, "\"a\"")], burst);
    let interval = r#"{"held":null,"state":{"end":10,"held":"[2]"}}"#;
    check("throttle", &json!({"every": 10}), &[(0, 5, "1"), (0, 6, "[2]")], interval);
    let interval = r#"{"held":null,"state":{"end":10,"held":null}}"#;
    check("throttle", &json!({"every": 10}), &[(0, 5, "1")], interval);
    let waiting = r#"{"held":{"count":2,"last":9,"elements":[{"at":8,"value":2},{"at":9,"value":1}]},"state":null}"#;
    let delay = json!({"after": 3, "domain": "event"});
    check("delay", &delay, &[(0, 6, "1"), (0, 5, "2")], waiting);
    let ticking = r#"{"held":null,"state":{"last":0,"next":10,"left":3,"value":null}}"#;
    check("periodic", &json!({"every": 10, "times": 3}), &[(0, 5, "null")], ticking);
}

#[test]
fn states_of_windows_joins_and_deduplicate_are_readable() {
    let options = json!({"window": {"session": {"gap": 10}},
        "aggregate": {"a": "count", "b": {"sum": ""}, "c": {"last": ""}}});
    let windows = r#"{"windows":[{"start":5,"size":10,"fresh":1,"early_at":null,"held":[{"Count":1},{"Sum":{"whole":0,"fractions":1.5}},{"Last":[5,1.50]}]}]}"#;
    check("windows", &options, &[(0, 5, "1.50")], windows);
    let joined = r#"{"left":[{"at":5,"text":1.0}],"right":[{"at":6,"text":{"y": 2}}]}"#;
    let options = json!({"lower": 0, "upper": 10});
    check("interval_join", &options, &[(0, 5, "1.0"), (1, 6, "{\"y\": 2}")], joined);
    let enriched =
        r#"{"versions":[{"at":5,"serial":0,"text":[1]}],"facts":[{"at":6,"text":2,"told":0}]}"#;
    check("enrich", &json!({}), &[(1, 5, "[1]"), (0, 6, "2")], enriched);
    let seen = r#"{"seen":[{"identity":{"a":1},"from":0,"to":0}]}"#;
    check("deduplicate", &json!({"ttl": 10}), &[(0, 5, "{ \"a\": 1 }")], seen);
    let seen = r#"{"seen":[{"identity":"","from":0,"to":0}]}"#;
    check("deduplicate", &json!({"ttl": 10, "by": "key"}), &[(0, 5, "1")], seen);
}

#[test]
fn a_long_identity_is_told_by_its_hash() {
    let mut host = host("deduplicate", &json!({"ttl": 10}));
    host.element("k", 5, &format!("\"{}\"", "x".repeat(100))).unwrap();
    let said = state_as_json("deduplicate", host.state("k").unwrap()).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    let identity = said["seen"][0]["identity"].as_str().unwrap();
    assert!(identity.len() == 34 && identity.starts_with("01"), "{identity}");
}

#[test]
fn what_is_no_state_of_theirs_is_none() {
    assert_eq!(state_as_json("own", b"\x01\x00"), None);
    for name in ["timeout", "debounce", "throttle", "delay", "periodic", "windows"] {
        assert_eq!(state_as_json(name, b""), None);
        assert_eq!(state_as_json(name, b"\x02\x00\x00"), None, "of another version");
    }
    // Elements that wait, cut short.
    assert_eq!(state_as_json("delay", b"\x01\x01\x01\x00\x02ab\x00"), None);
}
