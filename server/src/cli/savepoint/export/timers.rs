//! The timers of a savepoint.

use super::{Ended, Table, add_json, json_of};
use crate::wire::key::format_key;
use arrow_array::ArrayRef;
use arrow_array::builder::{BinaryBuilder, StringBuilder, TimestampMillisecondBuilder};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::sync::Arc;
use stormwheel::function::TimerId;
use stormwheel::namespace::OPERATOR_TIMERS;
use stormwheel::op::Payload;
use stormwheel::storage::{SavedTimer, SavepointReader};

/// See the module.
#[derive(Default)]
pub(in super::super) struct Timers {
    rows: usize,
    namespace: StringBuilder,
    key: BinaryBuilder,
    name: StringBuilder,
    timer_namespace: BinaryBuilder,
    domain: StringBuilder,
    fire_at: TimestampMillisecondBuilder,
    payload: StringBuilder,
    payload_binary: BinaryBuilder,
}

/// A timer's name; or the namespace that a function's timer is in.
fn id_of<'a>(timer: &SavedTimer<'a>) -> TimerId<'a> {
    match timer.name {
        Some(name) if timer.operator == OPERATOR_TIMERS => TimerId::Named(name.into()),
        name => TimerId::of_stored(name),
    }
}

impl Table for Timers {
    const ROWS: &'static str = "timers";
    type Row<'a> = SavedTimer<'a>;

    fn each(
        reader: &SavepointReader,
        each: &mut dyn FnMut(&SavedTimer<'_>) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        reader.each_timer(each)
    }

    fn line(timer: &SavedTimer<'_>) -> String {
        let id = id_of(timer);
        let mut row = Map::new();
        row.insert("namespace".to_owned(), Value::from(timer.namespace));
        row.insert("key".to_owned(), Value::from(format_key(timer.key)));
        if let Some(name) = id.name() {
            row.insert("name".to_owned(), Value::from(name));
        }
        if let Some(namespace) = id.namespace() {
            row.insert("timer_namespace".to_owned(), Value::from(format_key(namespace)));
        }
        row.insert("domain".to_owned(), Value::from(timer.domain.as_str()));
        row.insert("fire_at".to_owned(), Value::from(timer.fire_at.as_millis()));
        let mut payload = None;
        match timer.payload {
            None => {}
            Some(Payload::Binary(bytes)) => {
                row.insert("payload_base64".to_owned(), Value::from(STANDARD.encode(bytes)));
            }
            // As it was sent, to the digit.
            Some(Payload::Json(text)) => payload = json_of(text),
        }
        let mut text = Value::Object(row).to_string();
        if let Some(payload) = payload {
            add_json(&mut text, "payload", payload);
        }
        text
    }

    fn schema() -> Schema {
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        Schema::new(vec![
            Field::new("namespace", DataType::Utf8, false),
            Field::new("key", DataType::Binary, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("timer_namespace", DataType::Binary, true),
            Field::new("domain", DataType::Utf8, false),
            Field::new("fire_at", time, false),
            Field::new("payload", DataType::Utf8, true),
            Field::new("payload_binary", DataType::Binary, true),
        ])
    }

    fn push(&mut self, timer: &SavedTimer<'_>) -> usize {
        self.rows += 1;
        let id = id_of(timer);
        self.namespace.append_value(timer.namespace);
        self.key.append_value(timer.key);
        self.name.append_option(id.name());
        self.timer_namespace.append_option(id.namespace());
        self.domain.append_value(timer.domain.as_str());
        self.fire_at.append_value(timer.fire_at.as_millis());
        let (json, binary) = match timer.payload {
            None => (None, None),
            Some(Payload::Json(text)) => (std::str::from_utf8(text).ok(), None),
            Some(Payload::Binary(bytes)) => (None, Some(bytes)),
        };
        self.payload.append_option(json);
        self.payload_binary.append_option(binary);
        self.rows
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        vec![
            Arc::new(self.namespace.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.timer_namespace.finish()),
            Arc::new(self.domain.finish()),
            Arc::new(self.fire_at.finish().with_timezone("UTC")),
            Arc::new(self.payload.finish()),
            Arc::new(self.payload_binary.finish()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormwheel::time::{Domain, Timestamp};

    #[test]
    fn a_row_says_what_there_is_and_no_more() {
        let mut timer = SavedTimer {
            namespace: "n",
            operator: "timers",
            key: b"\xff",
            name: None,
            domain: Domain::Event,
            fire_at: Timestamp::from_millis(-5),
            payload: None,
        };
        let bare = r#"{"namespace":"n","key":"~_w","domain":"event","fire_at":-5}"#;
        assert_eq!(Timers::line(&timer), bare);
        timer.name = Some("a");
        timer.payload = Some(Payload::Json(b"{\"x\": 1.0}"));
        let full = r#"{"namespace":"n","key":"~_w","name":"a","domain":"event","fire_at":-5,"payload":{"x": 1.0}}"#;
        assert_eq!(Timers::line(&timer), full);
        timer.payload = Some(Payload::Binary(b"\x00"));
        assert!(Timers::line(&timer).ends_with(r#""payload_base64":"AA=="}"#));
        timer.payload = None;
        timer.name = Some("\080000000005600");
        assert!(Timers::line(&timer).contains(r#""name":"\u000080000000005600""#));
        timer.operator = "windows";
        let window = r#"{"namespace":"n","key":"~_w","timer_namespace":"600","domain":"event","fire_at":-5}"#;
        assert_eq!(Timers::line(&timer), window);
    }
}
