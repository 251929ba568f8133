//! Checkpoints: when a round begins, what is known of it, and what goes once it is published.

use super::committer::Commit;
use super::common::{Common, Publish};
use super::savepoints::{SavepointAsked, Savepoints};
use crate::error::Rejection;
use crate::key_group::ShardIndex;
use crate::shard::{CheckpointRequest, FULL_RETRY_AFTER_MS, Message, Reply};
use crate::snapshot::{Manifest, Part};
use crate::storage::{Checkpointer, DiskFault, OldJournals, Published};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What is said to it.
pub(super) enum Checkpoint {
    /// A part of the round under way.
    Part(Part),
    /// Begin a round, or join the next one; told once it is published.
    Begin(Reply<Result<CheckpointInfo, Rejection>>),
    /// Make a savepoint.
    Savepoint(SavepointAsked),
    /// Remove the savepoint of this name.
    RemoveSavepoint(String, Reply<Result<(), Rejection>>),
}

/// A checkpoint, under way or done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckpointInfo {
    /// Its number; later ones are greater.
    pub number: u64,
    /// When it began, by the adjusted clock.
    pub began_ms: i64,
    /// When its manifest was published; `None`: it is under way.
    pub ended_ms: Option<i64>,
    /// Bytes of all objects that it consists of.
    pub total_bytes: u64,
    /// Bytes that were written for it.
    pub written_bytes: u64,
    /// Keys that were written for it.
    pub written_keys: u64,
    /// Partitions that were written for it.
    pub written_partitions: u64,
    /// What kept it from going on when it was last tried, if something did.
    pub failure: Option<String>,
}

/// How rounds are spaced and paced.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckpointsOptions {
    pub(super) interval_ms: i64,
    pub(super) over_ms: i64,
    /// What is stored counts against the bound of the data directory.
    pub(super) share_disk: bool,
}

/// What others may see of it.
#[derive(Debug, Default)]
pub(super) struct CheckpointBoard {
    infos: Mutex<VecDeque<CheckpointInfo>>,
    failures: AtomicU64,
    /// Of what there was to follow, so many bytes lie below the newest checkpoint.
    covered: AtomicU64,
}

/// How many are remembered.
const INFOS_MAX: usize = 100;

/// See the module.
pub(super) struct Checkpoints {
    common: Arc<Common>,
    checkpointer: Checkpointer,
    /// Never under way while a round is, and the other way round.
    savepoints: Savepoints,
    old: OldJournals,
    committers: Vec<Sender<Commit>>,
    publisher: Sender<Publish>,
    options: CheckpointsOptions,
    inbox: Receiver<Checkpoint>,
    /// Who waits for the round under way, and who for the next one.
    joined: Vec<Reply<Result<CheckpointInfo, Rejection>>>,
    asked: Vec<Reply<Result<CheckpointInfo, Rejection>>>,
    /// When the last round began, by the time since the machine started: that never stands still.
    began_ms: i64,
    /// What had been appended to the journals when it did.
    appended: u64,
    /// What there would have been to follow.
    followable: u64,
    info: CheckpointInfo,
    /// What a publication left to be cut.
    cut: Option<Arc<[u64]>>,
}

impl Checkpoints {
    #[allow(clippy::too_many_arguments, reason = "all that rounds and cuts touch")]
    pub(super) fn new(
        common: Arc<Common>,
        checkpointer: Checkpointer,
        savepoints: Savepoints,
        old: OldJournals,
        committers: Vec<Sender<Commit>>,
        publisher: Sender<Publish>,
        options: CheckpointsOptions,
        loaded: Option<&Manifest>,
    ) -> Self {
        let (sender, inbox) = unbounded();
        // It is set once.
        let _ = common.parts.set(sender);
        let began_ms = common.clock.machine().boottime_ms();
        if let Some(manifest) = loaded {
            common.checkpoints.note(&CheckpointInfo {
                number: manifest.checkpoint.into(),
                began_ms: manifest.now_ms,
                ended_ms: Some(manifest.created_ms),
                total_bytes: checkpointer.total_bytes(),
                ..CheckpointInfo::default()
            });
        }
        let it = Self {
            common,
            checkpointer,
            savepoints,
            old,
            committers,
            publisher,
            options,
            inbox,
            joined: Vec::new(),
            asked: Vec::new(),
            began_ms,
            appended: 0,
            followable: 0,
            info: CheckpointInfo::default(),
            cut: None,
        };
        it.count_others();
        it
    }

    /// What comes in.
    pub(super) fn inbox(&self) -> &Receiver<Checkpoint> {
        &self.inbox
    }

    /// How long until a round begins by itself, in milliseconds; `None`: never.
    pub(super) fn due_in_ms(&self) -> Option<i64> {
        let interval_ms = self.options.interval_ms;
        let now_ms = self.common.clock.machine().boottime_ms();
        (interval_ms > 0)
            .then(|| self.began_ms.saturating_add(interval_ms).saturating_sub(now_ms).max(0))
    }

    /// Whether it has something to do that does not wait for others.
    pub(super) fn is_busy(&self) -> bool {
        !self.checkpointer.is_idle() || self.cut.is_some() || self.savepoints.is_busy()
    }

    /// Takes what has come in, `first` before the rest, stores what is complete, publishes, and
    /// begins a round if it is time for one. Returns whether there was anything.
    pub(super) fn step(&mut self, first: Option<Checkpoint>) -> Result<bool, DiskFault> {
        let mut was_busy = first.is_some() || self.is_busy();
        let mut next = first.or_else(|| self.inbox.try_recv().ok());
        if let Some(checkpoint) = next.take() {
            was_busy = true;
            match checkpoint {
                Checkpoint::Part(part) => {
                    let bytes = part.len_bytes();
                    match part {
                        Part::Savepoint { number, part } => self.savepoints.take(number, part),
                        part => self.checkpointer.take(part),
                    }
                    self.common.engine_cells.take_part(bytes);
                }
                Checkpoint::Savepoint(asked) => self.savepoints.ask(asked),
                Checkpoint::RemoveSavepoint(id, reply) => {
                    let outcome = self.savepoints.remove(&id);
                    self.count_others();
                    reply(outcome);
                }
                Checkpoint::Begin(reply) => self.asked.push(reply),
            }
        }
        let now_ms = self.common.clock.look().now_ms;
        if !self.checkpointer.is_idle() || self.cut.is_some() {
            match self.checkpointer.step() {
                Ok(published) => {
                    self.info.failure = None;
                    if let Some(published) = published {
                        self.published(published, now_ms);
                    }
                }
                Err(fault) => {
                    self.info.failure = Some(fault.to_string());
                    self.common.checkpoints.failures.fetch_add(1, Ordering::Relaxed);
                    self.common.checkpoints.note(&self.info);
                    return Err(fault);
                }
            }
            if let Some(cut) = self.cut.take() {
                let segments = self.common.segments.as_ref().expect("there are files");
                self.old.cut(&cut, segments)?;
            }
        }
        if self.checkpointer.is_under_way() {
            self.update_info();
            return Ok(was_busy);
        }
        if self.savepoints.step(now_ms) {
            was_busy = true;
            self.count_others();
        }
        if self.savepoints.is_under_way() {
            return Ok(was_busy);
        }
        let is_due = self.due_in_ms() == Some(0) && self.has_news();
        if !self.common.has_journals() {
            // A checkpoint of an epoch without its journals would say that they were lost.
            let full = Rejection::DiskFull { retry_after_ms: FULL_RETRY_AFTER_MS };
            self.asked.drain(..).for_each(|reply| reply(Err(full.clone())));
            return Ok(was_busy);
        }
        if is_due || !self.asked.is_empty() {
            self.begin(now_ms);
            return Ok(true);
        }
        Ok(was_busy)
    }

    /// Whether something was written down since the last round began.
    fn has_news(&self) -> bool {
        self.common.appended() != self.appended
    }

    fn begin(&mut self, now_ms: i64) {
        self.joined.append(&mut self.asked);
        self.began_ms = self.common.clock.machine().boottime_ms();
        self.appended = self.common.appended();
        self.followable = self.common.followable();
        let created_ms = self.common.clock.machine().realtime_ms();
        let rewrite = self.checkpointer.begin(now_ms, created_ms, self.common.outputs.latest());
        let rewrite = Arc::new(rewrite);
        let number = self.checkpointer.number();
        self.info = CheckpointInfo {
            number: number.into(),
            began_ms: now_ms,
            total_bytes: self.checkpointer.total_bytes(),
            ..CheckpointInfo::default()
        };
        self.common.checkpoints.note(&self.info);
        // Only what nobody waits for is spread over a while.
        let over_ms = if self.joined.is_empty() { self.options.over_ms } else { 0 };
        for shard in 0..self.common.layout.shards() {
            let rewrite = Arc::clone(&rewrite);
            let request = CheckpointRequest { round: number.into(), rewrite, over_ms };
            self.common.send(ShardIndex(shard), Message::Checkpoint(request));
        }
    }

    /// What checkpoints and savepoints take of the data directory, if they are in it.
    fn count_others(&self) {
        if let Some(segments) = self.common.segments.as_ref().filter(|_| self.options.share_disk) {
            segments.set_other_bytes(self.checkpointer.total_bytes() + self.savepoints.bytes());
        }
    }

    fn update_info(&mut self) {
        let figures = self.checkpointer.figures();
        self.info.written_bytes = figures.bytes;
        self.info.written_keys = figures.keys;
        self.info.written_partitions = figures.partitions;
        self.common.checkpoints.note(&self.info);
    }

    fn published(&mut self, published: Published, now_ms: i64) {
        let Published { cut, floor, figures, .. } = published;
        self.info.written_bytes = figures.bytes;
        self.info.written_keys = figures.keys;
        self.info.written_partitions = figures.partitions;
        self.info.total_bytes = self.checkpointer.total_bytes();
        self.info.ended_ms = Some(now_ms);
        self.common.checkpoints.note(&self.info);
        self.common.checkpoints.covered.store(self.followable, Ordering::Relaxed);
        for committer in &self.committers {
            // One that has ended has nothing left to cut.
            let _ = committer.send(Commit::Cut(Arc::clone(&cut)));
        }
        let _ = self.publisher.send(Publish::Floor(floor));
        self.count_others();
        self.cut = Some(cut);
        for reply in self.joined.drain(..) {
            reply(Ok(self.info.clone()));
        }
    }
}

impl CheckpointBoard {
    /// Writes down how a checkpoint stands.
    fn note(&self, info: &CheckpointInfo) {
        let mut infos = self.infos.lock().unwrap_or_else(PoisonError::into_inner);
        match infos.front_mut() {
            Some(newest) if newest.number == info.number => *newest = info.clone(),
            _ => infos.push_front(info.clone()),
        }
        infos.truncate(INFOS_MAX);
    }

    /// The newest ones, newest first.
    pub(super) fn infos(&self) -> Vec<CheckpointInfo> {
        let infos = self.infos.lock().unwrap_or_else(PoisonError::into_inner);
        infos.iter().cloned().collect()
    }

    /// Of what there was to follow at the start and since, so many bytes need not be any more.
    pub(super) fn covered(&self) -> u64 {
        // Relaxed, as all figures are.
        self.covered.load(Ordering::Relaxed)
    }

    /// How often storing something has failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
