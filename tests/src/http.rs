//! A client as plain as curl: a status that is an error is an answer, not an error.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request};
use ureq::{Agent, Error, SendBody};

/// Longest time for one answer; streams are read with `wait` and `limit`, never without an end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);

/// Bytes of one answer; `ureq` alone stops at 10 MB.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The content type; empty if there is none.
    pub content_type: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in the answer {}: {}", self.status, self.text))
    }

    /// The body as lines of JSON, blank ones left out.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let lines = self.text.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A header; empty if there is none, or if it is no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The same answer, if it has this status; else the test fails and shows it.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use, reason = "often only the status matters")]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

/// Talks to one server; keeps its connections.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    agent: Agent,
}

impl Client {
    /// A client for the server at `base`, which has no `/` at its end.
    pub fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_TIMEOUT))
            .proxy(None)
            .build();
        Self { base: base.to_owned(), agent: config.into() }
    }

    /// Gets a path; `Err` if nobody answers.
    pub fn try_get(&self, path: &str) -> Result<Answer, Error> {
        self.try_send(&Method::GET, path, &[], None)
    }

    /// Gets a path.
    pub fn get(&self, path: &str) -> Answer {
        self.send(&Method::GET, path, None)
    }

    /// Puts JSON.
    pub fn put(&self, path: &str, json: &str) -> Answer {
        self.send(&Method::PUT, path, Some(("application/json", json)))
    }

    /// Posts JSON.
    pub fn post(&self, path: &str, json: &str) -> Answer {
        self.send(&Method::POST, path, Some(("application/json", json)))
    }

    /// Posts lines of JSON.
    pub fn post_lines(&self, path: &str, lines: &str) -> Answer {
        self.send(&Method::POST, path, Some(("application/x-ndjson", lines)))
    }

    /// Deletes a path.
    pub fn delete(&self, path: &str) -> Answer {
        self.send(&Method::DELETE, path, None)
    }

    /// Sends a request; the body comes with its content type. `Err` if there was no whole answer.
    pub fn try_send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<(&str, &str)>,
    ) -> Result<Answer, Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match body {
            None => self.agent.run(request.body(SendBody::none())?)?,
            Some((content_type, text)) => {
                let request = request.header("content-type", content_type);
                self.agent.run(request.body(text)?)?
            }
        };
        let content_type = response.headers().get("content-type");
        Ok(Answer {
            status: response.status().as_u16(),
            content_type: content_type.map_or_else(String::new, |value| {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            }),
            headers: response.headers().clone(),
            text: response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?,
        })
    }

    /// Gets an endless answer and hands out its lines, blank ones too, until it ends or the
    /// connection dies. A last line without its end is not a line.
    pub fn stream(&self, path: &str) -> Result<impl Iterator<Item = String> + use<>, Error> {
        let request = Request::builder().method(Method::GET).uri(format!("{}{path}", self.base));
        let response = self.agent.run(request.body(SendBody::none())?)?;
        let status = response.status().as_u16();
        let mut reader = BufReader::new(response.into_body().into_reader());
        assert_eq!(status, 200, "{path}");
        Ok(std::iter::from_fn(move || {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            line.strip_suffix('\n').map(str::to_owned)
        }))
    }

    fn send(&self, method: &Method, path: &str, body: Option<(&str, &str)>) -> Answer {
        self.try_send(method, path, &[], body)
            .unwrap_or_else(|error| panic!("{method} {}{path}: {error}", self.base))
    }
}
