//! What the operators that come along do when their namespace is closed: what they hold by the clock
//! comes out, and nothing is left of it.

use serde_json::{Value, json};
use stormwheel::namespace::{NamespaceConfig, ProcessingTimers};
use stormwheel::op::Payload;
use stormwheel::operators::built_in;
use stormwheel::testing::OperatorHarness;
use stormwheel::time::Timestamp;

/// What an operator that follows the clock has for a key, drained at 100 ms after elements at 0, 10, and
/// so on, each a number; and whether it keeps nothing.
fn drained(operator: &str, options: &Value, elements: i64) -> (Vec<String>, bool) {
    let (operator, options) = (operator.to_owned(), options.clone());
    let config = NamespaceConfig { operator, options, ..NamespaceConfig::default() };
    let mut harness = OperatorHarness::new(built_in(), config).unwrap();
    for n in 0..elements {
        harness.advance_clock(10 * n);
        let (value, timestamp) = (n.to_string(), Timestamp::from_millis(0));
        let value = Payload::Json(value.as_bytes());
        harness.process(b"k", 0, value, timestamp).unwrap();
    }
    harness.take_all();
    let closing = harness.close(ProcessingTimers::Drain).unwrap();
    assert!(closing.is_closed && harness.timers(b"k").is_empty());
    let texts = harness.take_all().into_iter();
    let texts = texts.map(|it| String::from_utf8(it.value).unwrap()).collect();
    (texts, harness.keys() == 0)
}

#[test]
fn operators_that_follow_the_clock_let_everything_out_when_they_are_drained() {
    let cases: [(&str, Value, i64, &[&str]); 7] = [
        ("delay", json!({"after": "1h"}), 3, &["0", "1", "2"]),
        ("debounce", json!({"after": "1h"}), 3, &["2"]),
        ("throttle", json!({"every": "1h"}), 3, &["2"]),
        ("periodic", json!({"every": "1h", "times": 9}), 1, &["0"]),
        ("deduplicate", json!({"ttl": "1h"}), 3, &[]),
        (
            "timeout",
            json!({"after": "1h", "repeat": "1s"}),
            1,
            &[r#"{"event":"timeout","last_seen":0,"value":0}"#],
        ),
        (
            "windows",
            json!({"window": {"session": {"gap": "1h"}}, "aggregate": {"n": "count"},
                "domain": "processing"}),
            3,
            &[r#"{"start":0,"end":3600020,"pane":"on_time","n":3}"#],
        ),
    ];
    for (operator, options, elements, expected) in cases {
        let (texts, is_empty) = drained(operator, &options, elements);
        let expected: Vec<String> = expected.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!((texts, is_empty), (expected, true), "{operator}");
    }
    // More than one callback does in its turn.
    let (texts, is_empty) = drained("delay", &json!({"after": "1h"}), 700);
    assert_eq!((texts.len(), is_empty), (700, true));
}
