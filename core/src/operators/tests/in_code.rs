//! The operators as types: the same options in code and in JSON, read and checked in one way.

use super::page;
use crate::function::Operators;
use crate::namespace::NamespaceConfig;
use crate::operators::{
    BuiltIn, Debounce, Deduplicate, Delay, Enrich, IntervalJoin, Periodic, Throttle, Timeout,
    Windows, built_in,
};
use crate::time::Domain;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::time::Duration;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Built in code, and read from `said`: the same; and it says itself as `written`.
#[track_caller]
fn check<B: BuiltIn + DeserializeOwned + PartialEq + Debug>(
    built: &B,
    said: Value,
    written: Value,
) {
    assert_eq!(serde_json::to_value(built).unwrap(), written);
    let config = built.config().unwrap();
    assert_eq!((config.operator.as_str(), &config.options), (B::NAME, &written));
    built_in().check(&config).unwrap();
    built.operator().unwrap();
    assert_eq!(serde_json::from_value::<B>(said).unwrap(), *built);
    assert_eq!(serde_json::from_value::<B>(written).unwrap(), *built);
}

#[test]
fn options_are_the_same_in_code_and_in_json() {
    check(
        &Timeout::after(secs(90)),
        json!({"after": 90_000}),
        json!({"after": "90s", "domain": "processing", "recover": true}),
    );
    check(
        &Timeout::after(secs(60)).domain(Domain::Event).recover(false).repeat(secs(5)),
        json!({"after": "PT60S", "repeat": "5s", "recover": false, "domain": "event"}),
        json!({"after": "1m", "domain": "event", "recover": false, "repeat": "5s"}),
    );
    check(
        &Debounce::after(Duration::from_micros(1_500)).max(secs(1)).emit_first(),
        json!({"after": 2, "max": "1s", "emit": "first"}),
        json!({"after": "2ms", "domain": "processing", "max": "1s", "emit": "first"}),
    );
    check(
        &Throttle::every(secs(1)).leading(false).domain(Domain::Event),
        json!({"every": "1s", "leading": false, "domain": "event"}),
        json!({"every": "1s", "domain": "event", "leading": false, "trailing": true}),
    );
    check(
        &Throttle::every(secs(1)).trailing(false),
        json!({"every": "1s", "trailing": false}),
        json!({"every": "1s", "domain": "processing", "leading": true, "trailing": false}),
    );
    check(
        &Delay::at("/order/due"),
        json!({"at": "/order/due"}),
        json!({"at": "/order/due", "domain": "processing"}),
    );
    check(
        &Delay::after(secs(1)).domain(Domain::Event),
        json!({"after": "1s", "domain": "event"}),
        json!({"after": "1s", "domain": "event"}),
    );
    check(
        &Periodic::times(secs(10), 3),
        json!({"every": "10s", "times": 3}),
        json!({"every": "10s", "domain": "processing", "times": 3}),
    );
    check(
        &Periodic::lasting(secs(10), secs(600)).domain(Domain::Event),
        json!({"every": "10s", "for": "10m", "domain": "event"}),
        json!({"every": "10s", "domain": "event", "for": "10m"}),
    );
    check(
        &Deduplicate::within(secs(600)),
        json!({"ttl": "10m"}),
        json!({"ttl": "10m", "domain": "processing", "refresh": false}),
    );
    check(
        &Deduplicate::within(secs(600)).by("/id").refresh(true).domain(Domain::Event),
        json!({"by": "/id", "ttl": "10m", "refresh": true, "domain": "event"}),
        json!({"by": "/id", "ttl": "10m", "refresh": true, "domain": "event"}),
    );
    check(
        &Deduplicate::within(secs(600)).by_key(),
        json!({"by": "key", "ttl": "10m"}),
        json!({"by": "key", "ttl": "10m", "domain": "processing", "refresh": false}),
    );
    check(
        &IntervalJoin::between(-5_000, 10_000),
        json!({"lower": "-5s", "upper": "10s"}),
        json!({"lower": "-5s", "upper": "10s"}),
    );
    check(&Enrich::latest(), Value::Null, json!({}));
    check(&Enrich::latest().keep(secs(3_600)), json!({"keep": "1h"}), json!({"keep": "1h"}));
}

#[test]
fn windows_are_the_same_in_code_and_in_json() {
    let minutes = Windows::tumbling(secs(60)).sum("total", "/amount").count("n");
    let aggregate = json!({"n": "count", "total": {"sum": "/amount"}});
    let written = |window: &Value, more: &Value| {
        let mut all = json!({"window": window, "aggregate": aggregate, "domain": "event",
            "lateness": "0s", "discard": false});
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    };
    let window = json!({"tumbling": {"size": "1m", "offset": "0s"}});
    check(
        &minutes,
        json!({"window": {"tumbling": {"size": "1m"}}, "aggregate": aggregate}),
        written(&window, &json!({})),
    );
    let window = json!({"sliding": {"size": "1m", "slide": "10s", "offset": "-5s"}});
    let more = json!({"lateness": "30s", "discard": true, "early": {"every": "1s"}});
    let sliding = Windows::sliding(secs(60), secs(10)).offset(-5_000).lateness(secs(30));
    let sliding = sliding.discard(true).early_every(secs(1)).count("n").sum("total", "/amount");
    check(&sliding, written(&window, &more), written(&window, &more));
    let window = json!({"session": {"gap": "1m"}});
    let more = json!({"domain": "processing", "early": {"elements": 100}});
    let session = Windows::session(secs(60)).offset(7).domain(Domain::Processing);
    // The last one of a name counts.
    let session = session.early_elements(100).min("n", "/x").count("n").sum("total", "/amount");
    check(&session, written(&window, &more), written(&window, &more));
    let all = Windows::tumbling(secs(1)).min("a", "/a").max("b", "/b").avg("c", "/c");
    let all = all.first("d", "").last("e", "/e").collect("f", "/f");
    let expected = json!({"a": {"min": "/a"}, "b": {"max": "/b"}, "c": {"avg": "/c"},
        "d": {"first": ""}, "e": {"last": "/e"}, "f": {"collect": "/f"}});
    assert_eq!(all.options().unwrap()["aggregate"], expected);
}

#[test]
fn the_options_of_the_pages_are_read_and_said_again() {
    fn again<B: BuiltIn + DeserializeOwned + PartialEq + Debug>(options: &Value) {
        let read: B = serde_json::from_value(options.clone()).unwrap();
        assert_eq!(serde_json::from_value::<B>(read.options().unwrap()).unwrap(), read);
    }
    for example in page::examples() {
        let options = &example.config["options"];
        match example.config["operator"].as_str().unwrap() {
            "windows" => again::<Windows>(options),
            "interval_join" => again::<IntervalJoin>(options),
            "enrich" => again::<Enrich>(options),
            "deduplicate" => again::<Deduplicate>(options),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_is_wrong_is_told_in_code_as_in_json() {
    fn refused<B: BuiltIn + DeserializeOwned + Debug>(built: &B, why: &str) {
        assert_eq!(built.config().unwrap_err().message(), why);
        assert_eq!(built.options().unwrap_err().message(), why);
        assert_eq!(built.operator().err().expect("it is wrong").message(), why);
        let said = serde_json::from_value::<B>(serde_json::to_value(built).unwrap());
        assert_eq!(said.unwrap_err().to_string(), why);
    }
    refused(&Timeout::after(secs(0)), "`after` is 0s, allowed is 1ms to 36525d");
    let longest = Timeout::after(Duration::MAX).operator().err().expect("it is too long");
    assert!(longest.message().contains("allowed is 1ms to 36525d"), "{longest}");
    refused(
        &Debounce::after(secs(2)).max(secs(1)),
        "`max` is shorter than `after`, and would always come first",
    );
    refused(&Delay::at("due"), "`at`: `due` is no JSON pointer: it begins with `/`, or is empty");
    refused(&Periodic::times(secs(1), 0), "`times` is 0, allowed is 1 to 1000000");
    refused(&Windows::tumbling(secs(1)), "`aggregate` has 0 fields, allowed is 1 to 64");
    refused(&IntervalJoin::between(2, 1), "`lower` is 2ms, more than `upper`, 1ms");
    let unknown = serde_json::from_value::<Timeout>(json!({"after": "1s", "often": true}));
    let known = "there is no option `often`; there are after, domain, recover, repeat";
    assert_eq!(unknown.unwrap_err().to_string(), known);
}

#[test]
fn one_can_have_another_name() {
    let silence = Timeout::after(secs(60));
    let operators = Operators::default().with("silence", move |_| silence.operator());
    let operator = "silence".to_owned();
    operators.check(&NamespaceConfig { operator, ..NamespaceConfig::default() }).unwrap();
}
