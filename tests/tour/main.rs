//! The pages against the service: the tour of README.md is run, every command, every answer; and
//! docs/operations.md is compared with what there is (`operations`, `signals`). The examples of the
//! operators' pages are played, each against a server of its own (`operators`).
//!
//! A block fenced as `console` holds commands behind `$ ` (a `\` at the end of a line goes on in
//! the next) and what they print. In the printed lines `…` stands for whatever changes from run to
//! run within a line, and a line that is only `…` for any number of lines. Blocks run in the order
//! of the page against one server; only its port is replaced.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this crate is a test: a failure is its way to speak"
)]

mod operations;
mod operators;
mod signals;

use std::fs;
use std::process::{Command, Stdio};
use stormwheel_tests::{Server, repository};

/// Stands for what changes from run to run.
const WILDCARD: &str = "…";

/// A command of the page, and what the page says that it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

#[test]
fn every_command_of_the_readme_answers_as_it_says() {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let steps = steps(&text);
    assert!(steps.len() >= 10, "the tour has only {} steps", steps.len());
    let server = Server::start();
    for step in &steps {
        let printed = run(&step.command, &server);
        let printed: Vec<&str> = printed.lines().collect();
        let expected: Vec<&str> = step.expected.iter().map(String::as_str).collect();
        assert!(
            matches_lines(&expected, &printed),
            "README.md:{}: $ {}\nsays\n{}\nbut prints\n{}",
            step.line,
            step.command,
            expected.join("\n"),
            printed.join("\n")
        );
    }
}

fn run(command: &str, server: &Server) -> String {
    let command = command.replace(":7400", &format!(":{}", server.port()));
    let output = Command::new("bash")
        .args(["-c", &command])
        .current_dir(server.folder())
        .stdin(Stdio::null())
        .output()
        .expect("bash runs the commands of the page");
    let mut printed = String::from_utf8(output.stdout).unwrap();
    printed.push_str(&String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "$ {command}: {}\n{printed}", output.status);
    printed
}

/// The steps of all blocks fenced as `console`.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_inside = false;
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_inside = line == "```console";
        } else if is_inside && goes_on {
            let step = steps.last_mut().expect("a command goes on");
            goes_on = line.ends_with('\\');
            step.command.push('\n');
            step.command.push_str(line);
        } else if is_inside && let Some(command) = line.strip_prefix("$ ") {
            goes_on = command.ends_with('\\');
            steps.push(Step { line: index + 1, command: command.to_owned(), expected: Vec::new() });
        } else if is_inside {
            let step = steps.last_mut();
            let step = step.unwrap_or_else(|| panic!("README.md:{}: no command", index + 1));
            step.expected.push(line.to_owned());
        }
    }
    steps
}

fn matches_lines(expected: &[&str], printed: &[&str]) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((&WILDCARD, rest)), _) => {
            (0..=printed.len()).any(|skipped| matches_lines(rest, &printed[skipped..]))
        }
        (Some((first, rest)), Some((line, others))) => {
            matches_line(first, line) && matches_lines(rest, others)
        }
        _ => false,
    }
}

fn matches_line(expected: &str, printed: &str) -> bool {
    let Some((start, rest)) = expected.split_once(WILDCARD) else {
        return expected == printed;
    };
    let Some(printed) = printed.strip_prefix(start) else {
        return false;
    };
    printed
        .char_indices()
        .map(|(at, _)| at)
        .chain([printed.len()])
        .any(|at| matches_line(rest, &printed[at..]))
}

#[test]
fn wildcards_stand_for_what_changes_and_for_nothing_else() {
    for (expected, printed, is_match) in [
        ("{\"at\":…,\"n\":1}", "{\"at\":17,\"n\":1}", true),
        ("{\"at\":…,\"n\":1}", "{\"at\":17,\"n\":2}", false),
        ("a…b…c", "a1b2b3c", true),
        ("a…", "b", false),
        ("a", "a1", false),
    ] {
        assert_eq!(matches_line(expected, printed), is_match, "{expected} and {printed}");
    }
    assert!(matches_lines(&["a", "…", "d"], &["a", "b", "c", "d"]));
    assert!(!matches_lines(&["a", "…", "d"], &["a", "b", "c"]));
    assert!(!matches_lines(&["a"], &["a", "b"]));
    assert!(matches_lines(&[], &[]));
}

#[test]
fn steps_are_read_from_console_blocks_only() {
    let text = "```sh\n$ no\n```\n```console\n$ a \\\n  b\nout\n\nmore\n$ c\n```\n";
    let expected = [
        Step {
            line: 5,
            command: "a \\\n  b".to_owned(),
            expected: vec!["out".to_owned(), String::new(), "more".to_owned()],
        },
        Step { line: 10, command: "c".to_owned(), expected: Vec::new() },
    ];
    assert_eq!(steps(text), expected);
}
