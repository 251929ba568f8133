//! The operator `windows`, case by case: the rules F51 to F58, and what is refused.

mod oracle;

use super::Windows;
use crate::function::TimerId;
use crate::function::host::Host;
use crate::limits::WINDOWS_PER_KEY_MAX;
use crate::operators::BuiltIn as _;
use crate::time::Domain;
use serde_json::{Value, json};

fn host(options: &Value) -> Host {
    Host::new(Windows::from_options(options).unwrap())
}

/// A host whose windows count, and list the numbers that are their elements.
fn numbers(window: &Value, more: &Value) -> Host {
    let mut options =
        json!({"window": window, "aggregate": {"n": "count", "all": {"collect": ""}}});
    for (name, value) in more.as_object().unwrap() {
        options[name] = value.clone();
    }
    host(&options)
}

/// The panes that came out since the last time: `start-end pane [elements] @timestamp`.
fn panes(host: &mut Host) -> Vec<String> {
    let outputs = host.take_outputs().into_iter().map(|output| {
        let value: Value = serde_json::from_str(&output.value).unwrap();
        assert_eq!(value["n"], value["all"].as_array().unwrap().len());
        let (start, end, pane) = (&value["start"], &value["end"], value["pane"].as_str().unwrap());
        format!("{start}..{end} {pane} {} @{}", value["all"], output.timestamp.unwrap())
    });
    outputs.collect()
}

/// The timers of the key `k`: `e19 in 10`, the domain's letter, the time, the namespace.
fn timers(host: &Host) -> Vec<String> {
    let timers = host.timers("k").into_iter().map(|(domain, time, name)| {
        let letter = if domain == Domain::Event { 'e' } else { 'p' };
        let TimerId::InNamespace(window) = TimerId::of_stored(name.as_deref()) else {
            panic!("a window's timer is in its namespace");
        };
        format!("{letter}{time} in {}", String::from_utf8_lossy(&window))
    });
    timers.collect()
}

fn none() -> [&'static str; 0] {
    []
}

#[test]
fn a_window_fires_when_the_watermark_reaches_its_last_millisecond() {
    // F52, F56: the timer is at the end less one, and what comes out is stamped with that.
    let mut host = numbers(&json!({"tumbling": {"size": 10}}), &json!({}));
    host.element("k", 3, "1").unwrap();
    host.element("k", 0, "2").unwrap();
    host.element("k", 10, "3").unwrap();
    assert_eq!(timers(&host), ["e9 in 0", "e19 in 10"]);
    host.advance_watermark(8);
    assert_eq!(panes(&mut host), none());
    host.advance_watermark(9);
    assert_eq!(panes(&mut host), ["0..10 on_time [2,1] @9"]);
    // Without lateness, it is gone with that.
    assert_eq!(timers(&host), ["e19 in 10"]);
    host.element("k", 9, "4").unwrap();
    assert_eq!((host.late(), panes(&mut host)), (1, Vec::new()));
    host.advance_watermark(i64::MAX);
    assert_eq!(panes(&mut host), ["10..20 on_time [3] @19"]);
    assert_eq!(host.keys(), 0);
}

#[test]
fn a_late_element_fires_its_window_at_once_until_that_is_cleaned_up() {
    // F52 to F54: clean-up at the last millisecond and the lateness; late is what has no window left.
    let mut host = numbers(&json!({"tumbling": {"size": 10}}), &json!({"lateness": "5ms"}));
    host.element("k", 1, "1").unwrap();
    host.advance_watermark(9);
    assert_eq!(timers(&host), ["e14 in 0"]);
    assert_eq!(panes(&mut host), ["0..10 on_time [1] @9"]);
    host.element("k", 2, "2").unwrap();
    assert_eq!(panes(&mut host), ["0..10 late [1,2] @9"]);
    // A window that only late elements have.
    host.element("j", 3, "3").unwrap();
    assert_eq!(panes(&mut host), ["0..10 late [3] @9"]);
    host.advance_watermark(13);
    host.element("k", 9, "4").unwrap();
    assert_eq!(panes(&mut host), ["0..10 late [1,2,4] @9"]);
    host.advance_watermark(14);
    assert_eq!(host.keys(), 0);
    host.element("k", 9, "5").unwrap();
    assert_eq!((host.late(), host.keys(), panes(&mut host)), (1, 0, Vec::new()));
}

#[test]
fn what_is_cleaned_up_beyond_the_end_of_time_has_no_timer_for_it() {
    // F52.
    let end = i64::MAX - 10;
    let mut host = numbers(&json!({"tumbling": {"size": 1}}), &json!({"lateness": "11ms"}));
    host.element("k", end - 1, "1").unwrap();
    host.advance_watermark(end - 1);
    assert_eq!(timers(&host), none());
    host.element("k", end - 1, "2").unwrap();
    assert_eq!(panes(&mut host).len(), 2);
    // What has not fired before the final watermark is gone with it.
    host.element("j", end + 1, "3").unwrap();
    host.advance_watermark(i64::MAX);
    assert_eq!((panes(&mut host).len(), host.keys()), (1, 1));
    host.element("k", end - 1, "4").unwrap();
    assert_eq!(host.late(), 1);
}

#[test]
fn an_element_is_late_only_if_none_of_its_sliding_windows_is_open() {
    let mut host = numbers(&json!({"sliding": {"size": 10, "slide": 5}}), &json!({}));
    host.element("k", -1, "1").unwrap();
    // F57: rounded down before the epoch.
    assert_eq!(timers(&host), ["e-1 in -10", "e4 in -5"]);
    host.advance_watermark(-1);
    assert_eq!(panes(&mut host), ["-10..0 on_time [1] @-1"]);
    host.element("k", -3, "2").unwrap();
    assert_eq!(host.late(), 0);
    host.advance_watermark(4);
    assert_eq!(panes(&mut host), ["-5..5 on_time [2,1] @4"]);
    host.element("k", -3, "3").unwrap();
    assert_eq!((host.late(), host.keys()), (1, 0));
}

#[test]
fn sessions_merge_with_their_timers() {
    // F55.
    let mut host = numbers(&json!({"session": {"gap": 10}}), &json!({}));
    host.element("k", 0, "1").unwrap();
    host.element("k", 20, "2").unwrap();
    host.element("k", 31, "3").unwrap();
    assert_eq!(timers(&host), ["e9 in 0", "e29 in 20", "e40 in 31"]);
    // It touches both: exactly the gap apart is one session.
    host.element("k", 10, "4").unwrap();
    assert_eq!(timers(&host), ["e29 in 0", "e40 in 31"]);
    host.element("k", 5, "5").unwrap();
    assert_eq!(timers(&host), ["e29 in 0", "e40 in 31"]);
    host.advance_watermark(29);
    assert_eq!(panes(&mut host), ["0..30 on_time [1,5,4,2] @29"]);
    host.element("k", 25, "6").unwrap();
    assert_eq!(timers(&host), ["e40 in 25"]);
    // On its own it would be late; it is not, since it belongs to one that is open.
    host.element("k", 16, "7").unwrap();
    assert_eq!((timers(&host), host.late()), (vec!["e40 in 16".to_owned()], 0));
    host.element("k", 5, "8").unwrap();
    assert_eq!(host.late(), 1);
    host.advance_watermark(40);
    assert_eq!(panes(&mut host), ["16..41 on_time [7,6,3] @40"]);
    assert_eq!(host.keys(), 0);
}

#[test]
fn a_session_that_has_fired_grows_within_its_lateness() {
    let mut host = numbers(&json!({"session": {"gap": 10}}), &json!({"lateness": 20}));
    host.element("k", 0, "1").unwrap();
    host.advance_watermark(12);
    assert_eq!(
        (panes(&mut host), timers(&host)),
        (vec!["0..10 on_time [1] @9".to_owned()], vec!["e29 in 0".to_owned()])
    );
    // Its end is past still: it fires at once, and is cleaned up later.
    host.element("k", 2, "2").unwrap();
    assert_eq!(
        (panes(&mut host), timers(&host)),
        (vec!["0..12 late [1,2] @11".to_owned()], vec!["e31 in 0".to_owned()])
    );
    // Its end is to come again.
    host.element("k", 8, "3").unwrap();
    assert_eq!((panes(&mut host), timers(&host)), (Vec::new(), vec!["e17 in 0".to_owned()]));
    host.advance_watermark(20);
    assert_eq!(panes(&mut host), ["0..18 on_time [1,2,3] @17"]);
    host.advance_watermark(37);
    assert_eq!(host.keys(), 0);
}

#[test]
fn by_the_clock_a_window_fires_once_it_has_left_it() {
    // F56: stamped with its last millisecond nevertheless.
    let window = json!({"tumbling": {"size": 10}});
    let mut host = numbers(&window, &json!({"domain": "processing"}));
    host.advance_clock(1_003);
    host.element("k", 5, "1").unwrap();
    host.advance_watermark(i64::MAX);
    host.advance_clock(1_009);
    host.element("k", 5, "2").unwrap();
    assert_eq!((panes(&mut host), timers(&host)), (Vec::new(), vec!["p1010 in 1000".to_owned()]));
    host.advance_clock(1_010);
    assert_eq!(panes(&mut host), ["1000..1010 on_time [1,2] @1009"]);
    assert_eq!((host.keys(), host.late()), (0, 0));
}

#[test]
fn early_panes_come_while_there_is_something_new_and_never_on_their_own() {
    let window = json!({"tumbling": {"size": 100}});
    let mut host = numbers(&window, &json!({"early": {"every": "10ms"}}));
    host.element("k", 1, "1").unwrap();
    host.advance_clock(5);
    host.element("k", 2, "2").unwrap();
    assert_eq!(timers(&host), ["e99 in 0", "p10 in 0"]);
    host.advance_clock(10);
    assert_eq!(panes(&mut host), ["0..100 early [1,2] @99"]);
    // F58, mended: nothing new, no timer.
    assert_eq!(timers(&host), ["e99 in 0"]);
    host.element("k", 3, "3").unwrap();
    host.advance_watermark(99);
    assert_eq!(panes(&mut host), ["0..100 on_time [1,2,3] @99"]);
    assert_eq!(host.keys(), 0, "the early timer goes with its window");

    let mut host = numbers(&window, &json!({"early": {"elements": 2}, "discard": true}));
    for (at, value) in [(1, "1"), (2, "2"), (3, "3"), (4, "4")] {
        host.element("k", at, value).unwrap();
    }
    assert_eq!(panes(&mut host), ["0..100 early [1,2] @99", "0..100 early [3,4] @99"]);
    host.advance_watermark(99);
    // There is nothing left to show.
    assert_eq!((panes(&mut host), host.keys()), (Vec::new(), 0));
}

#[test]
fn every_aggregate_says_what_it_is_named_for() {
    let mut host = host(&json!({
        "window": {"tumbling": {"size": "1s", "offset": "-1ms"}},
        "aggregate": {
            "count": "count", "sum": {"sum": "/v"}, "min": {"min": "/v"}, "max": {"max": "/v"},
            "avg": {"avg": "/v"}, "first": {"first": "/v"}, "last": {"last": "/v"},
            "all \"v\"": {"collect": "/v"},
        },
    }));
    for (at, value) in [(2, "{\"v\":4}"), (1, "{ \"v\" : 1.50 }"), (2, "{\"v\":-2}")] {
        host.element("k", at, value).unwrap();
    }
    host.advance_watermark(998);
    assert_eq!(
        host.take_outputs()[0].value,
        "{\"start\":-1,\"end\":999,\"pane\":\"on_time\",\"all \\\"v\\\"\":[1.50,4,-2],\
         \"avg\":1.1666666666666667,\"count\":3,\"first\":1.50,\"last\":-2,\"max\":4,\"min\":-2,\
         \"sum\":3.5}"
    );
}

#[test]
fn elements_that_do_not_fit_are_refused_and_leave_nothing() {
    let mut host = host(&json!({
        "window": {"tumbling": {"size": 10}}, "aggregate": {"sum": {"sum": "/v"}},
    }));
    let mut check = |at, value, expected: &str| {
        let error = host.element("k", at, value).unwrap_err();
        assert_eq!((error.message(), host.keys()), (expected, 0));
    };
    check(0, "{}", "the element's value has no field `/v`");
    check(0, "{\"v\":\"1\"}", "the field `/v` of the element's value is \"1\", not a number");
    check(
        i64::MAX,
        "{\"v\":1}",
        "an element of the time 9223372036854775807 has no window: it would begin or end outside of \
         the range of 64-bit milliseconds",
    );
}

#[test]
fn a_key_has_its_bounds() {
    let window = json!({"sliding": {"size": 1_000, "slide": 1}});
    let mut host = host(&json!({"window": window, "aggregate": {"n": "count"}}));
    for at in 0..WINDOWS_PER_KEY_MAX as i64 / 1_000 {
        host.element("k", at * 1_000, "").unwrap();
    }
    let error = host.element("k", -1, "").unwrap_err();
    assert_eq!(error.message(), "the key has 10000 open windows, and no more are allowed");
    host.element("k", 5, "").unwrap();

    let mut host = numbers(&json!({"tumbling": {"size": 1}}), &json!({}));
    let long = format!("\"{}\"", "x".repeat(100_000));
    host.element("k", 5, &long).unwrap();
    host.element("k", 5, &long).unwrap();
    let error = host.element("k", 5, &long).unwrap_err();
    assert_eq!(
        error.message(),
        "the window from 5 to 6 would hold 300009 bytes of values that are collected or kept, \
         allowed are 262144"
    );
}

#[test]
fn options_that_are_wrong_are_named() {
    let check = |options: Value, expected: &str| {
        let error = Windows::from_options(&options).err().expect("they are wrong");
        assert_eq!(error.message(), expected);
    };
    let tumbling = json!({"tumbling": {"size": "1m"}});
    let count = json!({"n": "count"});
    check(json!({}), "`window` is missing, such as {\"tumbling\":{\"size\":\"1m\"}}");
    check(
        json!({"window": {}, "aggregate": count}),
        "`window` has one of tumbling, sliding, session, and only one",
    );
    check(
        json!({"window": {"tumbling": {"size": "1m"}, "session": {"gap": 1}}, "aggregate": count}),
        "`window` has one of tumbling, sliding, session, and only one",
    );
    check(
        json!({"window": {"hopping": {}}, "aggregate": count}),
        "there is no option `window.hopping`; there are tumbling, sliding, session",
    );
    check(
        json!({"window": {"tumbling": {}}, "aggregate": count}),
        "`window.tumbling.size` is missing, such as \"1m\"",
    );
    check(
        json!({"window": {"tumbling": {"size": "1m", "offset": "-60s"}}, "aggregate": count}),
        "`window.tumbling.offset` is -1m, and has to be shorter than the size, 1m",
    );
    check(
        json!({"window": {"sliding": {"size": "1m", "slide": "2m"}}, "aggregate": count}),
        "`window.sliding.slide` is longer than the size: what comes in between would be in no window",
    );
    check(
        json!({"window": {"sliding": {"size": "1m", "slide": "1ms"}}, "aggregate": count}),
        "`window.sliding.slide` is so short that an element is in 60000 windows, allowed are 1000",
    );
    check(
        json!({"window": {"session": {"gap": 0}}, "aggregate": count}),
        "`window.session.gap` is 0s, allowed is 1ms to 36525d",
    );
    check(json!({"window": tumbling}), "`aggregate` is missing, such as {\"count\":\"count\"}");
    check(
        json!({"window": tumbling, "aggregate": {}}),
        "`aggregate` has 0 fields, allowed is 1 to 64",
    );
    check(
        json!({"window": tumbling, "aggregate": {"pane": "count"}}),
        "`aggregate.pane` has a name that every pane has already",
    );
    check(
        json!({"window": tumbling, "aggregate": {"n": {"median": "/v"}}}),
        "`aggregate.n` is `median`, allowed are \"count\", sum, min, max, avg, first, last, collect",
    );
    check(
        json!({"window": tumbling, "aggregate": {"n": {"sum": "v"}}}),
        "`aggregate.n`: `v` is no JSON pointer: it begins with `/`, or is empty",
    );
    check(
        json!({"window": tumbling, "aggregate": count, "domain": "processing", "lateness": 1}),
        "`lateness` is for event time: by the clock, nothing is late",
    );
    check(
        json!({"window": tumbling, "aggregate": count, "early": {"every": 1, "elements": 1}}),
        "`early` has one of every, elements, and only one",
    );
    check(
        json!({"window": tumbling, "aggregate": count, "allowed_lateness": 1}),
        "there is no option `allowed_lateness`; there are window, domain, lateness, aggregate, early, \
         discard",
    );
}
