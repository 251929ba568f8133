//! What the careful way reads, and what it says about what it refuses.

use super::*;
use crate::wire::problem::Kind;
use proptest::prelude::*;

fn read_line(line: &str) -> Result<Fields<'_>, Problem> {
    read(line.as_bytes(), FieldSet::ALL, Place::Line)
}

fn check_refused(line: &[u8], kind: &Kind, field: Option<&str>, part: &str) {
    let shown = String::from_utf8_lossy(line);
    let problem = read(line, FieldSet::ALL, Place::Line).expect_err(&shown);
    assert_eq!(problem.kind.slug, kind.slug, "{shown}: {}", problem.detail);
    assert_eq!(problem.field.as_deref(), field, "{shown}: {}", problem.detail);
    assert!(problem.detail.contains(part), "{shown}: {}", problem.detail);
}

#[test]
fn every_field_is_read() {
    let line = r#"{"op":"register","key":"k","name":"n","domain":"event","at":5,"after":"1s",
        "payload": {"a": [1, 2] } ,"payload_base64":"AA==","spread":"2s","resolution":"3s",
        "only":"later","fire_at":"1970-01-01T00:00:00.006Z","timestamp":7,"value": [null],
        "value_base64":"AQ==","input":1,"watermark":8}"#;
    let fields = read_line(line).unwrap();
    assert_eq!(
        fields,
        Fields {
            given: FieldSet::ALL,
            op: Some(OpWord::Register),
            key: Some(KeyField::Text("k".into())),
            name: Some("n".into()),
            domain: Some(Domain::Event),
            at: Some(Timestamp::from_millis(5)),
            after_ms: Some(1_000),
            payload: Some(PayloadField::Json(r#"{"a": [1, 2] }"#)),
            payload_base64: Some("AA==".into()),
            spread_ms: Some(2_000),
            resolution_ms: Some(3_000),
            only: Some(Only::Later),
            fire_at: Some(Timestamp::from_millis(6)),
            timestamp: Some(Timestamp::from_millis(7)),
            value: Some(PayloadField::Json("[null]")),
            value_base64: Some("AQ==".into()),
            input: Some(1),
            watermark: Some(Timestamp::from_millis(8)),
        }
    );
}

#[test]
fn null_is_the_same_as_left_out() {
    for field in Field::ALL.into_iter().filter(|field| *field != Field::Value) {
        let line = format!("{{\"{}\":null}}", field.as_str());
        assert_eq!(read_line(&line).unwrap(), Fields::default(), "{line}");
    }
    let value = read_line("{\"value\":null}").unwrap().value;
    assert_eq!(value, Some(PayloadField::Json("null")), "a null is a value");
}

#[test]
fn texts_may_be_escaped() {
    let fields = read_line(r#"{"\u006bey":"a\u0062\n"}"#).unwrap();
    assert_eq!(fields.key, Some(KeyField::Text("ab\n".into())));
}

#[test]
fn a_wrong_value_names_its_field() {
    for (line, kind, field, part) in [
        (r#"{"op":"put"}"#, &kinds::INVALID_FIELD, "op", "register, delete, touch, delete_all"),
        (r#"{"key":5}"#, &kinds::INVALID_KEY, "key", "expected text"),
        (r#"{"name":[]}"#, &kinds::INVALID_NAME, "name", "expected text"),
        (r#"{"domain":"wall"}"#, &kinds::INVALID_FIELD, "domain", "processing, event"),
        (r#"{"at":1.5}"#, &kinds::INVALID_TIME, "at", "fraction"),
        (r#"{"at":{}}"#, &kinds::INVALID_TIME, "at", "expected a time"),
        (r#"{"at":"2026-01-01T00:00:00"}"#, &kinds::INVALID_TIME, "at", "no offset"),
        (r#"{"fire_at":9223372036854775808}"#, &kinds::INVALID_TIME, "fire_at", "range"),
        (r#"{"after":60}"#, &kinds::INVALID_DURATION, "after", "\"90s\""),
        (r#"{"spread":"5 s"}"#, &kinds::INVALID_DURATION, "spread", "units are"),
        (r#"{"only":"never"}"#, &kinds::INVALID_FIELD, "only", "absent, present, earlier, later"),
        (r#"{"at":1,"at":2}"#, &kinds::INVALID_FIELD, "at", "stands twice"),
        (r#"{"at":null,"at":2}"#, &kinds::INVALID_FIELD, "at", "stands twice"),
        (r#"{"kye":"k"}"#, &kinds::UNKNOWN_FIELD, "kye", "there are `op`, `key`"),
    ] {
        check_refused(line.as_bytes(), kind, Some(field), part);
    }
}

#[test]
fn broken_json_says_where_and_what_it_may_come_from() {
    for (line, part) in [
        ("x", "expected value at column 1"),
        (r#"{"at":1"#, "each object stands on one line"),
        (r#"{"at":tru}"#, "column"),
        (r#"{"at":01}"#, "column"),
        (r#"{"payload":{"a":}}"#, "column"),
        (r#"{"at":1}{"at":2}"#, "--data-binary"),
        (r#"{"at":1},"#, "--data-binary"),
        (r#"[{"at":1}]"#, "not an array"),
        (r#"{"key":"\ud800"}"#, "column"),
    ] {
        check_refused(line.as_bytes(), &kinds::INVALID_JSON, None, part);
    }
    check_refused(b"{\"key\":\"\xff\"}", &kinds::INVALID_UTF8, None, "byte 9");
    check_refused(b"{\"payload\":\"\xff\"}", &kinds::INVALID_UTF8, None, "byte 13");
    let empty = read(b" ", FieldSet::ALL, Place::Body).unwrap_err();
    assert!(empty.detail.contains("body is empty"));
    let second_line = read(b"{\n\"at\" 5}", FieldSet::ALL, Place::Body).unwrap_err();
    assert!(second_line.detail.contains("line 2, column"));
}

#[test]
fn an_error_repeats_little_of_what_it_is_about() {
    let long = "ä".repeat(100_000);
    for line in [
        format!("\"{long}\""),
        format!("{{\"{long}\":1}}"),
        format!("{{\"op\":\"{long}\"}}"),
        format!("{{\"at\":\"{long}\"}}"),
        format!("{{\"after\":\"5{long}\"}}"),
    ] {
        let problem = read_line(&line).unwrap_err();
        assert!(problem.to_json().len() < 1_000, "{}", problem.kind.slug);
    }
}

#[test]
fn a_body_with_fewer_fields_lists_those() {
    let known = FieldSet::of(&[Field::At, Field::After]);
    let problem = read(br#"{"key":"k"}"#, known, Place::Body).unwrap_err();
    assert_eq!(problem.kind, &kinds::UNKNOWN_FIELD);
    assert!(problem.detail.ends_with("there are `at`, `after`"));
}

#[test]
fn payloads_are_nested_31_deep_at_most() {
    let nested =
        |depth: usize| format!("{{\"payload\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(read_line(&nested(31)).is_ok());
    check_refused(
        nested(32).as_bytes(),
        &kinds::INVALID_JSON,
        Some("payload"),
        "33 deep, allowed is 32",
    );
    check_refused(
        nested(100_000).as_bytes(),
        &kinds::INVALID_JSON,
        Some("payload"),
        "allowed is 32",
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = read(&bytes, FieldSet::ALL, Place::Line);
    }
}
