//! What is answered while the engine recovers: that the process lives, how far it is, and that
//! everything else has to wait.

use super::manners::{Head, Media};
use super::respond::{answer, problem};
use crate::wire::problem::{Problem, kinds};
use axum::body::Body;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use stormwheel::runtime::RecoveryProgress;
use tokio::time::Instant;

/// When it makes sense to ask again.
const RETRY_AFTER_MS: u64 = 1_000;

/// Answers until there is an engine.
pub(crate) struct Starting {
    local: SocketAddr,
    progress: Arc<RecoveryProgress>,
    since: Instant,
}

impl Starting {
    /// For a service that listens at `local`.
    pub(crate) fn new(local: SocketAddr, progress: Arc<RecoveryProgress>) -> Self {
        Self { local, progress, since: Instant::now() }
    }

    /// Answers a request.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if let Err(foreign) = Head::read(request.headers()).check_origin(self.local) {
            return problem(&foreign);
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/livez" if is_read => answer(StatusCode::OK, Media::Json, r#"{"status":"ok"}"#),
            "/readyz" if is_read => self.unready(),
            _ => problem(&self.refusal()),
        }
    }

    fn unready(&self) -> Response<Body> {
        let body = json!({
            "status": "starting",
            "checks": [{ "name": "recovery", "ok": false, "detail": self.detail() }],
        });
        let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, Media::Json, body.to_string());
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }

    fn refusal(&self) -> Problem {
        Problem::new(&kinds::STARTING, self.detail()).retry_after_ms(RETRY_AFTER_MS)
    }

    fn detail(&self) -> String {
        let seconds = self.since.elapsed().as_secs();
        let (keys, replayed, of) = self.progress.look();
        let log = if of == 0 {
            format!("{replayed} bytes of the log followed")
        } else {
            format!("{replayed} of {of} bytes of the log followed")
        };
        format!("recovering for {seconds} s: {keys} keys loaded, {log}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn check(method: &str, path: &str, host: &str, status: u16) {
        let progress = Arc::new(RecoveryProgress::default());
        let starting = Starting::new(([127, 0, 0, 1], 7400).into(), progress);
        let request = Request::builder().method(method).uri(path).header("host", host);
        let response = starting.answer(&request.body(()).unwrap());
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{path}");
    }

    #[tokio::test]
    async fn only_that_it_lives_is_answered() {
        check("GET", "/livez", "localhost", 200);
        check("GET", "/livez", "elsewhere", 403);
        check("POST", "/livez", "localhost", 503);
        check("GET", "/readyz", "localhost", 503);
        check("GET", "/v1/namespaces", "localhost", 503);
        check("PUT", "/v1/keys/k/timers/t", "localhost", 503);
    }

    #[tokio::test]
    async fn how_far_it_is_stands_in_a_sentence() {
        let progress = Arc::new(RecoveryProgress::default());
        let starting = Starting::new(([127, 0, 0, 1], 7400).into(), Arc::clone(&progress));
        progress.loaded_keys.store(5, Ordering::Relaxed);
        assert!(starting.detail().ends_with("5 keys loaded, 0 bytes of the log followed"));
        progress.replay_bytes.store(9, Ordering::Relaxed);
        assert!(starting.detail().ends_with("0 of 9 bytes of the log followed"));
    }
}
