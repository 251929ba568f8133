//! The thread of a shard: takes turns while there is work, sleeps until there is some.

use super::clock::AdjustedClock;
use super::directory::Namespaces;
use super::metrics::{DueWithin, LatenessHistogram, ShardCells};
use super::output_log::OutputLog;
use crate::due_counts::SecondCounts;
use crate::key_group::{Layout, ShardIndex};
use crate::output::OutputBytes;
use crate::ports::Registry;
use crate::shard::{Message, Next, Pace, Room, Shard, Turn};
use crate::time::Timestamp;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// No sleep is longer: the clock may step, and is looked at again after each.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Figures that take a walk to gather are gathered no more often than this.
const WALK_EVERY_MS: i64 = 500;

/// A request as it waits in a queue.
pub(super) struct Queued {
    pub(super) message: Message,
    pub(super) cost_bytes: usize,
}

/// What the threads of an engine share.
pub(super) struct Common {
    pub(super) layout: Layout,
    pub(super) clock: AdjustedClock,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) outputs: Arc<OutputLog>,
    pub(super) queues: Vec<Sender<Queued>>,
    pub(super) cells: Vec<ShardCells>,
    pub(super) is_stopping: AtomicBool,
}

pub(super) struct Worker {
    index: ShardIndex,
    common: Arc<Common>,
    queue: Receiver<Queued>,
    shard: Shard,
    lateness: LatenessHistogram,
    busy: Duration,
    walked_ms: i64,
}

/// Says that the thread has ended, however it ends.
struct Alive<'a>(&'a ShardCells);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.is_alive.store(false, Ordering::Release);
    }
}

impl Worker {
    pub(super) fn new(index: ShardIndex, common: Arc<Common>, queue: Receiver<Queued>) -> Self {
        let registry = Arc::clone(&common.namespaces) as Arc<dyn Registry>;
        let shard = Shard::new(index, common.layout, Pace::default(), registry);
        let lateness = LatenessHistogram::default();
        Self { index, common, queue, shard, lateness, busy: Duration::ZERO, walked_ms: i64::MIN }
    }

    /// Runs until the engine stops and what was taken in is worked off.
    pub(super) fn run(mut self) {
        let common = Arc::clone(&self.common);
        let cells = &common.cells[self.index.0 as usize];
        let _alive = Alive(cells);
        let mut first = None;
        loop {
            let look = common.clock.look();
            let started = read_stopwatch();
            let next =
                self.turn(&common, Timestamp::from_millis(look.now_ms), look.is_held, first.take());
            self.busy += started.elapsed();
            cells.last_turn_ms.store(look.now_ms, Ordering::Relaxed);
            self.publish(cells, look.now_ms);
            let wait = match next {
                Next::Now => {
                    // In a storm: whoever serves requests on this core goes first for a moment.
                    std::thread::yield_now();
                    continue;
                }
                // Acquire: what was sent before the engine said so is in the queue.
                _ if common.is_stopping.load(Ordering::Acquire) && self.queue.is_empty() => return,
                Next::At(time) => until(&common.clock, time),
                Next::Never => SLEEP_MAX,
            };
            match self.queue.recv_timeout(wait) {
                Ok(queued) => first = Some(queued),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn turn(
        &mut self,
        common: &Common,
        now: Timestamp,
        is_held: bool,
        mut first: Option<Queued>,
    ) -> Next {
        let cells = &common.cells[self.index.0 as usize];
        let queue = &self.queue;
        let mut inbox = || {
            let queued = first.take().or_else(|| queue.try_recv().ok())?;
            cells.queue_bytes.fetch_sub(queued.cost_bytes, Ordering::Relaxed);
            cells.queue_depth.fetch_sub(1, Ordering::Relaxed);
            Some(queued.message)
        };
        let (turn, next) = self.shard.turn(now, is_held, Room::ENDLESS, &mut inbox);
        if !turn.is_empty() {
            self.commit(common, turn, now);
        }
        next
    }

    /// Without files, what is applied is as durable as it gets.
    fn commit(&mut self, common: &Common, turn: Turn, now: Timestamp) {
        let Turn { blocks: _, written, synced, outputs, visible } = turn;
        for release in written {
            release();
        }
        let mut send = |shard, message| common.send(shard, message);
        for block in outputs {
            observe(&mut self.lateness, &common.clock, &block);
            common.outputs.append(block, now.as_millis());
        }
        synced.run(&mut send);
        visible.run(&mut send);
    }

    fn publish(&mut self, cells: &ShardCells, now_ms: i64) {
        let walks = now_ms >= self.walked_ms.saturating_add(WALK_EVERY_MS);
        if walks {
            self.walked_ms = now_ms;
        }
        let (shard, lateness, busy) = (&self.shard, self.lateness, self.busy);
        cells.publish(|figures| {
            figures.stats = *shard.stats();
            figures.lateness = lateness;
            figures.busy_seconds = busy.as_secs_f64();
            figures.oldest_due_ms = shard.oldest_due().map(Timestamp::as_millis);
            if !walks {
                return;
            }
            let near = shard.near();
            let now = SecondCounts::step_of(Timestamp::from_millis(now_ms));
            figures.overdue = near.count(i64::MIN..now);
            for (count, (_, bound_ms)) in
                figures.due_within.counts.iter_mut().zip(DueWithin::BOUNDS)
            {
                let end = now.saturating_add(bound_ms / 1_000);
                let all = bound_ms == i64::MAX;
                *count = if all { near.total() } else { near.count(i64::MIN..end) };
            }
            let memory = shard.memory().into_iter();
            figures.memory = memory.map(|(part, bytes)| (part, bytes as u64)).collect();
        });
    }
}

impl Common {
    /// Sends between shards: never refused, there are few of them.
    pub(super) fn send(&self, shard: ShardIndex, message: Message) {
        let place = shard.0 as usize;
        self.cells[place].queue_depth.fetch_add(1, Ordering::Relaxed);
        let queued = Queued { message, cost_bytes: 0 };
        if self.queues[place].send(queued).is_err() {
            // The shard has ended; so does the engine.
            self.cells[place].queue_depth.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How long until the machine's clock reads this time.
fn until(clock: &AdjustedClock, time: Timestamp) -> Duration {
    let now = clock.machine().realtime_micros();
    let wait = time.as_millis().saturating_mul(1_000).saturating_sub(now);
    Duration::from_micros(wait.max(0) as u64).min(SLEEP_MAX)
}

fn observe(lateness: &mut LatenessHistogram, clock: &AdjustedClock, block: &OutputBytes) {
    if !block.is_live {
        return;
    }
    let now = clock.machine().realtime_micros();
    for fire_at in block.live_fire_times() {
        let late = now.saturating_sub(fire_at.as_millis().saturating_mul(1_000)).max(0);
        lateness.observe(late as f64 / 1_000.0);
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a stopwatch for the busy time; nothing follows from it"
)]
fn read_stopwatch() -> Instant {
    Instant::now()
}
