//! Configurations in and out.

use super::*;
use crate::wire::problem::Kind;
use proptest::prelude::*;

fn parse(body: &Value) -> Result<NamespaceConfig, Problem> {
    parse_config(body.to_string().as_bytes())
}

fn check_refused(body: &Value, kind: &Kind, field: &str, part: &str) {
    let problem = parse(body).expect_err(&body.to_string());
    assert_eq!(problem.kind.slug, kind.slug, "{body}: {}", problem.detail);
    assert_eq!(problem.field.as_deref(), Some(field), "{body}");
    assert!(problem.detail.contains(part), "{body}: {}", problem.detail);
}

fn manual() -> Value {
    json!({
        "operator": "timers", "options": {}, "clock": "system", "resolution": "1ms", "spread": "0s",
        "late_timers": "fire",
        "watermark": {"strategy": "explicit", "sources": [], "delay": "0s", "idle_after": null},
        "lateness": "0s", "late_elements": "drop", "overdue": {"policy": "fire"},
        "on_error": {"retry": 3, "backoff": "1s", "then": "stop"},
        "retention": {"age": "24h", "bytes": "10GiB"}, "touch_after": null,
        "limits": {"timers": null, "timers_per_key": 10000, "payload_bytes": 65536}
    })
}

#[test]
fn the_defaults_of_the_manual_are_the_defaults() {
    assert_eq!(parse(&manual()), Ok(NamespaceConfig::default()));
    assert_eq!(parse_config(b""), Ok(NamespaceConfig::default()));
    assert_eq!(parse_config(b"{}"), Ok(NamespaceConfig::default()));
}

#[test]
fn the_answer_is_spelled_as_in_the_manual() {
    let mut expected = manual();
    for absent in ["options", "lateness", "late_elements", "on_error"] {
        expected.as_object_mut().unwrap().remove(absent);
    }
    expected["watermark"].as_object_mut().unwrap().remove("delay");
    assert_eq!(config_json(&NamespaceConfig::default()), expected);
}

#[test]
fn every_field_is_read() {
    let config = parse(&json!({
        "clock": "manual", "resolution": "1s", "spread": "30s", "late_timers": "fire",
        "watermark": {"sources": ["a", "b"], "idle_after": "PT5S"},
        "retention": {"age": "2h", "bytes": 1000}, "touch_after": "60s",
        "overdue": {"policy": "spread", "over": "10m"},
        "limits": {"timers": 5, "timers_per_key": 6, "payload_bytes": "7KiB"}
    }))
    .unwrap();
    let expected = NamespaceConfig {
        operator: "timers".to_owned(),
        clock: ClockKind::Manual,
        resolution_ms: 1_000,
        spread_ms: 30_000,
        late_timers: LateTimers::Fire,
        watermark: WatermarkConfig {
            sources: vec!["a".to_owned(), "b".to_owned()],
            idle_after_ms: Some(5_000),
            delay_ms: None,
        },
        touch_after_ms: Some(60_000),
        overdue: OverduePolicy::Spread { over_ms: 600_000 },
        retention: Retention { age_ms: 7_200_000, bytes: 1_000 },
        limits: NamespaceLimits { timers: Some(5), timers_per_key: 6, payload_bytes: 7_168 },
        ..NamespaceConfig::default()
    };
    assert_eq!(config, expected);
    assert_eq!(parse(&config_json(&expected)), Ok(expected));
}

#[test]
fn what_belongs_to_a_function_is_read_and_shown_for_one_only() {
    let function = json!({
        "operator": "count", "options": {"size": 3}, "lateness": "5s",
        "late_elements": "side_output",
        "on_error": {"retry": 2, "backoff": "250ms", "then": "skip"}
    });
    let config = parse(&function).unwrap();
    let expected = NamespaceConfig {
        operator: "count".to_owned(),
        options: json!({"size": 3}),
        lateness_ms: 5_000,
        late_elements: LateElements::SideOutput,
        on_error: OnError { retry: 2, backoff_ms: 250, then: ErrorPolicy::Skip },
        ..NamespaceConfig::default()
    };
    assert_eq!(config, expected);
    assert_eq!(parse(&config_json(&expected)), Ok(expected));
    let plain = NamespaceConfig { operator: "count".to_owned(), ..NamespaceConfig::default() };
    assert_eq!(parse(&config_json(&plain)), Ok(plain));
    assert!(config_json(&NamespaceConfig::default()).get("on_error").is_none());
    let shown = config_json(&parse(&json!({"operator": "count"})).unwrap());
    assert_eq!(shown["on_error"], json!({"retry": 3, "backoff": "1s", "then": "stop"}));
}

fn of_function(on_error: &Value) -> Value {
    json!({"operator": "count", "on_error": on_error})
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let option = &kinds::INVALID_OPTION;
    let unknown = &kinds::UNKNOWN_FIELD;
    for (body, kind, field, part) in [
        (json!({"spraed": "1s"}), unknown, "spraed", "`spread`"),
        (json!({"limits": {"timer": 1}}), unknown, "limits.timer", "`timers`, `timers_per_key`"),
        (json!({"options": {"x": 1}}), unknown, "options.x", "`options` has none"),
        (json!({"clock": "wall"}), option, "clock", "`system`, `manual`"),
        (json!({"clock": null}), option, "clock", "is null"),
        (json!({"resolution": 5}), option, "resolution", "\"90s\""),
        (json!({"resolution": "5"}), option, "resolution", "90s"),
        (json!({"resolution": "0s"}), option, "resolution", "allowed is 1"),
        (json!({"spread": "-1s"}), option, "spread", "allowed is 0"),
        (json!({"late_timers": "never"}), option, "late_timers", "`fire`, `next_watermark`"),
        (json!({"operator": "no name"}), option, "operator", "is not a name"),
        (json!({"watermark": []}), option, "watermark", "an object"),
        (json!({"watermark": {"sources": [1]}}), option, "watermark.sources", "array of texts"),
        (json!({"watermark": {"sources": ["-"]}}), option, "watermark.sources", "not a name"),
        (
            json!({"watermark": {"strategy": "max"}}),
            option,
            "watermark.strategy",
            "`explicit`, `bounded`",
        ),
        (json!({"watermark": {"delay": "1s"}}), option, "watermark.delay", "only the strategy"),
        (
            json!({"operator": "f", "watermark": {"strategy": "bounded", "delay": "-1s"}}),
            option,
            "watermark.delay",
            "allowed is 0",
        ),
        (json!({"lateness": "1s"}), option, "lateness", "yet"),
        (json!({"late_elements": "emit"}), option, "late_elements", "yet"),
        (json!({"overdue": {"policy": "wait"}}), option, "overdue.policy", "`spread`, `shift`"),
        (json!({"overdue": {"policy": "spread"}}), option, "overdue.over", "over how long"),
        (json!({"overdue": {"policy": "drop", "over": "1m"}}), option, "overdue.over", "only"),
        (json!({"overdue": {"over": "1m"}}), option, "overdue.over", "only `spread`"),
        (
            json!({"overdue": {"policy": "spread", "over": "0s"}}),
            option,
            "overdue.over",
            "allowed is 1",
        ),
        (json!({"overdue": {"police": "drop"}}), unknown, "overdue.police", "`policy`, `over`"),
        (json!({"on_error": {"retry": 4}}), option, "on_error.retry", "yet, only 3"),
        (of_function(&json!({"then": "panic"})), option, "on_error.then", "`stop`, `skip`"),
        (of_function(&json!({"retry": 101})), option, "on_error.retry", "allowed is 0 to 100"),
        (of_function(&json!({"retry": -1})), option, "on_error.retry", "not negative"),
        (of_function(&json!({"retry": 1_u64 << 33})), option, "on_error.retry", "0 to 100"),
        (of_function(&json!({"backoff": "-1s"})), option, "on_error.backoff", "0 to 100000 ms"),
        (of_function(&json!({"backoff": 5})), option, "on_error.backoff", "\"90s\""),
        (
            of_function(&json!({"retry": 100, "backoff": "4s"})),
            option,
            "on_error.backoff",
            "0 to 3000 ms: over all retries no more than 300000 ms",
        ),
        (of_function(&json!({"time": 1})), unknown, "on_error.time", "`backoff`"),
        (json!({"retention": {"bytes": -1}}), option, "retention.bytes", "\"10GiB\""),
        (json!({"retention": {"bytes": "lots"}}), option, "retention.bytes", "no size"),
        (json!({"limits": {"timers": 1.5}}), option, "limits.timers", "whole number"),
        (
            json!({"limits": {"timers_per_key": 1_u64 << 40}}),
            option,
            "limits.timers_per_key",
            "1000000",
        ),
        (json!({"limits": {"payload_bytes": "2MiB"}}), option, "limits.payload_bytes", "1048576"),
    ] {
        check_refused(&body, kind, field, part);
    }
}

#[test]
fn what_is_not_an_object_is_not_json_for_us() {
    let deep = format!("{{\"options\":{}{}}}", "[".repeat(32), "]".repeat(32));
    for (body, part) in [
        ("[]", "not an array"),
        ("5", "not 5"),
        ("{\"spread\":", "line 1, column 10"),
        (deep.as_str(), "33 deep"),
    ] {
        let problem = parse_config(body.as_bytes()).unwrap_err();
        assert_eq!(problem.kind, &kinds::INVALID_JSON, "{body}");
        assert!(problem.detail.contains(part), "{body}: {}", problem.detail);
    }
    let problem = parse_config(b"\"\xff\"").unwrap_err();
    assert_eq!(problem.kind, &kinds::INVALID_UTF8);
}

#[test]
fn a_patch_changes_what_it_names_and_null_restores_the_default() {
    let standing = parse(&json!({
        "spread": "30s", "touch_after": "60s", "limits": {"timers": 5, "payload_bytes": 9}
    }))
    .unwrap();
    let patch = br#"{"spread":null,"resolution":"1s","limits":{"timers":null,"timers_per_key":7}}"#;
    let merged = merge_config(&standing, patch).unwrap();
    let mut expected = standing.clone();
    expected.spread_ms = 0;
    expected.resolution_ms = 1_000;
    expected.limits.timers = None;
    expected.limits.timers_per_key = 7;
    assert_eq!(merged, expected);
    assert_eq!(merge_config(&standing, b"{}"), Ok(standing.clone()));

    for (patch, kind) in [
        (r#"{"lateness":"1s"}"#, &kinds::INVALID_OPTION),
        (r#"{"nope":1}"#, &kinds::UNKNOWN_FIELD),
        ("7", &kinds::INVALID_JSON),
    ] {
        let problem = merge_config(&standing, patch.as_bytes()).unwrap_err();
        assert_eq!(problem.kind, kind, "{patch}");
    }
}

#[test]
fn overdue_policies_are_read_and_written() {
    for (policy, expected) in [
        (json!({"policy": "fire"}), OverduePolicy::Fire),
        (json!({"policy": "spread", "over": "10m"}), OverduePolicy::Spread { over_ms: 600_000 }),
        (json!({"policy": "shift"}), OverduePolicy::Shift),
        (json!({"policy": "drop", "over": null}), OverduePolicy::Drop),
    ] {
        let config = parse(&json!({ "overdue": policy })).unwrap();
        assert_eq!(config.overdue, expected, "{policy}");
        assert_eq!(parse(&config_json(&config)), Ok(config));
    }
    // Another policy is patched in without taking the parts of the old one away by hand.
    let spread = parse(&json!({"overdue": {"policy": "spread", "over": "10m"}})).unwrap();
    let merged = |patch: &[u8]| merge_config(&spread, patch).unwrap().overdue;
    assert_eq!(merged(br#"{"overdue":{"policy":"drop"}}"#), OverduePolicy::Drop);
    let longer = merged(br#"{"overdue":{"policy":"spread","over":"20m"}}"#);
    assert_eq!(longer, OverduePolicy::Spread { over_ms: 1_200_000 });
    assert_eq!(merged(br#"{"overdue":{"policy":"spread"}}"#), spread.overdue);
    assert_eq!(merged(br#"{"spread":"1s"}"#), spread.overdue);
    assert_eq!(merged(br#"{"overdue":null}"#), OverduePolicy::Fire);
}

#[test]
fn sizes() {
    for (text, expected) in [
        ("10GiB", 10 << 30),
        ("512MiB", 512 << 20),
        ("512 MiB", 512 << 20),
        ("1GB", 1_000_000_000),
        ("5kB", 5_000),
        ("5KB", 5_000),
        ("65536", 65_536),
        ("7B", 7),
    ] {
        assert_eq!(parse_bytes(text), Ok(expected), "{text}");
    }
    for text in ["", "GiB", "1.5GiB", "-1B", "10gib", "99999999999999999999"] {
        assert!(parse_bytes(text).is_err(), "{text}");
    }
    assert!(parse_bytes("99999999TiB").unwrap_err().contains("range"));
    assert_eq!(format_bytes(10 << 30), json!("10GiB"));
    assert_eq!(format_bytes(1_000_000_000), json!("1GB"));
    assert_eq!(format_bytes(1_023), json!(1_023));
    assert_eq!(format_bytes(0), json!(0));
}

proptest! {
    #[test]
    fn what_is_answered_is_read_back(
        windows in (1..31_000_000_000_i64, 0..31_000_000_000_i64),
        touch in proptest::option::of(0..31_000_000_000_i64),
        retention in (1..i64::MAX, any::<u64>()),
        limits in (proptest::option::of(any::<u64>()), 1..1_000_000_u32, 0..1_048_576_usize),
        manual in any::<bool>(),
    ) {
        let config = NamespaceConfig {
            clock: if manual { ClockKind::Manual } else { ClockKind::System },
            resolution_ms: windows.0,
            spread_ms: windows.1,
            touch_after_ms: touch,
            retention: Retention { age_ms: retention.0, bytes: retention.1 },
            limits: NamespaceLimits {
                timers: limits.0,
                timers_per_key: limits.1,
                payload_bytes: limits.2,
            },
            ..NamespaceConfig::default()
        };
        prop_assert_eq!(parse(&config_json(&config)), Ok(config));
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = merge_config(&NamespaceConfig::default(), &body);
    }
}

#[test]
fn a_delay_goes_with_the_strategy_that_has_one() {
    let body = json!({"operator": "count", "watermark": {"strategy": "bounded"}});
    let bounded = parse(&body).unwrap();
    assert_eq!(bounded.watermark.delay_ms, Some(0), "none is said");
    let patch = br#"{"watermark":{"delay":"5s"}}"#;
    let bounded = merge_config(&bounded, patch).unwrap();
    assert_eq!(bounded.watermark.delay_ms, Some(5_000));
    assert_eq!(config_json(&bounded)["watermark"]["delay"], "5s");
    let patch = br#"{"watermark":{"strategy":"explicit"}}"#;
    let explicit = merge_config(&bounded, patch).unwrap();
    assert_eq!(explicit.watermark.delay_ms, None);
    assert_eq!(config_json(&explicit)["watermark"].get("delay"), None);
}
