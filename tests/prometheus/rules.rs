//! The expressions of the alert rules, and the selectors in them.

use std::collections::BTreeSet;
use std::fs;
use stormwheel_tests::repository;

/// How the names of what the rules select begin.
const NAME_STARTS: [&str; 4] = ["stormwheel_", "process_", "instance:", "up{"];

/// Every `expr`, in one line. The file is ours: an expression stands behind `expr:`, or folded
/// (`>-`) in the deeper lines below it.
pub(crate) fn expressions() -> Vec<String> {
    let path = repository().join("dashboards/rules/stormwheel.yml");
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().peekable();
    let mut expressions = Vec::new();
    while let Some(line) = lines.next() {
        let Some((before, first)) = line.split_once("expr: ") else {
            continue;
        };
        let mut expression = first.trim_start_matches(">-").to_owned();
        let is_deeper = |next: &&str| {
            let indent = next.len() - next.trim_start().len();
            indent > before.len()
        };
        while let Some(next) = lines.next_if(is_deeper) {
            expression.push(' ');
            expression.push_str(next.trim());
        }
        expressions.push(expression.trim().to_owned());
    }
    assert!(!expressions.is_empty(), "there is no rule");
    expressions
}

/// Every metric with its labels that some rule selects: each must exist, else the rule is blind.
pub(crate) fn selectors() -> BTreeSet<String> {
    expressions().iter().flat_map(|expression| selectors_of(expression)).collect()
}

fn selectors_of(expression: &str) -> Vec<String> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    let mut found = Vec::new();
    let mut at = 0;
    while at < expression.len() {
        let rest = &expression[at..];
        let name_length = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        if NAME_STARTS.iter().any(|start| rest.starts_with(start)) {
            let labels = &rest[name_length..];
            let labels_length =
                if labels.starts_with('{') { labels.find('}').expect("labels end") + 1 } else { 0 };
            found.push(rest[..name_length + labels_length].to_owned());
            at += name_length + labels_length;
        } else if rest.starts_with('{') {
            at += rest.find('}').expect("labels end") + 1;
        } else {
            at += name_length.max(1);
        }
    }
    found
}

#[test]
fn selectors_are_found_with_their_labels() {
    let expression = "sum by (job, instance) (rate(stormwheel_a{x=\"1\", le=\"0.1\"}[5m])) > 2 * \
                      process_b and up{job=\"stormwheel\"} == 0 and instance:c:d > 1";
    assert_eq!(
        selectors_of(expression),
        [
            "stormwheel_a{x=\"1\", le=\"0.1\"}",
            "process_b",
            "up{job=\"stormwheel\"}",
            "instance:c:d"
        ]
    );
}
