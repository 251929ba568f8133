//! The thread of a shard: takes turns while there is work, sleeps until there is some.

use super::clock::AdjustedClock;
use super::committer::{Commit, hand_on};
use super::common::{Common, OutputTurn, Publish, Queued, Turns};
use super::metrics::{DueWithin, ShardCells};
use super::turn_times::TurnTimes;
use crate::due_counts::SecondCounts;
use crate::key_group::ShardIndex;
use crate::shard::{Next, NoMoreRoom, Room, Shard, Turn};
use crate::time::Timestamp;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, after};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// No sleep is longer: the clock may step, and is looked at again after each.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Figures that take a walk to gather are gathered no more often than this.
const WALK_EVERY_MS: i64 = 500;

/// Bytes of the log that operations leave to ticks and control records.
const LOG_RESERVE_BYTES: u64 = 256 << 10;
/// Bytes of outputs that may wait to become readable; beyond that nothing fires until they are.
const OUTPUT_BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Bytes of snapshots that may wait to be stored; beyond that none are written until they are.
const PART_BACKLOG_BYTES_MAX: usize = 64 << 20;

/// See the module.
pub(super) struct Worker {
    index: ShardIndex,
    common: Arc<Common>,
    queue: Receiver<Queued>,
    /// What was received and not yet taken in: a shard that waits for room takes nothing.
    received: Option<Queued>,
    shard: Shard,
    turns: Turns,
    /// Turns that went to the committer.
    turns_sent: u64,
    outputs: Option<Sender<Publish>>,
    busy: Duration,
    times: TurnTimes,
    walked_ms: i64,
}

/// What came of a turn.
pub(super) struct Stepped {
    pub(super) next: Next,
    /// It took nothing in, handed nothing over, and left nothing to be done at once.
    is_idle: bool,
}

/// Says that the thread has ended, however it ends.
struct Alive<'a>(&'a ShardCells);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.is_alive.store(false, Ordering::Release);
    }
}

impl Worker {
    /// A worker on a shard that is as it was left.
    pub(super) fn new(
        index: ShardIndex,
        common: Arc<Common>,
        queue: Receiver<Queued>,
        shard: Shard,
        turns: Turns,
        outputs: Option<Sender<Publish>>,
    ) -> Self {
        let (turns_sent, busy, walked_ms) = (0, Duration::ZERO, i64::MIN);
        Self {
            index,
            common,
            queue,
            received: None,
            shard,
            turns,
            turns_sent,
            outputs,
            busy,
            times: TurnTimes::default(),
            walked_ms,
        }
    }

    /// Runs until the engine has stopped.
    pub(super) fn run(mut self) {
        let common = Arc::clone(&self.common);
        let _alive = Alive(&common.cells[self.index.0 as usize]);
        self.take_turns();
        self.close();
    }

    /// Nothing is left to be done: what the shard runs is let go of.
    pub(super) fn close(&mut self) {
        self.shard.close();
        let common = Arc::clone(&self.common);
        let now_ms = common.clock.look().now_ms;
        self.publish(&common.cells[self.index.0 as usize], now_ms);
    }

    fn take_turns(&mut self) {
        let common = Arc::clone(&self.common);
        let born = read_stopwatch();
        loop {
            let started = read_stopwatch();
            let Stepped { next, is_idle } = self.step();
            let took = started.elapsed();
            self.busy += took;
            self.times.note(started - born, took, is_idle);
            let wait = match next {
                Next::Now => {
                    // In a storm: whoever serves requests on this core goes first for a moment.
                    std::thread::yield_now();
                    continue;
                }
                _ if self.has_ended() => return,
                Next::At(time) => until(&common.clock, time),
                Next::Never => SLEEP_MAX,
            };
            if !self.receive(wait) {
                return;
            }
        }
    }

    /// Whether there is nothing left to take in, or nothing that could still be written down.
    fn has_ended(&self) -> bool {
        // Acquire: what was sent before the engine said so is in the queue.
        let is_ended = self.common.is_ended.load(Ordering::Acquire);
        is_ended && (self.is_queue_empty() || self.common.is_poisoned())
    }

    /// Waits for a message, no longer than this. `false`: none will come.
    pub(super) fn receive(&mut self, wait: Duration) -> bool {
        if self.received.is_some() {
            // It has waited for room in the log, which nothing in the queue can make.
            let _ = after(wait).recv();
            return true;
        }
        match self.queue.recv_timeout(wait) {
            Ok(queued) => self.received = Some(queued),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Takes one turn.
    pub(super) fn step(&mut self) -> Stepped {
        let common = Arc::clone(&self.common);
        let look = common.clock.look();
        let now = Timestamp::from_millis(look.now_ms);
        let cells = &common.cells[self.index.0 as usize];
        let room = self.room(&common);
        let (queue, received) = (&self.queue, &mut self.received);
        let mut has_taken = false;
        let mut inbox = || {
            let queued = received.take().or_else(|| queue.try_recv().ok())?;
            has_taken = true;
            cells.queue_bytes.fetch_sub(queued.cost_bytes, Ordering::Relaxed);
            cells.queue_depth.fetch_sub(1, Ordering::Relaxed);
            Some(queued.message)
        };
        let is_stopping = common.is_stopping.load(Ordering::Acquire);
        let (turn, next) = self.shard.turn(now, look.is_held || is_stopping, room, &mut inbox);
        let is_idle = !has_taken && turn.is_empty() && next != Next::Now;
        if !turn.is_empty() {
            self.hand_over(&common, turn, now);
        }
        cells.went_round(common.clock.machine());
        self.publish(cells, look.now_ms);
        Stepped { next, is_idle }
    }

    /// Whether nothing waits in its queue.
    pub(super) fn is_queue_empty(&self) -> bool {
        self.received.is_none() && self.queue.is_empty()
    }

    fn room(&self, common: &Common) -> Room {
        let Some(segments) = &common.segments else {
            return Room::ENDLESS;
        };
        let cells = &common.cells[self.index.0 as usize];
        // Acquire pairs with the committer, which lowers what is assured before what is pending.
        let pending = cells.log_pending_bytes.load(Ordering::Acquire);
        let assured = cells.log_assured_bytes.load(Ordering::Acquire);
        let segment_bytes = segments.segment_bytes();
        let reserve_bytes = LOG_RESERVE_BYTES.min(segment_bytes / 8);
        let is_full = segments.is_full();
        let no_more = if common.is_poisoned() {
            Some(NoMoreRoom::Poisoned)
        } else if common.is_ended.load(Ordering::Acquire) {
            Some(NoMoreRoom::Stopping)
        } else {
            is_full.then_some(NoMoreRoom::Full)
        };
        let are_commands_refused = is_full && common.least_log_room() < reserve_bytes / 2;
        Room {
            steady_ms: common.clock.machine().boottime_ms(),
            log_bytes: assured.saturating_sub(pending),
            reserve_bytes,
            is_widest: pending == 0 && assured >= segment_bytes / 2,
            no_more,
            are_commands_refused,
            are_steps_held: are_commands_refused || !common.has_journals(),
            are_outputs_held: common.outputs.backlog_bytes() > OUTPUT_BACKLOG_BYTES_MAX,
            are_parts_held: common.engine_cells.part_bytes() > PART_BACKLOG_BYTES_MAX,
        }
    }

    fn hand_over(&mut self, common: &Common, turn: Turn, now: Timestamp) {
        let Turns::Journal(committer) = &self.turns else {
            self.release(common, turn, now);
            return;
        };
        let cells = &common.cells[self.index.0 as usize];
        // Acquire: what the committer let go, it let go before this turn does.
        let is_idle = cells.turns_done.load(Ordering::Acquire) == self.turns_sent;
        if turn.blocks.is_empty() && is_idle {
            self.release(common, turn, now);
            return;
        }
        cells.log_pending_bytes.fetch_add(turn.cost_bytes() as u64, Ordering::AcqRel);
        self.turns_sent += 1;
        // A committer that has ended has said why; what waited is dropped with the turn.
        let _ = committer.send(Commit::Turn(turn));
    }

    /// Lets a turn go that needs no commit.
    fn release(&mut self, common: &Common, turn: Turn, now: Timestamp) {
        let Turn { blocks: _, written, synced, outputs, visible } = turn;
        for release in written {
            release();
        }
        common.run(synced);
        if let Some(to) = &self.outputs {
            hand_on(to, OutputTurn { outputs, visible });
            return;
        }
        for block in &outputs {
            common.engine_cells.observe_lateness(block, common.clock.machine());
        }
        let now_ms = now.as_millis();
        common.outputs.publish_now(outputs.into_iter().map(|block| (block, now_ms)));
        common.run(visible);
    }

    fn publish(&mut self, cells: &ShardCells, now_ms: i64) {
        let walks = now_ms >= self.walked_ms.saturating_add(WALK_EVERY_MS);
        if walks {
            self.walked_ms = now_ms;
        }
        let (shard, busy, times) = (&self.shard, self.busy, &self.times);
        cells.publish(|figures| {
            figures.stats = shard.stats();
            figures.busy_seconds = busy.as_secs_f64();
            figures.turns = times.histogram();
            figures.longest_turn_seconds = times.longest().as_secs_f64();
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

/// How long until the machine's clock reads this time.
fn until(clock: &AdjustedClock, time: Timestamp) -> Duration {
    let now = clock.machine().realtime_micros();
    let wait = time.as_millis().saturating_mul(1_000).saturating_sub(now);
    Duration::from_micros(wait.max(0) as u64).min(SLEEP_MAX)
}

#[allow(
    clippy::disallowed_methods,
    reason = "a stopwatch for the time that turns take; nothing follows from it"
)]
fn read_stopwatch() -> Instant {
    Instant::now()
}
