//! One request from its head to its answer: manners first, then the call, then the figures.
//!
//! Everything that is the same for all calls happens here once, in this order: the route is known,
//! conditions and origin are checked, the form of the answer is agreed on, the query is read, the
//! call is made. A call that panics answers 500 and harms no other request.

use super::accept::Service;
use super::body::{BodyLimits, read_body};
use super::bound::{Bound, Segment};
use super::kinds::UNEXPECTED_BODY;
use super::manners::{Head, Media};
use super::outputs::Streaming;
use super::query::Query;
use super::routes::{Call, Reads};
use super::starting::Starting;
use super::stopping::Stopping;
use super::watch::Phase;
use super::{
    batch, broadcast, checkpoints, elements, namespaces, outputs, respond, running, savepoints,
    timers, watermarks,
};
use crate::config::ServerConfig;
use crate::metrics::{Metrics, RouteMetrics, Throttled};
use crate::wire::key::parse_key;
use crate::wire::op::check_name;
use crate::wire::problem::{Problem, kinds};
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::ALLOW;
use http::{HeaderValue, Method, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use stormwheel::error::Rejection;
use stormwheel::namespace::is_identifier;
use stormwheel::runtime::{Engine, NamespaceEntry, Reply};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower::Service as _;

/// The namespace that is always there.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// What all calls share.
pub(crate) struct App {
    /// The engine.
    pub engine: Engine,
    /// How the service is configured.
    pub config: ServerConfig,
    /// Where it listens.
    pub local: SocketAddr,
    /// Its figures.
    pub metrics: Metrics,
    /// Turns true when the service stops.
    pub stopping: Stopping,
    /// `GET /openapi.json`.
    pub openapi: Bytes,
    unrouted: RouteMetrics,
    requests: AtomicU64,
    /// Makes request ids of different runs different.
    run: u32,
}

/// The name of one request in the log and in an answer that tells of a problem.
#[derive(Debug, Clone, Copy)]
struct RequestId {
    run: u32,
    number: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.run, self.number)
    }
}

/// One request, its manners checked, on its way to its call.
pub(super) struct Exchange<'a> {
    /// What all calls share.
    pub app: &'a Arc<App>,
    /// Its route.
    pub bound: &'a Bound,
    /// Its headers.
    pub head: Head<'a>,
    /// Its query.
    pub query: Query,
    /// The form of the answer.
    pub media: Media,
    path: &'a str,
    /// A lock that nobody waits for: bodies cannot be looked at from two threads, exchanges can.
    body: Mutex<Option<Body>>,
}

impl App {
    /// The shared part of a service that listens at `local`.
    pub(crate) fn new(
        engine: Engine,
        config: ServerConfig,
        local: SocketAddr,
        stopping: Stopping,
        throttled: Throttled,
    ) -> Result<Self, prometheus::Error> {
        let interval = if config.in_memory { Duration::ZERO } else { config.checkpoint.interval.0 };
        let metrics = Metrics::new(engine.clone(), throttled, interval)?;
        Ok(Self {
            unrouted: metrics.route("unrouted".to_owned(), "other", true),
            metrics,
            engine,
            config,
            local,
            stopping,
            openapi: Bytes::from(super::openapi::document()),
            requests: AtomicU64::new(0),
            run: RandomState::new().build_hasher().finish() as u32,
        })
    }

    /// Answers a request to a route.
    pub(crate) async fn answer(
        self: Arc<Self>,
        bound: Arc<Bound>,
        request: Request,
    ) -> Response<Body> {
        let started = Instant::now();
        let id = self.next_id();
        let (parts, body) = request.into_parts();
        let call = async {
            let exchange = self.admit(&bound, &parts, body)?;
            exchange.call().await
        };
        let response = match AssertUnwindSafe(call).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(problem)) => Self::refuse(&problem, id),
            Err(_) => {
                tracing::error!(request = %id, route = bound.template, "a call panicked");
                Self::refuse(
                    &Problem::new(&kinds::INTERNAL, format!("see the log for request {id}")),
                    id,
                )
            }
        };
        let status = response.status().as_u16();
        bound.metrics.observe(status, started.elapsed());
        tracing::debug!(
            request = %id,
            method = bound.route.verb.as_str(),
            route = bound.template,
            status,
            micros = started.elapsed().as_micros() as u64,
            "answered"
        );
        response
    }

    /// Answers a request that has no route.
    pub(crate) fn answer_unrouted(&self, request: &Request, allow: Option<&str>) -> Response<Body> {
        let id = self.next_id();
        let path = request.uri().path();
        let shown: String = path.chars().take(200).collect();
        let response = match allow {
            _ if let Err(foreign) = Head::read(request.headers()).check_origin(self.local) => {
                Self::refuse(&foreign, id)
            }
            Some(allow) => {
                let detail =
                    format!("{} does not take {}; it takes {allow}", shown, request.method());
                let mut response =
                    Self::refuse(&Problem::new(&kinds::METHOD_NOT_ALLOWED, detail), id);
                if let Ok(allow) = HeaderValue::from_str(allow) {
                    response.headers_mut().insert(ALLOW, allow);
                }
                response
            }
            None if path.contains("/keys//") => Self::refuse(&Rejection::KeyEmpty.into(), id),
            None if path.contains("/keys/") && path.ends_with("/timers/") => {
                Self::refuse(&Rejection::NameEmpty.into(), id)
            }
            None => {
                let detail =
                    format!("there is nothing at {shown}; /openapi.json lists all there is");
                Self::refuse(&Problem::new(&kinds::NOT_FOUND, detail), id)
            }
        };
        let status = response.status().as_u16();
        self.unrouted.observe(status, Duration::ZERO);
        response
    }

    fn refuse(problem: &Problem, id: RequestId) -> Response<Body> {
        let mut response = respond::problem(problem);
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            response.headers_mut().insert("x-request-id", id);
        }
        // Load is counted and told to the client; a line for each would fill a disk that is full.
        if problem.kind.status >= 500 && !problem.kind.is_load() {
            tracing::warn!(request = %id, slug = problem.kind.slug, "refused");
        }
        response
    }

    fn next_id(&self) -> RequestId {
        RequestId { run: self.run, number: self.requests.fetch_add(1, Ordering::Relaxed) }
    }

    fn admit<'a>(
        self: &'a Arc<Self>,
        bound: &'a Bound,
        parts: &'a http::request::Parts,
        body: Body,
    ) -> Result<Exchange<'a>, Problem> {
        let head = Head::read(&parts.headers);
        let target_bytes = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
        head.check_size(target_bytes)?;
        head.check_repeated()?;
        head.check_origin(self.local)?;
        head.check_conditions(bound.route.registers())?;
        head.producer.check(bound.route.takes_producer())?;
        let media = head.answer_media(bound.route.gives)?;
        let query = Query::parse(parts.uri.query(), bound.route.params)?;
        if bound.route.reads == Reads::Nothing && !body.is_end_stream() {
            let detail = "this call takes no body; what it should do goes into the path and query";
            return Err(Problem::new(&UNEXPECTED_BODY, detail));
        }
        Ok(Exchange {
            app: self,
            bound,
            head,
            query,
            media,
            path: parts.uri.path(),
            body: Mutex::new(Some(body)),
        })
    }
}

impl Exchange<'_> {
    async fn call(self) -> Result<Response<Body>, Problem> {
        match self.bound.route.call {
            Call::PutTimer | Call::PostTimer => timers::register(self).await,
            Call::GetTimer => timers::get(self).await,
            Call::GetKeyTimers => timers::get_all(self).await,
            Call::DeleteTimer => timers::delete(self).await,
            Call::DeleteKeyTimers => timers::delete_of_key(self).await,
            Call::Touch => timers::touch(self).await,
            Call::Batch => batch::run(self).await,
            Call::Elements => elements::run(self).await,
            Call::Broadcast => broadcast::run(self).await,
            Call::ListTimers => timers::list::list(self).await,
            Call::Forecast => timers::forecast::forecast(self).await,
            Call::PutNamespace => namespaces::put(self).await,
            Call::PatchNamespace => namespaces::patch(self).await,
            Call::ListNamespaces => namespaces::list(&self),
            Call::GetNamespace => namespaces::get(self).await,
            Call::DeleteNamespace => namespaces::delete(self).await,
            Call::PauseNamespace => namespaces::pause(self).await,
            Call::ResumeNamespace => namespaces::resume(self).await,
            Call::CloseNamespace => namespaces::close(self).await,
            Call::PutWatermark => watermarks::put(self).await,
            Call::DeleteWatermark => watermarks::delete(self).await,
            Call::GetWatermark => watermarks::get(self).await,
            Call::PutClock => watermarks::put_clock(self).await,
            Call::BeginCheckpoint => checkpoints::begin(self).await,
            Call::ListCheckpoints => checkpoints::list(&self),
            Call::GetCheckpoint => checkpoints::get(&self),
            Call::MakeSavepoint => savepoints::make(self).await,
            Call::ListSavepoints => savepoints::list(&self),
            Call::GetSavepoint => savepoints::get(&self),
            Call::RemoveSavepoint => savepoints::remove(&self).await,
            Call::AcceptClock => Ok(running::accept_clock(&self)),
            Call::Outputs => outputs::read(self).await,
            Call::Livez => running::livez(&self),
            Call::Readyz => running::readyz(&self),
            Call::Metrics => running::metrics(&self),
            Call::OpenApi => Ok(respond::json(self.app.openapi.clone())),
            Call::Problems => Ok(running::problems(&self)),
            Call::Problem => Ok(running::problem(&self)),
            Call::Home => Ok(running::home(&self)),
        }
    }

    /// A part of the path, percent-decoded.
    pub(super) fn segment(&self, segment: Segment) -> Result<Cow<'_, str>, Problem> {
        let raw = self.bound.raw_segment(self.path, segment);
        percent_decode_str(raw).decode_utf8().map_err(|_| {
            let what = segment.noun();
            let detail = format!(
                "the {what} in the path is not UTF-8 once decoded; a key that is not is spelt ~ and \
                 unpadded base64url"
            );
            Problem::new(&kinds::INVALID_UTF8, detail).field(what)
        })
    }

    /// The key in the path, as bytes.
    pub(super) fn key(&self) -> Result<Vec<u8>, Problem> {
        let text = self.segment(Segment::Key)?;
        parse_key(&text).map(Cow::into_owned)
    }

    /// The name of the timer in the path.
    pub(super) fn timer_name(&self) -> Result<Cow<'_, str>, Problem> {
        let name = self.segment(Segment::Name)?;
        check_name(&name)?;
        Ok(name)
    }

    /// A name in the path that has to be an identifier.
    pub(super) fn identifier(&self, segment: Segment) -> Result<Cow<'_, str>, Problem> {
        let name = self.segment(segment)?;
        if is_identifier(&name) {
            return Ok(name);
        }
        let what = segment.noun();
        let detail = format!("the name of a {what} is [A-Za-z0-9][A-Za-z0-9._-]{{0,127}}");
        Err(Problem::new(&kinds::INVALID_NAME, detail).field(what))
    }

    /// The name of the namespace.
    pub(super) fn namespace_name(&self) -> Result<Cow<'_, str>, Problem> {
        if self.bound.has(Segment::Namespace) {
            self.identifier(Segment::Namespace)
        } else {
            Ok(Cow::Borrowed(DEFAULT_NAMESPACE))
        }
    }

    /// The namespace.
    pub(super) fn namespace(&self) -> Result<Arc<NamespaceEntry>, Problem> {
        let name = self.namespace_name()?;
        self.app.engine.namespace(&name).map_err(|rejection| {
            let unknown = rejection == Rejection::NamespaceUnknown;
            let mut problem = Problem::from(rejection);
            if unknown {
                problem.detail = format!("there is no namespace `{name}`");
            }
            problem
        })
    }

    /// Reads the body, once.
    pub(super) async fn read_body(&mut self) -> Result<Bytes, Problem> {
        let http = &self.app.config.http;
        let bytes_max = match self.bound.route.reads {
            Reads::Batch(_) => http.batch_bytes_max,
            Reads::Single(_) | Reads::Nothing => http.body_bytes_max,
        };
        let limits = BodyLimits { bytes_max: bytes_max.0, timeout: http.body_timeout.0 };
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        match body {
            Some(body) => read_body(&self.head, body, limits).await,
            None => Ok(Bytes::new()),
        }
    }

    /// The body of a single request.
    pub(super) async fn read_json(&mut self) -> Result<Bytes, Problem> {
        self.head.body_media(self.bound.route.reads.media())?;
        self.read_body().await
    }
}

/// Asks the engine and waits for its reply.
pub(super) async fn ask<T: Send + 'static>(start: impl FnOnce(Reply<T>)) -> Result<T, Problem> {
    let (sender, receiver) = oneshot::channel();
    start(Box::new(move |answer| {
        // A client that went away in the meantime does not want the answer.
        drop(sender.send(answer));
    }));
    // An engine that drops the question without an answer has stopped.
    receiver.await.map_err(|_| Problem::from(Rejection::Stopping))
}

/// Like [`ask`], for questions that can be refused.
pub(super) async fn try_ask<T: Send + 'static>(
    start: impl FnOnce(Reply<Result<T, Rejection>>),
) -> Result<T, Problem> {
    ask(start).await?.map_err(Problem::from)
}

/// The routes as a service for connections; until they are there, what is said of the start.
#[derive(Clone)]
pub(crate) struct Routed {
    starting: Arc<Starting>,
    router: Arc<OnceLock<axum::Router>>,
}

impl Routed {
    /// A service without routes yet.
    pub(crate) fn new(starting: Starting) -> Self {
        Self { starting: Arc::new(starting), router: Arc::default() }
    }

    /// There is an engine: from now on it answers.
    pub(crate) fn ready(&self, router: axum::Router) {
        // Said once; a second time would change nothing.
        let _ = self.router.set(router);
    }
}

impl Service for Routed {
    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        phase: &Arc<Phase>,
    ) -> Response<Body> {
        let is_head = request.method() == Method::HEAD;
        let Some(router) = self.router.get() else {
            let response = self.starting.answer(&request);
            phase.waiting();
            return response;
        };
        let mut router = router.clone();
        // A router is always ready and never fails.
        let answered = router.call(request.map(Body::new)).await;
        let response = answered.unwrap_or_else(|never| match never {});
        match response.extensions().get::<Streaming>() {
            Some(streaming) if !is_head => streaming.begin(phase),
            _ => phase.waiting(),
        }
        response
    }
}
