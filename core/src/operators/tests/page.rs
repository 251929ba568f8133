//! The examples of `docs/windows.md`, so that tests can run them as they stand there.

use serde_json::Value;

const PAGE: &str = include_str!("../../../../docs/windows.md");

/// An example: what is configured, what is sent, and what comes out.
pub(super) struct Example {
    pub(super) config: Value,
    pub(super) lines: Vec<Line>,
    pub(super) outputs: Vec<Value>,
}

/// Something that happens to a namespace.
#[derive(Debug, Clone)]
pub(super) enum Line {
    Element { key: String, input: u8, at: i64, value: String },
    Watermark(i64),
    Clock(i64),
}

/// Those of all sections, in their order.
pub(super) fn examples() -> Vec<Example> {
    PAGE.split("\n## ").skip(1).map(example).collect()
}

fn example(section: &str) -> Example {
    let (config, rest) = between(section, "--json '", "'\n");
    let (elements, rest) = between(rest, "<<'END'\n", "\nEND\n");
    let (outputs, _) = between(rest, "```json\n", "\n```\n");
    let read = |line: &str| serde_json::from_str::<Value>(line).expect(line);
    let config = read(config);
    assert!(section.starts_with(config["operator"].as_str().unwrap()));
    let line = |line: &str| {
        let line = read(line);
        if let Some(watermark) = line["watermark"].as_i64() {
            return Line::Watermark(watermark);
        }
        Line::Element {
            key: line["key"].as_str().unwrap().to_owned(),
            input: line["input"].as_u64().unwrap_or(0) as u8,
            at: line["timestamp"].as_i64().unwrap(),
            value: line["value"].to_string(),
        }
    };
    let lines = elements.lines().map(line).collect();
    Example { config, lines, outputs: outputs.lines().map(read).collect() }
}

/// What stands between two marks, and what comes after.
fn between<'t>(text: &'t str, from: &str, to: &str) -> (&'t str, &'t str) {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("there is a {from}"));
    rest.split_once(to).unwrap_or_else(|| panic!("there is a {to}"))
}
