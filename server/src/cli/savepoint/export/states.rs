//! What the functions of a savepoint keep for their keys.
//!
//! JSON where the state is that of a built-in operator, or is JSON itself. All else are bytes that only
//! the function can read; those of a function over types begin with the version of its state.

use super::{Ended, Table, add_json, json_of};
use crate::wire::key::format_key;
use arrow_array::ArrayRef;
use arrow_array::builder::{BinaryBuilder, StringBuilder, UInt32Builder};
use arrow_schema::{DataType, Field, Schema};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::sync::Arc;
use stormwheel::function::state_version;
use stormwheel::operators::state_as_json;
use stormwheel::storage::{SavedState, SavepointReader};

/// See the module.
#[derive(Default)]
pub(in super::super) struct States {
    rows: usize,
    namespace: StringBuilder,
    operator: StringBuilder,
    key: BinaryBuilder,
    state: StringBuilder,
    state_version: UInt32Builder,
    state_binary: BinaryBuilder,
}

/// The state as JSON, if it can be.
fn json(row: &SavedState<'_>) -> Option<String> {
    state_as_json(row.operator, row.state).or_else(|| {
        // A number could be the beginning of any bytes.
        let may_be = matches!(row.state.first(), Some(b'{' | b'[' | b'"'));
        json_of(row.state).filter(|_| may_be).map(str::to_owned)
    })
}

impl Table for States {
    const ROWS: &'static str = "states";
    type Row<'a> = SavedState<'a>;

    fn each(
        reader: &SavepointReader,
        each: &mut dyn FnMut(&SavedState<'_>) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        reader.each_state(each)
    }

    fn line(row: &SavedState<'_>) -> String {
        let mut object = json!({
            "namespace": row.namespace,
            "operator": row.operator,
            "key": format_key(row.key),
        });
        if let Some(state) = json(row) {
            let mut text = object.to_string();
            add_json(&mut text, "state", &state);
            return text;
        }
        if let Some(version) = state_version(row.state) {
            object["state_version"] = version.into();
        }
        object["state_base64"] = STANDARD.encode(row.state).into();
        object.to_string()
    }

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("namespace", DataType::Utf8, false),
            Field::new("operator", DataType::Utf8, false),
            Field::new("key", DataType::Binary, false),
            Field::new("state", DataType::Utf8, true),
            Field::new("state_version", DataType::UInt32, true),
            Field::new("state_binary", DataType::Binary, true),
        ])
    }

    fn push(&mut self, row: &SavedState<'_>) -> usize {
        self.rows += 1;
        self.namespace.append_value(row.namespace);
        self.operator.append_value(row.operator);
        self.key.append_value(row.key);
        let json = json(row);
        let binary = json.is_none().then_some(row.state);
        self.state.append_option(json);
        self.state_version.append_option(binary.and_then(state_version));
        self.state_binary.append_option(binary);
        self.rows
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        vec![
            Arc::new(self.namespace.finish()),
            Arc::new(self.operator.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.state.finish()),
            Arc::new(self.state_version.finish()),
            Arc::new(self.state_binary.finish()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operator: &str, state: &[u8], expected: &str) {
        let row = SavedState { namespace: "n", operator, key: b"k", state };
        let head = format!("{{\"namespace\":\"n\",\"operator\":\"{operator}\",\"key\":\"k\",");
        assert_eq!(States::line(&row), format!("{head}{expected}}}"));
    }

    #[test]
    fn a_state_is_json_where_it_can_be() {
        check("own", b"{\"a\": 1.50}", "\"state\":{\"a\": 1.50}");
        check("own", b"\x01\x05ab", "\"state_version\":1,\"state_base64\":\"AQVhYg==\"");
        check("own", b"7", "\"state_version\":55,\"state_base64\":\"Nw==\"");
        check("own", b"\xff\xff", "\"state_base64\":\"//8=\"");
        // Whatever is called like a built-in one and is none.
        check("timeout", b"\x63\x00", "\"state_version\":99,\"state_base64\":\"YwA=\"");
    }
}
