//! Bodies in, operations and result lines out.

use super::*;
use proptest::prelude::*;
use stormwheel::op::{Action, Applied, ResultKind};
use stormwheel::time::Timestamp;

/// Records what it is given, and refuses the keys it is told to.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) ops: Vec<String>,
    pub(crate) refuse_key: Option<(&'static [u8], Rejection)>,
}

impl Sink for Recorder {
    fn push(&mut self, op: &Op<'_>) -> Result<(), Rejection> {
        if let Some((key, rejection)) = &self.refuse_key
            && *key == op.key
        {
            return Err(rejection.clone());
        }
        let action = match &op.action {
            Action::Register(register) => format!("register {:?}", register.when),
            Action::Touch { name, after_ms, .. } => format!("touch {name} {after_ms}"),
            Action::Delete { target, .. } => format!("delete {target:?}"),
            Action::DeleteAll => "delete_all".to_owned(),
            Action::Element(element) => format!("element {}", element.timestamp),
        };
        self.ops.push(format!("{} {action}", String::from_utf8_lossy(op.key)));
        Ok(())
    }
}

fn applied(result: ResultKind, fire_at: Option<i64>, cancelled: u32) -> Applied {
    Applied { result, fire_at: fire_at.map(Timestamp::from_millis), cancelled, overdue: false }
}

fn push(body: impl AsRef<[u8]>) -> (Lines, Recorder) {
    let mut recorder = Recorder::default();
    let lines = push_lines(body.as_ref(), &NamespaceConfig::default(), &mut recorder);
    (lines, recorder)
}

fn rendered(lines: &Lines, outcomes: &[Outcome]) -> (Vec<String>, Rendered) {
    let rendered = lines.render(outcomes, TimeFormat::Millis);
    let body = String::from_utf8(rendered.body.clone()).unwrap();
    (body.lines().map(str::to_owned).collect(), rendered)
}

#[test]
fn the_batch_of_the_manual() {
    let (lines, recorder) = push(
        r#"{"op":"register","key":"order-17","at":1767225600000,"payload":{"n":1}}
{"op":"register","key":"order-17","name":"expiry","after":"15m"}
{"op":"delete","key":"order-17","name":"expiry"}
{"op":"touch","key":"device-9","after":"60s"}
{"op":"delete_all","key":"order-17"}
{"op":"register","key":""}
"#,
    );
    assert_eq!(
        recorder.ops,
        [
            "order-17 register At(Timestamp(1767225600000))",
            "order-17 register After(900000)",
            "order-17 delete Name(\"expiry\")",
            "device-9 touch timeout 60000",
            "order-17 delete_all",
        ]
    );
    let (body, rendered) = rendered(
        &lines,
        &[
            Ok(applied(ResultKind::Created, Some(1_767_225_600_000), 0)),
            Ok(applied(ResultKind::Created, Some(1_767_226_500_000), 0)),
            Ok(applied(ResultKind::Cancelled, None, 1)),
            Ok(applied(ResultKind::Replaced, Some(1_767_225_660_000), 0)),
            Ok(applied(ResultKind::Cancelled, None, 1)),
        ],
    );
    assert_eq!(
        body,
        [
            r#"{"index":0,"result":"created","fire_at":1767225600000}"#,
            r#"{"index":1,"result":"created","fire_at":1767226500000}"#,
            r#"{"index":2,"result":"cancelled","cancelled":1}"#,
            r#"{"index":3,"result":"replaced","fire_at":1767225660000}"#,
            r#"{"index":4,"result":"cancelled","cancelled":1}"#,
            r#"{"index":5,"error":{"type":"/problems/invalid-key","title":"Not a key","status":400,"detail":"key is empty","field":"key"}}"#,
        ]
    );
    assert_eq!(rendered.failed, 1);
    assert_eq!(rendered.all_refused, None);
}

#[test]
fn blank_lines_take_no_index_and_line_ends_may_be_of_any_kind() {
    let line = r#"{"op":"delete_all","key":"k"}"#;
    let (lines, recorder) = push(format!("\n \r\n{line}\r\n\n\t{line} \n{line}"));
    assert_eq!(lines.count, 3);
    assert_eq!(recorder.ops.len(), 3);
    let (lines, _) = push("");
    assert_eq!(rendered(&lines, &[]).0, [""; 0]);
}

#[test]
fn overdue_and_kept_are_told() {
    let (lines, _) = push(r#"{"op":"register","key":"k","at":5}"#);
    let overdue = Applied {
        result: ResultKind::Created,
        fire_at: Some(Timestamp::from_millis(5)),
        cancelled: 0,
        overdue: true,
    };
    assert_eq!(
        rendered(&lines, &[Ok(overdue)]).0,
        [r#"{"index":0,"result":"created","fire_at":5,"overdue":true}"#]
    );
    let rfc3339 =
        lines.render(&[Ok(applied(ResultKind::Kept, Some(1_000), 0))], TimeFormat::Rfc3339);
    assert_eq!(
        rfc3339.body,
        b"{\"index\":0,\"result\":\"kept\",\"fire_at\":\"1970-01-01T00:00:01Z\"}\n"
    );
}

#[test]
fn a_bad_line_harms_no_other() {
    let good = r#"{"op":"delete_all","key":"k"}"#;
    let mut body =
        format!("{good}\nnonsense\n{good}\n{{\"op\":\"touch\",\"kee\":1}}\n").into_bytes();
    body.extend_from_slice(b"{\"op\":\"delete_all\",\"key\":\"\xff\"}\n");
    body.extend_from_slice(good.as_bytes());
    let (lines, recorder) = push(&body);
    assert_eq!(recorder.ops.len(), 3);
    let outcomes = vec![Ok(applied(ResultKind::Absent, None, 0)); 3];
    let (body, rendered) = rendered(&lines, &outcomes);
    assert_eq!(rendered.failed, 3);
    for (index, part) in [
        (0, "absent"),
        (1, "invalid-json"),
        (2, "absent"),
        (3, "unknown-field"),
        (4, "invalid-utf8"),
        (5, "absent"),
    ] {
        assert!(body[index].starts_with(&format!("{{\"index\":{index},")));
        assert!(body[index].contains(part), "{}", body[index]);
    }
}

#[test]
fn lost_newlines_are_told_about() {
    let (lines, recorder) = push(r#"{"op":"delete_all","key":"a"}{"op":"delete_all","key":"b"}"#);
    assert!(recorder.ops.is_empty(), "half of a line is not carried out");
    assert!(rendered(&lines, &[]).0[0].contains("--data-binary"));
}

#[test]
fn an_overlong_line_is_an_error_in_its_place() {
    let long = "x".repeat(LINE_BYTES_MAX + 1);
    let good = r#"{"op":"delete_all","key":"k"}"#;
    let (lines, recorder) = push(format!("{good}\n{long}\n{good}\n"));
    assert_eq!(recorder.ops.len(), 2);
    let outcomes = vec![Ok(applied(ResultKind::Absent, None, 0)); 2];
    let (body, _) = rendered(&lines, &outcomes);
    assert!(body[1].contains("\"limit\":1114112,\"actual\":1114113"));
}

#[test]
fn errors_beyond_the_first_are_brief() {
    let (lines, _) = push("x\n".repeat(ERRORS_TOLD_MAX + 1));
    let (body, rendered) = rendered(&lines, &[]);
    assert_eq!(rendered.failed, 1_001);
    assert!(body[999].contains("\"detail\""));
    assert_eq!(
        body[1_000],
        r#"{"index":1000,"error":{"type":"/problems/invalid-json","title":"Not JSON","status":400}}"#
    );
}

#[test]
fn lines_beyond_the_limit_are_not_read() {
    let (lines, recorder) = push("{\"op\":\"delete_all\",\"key\":\"k\"}\n".repeat(LINES_MAX + 5));
    assert_eq!(recorder.ops.len(), LINES_MAX);
    let outcomes = vec![Ok(applied(ResultKind::Absent, None, 0)); LINES_MAX];
    let (body, rendered) = rendered(&lines, &outcomes);
    assert_eq!(body.len(), LINES_MAX + 1);
    assert_eq!(rendered.failed, 1);
    assert!(body[LINES_MAX].contains("the 5 from here on were not carried out"));
    assert!(body[LINES_MAX].contains("\"actual\":262149"));
}

#[test]
fn refused_by_load_speaks_for_the_batch_only_if_nothing_was_taken() {
    let good = r#"{"op":"delete_all","key":"k"}"#;
    let (lines, _) = push(format!("{good}\nbad\n{good}\n"));
    let full = |retry_after_ms| Err(Rejection::QueueFull { retry_after_ms });
    let refused = |outcomes: &[Outcome]| rendered(&lines, outcomes).1.all_refused;

    let problem = refused(&[full(10), full(30)]).unwrap();
    assert_eq!(problem.kind, &kinds::QUEUE_FULL);
    assert_eq!(problem.retry_after_ms, Some(30));
    assert_eq!(refused(&[full(10), Ok(applied(ResultKind::Absent, None, 0))]), None);
    assert_eq!(refused(&[full(10), Err(Rejection::WatermarkUnset)]), None);
    let (body, rendered) = rendered(&lines, &[full(10), Err(Rejection::Stopping)]);
    assert_eq!(rendered.failed, 3);
    assert!(body[0].contains("\"retry_after_ms\":10"));
    assert_eq!(rendered.all_refused.unwrap().kind, &kinds::STOPPING);
}

#[test]
fn what_the_batch_refuses_at_once_takes_no_outcome() {
    let mut recorder = Recorder {
        refuse_key: Some((b"b", Rejection::QueueFull { retry_after_ms: 5 })),
        ..Recorder::default()
    };
    let line = |key: &str| format!("{{\"op\":\"delete_all\",\"key\":\"{key}\"}}\n");
    let config = NamespaceConfig::default();
    let lines =
        push_lines([line("a"), line("b"), line("c")].concat().as_bytes(), &config, &mut recorder);
    let outcomes =
        [Ok(applied(ResultKind::Cancelled, None, 1)), Ok(applied(ResultKind::Absent, None, 0))];
    let (body, rendered) = rendered(&lines, &outcomes);
    assert!(body[0].contains("cancelled"));
    assert!(body[1].contains("queue-full"));
    assert!(body[2].contains("absent"));
    assert_eq!(rendered.all_refused, None);

    let lines = push_lines(line("b").as_bytes(), &config, &mut recorder);
    let problem = lines.render(&[], TimeFormat::Millis).all_refused.unwrap();
    assert_eq!(problem.retry_after_ms, Some(5));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_every_line_has_its_result(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "([{}\":a-z0-9, ]{0,30}\n){0,8}".prop_map(String::into_bytes),
            "(\\{\"op\":\"(delete_all|touch)\",\"key\":\"[a~.]{0,2}\"\\}?\n){0,8}".prop_map(String::into_bytes),
        ]
    ) {
        let (lines, recorder) = push(&body);
        let expected = body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
            .count();
        let outcomes = vec![Ok(applied(ResultKind::Absent, None, 0)); recorder.ops.len()];
        let (results, rendered) = rendered(&lines, &outcomes);
        prop_assert_eq!(results.len(), expected);
        prop_assert_eq!(rendered.failed as usize, expected - recorder.ops.len());
        for (index, line) in results.iter().enumerate() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(value["index"].as_u64(), Some(index as u64));
        }
    }
}
