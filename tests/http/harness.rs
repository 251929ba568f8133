//! A service in this process and a client for it.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use stormwheel::runtime::SystemClock;
use stormwheel_server::config::ServerConfig;
use stormwheel_server::{RunningServer, Server, ServerBuilder};
use tokio::net::TcpStream;

/// Far beyond what anything takes; only a hang meets it.
pub(crate) const HANG: Duration = Duration::from_mins(1);

/// A running service.
pub(crate) struct Service {
    pub(crate) server: RunningServer,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::start_built(Server::builder(), change).await
    }

    /// Starts with functions of the test's own.
    pub(crate) async fn start_built(
        builder: ServerBuilder,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            in_memory: true,
            ..ServerConfig::default()
        };
        change(&mut config);
        let server = builder.start(config, Arc::new(SystemClock)).await.unwrap();
        Self { server }
    }

    /// Starts with a namespace `m` whose manual clock reads `now`.
    pub(crate) async fn manual(now: i64) -> Self {
        let service = Self::start().await;
        service.put("/v1/namespaces/m", r#"{"clock":"manual"}"#).await.expect(201);
        service.set_clock(now).await;
        service
    }

    /// Moves the clock of `m`; everything that it makes due can be read afterwards.
    pub(crate) async fn set_clock(&self, now: i64) -> Value {
        let body = format!("{{\"now\":{now}}}");
        self.put("/v1/namespaces/m/clock", &body).await.expect(200).json()
    }

    /// The records of `m` so far.
    pub(crate) async fn fired(&self) -> Vec<Value> {
        self.get("/v1/namespaces/m/outputs?limit=10000").await.expect(200).lines()
    }

    pub(crate) async fn connect(&self) -> http1::SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.server.local_addr()).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Sends a request and hands out the answer's head as soon as it is there.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let mut sender = self.connect().await;
        tokio::time::timeout(HANG, sender.send_request(request)).await.unwrap().unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let (head, body) = self.open(request).await.into_parts();
        let body = tokio::time::timeout(HANG, body.collect()).await.unwrap();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.unwrap().to_bytes(),
        }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(self.request(method, path, &[], body)).await
    }

    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send(self.request(method, path, headers, body)).await
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let mut builder = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            builder = builder.header("host", self.server.local_addr().to_string());
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Full::new(body.into())).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Answer {
        self.call("PUT", path, body.to_owned()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, body.to_owned()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, "").await
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Expects a problem of this kind, and that its parts agree with the answer.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, slug: &str) -> Value {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    /// The JSON objects of an NDJSON body.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An endless answer, line by line.
pub(crate) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn of(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), rest: Vec::new() }
    }

    /// The next line, blank ones too; `None` once the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let frame = tokio::time::timeout(HANG, self.body.frame()).await.unwrap();
            let data = frame?.unwrap().into_data().unwrap();
            self.rest.extend_from_slice(&data);
        }
    }

    /// The next line that is not blank.
    pub(crate) async fn next_full(&mut self) -> Option<String> {
        loop {
            match self.next().await {
                Some(line) if line.is_empty() => {}
                other => return other,
            }
        }
    }
}
