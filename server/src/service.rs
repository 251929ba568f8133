//! The running service: the engine and HTTP in front of it, started and stopped together.
//!
//! It can be run in-process: tests and `bench --quick` start it on port 0.

use crate::config::ServerConfig;
use crate::http::{Acceptor, App, Routed, StopSwitch, router};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stormwheel::ports::MachineClock;
use stormwheel::runtime::{Engine, Fault};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Why the service did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be.
    #[error("{0}")]
    Config(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    #[allow(missing_docs, reason = "the fields are named in the message")]
    Listen { address: SocketAddr, source: std::io::Error },
    /// The engine did not start.
    #[error("the engine did not start: {0}")]
    Engine(#[from] Fault),
    /// The figures could not be registered.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Starts services.
#[derive(Debug)]
pub struct Server;

/// A service that runs. It stops by [`RunningServer::stop`].
pub struct RunningServer {
    engine: Engine,
    local: SocketAddr,
    stopping: StopSwitch,
    accepting: JoinHandle<()>,
    shutdown_timeout: Duration,
}

impl Server {
    /// Starts the engine and serves HTTP. Must be called inside a tokio runtime.
    pub async fn start(
        config: ServerConfig,
        clock: Arc<dyn MachineClock>,
    ) -> Result<RunningServer, StartError> {
        config.validate().map_err(StartError::Config)?;
        // The address first: it is what is most often taken, and nothing has to be undone then.
        let address = config.listen;
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local = listener.local_addr().map_err(listen)?;
        let engine = Engine::start(&config.engine_options(), None, clock)?;
        let (stopping, stop) = StopSwitch::new();
        let (http, shutdown_timeout) = (config.http, config.shutdown_timeout.0);
        let app = Arc::new(App::new(engine.clone(), config, local, stop.clone())?);
        let throttled = app.metrics.throttled().clone();
        let acceptor = Acceptor::new(Routed::new(router(&app)), http, throttled);
        let accepting = tokio::spawn(acceptor.run(listener, stop));
        Ok(RunningServer { engine, local, stopping, accepting, shutdown_timeout })
    }
}

impl RunningServer {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Its engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stops: not ready any more, requests under way are finished, streams end, the engine works
    /// off what it took. Returns whether all that was done within `shutdown_timeout`; it never takes
    /// longer, and leaves behind what does.
    pub async fn stop(self) -> bool {
        let started = Instant::now();
        self.stopping.stop();
        let mut accepting = self.accepting;
        // The last tenth belongs to the engine, whatever the connections do.
        let patience = self.shutdown_timeout.saturating_sub(self.shutdown_timeout / 10);
        let finished = timeout(patience, &mut accepting).await.is_ok();
        if !finished {
            tracing::warn!("some connections did not finish in time and are cut");
            accepting.abort();
        }
        let engine = self.engine;
        // It joins threads, which would hold up a worker of the runtime.
        let joined = tokio::task::spawn_blocking(move || engine.stop());
        let left = self.shutdown_timeout.saturating_sub(started.elapsed());
        let stopped = timeout(left, joined).await.is_ok_and(|joined| joined.is_ok());
        if !stopped {
            tracing::error!("the shards did not stop in time and are left behind");
        }
        finished && stopped
    }
}
