//! The accept loop: connections in, bounded in number, in time and in the size of their heads.
//!
//! Plain text is HTTP/1.1 only, so there is no protocol to detect and nothing to hang in. Every
//! connection is one task; when the service stops, each finishes the request it is at.

use super::kinds::{CONNECTIONS_EXHAUSTED, TOO_MANY_CONNECTIONS};
use super::refusal::raw_answer;
use super::stopping::Stopping;
use super::watch::{Patience, Phase, Watched};
use crate::config::HttpConfig;
use crate::metrics::Throttled;
use crate::wire::problem::{Kind, Problem};
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Headers of one request; more are answered with 431.
pub(super) const HEADERS_MAX: usize = 64;
/// Bytes that are read ahead of one connection; a head that is larger is answered with 431.
const READ_AHEAD_BYTES_MAX: usize = 128 << 10;
/// How long a stop waits for the reader of a stream to take its end.
const STREAM_END: Duration = Duration::from_secs(2);
/// How long to wait when the machine has no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    /// Answers one; `phase` is told what the connection is busy with.
    fn answer(
        &self,
        request: Request<Incoming>,
        phase: &Arc<Phase>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// What bounds the connections of a listener.
pub(crate) struct Acceptor<S> {
    service: S,
    config: HttpConfig,
    connections: Arc<Semaphore>,
    per_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    throttled: Throttled,
}

impl<S: Service> Acceptor<S> {
    /// Serves by `service` within the limits of `config`.
    pub(crate) fn new(service: S, config: HttpConfig, throttled: Throttled) -> Self {
        Self {
            service,
            config,
            connections: Arc::new(Semaphore::new(
                config.connections_max.min(Semaphore::MAX_PERMITS),
            )),
            per_address: Arc::default(),
            throttled,
        }
    }

    /// Accepts until `stopping` says so, then waits until the connections have finished.
    pub(crate) async fn run(self, listener: TcpListener, mut stopping: Stopping) {
        // Every connection holds a clone of the sender's counterpart; when the last is gone, the
        // receiver hears it.
        let (open, mut all_closed) = tokio::sync::mpsc::channel::<Infallible>(1);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopping.wait() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some((stream, place)) = self.admit(stream, peer) {
                        let connection = self.serve(stream, stopping.clone());
                        let open = open.clone();
                        tokio::spawn(async move {
                            connection.await;
                            drop((place, open));
                        });
                    }
                }
                Err(error) => {
                    // A connection that broke before it was accepted is nobody's concern; a lack
                    // of sockets passes, and spinning on it would not help.
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((listener, open));
        all_closed.recv().await;
    }

    /// A place for a connection, or a polite refusal.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<(TcpStream, Place)> {
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            self.throttled.connections.inc();
            refuse(stream, &CONNECTIONS_EXHAUSTED, self.config.connections_max);
            return None;
        };
        let mut per_address = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = per_address.entry(peer.ip()).or_insert(0);
        if *count >= self.config.connections_per_ip_max {
            self.throttled.connections_per_ip.inc();
            refuse(stream, &TOO_MANY_CONNECTIONS, self.config.connections_per_ip_max);
            return None;
        }
        *count += 1;
        let place =
            Place { address: peer.ip(), per_address: self.per_address.clone(), _permit: permit };
        Some((stream, place))
    }

    fn serve(
        &self,
        stream: TcpStream,
        mut stopping: Stopping,
    ) -> impl Future<Output = ()> + Send + use<S> {
        let service = self.service.clone();
        let patience = Patience {
            header: self.config.header_timeout.0,
            idle: self.config.idle_timeout.0,
            write: self.config.write_timeout.0,
        };
        async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection broke at once");
                return;
            }
            let phase = Arc::new(Phase::default());
            let io = TokioIo::new(Watched::new(stream, phase.clone(), patience));
            let service = service_fn(|request| {
                phase.answering();
                let service = service.clone();
                let phase = phase.clone();
                async move { Ok::<_, Infallible>(service.answer(request, &phase).await) }
            });
            let connection = http1::Builder::new()
                // The watch below bounds heads and silence.
                .header_read_timeout(None)
                .max_headers(HEADERS_MAX)
                // Bounds what is read ahead, and so the largest head that is looked at; heads beyond
                // `manners::HEAD_BYTES_MAX` are answered in words. `pipeline_flush` stays off: hyper
                // then drops its answer to a head that it cannot read.
                .max_buf_size(READ_AHEAD_BYTES_MAX)
                .serve_connection(io, service);
            let mut connection = pin!(connection);
            let served = tokio::select! {
                biased;
                served = connection.as_mut() => served,
                () = stopping.wait() => {
                    let streams = phase.is_streaming();
                    connection.as_mut().graceful_shutdown();
                    if streams {
                        // The stream has ended; a reader that does not take its end is cut off.
                        tokio::time::timeout(STREAM_END, connection).await.unwrap_or(Ok(()))
                    } else {
                        connection.await
                    }
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended early");
            }
        }
    }
}

/// A connection's place among those that may be open.
struct Place {
    address: IpAddr,
    per_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut per_address = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&self.address);
            }
        }
    }
}

/// Says why before it closes. It must not wait for the client: what does not fit into the socket's
/// buffer at once is not said.
fn refuse(stream: TcpStream, kind: &'static Kind, limit: usize) {
    let mut problem =
        Problem::new(kind, format!("{limit} connections are open, which is all there may be"));
    problem.limit = Some(limit as u64);
    problem.retry_after_ms = Some(1_000);
    let answer = raw_answer(&problem);
    let written = stream.into_std().and_then(|mut stream| stream.write_all(&answer));
    if let Err(error) = written {
        tracing::debug!(%error, "a refusal could not be said");
    }
}
