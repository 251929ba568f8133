//! The examples of the docs are played, and come to what the docs say.

use super::host;
use crate::function::host::Host;
use serde_json::{Value, json};

const OPERATORS: &str = include_str!("../../../../docs/operators.md");

/// An example: the configuration, the lines that are sent, and those that come out.
#[derive(Default)]
struct Example<'d> {
    config: Value,
    sent: Vec<&'d str>,
    received: Vec<&'d str>,
}

fn examples(document: &str) -> Vec<Example<'_>> {
    let mut examples = Vec::<Example<'_>>::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(config) = line.strip_prefix("  -d '").and_then(|it| it.strip_suffix('\'')) {
            let config = serde_json::from_str(config).expect("a configuration in JSON");
            examples.push(Example { config, ..Example::default() });
        } else if line.ends_with("<<'END'") {
            let example = examples.last_mut().expect("a configuration stands above");
            example.sent.extend(lines.by_ref().take_while(|line| *line != "END"));
        } else if line == "```json" {
            let example = examples.last_mut().expect("a configuration stands above");
            example.received.extend(lines.by_ref().take_while(|line| *line != "```"));
        }
    }
    examples
}

fn send(host: &mut Host, line: &str) {
    let line: Value = serde_json::from_str(line).expect("a line of JSON");
    if let Some(watermark) = line.get("watermark") {
        host.advance_watermark(watermark.as_i64().expect("milliseconds"));
        return;
    }
    let key = line["key"].as_str().expect("a key");
    let timestamp = line["timestamp"].as_i64().expect("milliseconds");
    host.element(key, timestamp, &line["value"].to_string()).expect("the operator takes it");
}

#[test]
fn the_examples_of_the_docs_are_true() {
    let mut checked = Vec::new();
    for example in examples(OPERATORS) {
        let operator = example.config["operator"].as_str().expect("an operator");
        let mut host = host(operator, &example.config["options"]);
        example.sent.iter().for_each(|line| send(&mut host, line));
        let received = host.take_outputs().into_iter().map(|output| {
            let value: Value = serde_json::from_str(&output.value).expect("JSON");
            json!({"key": output.key, "timestamp": output.timestamp, "value": value})
        });
        if !example.received.is_empty() {
            let expected: Vec<Value> =
                example.received.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(received.collect::<Vec<_>>(), expected, "{operator}");
            checked.push(operator.to_owned());
        }
    }
    assert_eq!(checked, super::NAMES);
}
