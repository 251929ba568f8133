//! Bodies in, elements and the summary out.

use super::*;
use serde_json::{Value, json};

/// Records what it is given, and refuses the keys it is told to.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) taken: Vec<String>,
    pub(crate) refuse_key: Option<(&'static [u8], Rejection)>,
}

impl ElementSink for Recorder {
    fn push(&mut self, op: &Op<'_>, timestamp: Timestamp) -> Result<(), Problem> {
        if let Some((key, rejection)) = &self.refuse_key
            && *key == op.key
        {
            return Err(refused(rejection.clone()));
        }
        let Action::Element(element) = op.action else { panic!("{op:?}") };
        assert_eq!(element.timestamp, timestamp);
        let value = match element.value {
            Payload::Json(json) => String::from_utf8(json.to_vec()).unwrap(),
            Payload::Binary(bytes) => format!("{bytes:?}"),
        };
        let key = String::from_utf8_lossy(op.key);
        let input = if element.input == 0 { "" } else { " to 1" };
        self.taken.push(format!("{key} {timestamp} {value}{input}"));
        Ok(())
    }

    fn watermark(&mut self, to: Timestamp) -> Result<(), Problem> {
        self.taken.push(format!("watermark {to}"));
        Ok(())
    }
}

fn intake() -> Intake<Recorder> {
    let now = Timestamp::from_millis(99);
    Intake::new(Recorder::default(), Some(Ok(now)))
}

/// Reads a body all of which is good but for the lines that are told.
fn check(body: &str, taken: &[&str], errors: &[(usize, &str, &str)]) {
    let mut intake = intake();
    let elements = intake.read_lines(body.as_bytes()).unwrap();
    assert_eq!(intake.sink.taken, taken);
    let outcomes: Vec<_> = taken.iter().map(|_| PROCESSED).collect();
    let summary = summary(&elements, &outcomes, None);
    let told = summary["errors"].as_array().unwrap();
    assert_eq!(told.len(), errors.len(), "{summary}");
    for (told, (index, slug, field)) in told.iter().zip(errors) {
        assert_eq!(told["index"], *index, "{told}");
        assert_eq!(told["error"]["type"], format!("/problems/{slug}"), "{told}");
        assert_eq!(told["error"]["field"].as_str().unwrap_or_default(), *field, "{told}");
    }
}

const PROCESSED: Result<Told, Rejection> = Ok(Told::Element(ResultKind::Processed));

fn summary(
    elements: &Elements,
    outcomes: &[Result<Told, Rejection>],
    moved: Option<&str>,
) -> Value {
    serde_json::from_slice(&elements.render(outcomes, moved).body).unwrap()
}

#[test]
fn elements_and_watermarks_keep_their_order() {
    check(
        "{\"key\":\"a\",\"timestamp\":5,\"value\":{\"n\": 1}}\n\n\
         {\"watermark\":7}\n\
         {\"key\":\"~_w\",\"timestamp\":\"1970-01-01T00:00:00.008Z\",\"value\":null,\"input\":1}\n\
         {\"key\":\"b\",\"value_base64\":\"AQI=\"}\n\
         {\"watermark\":-1}",
        &["a 5 {\"n\": 1}", "watermark 7", "\u{fffd} 8 null to 1", "b 99 [1, 2]", "watermark -1"],
        &[],
    );
}

#[test]
fn what_is_wrong_with_a_line_is_its_own_error() {
    check(
        "{\"timestamp\":5,\"value\":1}\n\
         {\"key\":\"\",\"timestamp\":5,\"value\":1}\n\
         {\"key\":\"a\",\"timestamp\":1.5,\"value\":1}\n\
         {\"key\":\"a\",\"timestamp\":5}\n\
         {\"key\":\"a\",\"timestamp\":5,\"value\":1}\n\
         {\"key\":\"a\",\"timestamp\":5,\"value\":1,\"value_base64\":\"AA==\"}\n\
         {\"key\":\"a\",\"timestamp\":5,\"value_base64\":\"?\"}\n\
         {\"key\":\"a\",\"timestamp\":5,\"value\":1,\"input\":256}\n\
         {\"key\":\"a\",\"timestamp\":5,\"value\":1,\"at\":2}\n\
         {\"watermark\":5,\"key\":\"a\"}\n\
         {\"watermark\":true}\n\
         nonsense",
        &["a 5 1"],
        &[
            (0, "missing-field", "key"),
            (1, "invalid-key", "key"),
            (2, "invalid-time", "timestamp"),
            (3, "missing-field", "value"),
            (5, "invalid-field", "value_base64"),
            (6, "invalid-field", "value_base64"),
            (7, "invalid-field", "input"),
            (8, "unknown-field", "at"),
            (9, "invalid-field", "key"),
            (10, "invalid-time", "watermark"),
            (11, "invalid-json", ""),
        ],
    );
}

#[test]
fn an_element_without_a_timestamp_asks_first() {
    let body = b"{\"key\":\"a\",\"timestamp\":1,\"value\":1}\n{\"key\":\"b\",\"value\":2}\n";
    let mut intake = Intake::new(Recorder::default(), None);
    assert!(intake.read_lines(body).is_none());
    let wants = Problem::new(&kinds::MISSING_FIELD, "say it").field("timestamp");
    let mut intake = Intake::new(Recorder::default(), Some(Err(wants)));
    let elements = intake.read_lines(body).unwrap();
    assert_eq!(intake.sink.taken, ["a 1 1"]);
    let summary = summary(&elements, &[PROCESSED], None);
    assert_eq!(summary["errors"][0]["error"]["field"], "timestamp");
    // One that is wrong in itself does not ask.
    let mut intake = Intake::new(Recorder::default(), None);
    assert!(intake.read_lines(b"{\"key\":\"b\"}").is_some());
}

#[test]
fn the_summary_adds_up() {
    let body: String = ["a", "b", "c", "d", "e", "f"]
        .map(|key| format!("{{\"key\":\"{key}\",\"value\":1}}\n"))
        .concat();
    let mut intake = intake();
    intake.sink.refuse_key = Some((b"b", Rejection::PayloadTooLarge { limit: 1, actual: 2 }));
    let elements = intake.read_lines((body + "{\"watermark\":9}").as_bytes()).unwrap();
    let outcomes = [
        PROCESSED,
        Ok(Told::Element(ResultKind::Late)),
        Ok(Told::Element(ResultKind::Failed)),
        Err(Rejection::QueueFull { retry_after_ms: 5 }),
        Ok(Told::Element(ResultKind::Repeated)),
        Ok(Told::Watermark),
    ];
    let rendered = elements.render(&outcomes, Some("{\"source\":\"s\"}"));
    assert_eq!(rendered.failed, 3);
    assert!(rendered.all_refused.is_none());
    let mut summary: Value = serde_json::from_slice(&rendered.body).unwrap();
    let errors = summary["errors"].take();
    let slugs: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["index"].as_u64().unwrap(), it["error"]["type"].as_str().unwrap()))
        .collect();
    assert_eq!(
        slugs,
        [
            (1, "/problems/payload-too-large"),
            (3, "/problems/function-failed"),
            (4, "/problems/queue-full"),
        ]
    );
    assert_eq!(errors[0]["error"]["field"], "value", "it is not called a payload here");
    let expected = json!({
        "rows": 7,
        "results": {"repeated": 1, "processed": 1, "late": 1, "watermark": 1},
        "late": 1,
        "watermark": {"source": "s"},
        "failed": 3,
        "errors": null,
        "errors_omitted": 0,
    });
    assert_eq!(summary, expected);
}

#[test]
fn what_load_refuses_altogether_is_told_as_a_whole() {
    let mut intake = intake();
    let body = b"{\"key\":\"a\",\"value\":1}\n{\"watermark\":9}";
    let elements = intake.read_lines(body).unwrap();
    let refusal = Rejection::QueueFull { retry_after_ms: 5 };
    let rendered = elements.render(&[Err(refusal.clone()), Err(refusal)], None);
    assert_eq!(rendered.all_refused.unwrap().kind, &kinds::QUEUE_FULL);
    assert_eq!(rendered.failed, 2);
}
