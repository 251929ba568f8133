//! `namespaces`: isolated applications on one server.

use super::client::{Answer, escape, query};
use super::{Client, Failure, Target, print};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

/// `stormwheel namespaces`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stormwheel namespaces create replay --clock manual
  stormwheel namespaces set replay --resolution 1s --spread 30s
  stormwheel namespaces create reminders --overdue spread=10m
  stormwheel namespaces set replay --config '{\"limits\":{\"timers\":1000000}}'
  stormwheel namespaces close replay --processing-timers drain
  stormwheel namespaces pause reminders
  stormwheel namespaces resume reminders
  stormwheel namespaces delete replay --force")]
pub struct Namespaces {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All namespaces
    List {
        /// At most so many (1 to 1000)
        #[arg(long)]
        limit: Option<u32>,
        /// Where the last page ended
        #[arg(long, value_name = "TOKEN")]
        page_token: Option<String>,
    },
    /// The configuration of one, and its live figures
    Show {
        /// The namespace
        name: String,
    },
    /// Make one, or replace its whole configuration
    Create {
        /// The namespace
        name: String,
        #[command(flatten)]
        config: ConfigFlags,
    },
    /// Change parts of a configuration
    Set {
        /// The namespace
        name: String,
        #[command(flatten)]
        config: ConfigFlags,
    },
    /// Let no time pass in one: nothing fires until it is resumed
    Pause {
        /// The namespace
        name: String,
    },
    /// Let one go on, after a pause or because its function has failed
    Resume {
        /// The namespace
        name: String,
    },
    /// Delete one with all it holds
    Delete {
        /// The namespace
        name: String,
        /// Also if it holds timers
        #[arg(long)]
        force: bool,
    },
    /// End its input: the final watermark comes, and nothing more is taken in
    Close {
        /// The namespace
        name: String,
        /// What becomes of its processing timers: they fire now, fire at their times, or go
        #[arg(long, value_name = "HOW", value_parser = ["drain", "wait", "discard"])]
        processing_timers: String,
    },
}

#[derive(Debug, Args)]
struct ConfigFlags {
    /// Where its time comes from
    #[arg(long, value_parser = ["system", "manual"])]
    clock: Option<String>,
    /// Round times down to multiples of this, as "1s"
    #[arg(long, value_name = "DURATION")]
    resolution: Option<String>,
    /// Fire up to so much later, to flatten storms
    #[arg(long, value_name = "DURATION")]
    spread: Option<String>,
    /// What becomes of timers that fell due while nothing could fire: fire, shift, drop, or
    /// spread=DURATION
    #[arg(long, value_name = "POLICY", value_parser = parse_overdue)]
    overdue: Option<Value>,
    /// Anything else, as the JSON object of the API
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
}

/// `fire`, `shift`, `drop`, or `spread=10m`, as the API has it. The service checks the duration.
fn parse_overdue(text: &str) -> Result<Value, String> {
    match text.split_once('=') {
        Some(("spread", over)) => Ok(json!({ "policy": "spread", "over": over })),
        None if matches!(text, "fire" | "shift" | "drop") => Ok(json!({ "policy": text })),
        _ => Err("write fire, shift, drop, or spread=10m".to_owned()),
    }
}

impl ConfigFlags {
    fn into_json(self) -> Result<String, Failure> {
        let mut object: Map<String, Value> = match self.config {
            None => Map::new(),
            Some(text) => serde_json::from_str(&text).map_err(|error| {
                Failure::Usage(format!("--config must be a JSON object: {error}"))
            })?,
        };
        let flags =
            [("clock", self.clock), ("resolution", self.resolution), ("spread", self.spread)];
        for (name, value) in flags {
            if let Some(value) = value {
                object.insert(name.to_owned(), value.into());
            }
        }
        if let Some(overdue) = self.overdue {
            object.insert("overdue".to_owned(), overdue);
        }
        Ok(Value::Object(object).to_string())
    }
}

impl Namespaces {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.target.server)?;
        let path = |name: &str| format!("/v1/namespaces/{}", escape(name));
        let (answer, done) = match self.action {
            Action::List { limit, page_token } => {
                let limit = limit.map(|limit| limit.to_string());
                let query = query([("limit", limit), ("page_token", page_token)]);
                let path = format!("/v1/namespaces{query}");
                (client.send(Method::GET, &path, None).await?, None)
            }
            Action::Show { name } => (client.send(Method::GET, &path(&name), None).await?, None),
            Action::Create { name, config } => {
                let answer =
                    client.send(Method::PUT, &path(&name), Some(config.into_json()?)).await?;
                let done = if answer.status == 201 { "created" } else { "replaced" };
                (answer, Some(format!("{done} {name}")))
            }
            Action::Set { name, config } => {
                let body = config.into_json()?;
                if body == "{}" {
                    return Err(Failure::Usage(
                        "nothing to set: give a flag or --config".to_owned(),
                    ));
                }
                let answer = client.send(Method::PATCH, &path(&name), Some(body)).await?;
                (answer, Some(format!("changed {name}")))
            }
            Action::Pause { name } => stand(&client, &name, "pause").await?,
            Action::Resume { name } => stand(&client, &name, "resume").await?,
            Action::Delete { name, force } => {
                let query = if force { "?force=true" } else { "" };
                let path = format!("{}{query}", path(&name));
                let answer = client.send(Method::DELETE, &path, None).await?;
                (answer, Some(format!("deleted {name}")))
            }
            Action::Close { name, processing_timers } => {
                let body = json!({ "processing_timers": processing_timers }).to_string();
                let path = format!("{}/close", path(&name));
                let answer = client.send(Method::POST, &path, Some(body)).await?;
                let done = closed(&answer.json()?);
                (answer, Some(done))
            }
        };
        match done {
            _ if self.target.json => print::raw(&answer.body),
            Some(done) => print::line(&done),
            None => print::line(&describe(&answer.json()?)),
        };
        Ok(())
    }
}

/// What became of a namespace that was closed.
fn closed(answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    let (name, state, timers) = (text("namespace"), text("state"), text("processing_timers"));
    if text("result") == "ignored" {
        return format!("{name} was closed before, by {timers}; it is {state}");
    }
    match (&answer["drained"], &answer["discarded"]) {
        (Value::Number(count), _) => format!("closed {name}; processing timers drained: {count}"),
        (_, Value::Number(count)) => format!("closed {name}; processing timers discarded: {count}"),
        _ if state == "closed" => format!("closed {name}"),
        _ => format!("{name} is closing: it waits for its processing timers"),
    }
}

/// Pauses or resumes a namespace.
async fn stand(
    client: &Client,
    name: &str,
    verb: &str,
) -> Result<(Answer, Option<String>), Failure> {
    let path = format!("/v1/namespaces/{}/{verb}", escape(name));
    let answer = client.send(Method::POST, &path, None).await?;
    let result = answer.json()?;
    let done = match result["result"].as_str() {
        Some("ignored") if result["paused"] == true => format!("{name} was paused already"),
        Some("ignored") => format!("{name} was not paused"),
        _ => format!("{verb}d {name}"),
    };
    Ok((answer, Some(done)))
}

/// A list as a table, one namespace as indented JSON.
fn describe(answer: &Value) -> String {
    let Some(namespaces) = answer.get("namespaces").and_then(Value::as_array) else {
        return format!("{answer:#}");
    };
    let rows: Vec<Vec<String>> = namespaces.iter().map(row).collect();
    let table = print::table(&["NAMESPACE", "OPERATOR", "CLOCK"], &rows);
    match answer.get("next_page_token").and_then(Value::as_str) {
        Some(token) => format!("{table}\nthere are more: go on with --page-token {token}"),
        None => table,
    }
}

fn row(namespace: &Value) -> Vec<String> {
    let cell = |name: &str| namespace.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    vec![cell("namespace"), cell("operator"), cell("clock")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_tables_and_tell_of_more() {
        let answer = json!({"namespaces": [
            {"namespace": "default", "operator": "timers", "clock": "system", "version": 1},
        ], "next_page_token": "default"});
        assert_eq!(
            describe(&answer),
            "NAMESPACE  OPERATOR  CLOCK\ndefault    timers    system\n\
             there are more: go on with --page-token default"
        );
    }

    #[test]
    fn what_became_of_a_close_is_told() {
        let told = |result: &str, state: &str, timers: &str, count: Option<(&str, u64)>| {
            let mut answer = json!({"namespace": "n", "result": result, "state": state,
                "processing_timers": timers});
            if let Some((name, count)) = count {
                answer[name] = count.into();
            }
            closed(&answer)
        };
        for (told, expected) in [
            (
                told("closed", "closed", "drain", Some(("drained", 3))),
                "closed n; processing timers drained: 3",
            ),
            (
                told("closed", "closed", "discard", Some(("discarded", 0))),
                "closed n; processing timers discarded: 0",
            ),
            (told("closed", "closed", "wait", None), "closed n"),
            (
                told("closing", "closing", "wait", None),
                "n is closing: it waits for its processing timers",
            ),
            (
                told("ignored", "closed", "drain", None),
                "n was closed before, by drain; it is closed",
            ),
        ] {
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn flags_go_into_the_configuration_beside_the_json() {
        let flags = ConfigFlags {
            clock: Some("manual".to_owned()),
            resolution: None,
            spread: None,
            overdue: Some(parse_overdue("spread=10m").unwrap()),
            config: Some(r#"{"limits":{"timers":5}}"#.to_owned()),
        };
        let expected = r#"{"limits":{"timers":5},"clock":"manual","overdue":{"policy":"spread","over":"10m"}}"#;
        let found: Value = serde_json::from_str(&flags.into_json().unwrap()).unwrap();
        assert_eq!(found, serde_json::from_str::<Value>(expected).unwrap());
        assert_eq!(parse_overdue("drop").unwrap(), json!({"policy":"drop"}));
        for bad in ["", "spread", "drop=1s", "wait"] {
            assert!(parse_overdue(bad).is_err(), "{bad}");
        }
    }
}
