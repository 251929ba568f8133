//! The engine: shards behind queues, and the one handle to them.

mod broadcast;
mod copies;
mod describe;

use super::batch::{Batch, Reply};
use super::clock::{ClockOptions, ClockStatus};
use super::common::{Common, Queued};
use super::directory::{Directory, NamespaceEntry};
use super::durability::{DurabilityMetrics, DurabilityStatus};
use super::fault::Fault;
use super::merge::Merge;
use super::metrics::{self, EngineMetrics};
use super::open::open;
use super::output_log::OutputLog;
use super::storage_options::StorageOptions;
use super::threads;
use crate::error::Rejection;
use crate::function::Operators;
use crate::key_group::xxh3_64;
use crate::limits::{
    LANES_DEFAULT, MAX_PARALLELISM_DEFAULT, OUTPUT_BYTES_DEFAULT, QUEUE_BYTES_DEFAULT,
};
use crate::namespace::{Asked, Command, CommandReply, DEFAULT_NAMESPACE, NamespaceConfig};
use crate::op::{Outcome, TimerView};
use crate::ports::MachineClock;
use crate::query::{Forecast, ForecastQuery, ListPage, ListPosition, ListQuery};
use crate::shard::{CommandRequest, Message, Read};
use crate::time::Domain;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{JoinHandle, available_parallelism, current};
use std::time::Duration;

/// What a question takes of a queue.
const READ_COST_BYTES: usize = 256;

/// How to start an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads that own keys.
    pub shards: u16,
    /// Lanes, which never change once there is data; 0: those of the data, or the default.
    pub lanes: u16,
    /// Key groups, which never change once there is data; 0: those of the data, or the default.
    pub max_parallelism: u16,
    /// Pin each shard's thread to a core.
    pub pin: bool,
    /// Timers that a shard fires, and operations that it takes in, before it looks at its queue and the
    /// clock again; 0: as many as take some hundred microseconds. What comes out does not depend on it.
    pub slice: u32,
    /// Bytes of requests that may wait for one shard.
    pub queue_bytes_max: usize,
    /// Bytes of outputs that are kept.
    pub output_bytes_max: usize,
    /// The adjusted clock.
    pub clock: ClockOptions,
    /// The functions that namespaces can run. What a data directory holds of one can be opened only
    /// while it is here.
    pub operators: Operators,
}

impl Default for EngineOptions {
    /// A shard for every second core: the others serve requests.
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from).min(256) as u16;
        Self {
            shards: (cores / 2).max(1),
            lanes: 0,
            max_parallelism: 0,
            pin: false,
            slice: 0,
            queue_bytes_max: QUEUE_BYTES_DEFAULT,
            output_bytes_max: OUTPUT_BYTES_DEFAULT,
            clock: ClockOptions::default(),
            operators: Operators::default(),
        }
    }
}

impl EngineOptions {
    /// The key groups of new data.
    pub fn new_max_parallelism(&self) -> u16 {
        if self.max_parallelism == 0 { MAX_PARALLELISM_DEFAULT } else { self.max_parallelism }
    }

    /// The lanes of new data: twice the cores, but not few, so that shards can be added later.
    pub fn new_lanes(&self) -> u16 {
        if self.lanes > 0 {
            return self.lanes;
        }
        let cores = available_parallelism().map_or(1, usize::from).min(256) as u16;
        LANES_DEFAULT.max(cores * 2).max(self.shards).min(self.new_max_parallelism())
    }
}

/// How the engine is doing.
#[derive(Debug, Clone)]
pub struct EngineStatus {
    /// It takes no more requests.
    pub stopping: bool,
    /// The adjusted clock.
    pub clock: ClockStatus,
    /// By shard.
    pub shards: Vec<ShardStatus>,
    /// What writes, and is at it just now.
    pub writers: Vec<WriterStatus>,
}

/// How a shard is doing.
#[derive(Debug, Clone, Copy)]
pub struct ShardStatus {
    /// Milliseconds since it last went round (it does at least once a second).
    pub since_last_turn_ms: i64,
    /// Its thread is running.
    pub alive: bool,
}

/// A thread that waits for a disk or a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterStatus {
    /// What it writes: `journal 0`, `outputs`, `checkpoints`.
    pub name: String,
    /// How long its present piece of work has taken so far, in milliseconds.
    pub since_ms: i64,
    /// Requests or readers wait for it.
    pub is_waited_for: bool,
}

/// When a request that was refused for a full queue makes sense again.
const RETRY_AFTER_MS: u64 = 100;

/// The handle to a running engine. Cheap to clone; the engine stops by [`Engine::stop`].
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    common: Arc<Common>,
    queue_bytes_max: usize,
    operators: Operators,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Starts: recovers what the storage holds, then serves. There is always a namespace `default`.
    pub fn start(
        options: &EngineOptions,
        storage: Option<StorageOptions>,
        clock: Arc<dyn MachineClock>,
    ) -> Result<Self, Fault> {
        let opened = open(options, storage, clock, true)?;
        let engine = Self::over(Arc::clone(&opened.common), options);
        let threads = threads::spawn(opened, options.pin)?;
        *engine.inner.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        let created = engine.create_default();
        // Nothing else is asked of the shards yet: it is answered or they have ended, and say why.
        let _: Result<(), mpsc::RecvError> = created.recv();
        Ok(engine)
    }

    /// The handle to the parts that share this.
    pub(super) fn over(common: Arc<Common>, options: &EngineOptions) -> Self {
        let queue_bytes_max = options.queue_bytes_max;
        let operators = options.operators.clone();
        let inner = Inner { common, queue_bytes_max, operators, threads: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Asks for the namespace `default`, if it is not there; says when that was answered.
    pub(super) fn create_default(&self) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        if self.namespace(DEFAULT_NAMESPACE).is_ok() {
            // Nobody listening is as good as somebody who knows.
            let _ = sender.send(());
            return receiver;
        }
        let config = NamespaceConfig::default();
        let put = Command::Put { config, expected_version: None };
        let reply = Box::new(move |_| {
            let _ = sender.send(());
        });
        self.command(DEFAULT_NAMESPACE, put, false, reply);
        receiver
    }

    fn common(&self) -> &Common {
        &self.inner.common
    }

    /// The namespaces as they are now.
    pub fn directory(&self) -> Arc<Directory> {
        self.common().namespaces.directory()
    }

    /// The namespace of this name.
    pub fn namespace(&self, name: &str) -> Result<Arc<NamespaceEntry>, Rejection> {
        self.common().namespaces.get(name).ok_or(Rejection::NamespaceUnknown)
    }

    /// An empty batch for a namespace.
    pub fn batch(&self, namespace: &Arc<NamespaceEntry>) -> Batch {
        let common = self.common();
        Batch::new(Arc::clone(namespace), common.layout, common.payload_bytes_max())
    }

    /// Hands a batch to the shards. The reply has one outcome for each operation, in order; where
    /// a shard's queue is full, its operations are refused and the others go ahead.
    pub fn submit(&self, batch: Batch, reply: Reply<Vec<Outcome>>) {
        batch.submit(reply, |shard, cost_bytes, part| {
            if let Err(rejection) = self.admit(shard, cost_bytes) {
                return Err(Box::new((rejection, part)));
            }
            self.enqueue(shard, Message::Ops(part), cost_bytes);
            Ok(())
        });
    }

    /// Makes room for a request in a shard's queue, or says why there is none.
    fn admit(&self, shard: usize, cost_bytes: usize) -> Result<(), Rejection> {
        let common = self.common();
        // Acquire pairs with the release in `stop`.
        if common.is_stopping.load(Ordering::Acquire) {
            return Err(Rejection::Stopping);
        }
        if common.is_poisoned() {
            return Err(Rejection::Poisoned);
        }
        let cells = &common.cells[shard];
        let before = cells.queue_bytes.fetch_add(cost_bytes, Ordering::Relaxed);
        // One that is larger than the whole queue is let in when nothing else waits.
        if before > 0 && before + cost_bytes > self.inner.queue_bytes_max {
            cells.queue_bytes.fetch_sub(cost_bytes, Ordering::Relaxed);
            cells.throttled.fetch_add(1, Ordering::Relaxed);
            return Err(Rejection::QueueFull { retry_after_ms: RETRY_AFTER_MS });
        }
        Ok(())
    }

    fn enqueue(&self, shard: usize, message: Message, cost_bytes: usize) {
        let common = self.common();
        common.cells[shard].queue_depth.fetch_add(1, Ordering::Relaxed);
        // A shard that has ended drops the message, and with it the reply.
        let _ = common.queues[shard].send(Queued { message, cost_bytes });
    }

    /// Asks one shard; `message` gets the reply back if the shard's queue has no room.
    fn ask<T: Send + 'static>(
        &self,
        shard: usize,
        reply: Reply<Result<T, Rejection>>,
        message: impl FnOnce(Reply<Result<T, Rejection>>) -> Message,
    ) {
        self.ask_costing(READ_COST_BYTES, shard, reply, message);
    }

    /// The same, of a question that takes so many bytes of the queue.
    fn ask_costing<T: Send + 'static>(
        &self,
        cost_bytes: usize,
        shard: usize,
        reply: Reply<Result<T, Rejection>>,
        message: impl FnOnce(Reply<Result<T, Rejection>>) -> Message,
    ) {
        match self.admit(shard, cost_bytes) {
            Ok(()) => self.enqueue(shard, message(reply), cost_bytes),
            Err(rejection) => reply(Err(rejection)),
        }
    }

    fn shard_of(&self, key: &[u8]) -> usize {
        let layout = self.common().layout;
        layout.shard_of(layout.lane_of(layout.group_of(xxh3_64(key)))).0 as usize
    }

    /// The timers of one key, by (domain, `fire_at`, name), due ones hidden.
    pub fn key_timers(
        &self,
        namespace: &NamespaceEntry,
        key: &[u8],
        reply: Reply<Result<Vec<TimerView>, Rejection>>,
    ) {
        let (namespace, key) = (namespace.id, key.to_vec());
        self.ask(self.shard_of(&key), reply, |reply| {
            Message::Read(Read::Key { namespace, key, reply })
        });
    }

    /// The state of a key, as the namespace's function has written it down; none if it has none.
    pub fn key_state(
        &self,
        namespace: &NamespaceEntry,
        key: &[u8],
        reply: Reply<Result<Option<Vec<u8>>, Rejection>>,
    ) {
        let (namespace, key) = (namespace.id, key.to_vec());
        self.ask(self.shard_of(&key), reply, |reply| {
            Message::Read(Read::State { namespace, key, reply })
        });
    }

    /// One named timer of a key; none if it is not registered, or due.
    pub fn key_timer(
        &self,
        namespace: &NamespaceEntry,
        key: &[u8],
        domain: Domain,
        name: &str,
        reply: Reply<Result<Option<TimerView>, Rejection>>,
    ) {
        let (namespace, key, name) = (namespace.id, key.to_vec(), name.to_owned());
        self.ask(self.shard_of(&key), reply, |reply| {
            Message::Read(Read::Timer { namespace, key, domain, name, reply })
        });
    }

    /// A page of pending timers over all keys.
    pub fn list(
        &self,
        namespace: &NamespaceEntry,
        query: &ListQuery,
        reply: Reply<Result<ListPage, Rejection>>,
    ) {
        let (namespace, limit) = (namespace.id, query.limit);
        let shards = self.common().queues.len();
        let merge = Merge::new(shards, reply, move |pages: Vec<ListPage>| {
            let more = pages.iter().any(|page| page.more);
            let mut timers: Vec<_> = pages.into_iter().flat_map(|page| page.timers).collect();
            timers.sort_by_cached_key(ListPosition::of);
            let more = more || timers.len() > limit;
            timers.truncate(limit);
            ListPage { timers, more }
        });
        for shard in 0..shards {
            let query = query.clone();
            self.ask(shard, merge.part(), |reply| {
                Message::Read(Read::List { namespace, query, reply })
            });
        }
    }

    /// How many timers fall due when.
    pub fn forecast(
        &self,
        namespace: &NamespaceEntry,
        query: ForecastQuery,
        reply: Reply<Result<Forecast, Rejection>>,
    ) {
        let namespace = namespace.id;
        let shards = self.common().queues.len();
        let merge = Merge::new(shards, reply, |parts: Vec<Forecast>| {
            let mut sum = Forecast::default();
            for part in parts {
                sum.counts.resize(part.counts.len(), 0);
                for (sum, count) in sum.counts.iter_mut().zip(part.counts) {
                    *sum += count;
                }
                sum.before += part.before;
                sum.after += part.after;
            }
            sum
        });
        for shard in 0..shards {
            self.ask(shard, merge.part(), |reply| {
                Message::Read(Read::Forecast { namespace, query, reply })
            });
        }
    }

    /// A command to the namespace of this name. With `settle`, the reply comes once everything
    /// that it made due can be read, and says how many fired; a clock command always settles.
    pub fn command(
        &self,
        name: &str,
        command: Command,
        settle: bool,
        reply: Reply<Result<CommandReply, Rejection>>,
    ) {
        if command == Command::Resume {
            self.resume(name, settle, reply);
        } else {
            self.send_command(name, command, settle, reply);
        }
    }

    pub(super) fn send_command(
        &self,
        name: &str,
        command: Command,
        settle: bool,
        reply: Reply<Result<CommandReply, Rejection>>,
    ) {
        let entry = self.common().namespaces.get(name);
        if let Command::Put { config, .. } = &command
            && let Err(rejection) =
                self.inner.operators.check(config).and_then(|()| self.check_size(config))
        {
            // Refused before it is written down: what is written down can be run.
            reply(Err(rejection));
            return;
        }
        let mut cost_bytes = READ_COST_BYTES;
        if let Command::Broadcast(it) = &command {
            if let Err(rejection) = self.check_broadcast(entry.as_deref(), it) {
                reply(Err(rejection));
                return;
            }
            cost_bytes += it.value.len();
        }
        let [pending, keys] = entry.map_or([0; 2], |entry| [entry.pending(), entry.keys()]);
        let name = name.to_owned();
        let may_begin = matches!(command, Command::Put { .. } | Command::Delete { .. });
        let cursor = may_begin.then(|| self.outputs().latest().0);
        let keeps_options = matches!(&command, Command::Put { config, .. }
            if keys > 0 && self.inner.operators.keeps_options(config));
        self.ask_costing(cost_bytes, self.shard_of(name.as_bytes()), reply, |reply| {
            let asked =
                Box::new(Asked { name, command, settle, pending, keys, cursor, keeps_options });
            Message::Command(CommandRequest { asked, reply })
        });
    }

    /// Whether the log has room for a configuration.
    fn check_size(&self, config: &NamespaceConfig) -> Result<(), Rejection> {
        let limit = self.common().payload_bytes_max();
        let bytes = serde_json::to_vec(config).map_or(0, |json| json.len());
        if bytes <= limit {
            return Ok(());
        }
        let detail = format!("the configuration has {bytes} bytes as JSON, allowed are {limit}");
        Err(Rejection::OptionInvalid { field: "options", detail })
    }

    /// Says when everything that is due by now, in any namespace, has fired and can be read.
    pub fn fired(&self, reply: Reply<Result<(), Rejection>>) {
        let shards = self.common().queues.len();
        let merge = Merge::new(shards, reply, |_| ());
        for shard in 0..shards {
            self.ask(shard, merge.part(), |reply| {
                Message::Fired(Box::new(move |()| reply(Ok(()))))
            });
        }
    }

    /// The output log.
    pub fn outputs(&self) -> &Arc<OutputLog> {
        &self.inner.common.outputs
    }

    /// All figures, added up.
    pub fn metrics(&self) -> EngineMetrics {
        let common = self.common();
        let mut all = metrics::sum(common.cells.iter());
        all.output_log_bytes = common.outputs.len_bytes() as u64;
        all.outputs = common.outputs.appended();
        let lateness = common.engine_cells.lateness();
        (all.lateness, all.restart_lateness) = (lateness.live, lateness.restart);
        all
    }

    /// How it is doing.
    pub fn status(&self) -> EngineStatus {
        let common = self.common();
        let clock = common.clock.status();
        // The machine's clock on both sides, looked at now: a shard that stands moves neither.
        let now_ms = common.clock.machine().boottime_ms();
        let shards = common.cells.iter().map(|cells| ShardStatus {
            since_last_turn_ms: now_ms - cells.last_turn_boot_ms.load(Ordering::Relaxed),
            alive: cells.is_alive.load(Ordering::Acquire),
        });
        let stopping = common.is_stopping.load(Ordering::Acquire);
        let (shards, writers) = (shards.collect(), common.watch.status(now_ms));
        EngineStatus { stopping, clock, shards, writers }
    }

    /// How its durability stands.
    pub fn durability(&self) -> DurabilityStatus {
        self.common().durability()
    }

    /// The figures of the log and of checkpoints.
    pub fn durability_metrics(&self) -> DurabilityMetrics {
        self.common().durability_metrics()
    }

    /// Accepts the leap of the clock that is held.
    pub fn accept_clock(&self) {
        self.common().clock.accept();
        self.nudge();
    }

    fn nudge(&self) {
        for shard in 0..self.common().queues.len() {
            self.enqueue(shard, Message::Nudge, 0);
        }
    }

    /// Stops: takes nothing more in, works off what was taken, takes a last checkpoint, ends the
    /// streams, joins the threads.
    pub fn stop(&self) {
        let common = self.common();
        // Release pairs with the acquire in `admit` and in the workers.
        common.is_stopping.store(true, Ordering::Release);
        self.nudge();
        if common.parts.get().is_some() && !common.is_poisoned() {
            let (sender, receiver) = mpsc::channel();
            self.checkpoint(Box::new(move |done| {
                let _ = sender.send(done);
            }));
            // Without it the next start follows the log: nothing is lost but time.
            let _: Result<_, mpsc::RecvTimeoutError> = receiver.recv_timeout(LAST_CHECKPOINT_MAX);
        }
        common.end();
        self.nudge();
        let mut threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever is woken by one of the threads may be the one who stops it.
        let own = current().id();
        for thread in threads.drain(..).filter(|thread| thread.thread().id() != own) {
            // One that panicked has said so on its way; there is nothing left to save of it here.
            let _ = thread.join();
        }
        common.outputs.close();
    }
}

/// How long a stop waits for its checkpoint.
const LAST_CHECKPOINT_MAX: Duration = Duration::from_secs(20);
