//! What fields mean together.

use super::*;
use crate::wire::problem::Kind;
use proptest::prelude::*;
use stormwheel::time::Timestamp;

fn check_op(line: &str, expected: &Op<'_>) {
    let fields = read(line.as_bytes(), FieldSet::OPERATION, Place::Line).unwrap();
    let mut taken = false;
    with_op(&fields, &NamespaceConfig::default(), |op| {
        assert_eq!(op, expected, "{line}");
        taken = true;
        Ok(())
    })
    .unwrap();
    assert!(taken);
}

fn check_refused(line: &str, kind: &Kind, field: &str, part: &str) {
    let fields = read(line.as_bytes(), FieldSet::OPERATION, Place::Line).unwrap();
    let config = NamespaceConfig::default();
    let problem = with_op(&fields, &config, |op| panic!("{line}: {op:?}")).unwrap_err();
    check_problem(line, &problem, kind, field, part);
}

fn check_problem(what: &str, problem: &Problem, kind: &Kind, field: &str, part: &str) {
    assert_eq!(problem.kind.slug, kind.slug, "{what}: {}", problem.detail);
    assert_eq!(problem.field.as_deref(), Some(field), "{what}");
    assert!(problem.detail.contains(part), "{what}: {}", problem.detail);
}

fn register() -> Register<'static> {
    Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(Timestamp::from_millis(5)),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    }
}

fn op(action: Action<'_>) -> Op<'_> {
    Op { key: b"k", action }
}

#[test]
fn registrations() {
    check_op(r#"{"op":"register","key":"k","at":5}"#, &op(Action::Register(register())));
    check_op(
        r#"{"op":"register","key":"k","name":"n","after":"1s","domain":"event","spread":"2s","resolution":"3s","only":"earlier","payload":{"a": 1}}"#,
        &op(Action::Register(Register {
            domain: Domain::Event,
            name: Some("n"),
            when: When::After(1_000),
            payload: Some(Payload::Json(b"{\"a\": 1}")),
            resolution_ms: Some(3_000),
            spread_ms: Some(2_000),
            only: Only::Earlier,
        })),
    );
    for padded in ["_wA=", "/wA="] {
        let line = format!(r#"{{"op":"register","key":"k","at":5,"payload_base64":"{padded}"}}"#);
        if padded.starts_with('/') {
            let binary = Register { payload: Some(Payload::Binary(b"\xff\x00")), ..register() };
            check_op(&line, &op(Action::Register(binary)));
        } else {
            check_refused(&line, &kinds::INVALID_FIELD, "payload_base64", "base64");
        }
    }
}

#[test]
fn touches_and_deletes() {
    check_op(
        r#"{"op":"touch","key":"k","after":"60s"}"#,
        &op(Action::Touch { name: "timeout", domain: Domain::Processing, after_ms: 60_000 }),
    );
    check_op(
        r#"{"op":"delete","key":"k","name":"n","domain":"event"}"#,
        &op(Action::Delete { domain: Domain::Event, target: Target::Name("n") }),
    );
    check_op(
        r#"{"op":"delete","key":"k","at":7,"spread":"1s"}"#,
        &op(Action::Delete {
            domain: Domain::Processing,
            target: Target::At {
                at: Timestamp::from_millis(7),
                resolution_ms: None,
                spread_ms: Some(1_000),
            },
        }),
    );
    check_op(
        r#"{"op":"delete","key":"k","fire_at":7}"#,
        &op(Action::Delete {
            domain: Domain::Processing,
            target: Target::FireAt(Timestamp::from_millis(7)),
        }),
    );
    check_op(r#"{"op":"delete_all","key":"k"}"#, &op(Action::DeleteAll));
    check_op(r#"{"op":"delete_all","key":"~aw"}"#, &op(Action::DeleteAll));
}

#[test]
fn what_does_not_go_together_is_refused_and_says_why() {
    let long_name = "n".repeat(256);
    let long_key = "k".repeat(1_025);
    let large = "x".repeat(65_537);
    for (line, kind, field, part) in [
        (r#"{"key":"k","at":5}"#, &kinds::MISSING_FIELD, "op", "register, delete"),
        (r#"{"op":"register","at":5}"#, &kinds::MISSING_FIELD, "key", "key"),
        (r#"{"op":"register","key":""}"#, &kinds::INVALID_KEY, "key", "empty"),
        (
            &format!(r#"{{"op":"touch","key":"{long_key}"}}"#),
            &kinds::INVALID_KEY,
            "key",
            "1025 bytes, allowed are 1024",
        ),
        (r#"{"op":"register","key":"k"}"#, &kinds::MISSING_FIELD, "at", "`at` or `after`"),
        (
            r#"{"op":"register","key":"k","at":5,"after":"1s"}"#,
            &kinds::INVALID_FIELD,
            "after",
            "not both",
        ),
        (
            r#"{"op":"register","key":"k","after":"-1s"}"#,
            &kinds::INVALID_DURATION,
            "after",
            "negative",
        ),
        (r#"{"op":"register","key":"k","at":5,"name":""}"#, &kinds::INVALID_NAME, "name", "empty"),
        (
            &format!(r#"{{"op":"register","key":"k","at":5,"name":"{long_name}"}}"#),
            &kinds::INVALID_NAME,
            "name",
            "256 bytes, allowed are 255",
        ),
        (
            r#"{"op":"register","key":"k","at":5,"resolution":"0s"}"#,
            &kinds::INVALID_DURATION,
            "resolution",
            "allowed is 1 ms to",
        ),
        (
            r#"{"op":"register","key":"k","at":5,"spread":"-1s"}"#,
            &kinds::INVALID_DURATION,
            "spread",
            "negative",
        ),
        (
            r#"{"op":"register","key":"k","at":5,"spread":"400d"}"#,
            &kinds::INVALID_DURATION,
            "spread",
            "allowed is 0 ms to",
        ),
        (
            r#"{"op":"register","key":"k","at":5,"payload":1,"payload_base64":"AA=="}"#,
            &kinds::INVALID_FIELD,
            "payload_base64",
            "not both",
        ),
        (
            &format!(r#"{{"op":"register","key":"k","at":5,"payload":"{large}"}}"#),
            &kinds::PAYLOAD_TOO_LARGE,
            "payload",
            "65539 bytes, allowed are 65536",
        ),
        (
            r#"{"op":"register","key":"k","at":5,"fire_at":5}"#,
            &kinds::UNKNOWN_FIELD,
            "fire_at",
            "`register` does not take `fire_at`; it takes `name`",
        ),
        (r#"{"op":"touch","key":"k"}"#, &kinds::MISSING_FIELD, "after", "touch_after"),
        (
            r#"{"op":"touch","key":"k","at":5}"#,
            &kinds::UNKNOWN_FIELD,
            "at",
            "it takes `name`, `domain`, `after`",
        ),
        (
            r#"{"op":"delete","key":"k"}"#,
            &kinds::MISSING_FIELD,
            "name",
            "`name`, `at` or `fire_at`",
        ),
        (r#"{"op":"delete","key":"k","name":"n","at":5}"#, &kinds::INVALID_FIELD, "name", "one of"),
        (
            r#"{"op":"delete","key":"k","fire_at":5,"spread":"1s"}"#,
            &kinds::INVALID_FIELD,
            "at",
            "exact",
        ),
        (
            r#"{"op":"delete_all","key":"k","name":"n"}"#,
            &kinds::UNKNOWN_FIELD,
            "name",
            "only a key",
        ),
    ] {
        check_refused(line, kind, field, part);
    }
}

#[test]
fn what_the_batch_refuses_is_the_line_s_problem() {
    let fields =
        read(br#"{"op":"delete_all","key":"k"}"#, FieldSet::OPERATION, Place::Line).unwrap();
    let config = NamespaceConfig::default();
    let problem = with_op(&fields, &config, |_| Err(Rejection::Stopping)).unwrap_err();
    assert_eq!(problem.kind, &kinds::STOPPING);
}

#[test]
fn bodies_of_registrations() {
    let config = NamespaceConfig::default();
    let mut body = RegisterBody::parse(br#"{"at":5,"payload":[1]}"#, &config).unwrap();
    assert_eq!(body.domain(), Domain::Processing);
    body.set_domain(Domain::Event).unwrap();
    body.set_only_absent().unwrap();
    let expected = Register {
        name: Some("n"),
        domain: Domain::Event,
        payload: Some(Payload::Json(b"[1]")),
        only: Only::Absent,
        ..register()
    };
    assert_eq!(body.with_key(b"k", Some("n")), op(Action::Register(expected)));

    let mut event = RegisterBody::parse(br#"{"at":5,"domain":"event"}"#, &config).unwrap();
    assert_eq!(event.domain(), Domain::Event);
    let problem = event.set_domain(Domain::Processing).unwrap_err();
    check_problem("query", &problem, &kinds::INVALID_FIELD, "domain", "event");

    for (body, kind, field) in [
        (r#"{"at":5,"name":"n"}"#, &kinds::UNKNOWN_FIELD, "name"),
        ("{}", &kinds::MISSING_FIELD, "at"),
        (r#"{"after":"-1s"}"#, &kinds::INVALID_DURATION, "after"),
    ] {
        let problem = RegisterBody::parse(body.as_bytes(), &config).unwrap_err();
        check_problem(body, &problem, kind, field, "");
    }
    let empty = RegisterBody::parse(b"", &config).unwrap_err();
    assert_eq!(empty.kind, &kinds::INVALID_JSON);
}

#[test]
fn bodies_of_touches() {
    let mut config = NamespaceConfig::default();
    let touch = |body: &str, config: &NamespaceConfig| parse_touch(body.as_bytes(), config);
    assert_eq!(
        touch(r#"{"name":"n","after":"1s","domain":"event"}"#, &config),
        Ok(("n".to_owned(), Domain::Event, 1_000))
    );
    let problem = touch("", &config).unwrap_err();
    check_problem("", &problem, &kinds::MISSING_FIELD, "after", "touch_after");
    config.touch_after_ms = Some(30_000);
    for body in ["", " ", "{}", r#"{"after":null}"#] {
        assert_eq!(touch(body, &config), Ok(("timeout".to_owned(), Domain::Processing, 30_000)));
    }
    let problem = touch(r#"{"name":""}"#, &config).unwrap_err();
    check_problem("", &problem, &kinds::INVALID_NAME, "name", "empty");
}

#[test]
fn answers() {
    let created = Applied {
        result: ResultKind::Created,
        fire_at: Some(Timestamp::from_millis(1_767_225_600_000)),
        cancelled: 0,
        overdue: true,
    };
    let json = applied_json(
        Some(b"\xff"),
        Some("a\"b"),
        Some(Domain::Event),
        &created,
        TimeFormat::Rfc3339,
    );
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"key":"~_w","name":"a\"b","domain":"event","fire_at":"2026-01-01T00:00:00Z","result":"created","overdue":true}"#
    );
    let absent =
        Applied { result: ResultKind::Absent, fire_at: None, cancelled: 0, overdue: false };
    let json = applied_json(None, None, None, &absent, TimeFormat::Millis);
    assert_eq!(json, br#"{"result":"absent","cancelled":0}"#);
}

#[test]
fn timers() {
    let mut timer = TimerView {
        fire_at: Timestamp::from_millis(5),
        key: b"k".to_vec(),
        name: Some("n".to_owned()),
        domain: Domain::Processing,
        payload: Some(PayloadBuf::Json(b"{\"a\": 1}".to_vec())),
    };
    let mut config = NamespaceConfig::default();
    let written = |timer: &TimerView, config: &NamespaceConfig| {
        let mut out = Vec::new();
        write_timer(&mut out, timer, config, TimeFormat::Millis);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        written(&timer, &config),
        r#"{"key":"k","name":"n","domain":"processing","fire_at":5,"payload":{"a": 1}}"#
    );
    timer.name = None;
    timer.payload = Some(PayloadBuf::Binary(vec![0xff]));
    assert_eq!(
        written(&timer, &config),
        r#"{"key":"k","domain":"processing","fire_at":5,"payload_base64":"/w=="}"#
    );
    // What a function's timers in a namespace are stored under; elsewhere it is a name like any other.
    timer.name = Some("\080000000005\u{ff}x".to_owned());
    timer.payload = None;
    let plain = "{\"key\":\"k\",\"name\":\"\\u000080000000005\u{ff}x\",\"domain\":\"processing\",\"fire_at\":5}";
    assert_eq!(written(&timer, &config), plain);
    config.operator = "windows".to_owned();
    assert_eq!(
        written(&timer, &config),
        r#"{"key":"k","timer_namespace":"~_3g","domain":"processing","fire_at":5}"#
    );
    timer.name = Some("n".to_owned());
    assert!(written(&timer, &config).contains("\"name\":\"n\""));
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let config = NamespaceConfig::default();
        let _ = RegisterBody::parse(&body, &config);
        let _ = parse_touch(&body, &config);
    }
}
