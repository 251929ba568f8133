//! `timers`: register, look up, list, cancel, push back.

use super::client::{escape, query};
use super::{Client, Failure, Place, json_time, outputs, print};
use crate::bench::wall_ms;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

/// `stormwheel timers`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stormwheel timers put order-17 --after 3s --follow       wait, and see it fire
  stormwheel timers put order-17 --name expiry --at 2026-12-24T18:00:00Z --payload '{\"n\":1}'
  stormwheel timers list order-17
  stormwheel timers list --due-before 2026-12-25T00:00:00Z
  stormwheel timers touch device-9 --after 60s             a heartbeat
  stormwheel timers cancel order-17 --all

A key that begins with ~ is base64url of bytes that are not text.")]
pub struct Timers {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register a timer
    Put(Put),
    /// Look a named timer up
    Get {
        /// The key
        key: String,
        /// The timer's name
        name: String,
        #[command(flatten)]
        domain: Domain,
    },
    /// List the timers of a key, or what falls due in the namespace
    List(List),
    /// Cancel one timer by its name or time, or all of a key
    Cancel(Cancel),
    /// Push a key's named timer back to now + --after, made if absent
    Touch {
        /// The key
        key: String,
        /// How long from now, as "60s" or "PT1M"
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        after: String,
        /// The timer's name (default: timeout)
        #[arg(long)]
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Domain {
    /// Event time or processing time
    #[arg(long, value_parser = ["processing", "event"])]
    domain: Option<String>,
}

#[derive(Debug, Args)]
struct Put {
    /// The key
    key: String,
    /// A name, under which the timer is replaced by the next; without one, its time identifies it
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    when: When,
    /// JSON that comes back with the fire
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    #[command(flatten)]
    domain: Domain,
    /// Wait until it fires, and show it
    #[arg(long, short)]
    follow: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct When {
    /// The time: epoch milliseconds, or RFC 3339 with an offset
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// How long from now, as "3s", "1h30m" or "PT3S"
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    after: Option<String>,
}

#[derive(Debug, Args)]
struct List {
    /// Only this key
    key: Option<String>,
    /// From this time on
    #[arg(long, value_name = "TIME", conflicts_with = "key", allow_hyphen_values = true)]
    due_after: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME", conflicts_with = "key", allow_hyphen_values = true)]
    due_before: Option<String>,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX", conflicts_with = "key")]
    key_prefix: Option<String>,
    /// At most so many (1 to 1000)
    #[arg(long, conflicts_with = "key")]
    limit: Option<u32>,
    /// Where the last page ended
    #[arg(long, value_name = "TOKEN", conflicts_with = "key")]
    page_token: Option<String>,
    #[command(flatten)]
    domain: Domain,
}

#[derive(Debug, Args)]
struct Cancel {
    /// The key
    key: String,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    domain: Domain,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The timer of this name
    #[arg(long)]
    name: Option<String>,
    /// The unnamed timer of this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// All timers of the key
    #[arg(long)]
    all: bool,
}

impl Timers {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.place.client()?;
        match &self.action {
            Action::Put(put) => put.run(&client, &self.place).await,
            Action::Get { key, name, domain } => {
                let query = query([("domain", domain.domain.clone())]);
                let path = format!("{}{query}", timer_path(key, Some(name)));
                self.print_timer(&client, Method::GET, &path, None).await
            }
            Action::List(list) => list.run(&client, &self.place).await,
            Action::Cancel(cancel) => cancel.run(&client, &self.place).await,
            Action::Touch { key, after, name } => {
                let mut body = Map::new();
                body.insert("after".to_owned(), after.as_str().into());
                if let Some(name) = name {
                    body.insert("name".to_owned(), name.as_str().into());
                }
                let path = format!("/keys/{}/touch", escape(key));
                let body = Value::Object(body).to_string();
                self.print_timer(&client, Method::POST, &path, Some(body)).await
            }
        }
    }

    async fn print_timer(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<(), Failure> {
        let answer = client.send(method, &self.place.path(path), body).await?;
        if self.place.target.json {
            print::raw(&answer.body);
        } else {
            print::line(&describe(&answer.json()?, wall_ms()));
        }
        Ok(())
    }
}

impl Put {
    async fn run(&self, client: &Client, place: &Place) -> Result<(), Failure> {
        let is_json = place.target.json;
        // The stream stands before the timer does, so that even an overdue one is seen.
        let mut stream = None;
        if self.follow {
            let query =
                query([("cursor", Some("latest".to_owned())), ("key", Some(self.key.clone()))]);
            stream = Some(client.open(&place.path(&format!("/outputs{query}"))).await?);
        }
        let method = if self.name.is_some() { Method::PUT } else { Method::POST };
        let path = place.path(&timer_path(&self.key, self.name.as_deref()));
        let answer = client.send(method, &path, Some(self.body()?)).await?;
        let registered = answer.json()?;
        if is_json {
            print::raw(&answer.body);
        } else {
            print::line(&describe(&registered, wall_ms()));
        }
        let Some(stream) = &mut stream else {
            return Ok(());
        };
        let fire_at = registered
            .get("fire_at")
            .and_then(Value::as_i64)
            .ok_or_else(|| Failure::Failed("the answer has no fire_at to wait for".to_owned()))?;
        outputs::await_fire(stream, self.name.as_deref(), fire_at, is_json).await
    }

    /// The body; a payload stands in it byte for byte as given.
    fn body(&self) -> Result<String, Failure> {
        let mut body = Map::new();
        if let Some(at) = &self.when.at {
            body.insert("at".to_owned(), json_time(at));
        }
        if let Some(after) = &self.when.after {
            body.insert("after".to_owned(), after.as_str().into());
        }
        if let Some(domain) = &self.domain.domain {
            body.insert("domain".to_owned(), domain.as_str().into());
        }
        let mut text = Value::Object(body).to_string();
        if let Some(payload) = &self.payload {
            serde_json::from_str::<&serde_json::value::RawValue>(payload).map_err(|error| {
                Failure::Usage(format!(
                    "--payload must be JSON ({error}); a text needs its quotes: '\"text\"'"
                ))
            })?;
            text.pop();
            text.push_str(",\"payload\":");
            text.push_str(payload);
            text.push('}');
        }
        Ok(text)
    }
}

impl List {
    async fn run(&self, client: &Client, place: &Place) -> Result<(), Failure> {
        let path = match &self.key {
            Some(key) => {
                let query = query([("domain", self.domain.domain.clone())]);
                format!("{}{query}", timer_path(key, None))
            }
            None => format!("/timers{}", self.query()),
        };
        let answer = client.send(Method::GET, &place.path(&path), None).await?;
        if place.target.json {
            print::raw(&answer.body);
            return Ok(());
        }
        let page = answer.json()?;
        print::line(&describe_list(&page, self.key.as_deref(), wall_ms()));
        if let Some(token) = page.get("next_page_token").and_then(Value::as_str) {
            print::line(&format!("there are more: go on with --page-token {token}"));
        }
        Ok(())
    }

    fn query(&self) -> String {
        query([
            ("due_after", self.due_after.clone()),
            ("due_before", self.due_before.clone()),
            ("key_prefix", self.key_prefix.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("page_token", self.page_token.clone()),
            ("domain", self.domain.domain.clone()),
        ])
    }
}

impl Cancel {
    async fn run(&self, client: &Client, place: &Place) -> Result<(), Failure> {
        let mut path = timer_path(&self.key, self.which.name.as_deref());
        path.push_str(&query([
            ("at", self.which.at.clone()),
            ("domain", self.domain.domain.clone()),
        ]));
        let answer = client.send(Method::DELETE, &place.path(&path), None).await?;
        if place.target.json {
            print::raw(&answer.body);
            return Ok(());
        }
        let cancelled = answer.json()?.get("cancelled").and_then(Value::as_u64).unwrap_or(0);
        print::line(&match cancelled {
            0 => "nothing to cancel: no such timer is pending".to_owned(),
            1 => "cancelled 1 timer; it will not fire".to_owned(),
            count => format!("cancelled {count} timers; they will not fire"),
        });
        Ok(())
    }
}

fn timer_path(key: &str, name: Option<&str>) -> String {
    let key = escape(key);
    match name {
        Some(name) => format!("/keys/{key}/timers/{}", escape(name)),
        None => format!("/keys/{key}/timers"),
    }
}

/// One timer in a line.
fn describe(timer: &Value, now_ms: i64) -> String {
    let text = |name: &str| timer.get(name).and_then(Value::as_str).unwrap_or_default();
    let result = match text("result") {
        "" => "registered",
        result => result,
    };
    let mut words = vec![result.to_owned(), outputs::timer_label(text("key"), text("name"))];
    if let Some(fire_at) = timer.get("fire_at").and_then(Value::as_i64) {
        let when = match text("domain") {
            "event" => "in event time".to_owned(),
            _ => print::relative(fire_at, now_ms),
        };
        words.push(format!("fires {} ({when})", print::time(fire_at)));
    }
    if timer.get("overdue").and_then(Value::as_bool) == Some(true) {
        words.push("overdue: its time had passed; are these seconds, not milliseconds?".to_owned());
    }
    words.extend(timer.get("payload").map(Value::to_string));
    words.join("  ")
}

/// A function's timer may be in a namespace instead of having a name.
fn timer_name(timer: &Value) -> String {
    let text = |name: &str| timer.get(name).and_then(Value::as_str);
    match (text("name"), text("timer_namespace")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(namespace)) => format!("[{namespace}]"),
        (None, None) => "-".to_owned(),
    }
}

fn describe_list(page: &Value, key: Option<&str>, now_ms: i64) -> String {
    let timers = page.get("timers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if timers.is_empty() {
        return "no timers".to_owned();
    }
    let cell = |timer: &Value, name: &str, absent: &str| {
        timer.get(name).and_then(Value::as_str).unwrap_or(absent).to_owned()
    };
    let rows: Vec<Vec<String>> = timers
        .iter()
        .map(|timer| {
            let fire_at = timer.get("fire_at").and_then(Value::as_i64).unwrap_or(0);
            vec![
                cell(timer, "key", key.unwrap_or("-")),
                timer_name(timer),
                cell(timer, "domain", "processing"),
                print::time(fire_at),
                print::relative(fire_at, now_ms),
                timer.get("payload").map_or_else(String::new, Value::to_string),
            ]
        })
        .collect();
    print::table(&["KEY", "NAME", "DOMAIN", "FIRES AT", "", "PAYLOAD"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn put(payload: Option<&str>) -> Put {
        Put {
            key: "k".to_owned(),
            name: None,
            when: When { at: Some("17".to_owned()), after: None },
            payload: payload.map(str::to_owned),
            domain: Domain { domain: Some("event".to_owned()) },
            follow: false,
        }
    }

    #[test]
    fn bodies_keep_the_payload_byte_for_byte() {
        assert_eq!(put(None).body().unwrap(), r#"{"at":17,"domain":"event"}"#);
        let body = put(Some(r#"{"b": 1e2, "a":[]}"#)).body().unwrap();
        assert_eq!(body, r#"{"at":17,"domain":"event","payload":{"b": 1e2, "a":[]}}"#);
        let error = put(Some("text")).body().unwrap_err().to_string();
        assert!(error.contains("--payload") && error.contains("quotes"), "{error}");
    }

    #[test]
    fn a_registration_reads_well() {
        let answer = json!({"key": "order-17", "name": "expiry", "domain": "processing",
                            "fire_at": 1_767_225_603_000_i64, "result": "created"});
        assert_eq!(
            describe(&answer, 1_767_225_600_000),
            "created  order-17/expiry  fires 2026-01-01T00:00:03.000Z (in 3.0 s)"
        );
    }

    #[test]
    fn lists_line_up() {
        let page = json!({"timers": [{"key": "a", "fire_at": 1000, "domain": "processing"},
                                     {"name": "n", "fire_at": 2000, "payload": 5},
                                     {"timer_namespace": "600", "fire_at": 3000}]});
        let text = describe_list(&page, Some("kk"), 0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[3].starts_with("kk   [600] "), "{}", lines[3]);
        assert!(lines[1].starts_with("a    -      processing  1970-01-01T00:00:01.000Z  in 1.0 s"));
        assert!(lines[2].starts_with("kk   n ") && lines[2].ends_with('5'), "{}", lines[2]);
        assert_eq!(describe_list(&json!({"timers": []}), None, 0), "no timers");
    }
}
