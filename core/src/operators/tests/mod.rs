//! The simple operators, by examples and against their definitions; and all of them on the engine.

mod corners;
mod docs;
mod engine;
mod examples;
mod in_code;
mod oracle;
mod page;
mod states;
mod windows_engine;

use super::built_in;
use crate::error::Rejection;
use crate::function::host::{Host, HostOutput};
use crate::namespace::NamespaceConfig;
use serde_json::Value;

const NAMES: [&str; 5] = ["timeout", "debounce", "throttle", "delay", "periodic"];

fn config(name: &str, options: &Value) -> NamespaceConfig {
    let (operator, options) = (name.to_owned(), options.clone());
    NamespaceConfig { operator, options, ..NamespaceConfig::default() }
}

/// A host of an operator with these options.
fn try_host(name: &str, options: &Value) -> Result<Host, Rejection> {
    let made = built_in().make(&config(name, options))?;
    Ok(Host::new(made.expect("it is a function")))
}

fn host(name: &str, options: &Value) -> Host {
    try_host(name, options).expect("the options are good")
}

/// What was emitted: when, and what.
fn emitted(outputs: Vec<HostOutput>) -> Vec<(Option<i64>, String)> {
    assert!(outputs.iter().all(|output| output.tag.is_none()));
    outputs.into_iter().map(|output| (output.timestamp, output.value)).collect()
}
