//! A client as plain as curl: a status that is an error is an answer, not an error.

use std::time::Duration;
use ureq::http::{Method, Request};
use ureq::{Agent, Error, SendBody};

/// Longest time for one answer; streams are read with `wait` and `limit`, never without an end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The content type; empty if there is none.
    pub content_type: String,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in the answer {}: {}", self.status, self.text))
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
        self.try_send(&Method::GET, path, None)
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

    fn send(&self, method: &Method, path: &str, body: Option<(&str, &str)>) -> Answer {
        self.try_send(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {}{path}: {error}", self.base))
    }

    fn try_send(
        &self,
        method: &Method,
        path: &str,
        body: Option<(&str, &str)>,
    ) -> Result<Answer, Error> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
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
            text: response.body_mut().read_to_string()?,
        })
    }
}
