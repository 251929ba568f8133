//! `elements`: hand one to the namespace's function, or move a source of watermarks.

use super::client::query;
use super::{Failure, Place, json_time, print};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

/// `stormwheel elements`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stormwheel elements put anna '{\"page\":\"/home\"}' -n clicks
  stormwheel elements put anna '\"text needs its quotes\"' --timestamp 2026-01-01T00:00:00Z
  stormwheel elements watermark 2026-01-01T00:01:00Z --source shop
  stormwheel outputs -n clicks            what the function has emitted")]
pub struct Elements {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send one element
    Put {
        /// The key
        key: String,
        /// The value, as JSON
        value: String,
        /// When it happened: epoch milliseconds, or RFC 3339 with an offset (default: now)
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        timestamp: Option<String>,
        /// Which of the function's inputs it is for, from 0
        #[arg(long, value_name = "N")]
        input: Option<u8>,
        #[command(flatten)]
        source: Source,
    },
    /// Say that no element of the source at or before this time will follow
    Watermark {
        /// The time: epoch milliseconds, or RFC 3339 with an offset
        #[arg(value_name = "TIME", allow_hyphen_values = true)]
        time: String,
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Debug, Args)]
struct Source {
    /// The source of watermarks (default: default)
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

impl Elements {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (line, source) = self.action.line()?;
        let path = self.place.path(&format!("/elements{}", query([("source", source)])));
        let answer = self.place.client()?.send(Method::POST, &path, Some(line)).await?;
        let summary = answer.json()?;
        if let Some(error) = summary.pointer("/errors/0/error") {
            // Its own status stands in it.
            return Err(Failure::refused(0, error.to_string().as_bytes()));
        }
        if self.place.target.json {
            print::raw(&answer.body);
        } else {
            print::line(&describe(&summary));
        }
        Ok(())
    }
}

impl Action {
    /// The line to send, and the source that it is of.
    fn line(&self) -> Result<(String, Option<String>), Failure> {
        let mut fields = Map::new();
        match self {
            Self::Watermark { time, source } => {
                fields.insert("watermark".to_owned(), json_time(time));
                Ok((Value::Object(fields).to_string(), source.source.clone()))
            }
            Self::Put { key, value, timestamp, input, source } => {
                let value: Value = serde_json::from_str(value).map_err(|error| {
                    Failure::Usage(format!(
                        "the value must be JSON ({error}); a text needs its quotes: '\"text\"'"
                    ))
                })?;
                fields.insert("key".to_owned(), key.as_str().into());
                if let Some(timestamp) = timestamp {
                    fields.insert("timestamp".to_owned(), json_time(timestamp));
                }
                if let Some(input) = input {
                    fields.insert("input".to_owned(), (*input).into());
                }
                fields.insert("value".to_owned(), value);
                Ok((Value::Object(fields).to_string(), source.source.clone()))
            }
        }
    }
}

/// What became of it, and of its source.
fn describe(summary: &Value) -> String {
    let results = summary.get("results").and_then(Value::as_object);
    let results = results.into_iter().flat_map(|results| results.keys().cloned());
    // That a watermark was taken is said by what became of its source.
    let mut words: Vec<String> = results.filter(|result| result != "watermark").collect();
    if let Some(moved) = summary.get("watermark") {
        let text = |name: &str| moved.get(name).and_then(Value::as_str).unwrap_or_default();
        let at = moved.get("watermark").and_then(Value::as_i64);
        let at = at.map_or_else(|| "not there yet".to_owned(), print::time);
        words.push(format!("source {} {}, watermark {at}", text("source"), text("result")));
    }
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_read_well() {
        assert_eq!(describe(&json!({"results": {"processed": 1}})), "processed");
        let moved = json!({"source": "s", "result": "advanced", "watermark": 5});
        assert_eq!(
            describe(&json!({"results": {"watermark": 1}, "watermark": moved})),
            "source s advanced, watermark 1970-01-01T00:00:00.005Z"
        );
    }

    #[test]
    fn a_line_says_what_was_said() {
        let source = || Source { source: None };
        let put = |value: &str| Action::Put {
            key: "a".to_owned(),
            value: value.to_owned(),
            timestamp: Some("5".to_owned()),
            input: None,
            source: source(),
        };
        let line = put("{\"n\":1}").line().unwrap().0;
        assert_eq!(line, r#"{"key":"a","timestamp":5,"value":{"n":1}}"#);
        assert!(matches!(put("text").line(), Err(Failure::Usage(_))));
        let time = "2026-01-01T00:00:00Z".to_owned();
        let line = Action::Watermark { time, source: source() }.line().unwrap().0;
        assert_eq!(line, r#"{"watermark":"2026-01-01T00:00:00Z"}"#);
    }
}
