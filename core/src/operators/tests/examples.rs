//! Each of the simple operators at work, and the corners that its definition leaves open.

use super::{NAMES, emitted, host, try_host};
use crate::function::host::Host;
use crate::limits::HELD_ELEMENTS_MAX;
use crate::time::Domain;
use serde_json::{Value, json};

fn check(host: &mut Host, expected: &[(Option<i64>, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(at, value)| (*at, (*value).to_owned())).collect();
    assert_eq!(emitted(host.take_outputs()), expected);
}

fn check_refused(name: &str, options: &Value, expected: &str) {
    let rejection = try_host(name, options).map(|_| ()).unwrap_err();
    assert_eq!(rejection.to_string(), format!("options: operator `{name}`: {expected}"));
}

#[test]
fn timeout_tells_when_a_key_falls_silent_and_when_it_is_back() {
    let mut host = host("timeout", &json!({"after": "60s"}));
    host.element("a", 0, "{\"n\": 1}").unwrap();
    host.advance_clock(59_999);
    host.element("a", 0, "{\"n\": 2}").unwrap();
    host.advance_clock(119_998);
    check(&mut host, &[]);
    host.advance_clock(119_999);
    let silent = r#"{"event":"timeout","last_seen":59999,"value":{"n": 2}}"#;
    check(&mut host, &[(None, silent)]);
    assert_eq!(host.timers("a"), []);
    host.advance_clock(200_000);
    host.element("a", 7, "3").unwrap();
    let back = r#"{"event":"recovered","silent_ms":140001,"value":3}"#;
    check(&mut host, &[(Some(7), back)]);
    let timer = (Domain::Processing, 260_000, Some("timeout".to_owned()));
    assert_eq!(host.timers("a"), [timer]);
}

#[test]
fn timeout_says_it_again_but_never_many_times_at_once() {
    let options = json!({"after": 10, "repeat": 5, "recover": false});
    let mut host = host("timeout", &options);
    host.element("a", 0, "1").unwrap();
    let alarm = (None, r#"{"event":"timeout","last_seen":0,"value":1}"#);
    host.advance_clock(10);
    check(&mut host, &[alarm]);
    host.advance_clock(15);
    check(&mut host, &[alarm]);
    // The alarms of 20, 25, 30, ... 95 are one; the next is that of 100.
    host.advance_clock(99);
    check(&mut host, &[alarm]);
    host.advance_clock(100);
    check(&mut host, &[alarm]);
    host.element("a", 0, "2").unwrap();
    check(&mut host, &[]);
    host.advance_clock(110);
    check(&mut host, &[(None, r#"{"event":"timeout","last_seen":100,"value":2}"#)]);
}

#[test]
fn timeout_forgets_a_silent_key_where_nobody_waits_for_it() {
    let mut host = host("timeout", &json!({"after": 10, "recover": false}));
    host.element("a", 0, "1").unwrap();
    host.advance_clock(10);
    assert_eq!((host.take_outputs().len(), host.keys()), (1, 0));
}

#[test]
fn timeout_in_event_time_finds_each_silence_however_late_the_watermark_is() {
    let mut host = host("timeout", &json!({"after": 10, "domain": "event"}));
    for (at, value) in [(100, "3"), (0, "1"), (5, "2")] {
        host.element("a", at, value).unwrap();
    }
    check(&mut host, &[]);
    host.advance_watermark(100);
    check(
        &mut host,
        &[
            (Some(15), r#"{"event":"timeout","last_seen":5,"value":2}"#),
            (Some(100), r#"{"event":"recovered","silent_ms":95,"value":3}"#),
        ],
    );
    // Those that the namespace's lateness lets through move nothing back.
    host.element("a", 99, "late").unwrap();
    host.advance_watermark(i64::MAX);
    check(&mut host, &[(Some(110), r#"{"event":"timeout","last_seen":100,"value":3}"#)]);
    assert_eq!(host.keys(), 0);
}

#[test]
fn debounce_waits_for_quiet_but_not_for_ever() {
    let mut host = host("debounce", &json!({"after": "500ms", "max": "2s"}));
    for (now, value) in [(0, "1"), (400, "2"), (899, "3")] {
        host.advance_clock(now);
        host.element("a", 0, value).unwrap();
    }
    host.advance_clock(1_398);
    check(&mut host, &[]);
    host.advance_clock(1_399);
    check(&mut host, &[(None, "3")]);
    assert_eq!(host.keys(), 0);
    for now in (2_000..5_000).step_by(400) {
        host.advance_clock(now);
        host.element("a", 0, &now.to_string()).unwrap();
    }
    // The burst began at 2,000.
    check(&mut host, &[(None, "3600")]);
    host.advance_clock(10_000);
    check(&mut host, &[(None, "4800")]);
}

#[test]
fn debounce_can_keep_the_first_of_a_burst() {
    let options = json!({"after": 10, "domain": "event", "emit": "first"});
    let mut host = host("debounce", &options);
    for (at, value) in [(50, "\"d\""), (8, "\"b\""), (18, "\"c\""), (3, "\"a\"")] {
        host.element("a", at, value).unwrap();
    }
    host.advance_watermark(28);
    check(&mut host, &[(Some(28), "\"a\"")]);
    host.advance_watermark(i64::MAX);
    check(&mut host, &[(Some(60), "\"d\"")]);
    assert_eq!(host.keys(), 0);
}

#[test]
fn throttle_lets_one_through_and_the_last_of_the_rest_at_the_end() {
    let mut host = host("throttle", &json!({"every": 10}));
    for (now, value) in [(0, "1"), (3, "2"), (9, "3")] {
        host.advance_clock(now);
        host.element("a", now, value).unwrap();
    }
    check(&mut host, &[(Some(0), "1")]);
    // What it let out at 12 began an interval of its own.
    host.advance_clock(12);
    host.element("a", 12, "4").unwrap();
    check(&mut host, &[(None, "3")]);
    host.advance_clock(21);
    check(&mut host, &[]);
    host.advance_clock(22);
    check(&mut host, &[(None, "4")]);
    host.advance_clock(32);
    assert_eq!(host.keys(), 0);
}

#[test]
fn delay_hands_out_in_the_order_of_time_then_arrival() {
    let mut host = host("delay", &json!({"at": "/due"}));
    for value in
        [r#"{"due":20,"n":1}"#, r#"{"due":"1970-01-01T00:00:00.01Z","n":2}"#, r#"{"due":20,"n":3}"#]
    {
        host.element("a", 5, value).unwrap();
    }
    host.advance_clock(9);
    check(&mut host, &[]);
    host.advance_clock(10);
    check(&mut host, &[(None, r#"{"due":"1970-01-01T00:00:00.01Z","n":2}"#)]);
    host.advance_clock(30);
    check(&mut host, &[(None, r#"{"due":20,"n":1}"#), (None, r#"{"due":20,"n":3}"#)]);
    // What is due already goes out at once.
    host.element("a", 5, r#"{"due":30}"#).unwrap();
    check(&mut host, &[(Some(5), r#"{"due":30}"#)]);
    assert_eq!(host.keys(), 0);
    for (value, message) in [
        ("{\"n\":1}", "the element's value has no field `/due`"),
        (
            "{\"due\":true}",
            "the field `/due` of the element's value is true, not a time: write whole milliseconds, \
             or RFC 3339 with an offset",
        ),
    ] {
        assert_eq!(host.element("a", 0, value).unwrap_err().message(), message);
    }
    assert_eq!(host.keys(), 0);
}

#[test]
fn delay_hands_out_very_many_in_pieces_and_refuses_more_than_it_can_hold() {
    for last in [HELD_ELEMENTS_MAX as i64 + 50, i64::MAX] {
        let mut host = host("delay", &json!({"after": 50, "domain": "event"}));
        for at in 0..HELD_ELEMENTS_MAX as i64 {
            host.element("a", at, "0").unwrap();
        }
        let error = host.element("a", 20_000, "0").unwrap_err();
        assert_eq!(
            error.message(),
            "the key has 10000 elements already that wait for their time, the first of them 20s \
             before this one"
        );
        host.advance_watermark(last);
        let times: Vec<_> = host.take_outputs().into_iter().map(|it| it.timestamp).collect();
        assert!(times.into_iter().eq((50..HELD_ELEMENTS_MAX as i64 + 50).map(Some)));
        assert_eq!(host.keys(), 0);
    }
}

#[test]
fn periodic_repeats_the_last_value_and_ends() {
    let mut host = host("periodic", &json!({"every": "10s", "times": 2}));
    host.element("a", 0, "1").unwrap();
    host.advance_clock(9_000);
    host.element("a", 0, "2").unwrap();
    host.advance_clock(9_999);
    check(&mut host, &[]);
    host.advance_clock(10_000);
    check(&mut host, &[(None, "2")]);
    host.advance_clock(20_000);
    check(&mut host, &[(None, "2")]);
    assert_eq!(host.keys(), 0);
}

#[test]
fn periodic_skips_the_beats_that_a_clock_has_run_past() {
    let mut host = host("periodic", &json!({"every": 10, "for": 100}));
    host.element("a", 0, "1").unwrap();
    host.advance_clock(75);
    check(&mut host, &[(None, "1")]);
    host.advance_clock(80);
    check(&mut host, &[(None, "1")]);
    host.advance_clock(200);
    check(&mut host, &[(None, "1")]);
    assert_eq!(host.keys(), 0);
    let mut host = super::host("periodic", &json!({"every": 10, "times": 5}));
    host.element("a", 0, "1").unwrap();
    host.advance_clock(1_000);
    check(&mut host, &[(None, "1")]);
    assert_eq!(host.keys(), 0);
}

#[test]
fn periodic_in_event_time_skips_none_and_ends_with_the_final_watermark() {
    let mut host = host("periodic", &json!({"every": 10, "times": 1_000, "domain": "event"}));
    host.element("a", 0, "1").unwrap();
    host.advance_watermark(5_000);
    let times: Vec<_> = host.take_outputs().into_iter().map(|it| it.timestamp).collect();
    assert!(times.into_iter().eq((1..=500).map(|beat| Some(beat * 10))));
    host.advance_watermark(i64::MAX);
    check(&mut host, &[(Some(5_010), "1")]);
    assert_eq!(host.keys(), 0);
}

#[test]
fn times_at_the_ends_of_the_range_end_too() {
    for name in NAMES {
        let options = match name {
            "throttle" => json!({"every": 10, "domain": "event"}),
            "periodic" => json!({"every": 10, "times": 3, "domain": "event"}),
            _ => json!({"after": 10, "domain": "event"}),
        };
        for at in [i64::MIN, i64::MIN + 1, i64::MAX - 15, i64::MAX - 1, i64::MAX] {
            let mut host = host(name, &options);
            host.element("a", at, "1").unwrap();
            host.element("a", at, "2").unwrap();
            host.advance_watermark(at.saturating_sub(1));
            host.advance_watermark(i64::MAX);
            assert!(!host.take_outputs().is_empty(), "{name} at {at}");
            assert_eq!(host.keys(), 0, "{name} at {at}");
        }
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    check_refused("timeout", &json!({}), "`after` is missing, such as \"90s\"");
    check_refused(
        "timeout",
        &json!({"after": 1, "recovery": true}),
        "there is no option `recovery`; there are after, domain, recover, repeat",
    );
    check_refused(
        "debounce",
        &json!({"after": "2s", "max": "1s"}),
        "`max` is shorter than `after`, and would always come first",
    );
    check_refused(
        "debounce",
        &json!({"after": 1, "emit": "all"}),
        "`emit` is \"all\", allowed are last, first",
    );
    check_refused(
        "throttle",
        &json!({"every": 1, "leading": false, "trailing": false}),
        "`trailing` is false as `leading` is: nothing would go out",
    );
    check_refused(
        "delay",
        &json!({}),
        "`at` is missing, such as \"/due\", unless `after` says how long, such as \"90s\"",
    );
    check_refused(
        "delay",
        &json!({"at": "/a", "after": 1}),
        "`after` stands beside `at`: one is enough",
    );
    check_refused(
        "periodic",
        &json!({"every": 1}),
        "`times` is missing, such as 10, unless `for` says how long, such as \"1h\"",
    );
    check_refused(
        "periodic",
        &json!({"every": 1, "times": 1, "for": 1}),
        "`for` stands beside `times`: one is enough",
    );
    check_refused(
        "periodic",
        &json!({"every": "2s", "for": "1s"}),
        "`for` is shorter than `every`: nothing would go out",
    );
    check_refused(
        "periodic",
        &json!({"every": "1ms", "for": "1d"}),
        "`for` is 86400000 times `every`, allowed are 1000000",
    );
    check_refused(
        "periodic",
        &json!({"every": 1, "times": 0}),
        "`times` is 0, allowed is 1 to 1000000",
    );
}
