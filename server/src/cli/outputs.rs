//! `outputs`: what fired, as a page or as a stream; and the line that describes a fire, which
//! `timers put --follow` shares.

use super::client::query;
use super::{Client, Failure, LineBuffer, Place, print};
use crate::bench::wall_ms;
use clap::Args;
use http::Method;
use serde_json::{Map, Value};

/// `stormwheel outputs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stormwheel outputs                      the earliest outputs that are kept
  stormwheel outputs --follow             those, and then what fires from now on
  stormwheel outputs --follow --cursor latest --key order-17
  stormwheel outputs --tag late           what came too late for a function
  stormwheel outputs --cursor 4711 --limit 10 --json")]
pub struct Outputs {
    #[command(flatten)]
    place: Place,
    /// Go on reading as timers fire
    #[arg(long, short)]
    follow: bool,
    /// Start after this cursor; also `latest`, or a time (default: the earliest kept)
    #[arg(long)]
    cursor: Option<String>,
    /// Only outputs of this key (may be repeated)
    #[arg(long)]
    key: Vec<String>,
    /// Only outputs of keys that begin so (may be repeated)
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Vec<String>,
    /// Only outputs of timers of this name (may be repeated)
    #[arg(long)]
    name: Vec<String>,
    /// Only outputs of this side output; empty is the main one (may be repeated)
    #[arg(long)]
    tag: Vec<String>,
    /// At most so many (without --follow; 1 to 10000)
    #[arg(long, default_value_t = 100, conflicts_with = "follow")]
    limit: u32,
    /// Wait so long for the first one (without --follow), as "10s"
    #[arg(long, conflicts_with = "follow", value_name = "DURATION")]
    wait: Option<String>,
}

impl Outputs {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.place.client()?;
        if self.follow {
            return self.follow(&client).await;
        }
        let answer = client.send(Method::GET, &self.path(), None).await?;
        if self.place.target.json {
            print::raw(&answer.body);
            return Ok(());
        }
        let mut lines = LineBuffer::default();
        lines.feed(&answer.body, print_record);
        lines.feed(b"\n", print_record);
        if let Some(cursor) = answer.cursor {
            print::line(&format!("go on with --cursor {cursor}"));
        }
        Ok(())
    }

    async fn follow(&self, client: &Client) -> Result<(), Failure> {
        let mut stream = client.open(&self.path()).await?;
        let mut lines = LineBuffer::default();
        let mut is_read = true;
        while let Some(frame) = stream.frame().await? {
            lines.feed(&frame, |line| {
                is_read &= if self.place.target.json {
                    print::raw(&[line, b"\n"].concat())
                } else {
                    print::line(&describe(line))
                };
            });
            if !is_read {
                break;
            }
        }
        Ok(())
    }

    fn path(&self) -> String {
        let repeated = |name: &'static str, values: &[String]| {
            values.iter().map(|value| (name, Some(value.clone()))).collect::<Vec<_>>()
        };
        let mut parameters = vec![("cursor", self.cursor.clone())];
        parameters.extend(repeated("key", &self.key));
        parameters.extend(repeated("key_prefix", &self.key_prefix));
        parameters.extend(repeated("name", &self.name));
        parameters.extend(repeated("tag", &self.tag));
        if !self.follow {
            parameters.push(("limit", Some(self.limit.to_string())));
            parameters.push(("wait", self.wait.clone()));
        }
        self.place.path(&format!("/outputs{}", query(parameters)))
    }
}

fn print_record(line: &[u8]) {
    print::line(&describe(line));
}

/// One output record for a person. What is no record is shown as it is.
pub(super) fn describe(line: &[u8]) -> String {
    let Ok(Value::Object(record)) = serde_json::from_slice::<Value>(line) else {
        return String::from_utf8_lossy(line).into_owned();
    };
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| record.get(name).and_then(Value::as_i64);
    let Some(fire_at) = number("fire_at") else {
        return describe_value(&record)
            .unwrap_or_else(|| String::from_utf8_lossy(line).into_owned());
    };
    let mut words = vec![print::time(fire_at), "fired".to_owned()];
    words.push(timer_label(text("key"), text("name")));
    match (number("lateness_ms"), number("watermark")) {
        (Some(lateness), _) => words.push(format!("{lateness} ms late")),
        (None, Some(watermark)) => words.push(format!("watermark {watermark}")),
        (None, None) => {}
    }
    words.extend(record.get("payload").map(Value::to_string));
    words.join("  ")
}

/// What a function has emitted.
fn describe_value(record: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let value = record.get("value").map(Value::to_string);
    let value = value.or_else(|| Some(format!("base64 {}", text("value_base64")?)))?;
    // Not every output has a key, but an id each.
    record.get("id")?;
    let timestamp = record.get("timestamp").and_then(Value::as_i64).map(print::time);
    let mut words: Vec<String> = timestamp.into_iter().collect();
    words.extend(text("key").map(str::to_owned));
    words.extend(text("tag").map(|tag| format!("[{tag}]")));
    words.push(value);
    Some(words.join("  "))
}

/// A timer by its key, and its name if it has one.
pub(super) fn timer_label(key: &str, name: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{key}/{name}") }
}

/// Waits on a stream for the fire of one timer and describes it, as seen from here.
pub(super) async fn await_fire(
    stream: &mut super::Stream,
    name: Option<&str>,
    fire_at: i64,
    is_json: bool,
) -> Result<(), Failure> {
    let mut lines = LineBuffer::default();
    while let Some(frame) = stream.frame().await? {
        let now_ms = wall_ms();
        let mut found = None;
        lines.feed(&frame, |line| {
            let Ok(record) = serde_json::from_slice::<Value>(line) else {
                return;
            };
            let is_it = record.get("name").and_then(Value::as_str) == name
                && record.get("fire_at").and_then(Value::as_i64) == Some(fire_at);
            if is_it {
                found = Some(line.to_vec());
            }
        });
        let Some(line) = found else { continue };
        if is_json {
            print::raw(&[line.as_slice(), b"\n"].concat());
        } else {
            let read = now_ms.saturating_sub(fire_at);
            print::line(&format!("{}  (read here {read} ms after its time)", describe(&line)));
        }
        return Ok(());
    }
    Err(Failure::Failed("the stream of outputs ended before the timer fired".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_read_well() {
        let line = br#"{"id":"x","cursor":7,"key":"order-17","name":"expiry","domain":"processing",
            "fire_at":1767225600000,"fired_at":1767225600001,"lateness_ms":1,"payload":{"n":1}}"#;
        let words = r#"2026-01-01T00:00:00.000Z  fired  order-17/expiry  1 ms late  {"n":1}"#;
        assert_eq!(describe(line), words);
        let line = br#"{"key":"k","domain":"event","fire_at":5,"watermark":9}"#;
        assert_eq!(describe(line), "1970-01-01T00:00:00.005Z  fired  k  watermark 9");
        assert_eq!(describe(b"{\"value\":1}"), "{\"value\":1}");
    }

    #[test]
    fn values_read_well() {
        let line =
            br#"{"id":"x","cursor":7,"key":"anna","tag":"late","timestamp":5,"value":["a",1]}"#;
        assert_eq!(describe(line), r#"1970-01-01T00:00:00.005Z  anna  [late]  ["a",1]"#);
        let line = br#"{"id":"x","cursor":7,"key":"anna","value_base64":"AA=="}"#;
        assert_eq!(describe(line), "anna  base64 AA==");
        let line = br#"{"id":"x","cursor":7,"timestamp":5,"value":["a",1]}"#;
        assert_eq!(describe(line), r#"1970-01-01T00:00:00.005Z  ["a",1]"#);
    }
}
