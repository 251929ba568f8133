//! How a timer service is opened.
//!
//! It is an engine with one shard and one lane: one thread that does the work, and an order of
//! fires over all keys. What it keeps on disk are small segments: a service of a few thousand timers
//! should not take the room of a server.

use super::core::{Core, Stored, ask_namespaces};
use super::{Error, OverduePolicy, TimerService};
use crate::namespace::ClockKind;
use crate::ports::MachineClock;
use crate::runtime::{Engine, EngineOptions, FolderDisk, FolderStore, StorageOptions, SystemClock};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a segment: room for the largest payload several times over.
const SEGMENT_BYTES: u64 = 4 << 20;

/// How a timer service is opened; the default is what [`TimerService::in_memory`] and
/// [`TimerService::open`] take.
///
/// ```
/// use stormwheel::timer_service::{Options, OverduePolicy};
///
/// # let folder = std::env::temp_dir().join(format!("stormwheel-options-{}", std::process::id()));
/// let timers = Options::new()
///     // Timeouts: what was to be silent for ten minutes gets the rest of them after a downtime.
///     .overdue(OverduePolicy::Shift)
///     .disk_bytes_max(1 << 30)
///     .open(&folder)?;
/// # timers.close()?;
/// # let _ = std::fs::remove_dir_all(&folder);
/// # Ok::<(), stormwheel::timer_service::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Options {
    clock: ClockKind,
    overdue: OverduePolicy,
    disk_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: ClockKind::System, overdue: OverduePolicy::Fire, disk_bytes_max: u64::MAX }
    }
}

impl Options {
    /// The machine's clock; what fell due while nobody was there fires as soon as somebody is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Time only moves when [`TimerService::poll_due`] or [`TimerService::advance`] says so: for
    /// tests, and for programs with a clock of their own. A directory keeps the clock that its timers
    /// were scheduled on, and where a manual one stood.
    #[must_use]
    pub fn manual_clock(mut self) -> Self {
        self.clock = ClockKind::Manual;
        self
    }

    /// What happens to timers that fell due while the service was closed. Not for a manual clock,
    /// which stood still meanwhile.
    #[must_use]
    pub fn overdue(mut self, policy: OverduePolicy) -> Self {
        self.overdue = policy;
        self
    }

    /// Bytes that the files in the directory may take. Beyond them what is scheduled is refused
    /// (`Rejection::DiskFull`), and nothing is lost. Not for a service in memory.
    #[must_use]
    pub fn disk_bytes_max(mut self, bytes: u64) -> Self {
        self.disk_bytes_max = bytes;
        self
    }

    /// A service that forgets everything as it goes.
    pub fn in_memory(&self) -> Result<TimerService, Error> {
        self.start(None, Arc::new(SystemClock))
    }

    /// A service that keeps everything in this directory.
    pub fn open(&self, directory: impl AsRef<Path>) -> Result<TimerService, Error> {
        let directory = directory.as_ref();
        let disk = FolderDisk::open(directory)?;
        let snapshots = FolderStore::new(directory.join("snapshots"));
        let storage = StorageOptions::new(Arc::new(disk), Arc::new(snapshots));
        self.start(Some(storage), Arc::new(SystemClock))
    }

    pub(super) fn engine_options() -> EngineOptions {
        EngineOptions {
            shards: 1,
            lanes: 1,
            // What goes is what was acknowledged, nothing else.
            output_bytes_max: usize::MAX,
            ..EngineOptions::default()
        }
    }

    /// What of the storage is the service's own business.
    pub(super) fn adapt(&self, storage: StorageOptions) -> StorageOptions {
        StorageOptions {
            segment_bytes: SEGMENT_BYTES,
            max_disk_bytes: self.disk_bytes_max,
            ..storage
        }
    }

    pub(super) fn start(
        &self,
        storage: Option<StorageOptions>,
        clock: Arc<dyn MachineClock>,
    ) -> Result<TimerService, Error> {
        let storage = storage.map(|storage| self.adapt(storage));
        let engine = Engine::start(&Self::engine_options(), storage, clock)?;
        let begun = self.begin(&engine);
        match begun {
            Ok(core) => Ok(TimerService::over(core)),
            Err(error) => {
                // It leaves the directory as it goes.
                engine.stop();
                Err(error)
            }
        }
    }

    fn begin(&self, engine: &Engine) -> Result<Arc<Core>, Error> {
        ask_namespaces(engine, self.clock, self.overdue).wait()?;
        Core::new(engine.clone(), Stored::ask(engine)?.wait()?)
    }
}
