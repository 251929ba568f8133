//! Output records as JSON objects, one frame for NDJSON lines and server-sent events; filters.
//!
//! A frame never contains a line break: NDJSON and server-sent events both end a record with one.
//! So the line breaks that a payload may have between its tokens become spaces here; otherwise a
//! payload is handed back byte for byte. Written by hand, because every fire comes through here.

use super::json::{push_base64, push_hex, push_int, push_text};
use super::key::{format_key, parse_key, parse_key_prefix};
use super::op::{check_name, parse_domain};
use super::problem::{Problem, kinds};
use super::time::{TimeFormat, write_time};
use memchr::memchr2_iter;
use stormwheel::op::Payload;
use stormwheel::output::{Cursor, OutputId, OutputKind, OutputRecord};
use stormwheel::time::{Domain, Timestamp};

/// Appends one record as a JSON object, without a newline.
pub fn write_output(
    out: &mut Vec<u8>,
    cursor: Cursor,
    record: &OutputRecord<'_>,
    times: TimeFormat,
) {
    out.extend_from_slice(b"{\"id\":\"");
    push_id(out, &record.id);
    out.extend_from_slice(b"\",\"cursor\":");
    push_int(out, cursor.0);
    // What was emitted of no key has an empty one, as no key is.
    if !record.key.is_empty() {
        out.extend_from_slice(b",\"key\":");
        push_text(out, &format_key(record.key));
    }
    if let OutputKind::Value { tag, timestamp } = record.kind {
        write_value(out, tag, timestamp, record.payload, times);
        return;
    }
    if let Some(name) = record.name {
        out.extend_from_slice(b",\"name\":");
        push_text(out, name);
    }
    out.extend_from_slice(match record.domain {
        Domain::Processing => b",\"domain\":\"processing\",\"fire_at\":".as_slice(),
        Domain::Event => b",\"domain\":\"event\",\"fire_at\":".as_slice(),
    });
    write_time(out, record.fire_at, times);
    match record.domain {
        Domain::Processing => {
            out.extend_from_slice(b",\"fired_at\":");
            write_time(out, record.due_by, times);
            out.extend_from_slice(b",\"lateness_ms\":");
            push_int(out, record.lateness_ms());
        }
        Domain::Event => {
            out.extend_from_slice(b",\"watermark\":");
            write_time(out, record.due_by, times);
        }
    }
    match record.payload {
        None => {}
        Some(Payload::Json(json)) => {
            out.extend_from_slice(b",\"payload\":");
            push_one_line(out, json);
        }
        Some(Payload::Binary(bytes)) => {
            out.extend_from_slice(b",\"payload_base64\":");
            push_base64(out, bytes);
        }
    }
    out.push(b'}');
}

/// What follows the key of a value.
fn write_value(
    out: &mut Vec<u8>,
    tag: Option<&str>,
    timestamp: Option<Timestamp>,
    value: Option<Payload<'_>>,
    times: TimeFormat,
) {
    if let Some(tag) = tag {
        out.extend_from_slice(b",\"tag\":");
        push_text(out, tag);
    }
    if let Some(timestamp) = timestamp {
        out.extend_from_slice(b",\"timestamp\":");
        write_time(out, timestamp, times);
    }
    match value {
        None => {}
        Some(Payload::Json(json)) => {
            out.extend_from_slice(b",\"value\":");
            push_one_line(out, json);
        }
        Some(Payload::Binary(bytes)) => {
            out.extend_from_slice(b",\"value_base64\":");
            push_base64(out, bytes);
        }
    }
    out.push(b'}');
}

/// As `OutputId` displays itself, without the formatter.
fn push_id(out: &mut Vec<u8>, id: &OutputId) {
    push_hex(out, id.namespace.0, 1);
    out.push(b'-');
    push_hex(out, id.lane.into(), 1);
    out.push(b'-');
    push_hex(out, id.position, 1);
    out.push(b'-');
    push_hex(out, id.key_hash, 16);
    out.push(b'-');
    push_hex(out, id.ordinal.into(), 1);
}

/// Appends a JSON text with its line breaks made spaces. In JSON they stand between tokens only:
/// inside of texts they are escaped.
fn push_one_line(out: &mut Vec<u8>, json: &[u8]) {
    let start = out.len();
    out.extend_from_slice(json);
    for at in memchr2_iter(b'\n', b'\r', json) {
        out[start + at] = b' ';
    }
}

/// Which records a reader wants: within one filter "or", between filters "and".
#[derive(Debug, Clone, Default)]
pub struct Filter {
    tags: Vec<String>,
    keys: Vec<Vec<u8>>,
    key_prefixes: Vec<Vec<u8>>,
    names: Vec<String>,
    domains: Vec<Domain>,
}

impl Filter {
    /// From the query parameters `tag`, `key`, `key_prefix`, `name`, `domain` in their order.
    /// Other parameters are the caller's business and are passed over.
    pub fn parse(parameters: &[(String, String)]) -> Result<Self, Problem> {
        let mut filter = Self::default();
        for (parameter, value) in parameters {
            match parameter.as_str() {
                "tag" => filter.tags.push(value.clone()),
                "key" => filter.keys.push(parse_key(value)?.into_owned()),
                "key_prefix" => filter.key_prefixes.push(parse_key_prefix(value)?),
                "name" => filter.names.push(check_name(value)?.to_owned()),
                "domain" => filter.domains.push(parse_domain(value).map_err(|detail| {
                    Problem::new(&kinds::INVALID_QUERY, detail).field("domain")
                })?),
                _ => {}
            }
        }
        Ok(filter)
    }

    /// Whether it lets a record through.
    pub fn accepts(&self, record: &OutputRecord<'_>) -> bool {
        let any = |empty: bool, found: bool| empty || found;
        // The main output's tag is the empty one.
        let tag = record.kind.tag().unwrap_or_default();
        // Names and domains are those of timers that have fired: a value has none.
        let is_fire = record.kind == OutputKind::Fire;
        any(self.tags.is_empty(), self.tags.iter().any(|wanted| wanted == tag))
            && any(self.keys.is_empty(), self.keys.iter().any(|key| key == record.key))
            && any(
                self.key_prefixes.is_empty(),
                self.key_prefixes.iter().any(|prefix| record.key.starts_with(prefix)),
            )
            && any(
                self.names.is_empty(),
                record.name.is_some_and(|name| self.names.iter().any(|wanted| wanted == name)),
            )
            && any(self.domains.is_empty(), is_fire && self.domains.contains(&record.domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stormwheel::output::NamespaceId;

    fn record() -> OutputRecord<'static> {
        OutputRecord {
            id: OutputId {
                namespace: NamespaceId(1),
                lane: 15,
                position: 300,
                key_hash: 0xab,
                ordinal: 0,
            },
            key: b"order-17",
            name: None,
            domain: Domain::Processing,
            fire_at: Timestamp::from_millis(1_767_225_600_000),
            due_by: Timestamp::from_millis(1_767_225_600_003),
            payload: None,
            kind: OutputKind::Fire,
        }
    }

    fn check(record: &OutputRecord<'_>, times: TimeFormat, expected: &str) {
        let mut out = Vec::new();
        write_output(&mut out, Cursor(42), record, times);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_frame_of_a_fire() {
        check(
            &OutputRecord {
                name: Some("expiry"),
                payload: Some(Payload::Json(b"{\"n\": 1}")),
                ..record()
            },
            TimeFormat::Millis,
            r#"{"id":"1-f-12c-00000000000000ab-0","cursor":42,"key":"order-17","name":"expiry","domain":"processing","fire_at":1767225600000,"fired_at":1767225600003,"lateness_ms":3,"payload":{"n": 1}}"#,
        );
        check(
            &record(),
            TimeFormat::Rfc3339,
            r#"{"id":"1-f-12c-00000000000000ab-0","cursor":42,"key":"order-17","domain":"processing","fire_at":"2026-01-01T00:00:00Z","fired_at":"2026-01-01T00:00:00.003Z","lateness_ms":3}"#,
        );
    }

    #[test]
    fn an_event_fire_carries_the_watermark() {
        check(
            &OutputRecord {
                domain: Domain::Event,
                due_by: Timestamp::MAX,
                key: b"~x",
                payload: Some(Payload::Binary(b"\xff")),
                ..record()
            },
            TimeFormat::Millis,
            r#"{"id":"1-f-12c-00000000000000ab-0","cursor":42,"key":"~fng","domain":"event","fire_at":1767225600000,"watermark":9223372036854775807,"payload_base64":"/w=="}"#,
        );
    }

    #[test]
    fn the_frame_of_a_value() {
        let value = |tag, timestamp| OutputRecord {
            payload: Some(Payload::Json(b"[1,\n2]")),
            kind: OutputKind::Value { tag, timestamp },
            ..record()
        };
        let timestamp = Some(Timestamp::from_millis(5));
        check(
            &value(Some("late"), timestamp),
            TimeFormat::Millis,
            r#"{"id":"1-f-12c-00000000000000ab-0","cursor":42,"key":"order-17","tag":"late","timestamp":5,"value":[1, 2]}"#,
        );
        check(
            &OutputRecord { payload: Some(Payload::Binary(b"\xff")), ..value(None, None) },
            TimeFormat::Millis,
            r#"{"id":"1-f-12c-00000000000000ab-0","cursor":42,"key":"order-17","value_base64":"/w=="}"#,
        );
        for (parameter, wanted, expected) in [
            ("tag", "late", true),
            ("tag", "", false),
            ("key", "order-17", true),
            ("name", "late", false),
            ("domain", "processing", false),
        ] {
            let filter = Filter::parse(&[(parameter.to_owned(), wanted.to_owned())]).unwrap();
            assert_eq!(filter.accepts(&value(Some("late"), timestamp)), expected, "{parameter}");
        }
    }

    #[test]
    fn a_frame_is_one_line() {
        let mut out = Vec::new();
        let record = OutputRecord {
            key: b"a\nb",
            payload: Some(Payload::Json(b"{\r\n\t\"n\": 1\n}")),
            ..record()
        };
        write_output(&mut out, Cursor(1), &record, TimeFormat::Millis);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#""key":"a\nb""#), "{text}");
        assert!(text.ends_with("\"payload\":{  \t\"n\": 1 }}"), "{text}");
    }

    fn check_filter(query: &[(&str, &str)], expected: bool) {
        let parameters: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let record = OutputRecord { name: Some("expiry"), ..record() };
        let filter = Filter::parse(&parameters).unwrap();
        assert_eq!(filter.accepts(&record), expected, "{query:?}");
    }

    #[test]
    fn filters_are_or_within_and_between() {
        check_filter(&[], true);
        check_filter(&[("cursor", "5")], true);
        check_filter(&[("key", "order-17")], true);
        check_filter(&[("key", "order-1")], false);
        check_filter(&[("key", "x"), ("key", "~b3JkZXItMTc")], true);
        check_filter(&[("key_prefix", "order-")], true);
        check_filter(&[("key_prefix", "rder-")], false);
        check_filter(&[("name", "expiry"), ("domain", "processing")], true);
        check_filter(&[("name", "expiry"), ("domain", "event")], false);
        check_filter(&[("domain", "event"), ("domain", "processing")], true);
        check_filter(&[("name", "timeout")], false);
        check_filter(&[("tag", "")], true);
        check_filter(&[("tag", "late")], false);
        check_filter(&[("tag", "late"), ("tag", "")], true);
        let named = Filter::parse(&[("name".to_owned(), "expiry".to_owned())]).unwrap();
        assert!(!named.accepts(&record()), "an unnamed timer has no name");
    }

    #[test]
    fn a_wrong_filter_names_its_parameter() {
        for (parameter, value) in
            [("key", ""), ("key", "~?"), ("key_prefix", ""), ("name", ""), ("domain", "wall")]
        {
            let problem = Filter::parse(&[(parameter.to_owned(), value.to_owned())]).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(parameter));
            assert_eq!(problem.kind.status, 400);
        }
    }

    proptest! {
        #[test]
        fn every_frame_is_json_on_one_line(
            key in proptest::collection::vec(any::<u8>(), 1..20),
            name in proptest::option::of(any::<String>()),
            numbers in any::<(u64, u16, u64, u64, u32, u64)>(),
            times in any::<(i64, i64)>(),
            event in any::<bool>(),
            binary in any::<Vec<u8>>(),
        ) {
            let id = OutputId {
                namespace: NamespaceId(numbers.0),
                lane: numbers.1,
                position: numbers.2,
                key_hash: numbers.3,
                ordinal: numbers.4,
            };
            let record = OutputRecord {
                id,
                key: &key,
                name: name.as_deref(),
                domain: if event { Domain::Event } else { Domain::Processing },
                fire_at: Timestamp::from_millis(times.0),
                due_by: Timestamp::from_millis(times.1),
                payload: Some(Payload::Binary(&binary)),
                kind: OutputKind::Fire,
            };
            let mut out = Vec::new();
            write_output(&mut out, Cursor(numbers.5), &record, TimeFormat::Millis);
            prop_assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(value["id"].as_str().unwrap(), id.to_string());
            prop_assert_eq!(value["cursor"].as_u64(), Some(numbers.5));
            prop_assert_eq!(value["key"].as_str().unwrap(), format_key(&key));
            prop_assert_eq!(value["name"].as_str(), name.as_deref());
            prop_assert_eq!(value["fire_at"].as_i64(), Some(times.0));
            prop_assert_eq!(value.get("lateness_ms").is_none(), event);
        }
    }
}
