//! The simple operators, by examples and against their definitions.

mod examples;
mod oracle;

use super::built_in;
use crate::function::Result;
use crate::function::host::{Host, HostOutput};
use serde_json::Value;

/// A host of an operator with these options.
fn try_host(name: &str, options: &Value) -> Result<Host> {
    let made = built_in().make(name, options).expect("there is one of this name");
    made.map(Host::new)
}

fn host(name: &str, options: &Value) -> Host {
    try_host(name, options).expect("the options are good")
}

/// What was emitted: when, and what.
fn emitted(outputs: Vec<HostOutput>) -> Vec<(Option<i64>, String)> {
    assert!(outputs.iter().all(|output| output.tag.is_none()));
    outputs.into_iter().map(|output| (output.timestamp, output.value)).collect()
}
