//! The examples of docs/operators.md and docs/windows.md: the commands of each are run as they stand,
//! and what the page shows behind them, line by line, is what the namespace has put out.
//!
//! An example is a block of `curl` commands and the next block fenced as `json`. Where there is none
//! before the next commands, only the commands are run.

use serde_json::Value;
use std::fs;
use stormwheel_tests::{Server, repository, wait_until};

struct Example {
    line: usize,
    commands: String,
    outputs: Vec<Value>,
}

#[test]
fn the_examples_of_operators_put_out_what_the_page_shows() {
    play("docs/operators.md", 5);
}

#[test]
fn the_examples_of_windows_put_out_what_the_page_shows() {
    play("docs/windows.md", 4);
}

fn play(page: &str, at_least: usize) {
    let examples = examples(&fs::read_to_string(repository().join(page)).unwrap());
    let with_outputs = examples.iter().filter(|example| !example.outputs.is_empty()).count();
    assert!(with_outputs >= at_least, "{page} shows the outputs of {with_outputs} examples");
    for Example { line, commands, outputs } in &examples {
        if commands.contains("/elements") && !commands.contains("-X PUT") {
            // It goes on where another one has made the namespace.
            continue;
        }
        let server = Server::start();
        // Outputs are read below, without what changes from run to run.
        let printed = super::run(&commands.replace("curl ", "curl -sS "), &server);
        assert!(!printed.contains("/problems/"), "{page}:{line}: {printed}");
        let namespace = namespace(commands);
        let path = format!("/v1/namespaces/{namespace}/outputs?limit=100");
        wait_until("the outputs of the page", || {
            let came: Vec<Value> =
                server.client().get(&path).lines().into_iter().map(lasting).collect();
            if came == *outputs {
                Ok(())
            } else {
                Err(format!("{page}:{line}: shows {outputs:?} and gets {came:?}"))
            }
        });
    }
}

/// An output without what changes from run to run.
fn lasting(mut output: Value) -> Value {
    let fields = output.as_object_mut().expect("an output is an object");
    fields.retain(|name, _| name != "id" && name != "cursor");
    output
}

fn namespace(commands: &str) -> &str {
    let (_, behind) = commands.split_once("/namespaces/").expect("they name a namespace");
    behind.split(['/', ' ', '\'']).next().expect("a split has a first part")
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        if block.first().is_some_and(|line| line.starts_with("curl")) {
            let commands = block.join("\n");
            examples.push(Example { line: index + 2, commands, outputs: Vec::new() });
        } else if kind == "json"
            && let Some(example) = examples.last_mut()
            && example.outputs.is_empty()
        {
            let shown = block.iter().map(|line| serde_json::from_str(line));
            example.outputs = shown.collect::<Result<_, _>>().expect("the page shows JSON");
        }
    }
    examples
}
