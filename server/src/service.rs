//! The running service: the engine and HTTP in front of it, started and stopped together.
//!
//! It can be run in-process: tests and `bench --quick` start it on port 0.

use crate::builder::check_names;
use crate::config::ServerConfig;
use crate::http::{Acceptor, App, Routed, Starting, StopSwitch, router};
use crate::metrics::Throttled;
use crate::store::ObjectSnapshots;
use rustix::rand::{GetRandomFlags, getrandom};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stormwheel::function::Operators;
use stormwheel::ports::MachineClock;
use stormwheel::runtime::{
    Engine, EngineOptions, Fault, FolderDisk, FolderFault, RecoveryProgress, StorageOptions,
};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

/// How often a service looks whether its engine still writes.
const POISON_LOOK: Duration = Duration::from_millis(100);

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
    /// The data directory cannot be used.
    #[error("the data directory cannot be used: {0}")]
    Directory(#[from] FolderFault),
    /// The engine did not start.
    #[error("the engine did not start: {0}")]
    Engine(#[from] Fault),
    /// The thread that started the engine ended without an engine.
    #[error("the start of the engine broke off")]
    BrokeOff,
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
    /// Serves HTTP and starts the engine, which may have to recover what it was: meanwhile `/livez`
    /// says that the process lives, `/readyz` how far it is, and all else is refused. Must be called
    /// inside a tokio runtime.
    pub async fn start(
        config: ServerConfig,
        clock: Arc<dyn MachineClock>,
    ) -> Result<RunningServer, StartError> {
        Self::builder().start(config, clock).await
    }

    /// The same, with these operators.
    pub(crate) async fn start_with(
        config: ServerConfig,
        clock: Arc<dyn MachineClock>,
        operators: &Operators,
    ) -> Result<RunningServer, StartError> {
        config.validate().map_err(StartError::Config)?;
        check_names(operators)?;
        // The address first: it is what is most often taken, and nothing has to be undone then.
        let address = config.listen;
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local = listener.local_addr().map_err(listen)?;
        let (stopping, stop) = StopSwitch::new();
        let (http, shutdown_timeout) = (config.http, config.shutdown_timeout.0);
        let throttled = Throttled::new()?;
        let progress = Arc::new(RecoveryProgress::default());
        let routed = Routed::new(Starting::new(local, Arc::clone(&progress)));
        let acceptor = Acceptor::new(routed.clone(), http, throttled.clone());
        let accepting = tokio::spawn(acceptor.run(listener, stop.clone()));
        // If it does not start, the switch is dropped and the listener closes.
        let engine = start_engine(&config, clock, operators, progress).await?;
        let app = Arc::new(App::new(engine.clone(), config, local, stop, throttled)?);
        routed.ready(router(&app));
        Ok(RunningServer { engine, local, stopping, accepting, shutdown_timeout })
    }
}

/// Starts the engine on a thread of its own: it reads files, and may take its time.
async fn start_engine(
    config: &ServerConfig,
    clock: Arc<dyn MachineClock>,
    operators: &Operators,
    progress: Arc<RecoveryProgress>,
) -> Result<Engine, StartError> {
    let (config, runtime) = (config.clone(), Handle::current());
    let options = EngineOptions { operators: operators.clone(), ..config.engine_options() };
    let started = spawn_blocking(move || {
        let storage = storage_options(&config, runtime, progress)?;
        Ok(Engine::start(&options, storage, clock)?)
    });
    started.await.unwrap_or(Err(StartError::BrokeOff))
}

/// Where the engine keeps what it must not lose; nowhere, if everything is to be in memory.
fn storage_options(
    config: &ServerConfig,
    runtime: Handle,
    progress: Arc<RecoveryProgress>,
) -> Result<Option<StorageOptions>, StartError> {
    if config.in_memory {
        return Ok(None);
    }
    let snapshots = ObjectSnapshots::open(&config.snapshots.url, &config.data_dir, runtime)
        .map_err(|detail| StartError::Config(format!("snapshots.url: {detail}")))?;
    let disk = FolderDisk::open(&config.data_dir)?;
    Ok(Some(StorageOptions {
        disk: Arc::new(disk),
        snapshots: Arc::new(snapshots),
        snapshots_share_disk: config.snapshots.url.is_empty(),
        segment_bytes: config.segment_bytes.0 as u64,
        max_disk_bytes: config.disk_bytes_max(),
        checkpoint_interval_ms: config.checkpoint.interval.as_millis(),
        checkpoint_over_ms: config.checkpoint.over.as_millis(),
        savepoint_every_ms: config.savepoint.every.as_millis(),
        savepoints_kept: config.savepoint.keep,
        replay_other_version: config.replay_with_this_version,
        new_directory_id: random_id(),
        progress,
    }))
}

/// An id that nobody can guess; none if the system has no random numbers.
pub(crate) fn random_id() -> Option<[u8; 16]> {
    let mut id = [0; 16];
    getrandom(&mut id, GetRandomFlags::empty()).is_ok_and(|count| count == id.len()).then_some(id)
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

    /// Waits until the engine cannot write any more, and says why. Nothing is acknowledged from then
    /// on, and only a new process can know what is on the disk.
    pub async fn poisoned(&self) -> String {
        loop {
            if let Some(reason) = self.engine.durability().poisoned {
                return reason;
            }
            sleep(POISON_LOOK).await;
        }
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
        let joined = spawn_blocking(move || engine.stop());
        let left = self.shutdown_timeout.saturating_sub(started.elapsed());
        let stopped = timeout(left, joined).await.is_ok_and(|joined| joined.is_ok());
        if !stopped {
            tracing::error!("the shards did not stop in time and are left behind");
        }
        finished && stopped
    }
}
