//! Savepoints: one at a time, from the question to the stored manifest.
//!
//! First all shards hold time until nothing is under way in any of them; then each makes its cut and
//! waits; once all have, all go on and the copies are written. Holding and cutting together have a
//! bound: beyond it the savepoint fails and everything goes on. So it does when the store fails:
//! what had been stored is removed.

use super::common::Common;
use super::open::ENGINE_VERSION;
use super::savepoint_name;
use crate::error::Rejection;
use crate::key_group::ShardIndex;
use crate::output::NamespaceId;
use crate::ports::SnapshotStore;
use crate::shard::{Message, Reply, SavepointRequest, SavepointStep};
use crate::snapshot::{LaneMark, SavepointManifest, SavepointPart};
use crate::storage::{
    DiskFault, OutputReader, SAVEPOINTS, SCHEDULED, SavepointCut, SavepointWriter,
    is_savepoint_name,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// How long all shards may hold time, all in all, in milliseconds.
const HOLD_MS_MAX: i64 = 5_000;
/// One that came by itself and failed is not tried again before this.
const RETRY_MS: i64 = 60_000;
/// How many that failed are remembered.
const FAILED_MAX: usize = 100;

/// A savepoint that somebody asked for.
pub(super) struct SavepointAsked {
    /// By name; `None`: all.
    pub(super) namespaces: Option<Vec<String>>,
    pub(super) reply: Reply<Result<SavepointInfo, Rejection>>,
}

/// A savepoint: under way, stored, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavepointInfo {
    /// What it is called: its folder in the snapshot store is `savepoints/{id}`.
    pub id: String,
    /// When it began, by the real-time clock.
    pub began_ms: i64,
    /// What the adjusted clock read at the cut.
    pub now_ms: i64,
    /// When its manifest was stored; `None`: it is under way, or has failed. Of one that an earlier
    /// process made: when it began.
    pub ended_ms: Option<i64>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// What is in it.
    pub namespaces: Vec<SavepointNamespace>,
    /// Why it came to nothing, if it did.
    pub failure: Option<String>,
}

/// A namespace in a savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavepointNamespace {
    /// Its name.
    pub name: String,
    /// Keys that it held.
    pub keys: u64,
    /// Timers pending in it.
    pub timers: u64,
    /// Outputs of it that were retained.
    pub outputs: u64,
}

/// What others may see of savepoints.
#[derive(Debug, Default)]
pub(super) struct SavepointBoard(Mutex<VecDeque<SavepointInfo>>);

/// When savepoints are made by themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct SavepointsOptions {
    pub(super) every_ms: i64,
    pub(super) kept: usize,
}

/// See the module.
pub(super) struct Savepoints {
    common: Arc<Common>,
    store: Arc<dyn SnapshotStore>,
    directory: [u8; 16],
    outputs: OutputReader,
    options: SavepointsOptions,
    asked: VecDeque<SavepointAsked>,
    number: u64,
    under_way: Option<UnderWay>,
    /// When the next one is made by itself, by the time since the machine started: that never stands
    /// still.
    due_ms: i64,
    /// What is to be removed from the store.
    garbage: VecDeque<String>,
}

struct UnderWay {
    info: SavepointInfo,
    is_scheduled: bool,
    namespaces: Option<Vec<String>>,
    reply: Option<Reply<Result<SavepointInfo, Rejection>>>,
    /// When time began to be held, by the clock that only moves forward.
    held_from_ms: i64,
    stage: Stage,
}

enum Stage {
    Holding { held: BTreeSet<u16> },
    Marking { marked: BTreeSet<u16>, marks: Vec<LaneMark>, asked: BTreeMap<NamespaceId, String> },
    Writing(Box<SavepointWriter>),
}

impl Savepoints {
    /// Looks which savepoints the store holds; what was never finished goes. What is none of ours
    /// stays, and is noted.
    pub(super) fn open(
        common: Arc<Common>,
        store: Arc<dyn SnapshotStore>,
        directory: [u8; 16],
        outputs: OutputReader,
        options: SavepointsOptions,
        strangers: &mut Vec<String>,
    ) -> Result<Self, DiskFault> {
        let names = store.list(SAVEPOINTS).map_err(DiskFault::at(SAVEPOINTS, "list"))?;
        let mut by_id: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in names {
            let rest = name.strip_prefix(SAVEPOINTS).and_then(|rest| rest.split_once('/'));
            match rest {
                Some((id, _)) => by_id.entry(id.to_owned()).or_default().push(name),
                None => strangers.push(name),
            }
        }
        let number = by_id.keys().map(|id| savepoint_name::number(id)).max().unwrap_or(0);
        let mut garbage = VecDeque::new();
        let mut infos = Vec::new();
        for (id, names) in by_id {
            let manifest = manifest_name(&id);
            if !names.contains(&manifest) {
                // What is called otherwise is somebody's copy, maybe on its way still.
                let (own, others): (Vec<_>, Vec<_>) =
                    names.into_iter().partition(|name| is_savepoint_name(name));
                garbage.extend(own);
                strangers.extend(others);
                continue;
            }
            let bytes = store.get(&manifest).map_err(DiskFault::at(&manifest, "read"))?;
            infos.push(match SavepointManifest::decode(&manifest, &bytes) {
                Ok(it) => SavepointInfo { id, ..told(&it, bytes.len() as u64) },
                Err(fault) => {
                    let failure = Some(fault.to_string());
                    SavepointInfo { id, failure, ..SavepointInfo::default() }
                }
            });
        }
        infos.sort_by_key(|info| info.began_ms);
        let machine = common.clock.machine();
        let scheduled = infos.iter().filter(|info| info.id.starts_with(SCHEDULED));
        let last_ms = scheduled.map(|info| info.began_ms).max();
        // The first one of all is made after a while, too: not by each start of a service that ends.
        let waited_ms = last_ms.map_or(0, |last_ms| machine.realtime_ms().saturating_sub(last_ms));
        let wait_ms = options.every_ms.saturating_sub(waited_ms.max(0)).max(0);
        let due_ms = machine.boottime_ms().saturating_add(wait_ms);
        for info in infos {
            common.savepoints.note(info);
        }
        let (asked, under_way) = (VecDeque::new(), None);
        Ok(Self {
            common,
            store,
            directory,
            outputs,
            options,
            asked,
            number,
            under_way,
            due_ms,
            garbage,
        })
    }

    /// Somebody wants one.
    pub(super) fn ask(&mut self, asked: SavepointAsked) {
        self.asked.push_back(asked);
    }

    /// Whether one is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether there is something to do that waits for nobody.
    pub(super) fn is_busy(&self) -> bool {
        match self.under_way.as_ref().map(|it| &it.stage) {
            Some(Stage::Writing(writer)) => !writer.is_idle(),
            Some(_) => false,
            None => !self.garbage.is_empty(),
        }
    }

    /// Takes what a shard says.
    pub(super) fn take(&mut self, number: u64, part: SavepointPart) {
        let Some(it) = self.under_way.as_mut().filter(|_| number == self.number) else {
            return;
        };
        match (&mut it.stage, part) {
            (Stage::Holding { held }, SavepointPart::Held { shard }) => {
                held.insert(shard.0);
            }
            (Stage::Marking { marked, marks, .. }, SavepointPart::Marked { shard, lanes }) => {
                marked.insert(shard.0);
                marks.extend(lanes);
            }
            (Stage::Writing(writer), part) => writer.take(part),
            _ => debug_assert!(false, "shards do as they are told"),
        }
    }

    /// Goes on with the one under way, or begins one, while no checkpoint is under way. Returns
    /// whether there was anything to do.
    pub(super) fn step(&mut self, now_ms: i64) -> bool {
        let is_stopping = self.common.is_stopping.load(Ordering::Acquire);
        if is_stopping {
            self.fail(Rejection::Stopping);
            self.asked.drain(..).for_each(|asked| (asked.reply)(Err(Rejection::Stopping)));
        }
        if self.under_way.is_some() {
            return self.go_on(now_ms);
        }
        if let Some(name) = self.garbage.pop_front() {
            // What cannot be removed now is tried again by the next start.
            let _ = self.store.remove(&name);
            return true;
        }
        if let Some(SavepointAsked { namespaces, reply }) = self.asked.pop_front() {
            self.begin(namespaces, Some(reply));
            return true;
        }
        let steady_ms = self.common.clock.machine().boottime_ms();
        let is_due = self.options.every_ms > 0 && steady_ms >= self.due_ms && !is_stopping;
        if is_due {
            self.due_ms = steady_ms.saturating_add(self.options.every_ms.min(RETRY_MS));
            self.begin(None, None);
        }
        is_due
    }

    fn send(&self, step: &SavepointStep) {
        for shard in 0..self.common.layout.shards() {
            let request = SavepointRequest { number: self.number, step: step.clone() };
            self.common.send(ShardIndex(shard), Message::Savepoint(request));
        }
    }

    fn begin(
        &mut self,
        namespaces: Option<Vec<String>>,
        reply: Option<Reply<Result<SavepointInfo, Rejection>>>,
    ) {
        let is_unknown = |name: &String| self.common.namespaces.get(name).is_none();
        if namespaces.iter().flatten().any(is_unknown)
            && let Some(reply) = reply
        {
            reply(Err(Rejection::NamespaceUnknown));
            return;
        }
        self.number += 1;
        let machine = self.common.clock.machine();
        let (began_ms, is_scheduled) = (machine.realtime_ms(), reply.is_none());
        let id = savepoint_name::name(is_scheduled, began_ms, self.number);
        let info = SavepointInfo { id, began_ms, ..SavepointInfo::default() };
        self.common.savepoints.note(info.clone());
        let (held_from_ms, held) = (machine.boottime_ms(), BTreeSet::new());
        let stage = Stage::Holding { held };
        self.under_way =
            Some(UnderWay { info, is_scheduled, namespaces, reply, held_from_ms, stage });
        self.send(&SavepointStep::Hold);
    }

    fn go_on(&mut self, now_ms: i64) -> bool {
        let shards = self.common.layout.shards() as usize;
        let Some(it) = &mut self.under_way else { return false };
        let held_ms = self.common.clock.machine().boottime_ms().saturating_sub(it.held_from_ms);
        let is_held = !matches!(it.stage, Stage::Writing(_));
        match &mut it.stage {
            Stage::Holding { held } if held.len() == shards => self.mark(),
            Stage::Marking { marked, .. } if marked.len() == shards => self.cut(now_ms),
            Stage::Writing(writer) if !writer.is_idle() => {
                it.info.bytes = writer.bytes();
                match writer.step() {
                    Ok(None) => {}
                    Ok(Some(manifest)) => self.end(&manifest),
                    Err(fault) => {
                        let detail = fault.to_string();
                        self.fail(Rejection::SavepointFailed { detail });
                    }
                }
            }
            _ if is_held && held_ms > HOLD_MS_MAX => {
                let detail = format!(
                    "what was under way did not come to its end within {HOLD_MS_MAX} ms; try again \
                     when less is due at once, or the disk is less busy"
                );
                self.fail(Rejection::SavepointFailed { detail });
            }
            _ => return false,
        }
        true
    }

    /// Nothing is under way in any shard: the cut can be made.
    fn mark(&mut self) {
        let directory = self.common.namespaces.directory();
        let all = &directory.by_name;
        let Some(it) = &mut self.under_way else { return };
        let is_asked = |name: &str| {
            it.namespaces.as_ref().is_none_or(|asked| asked.iter().any(|asked| asked == name))
        };
        let asked = all.iter().filter(|(name, _)| is_asked(name));
        let asked: BTreeMap<NamespaceId, String> =
            asked.map(|(name, entry)| (entry.id, name.to_string())).collect();
        if it.namespaces.iter().flatten().any(|name| !all.contains_key(name.as_str())) {
            self.fail(Rejection::NamespaceUnknown);
            return;
        }
        let namespaces = Arc::new(asked.keys().copied().collect());
        it.stage = Stage::Marking { marked: BTreeSet::new(), marks: Vec::new(), asked };
        self.send(&SavepointStep::Mark(namespaces));
    }

    /// All have made the cut, and what stands before it can be read.
    fn cut(&mut self, now_ms: i64) {
        let output_cursor = self.common.outputs.latest();
        let Some(it) = &mut self.under_way else { return };
        let Stage::Marking { marks, asked, .. } = &mut it.stage else { return };
        it.info.now_ms = now_ms;
        self.common.savepoints.note(it.info.clone());
        let cut = SavepointCut {
            id: it.info.id.clone(),
            directory: self.directory,
            engine_version: ENGINE_VERSION,
            layout: self.common.layout,
            now_ms,
            created_ms: it.info.began_ms,
            output_cursor,
            namespaces: asked.iter().map(|(id, name)| (name.clone(), *id)).collect(),
        };
        let walk = self.outputs.walk(&asked.keys().copied().collect(), output_cursor);
        let marks = std::mem::take(marks);
        let writer = SavepointWriter::new(Arc::clone(&self.store), cut, marks, walk);
        it.stage = Stage::Writing(Box::new(writer));
        self.send(&SavepointStep::Resume);
    }

    fn end(&mut self, manifest: &SavepointManifest) {
        let Some(UnderWay { is_scheduled, reply, stage, held_from_ms, .. }) = self.under_way.take()
        else {
            return;
        };
        let manifest_bytes = match stage {
            Stage::Writing(writer) => writer.bytes().saturating_sub(file_bytes(manifest)),
            Stage::Holding { .. } | Stage::Marking { .. } => 0,
        };
        let ended_ms = Some(self.common.clock.machine().realtime_ms());
        let info = SavepointInfo { ended_ms, ..told(manifest, manifest_bytes) };
        self.common.savepoints.note(info.clone());
        if is_scheduled {
            self.due_ms = held_from_ms.saturating_add(self.options.every_ms);
            self.drop_old();
        }
        if let Some(reply) = reply {
            reply(Ok(info));
        }
    }

    /// Of those that were made by themselves, only the newest are kept.
    fn drop_old(&mut self) {
        let infos = self.common.savepoints.infos();
        let whole = infos.iter().filter(|it| it.id.starts_with(SCHEDULED) && it.failure.is_none());
        let old: Vec<String> =
            whole.skip(self.options.kept.max(1)).map(|info| info.id.clone()).collect();
        for id in old {
            // What cannot be removed now is one too many the next time, too.
            let _ = self.discard(&id);
        }
    }

    /// Removes a savepoint.
    pub(super) fn remove(&mut self, id: &str) -> Result<(), Rejection> {
        if self.under_way.as_ref().is_some_and(|it| it.info.id == id) {
            return Err(Rejection::SavepointUnderWay);
        }
        if !self.common.savepoints.infos().iter().any(|info| info.id == id) {
            return Err(Rejection::SavepointUnknown);
        }
        self.discard(id).map_err(|fault| Rejection::SavepointFailed { detail: fault.to_string() })
    }

    fn discard(&mut self, id: &str) -> Result<(), DiskFault> {
        let folder = format!("{SAVEPOINTS}{id}/");
        let names = self.store.list(&folder).map_err(DiskFault::at(&folder, "list"))?;
        let manifest = manifest_name(id);
        // Without its manifest it is none: the rest is only leavings.
        let (first, rest): (Vec<_>, Vec<_>) = names.into_iter().partition(|it| *it == manifest);
        for name in first {
            self.store.remove(&name).map_err(DiskFault::at(&name, "remove"))?;
        }
        self.garbage.extend(rest);
        self.common.savepoints.forget(id);
        Ok(())
    }

    /// Bytes of those that are whole.
    pub(super) fn bytes(&self) -> u64 {
        self.common.savepoints.infos().iter().map(|info| info.bytes).sum()
    }

    fn fail(&mut self, rejection: Rejection) {
        let Some(UnderWay { mut info, reply, stage, .. }) = self.under_way.take() else {
            return;
        };
        self.send(&SavepointStep::Cancel);
        if let Stage::Writing(writer) = stage {
            self.garbage.extend(writer.names());
        }
        info.failure = Some(match &rejection {
            Rejection::SavepointFailed { detail } => detail.clone(),
            rejection => rejection.to_string(),
        });
        self.common.savepoints.note(info);
        if let Some(reply) = reply {
            reply(Err(rejection));
        }
    }
}

fn manifest_name(id: &str) -> String {
    format!("{SAVEPOINTS}{id}/{}", SavepointManifest::NAME)
}

fn file_bytes(manifest: &SavepointManifest) -> u64 {
    manifest.objects.iter().chain(&manifest.outputs).map(|file| file.bytes).sum()
}

/// What a manifest of so many bytes says.
fn told(manifest: &SavepointManifest, manifest_bytes: u64) -> SavepointInfo {
    let namespaces = manifest.namespaces.iter().map(|it| SavepointNamespace {
        name: it.name.clone(),
        keys: it.keys,
        timers: it.timers,
        outputs: it.outputs,
    });
    SavepointInfo {
        id: manifest.id.clone(),
        began_ms: manifest.created_ms,
        now_ms: manifest.now_ms,
        ended_ms: Some(manifest.created_ms),
        bytes: file_bytes(manifest) + manifest_bytes,
        namespaces: namespaces.collect(),
        failure: None,
    }
}

impl SavepointBoard {
    /// Writes down how a savepoint stands.
    fn note(&self, info: SavepointInfo) {
        let mut infos = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match infos.front_mut() {
            Some(newest) if newest.id == info.id => *newest = info,
            _ => infos.push_front(info),
        }
        let mut failed = 0;
        infos.retain(|info| {
            failed += usize::from(info.failure.is_some());
            info.failure.is_none() || failed <= FAILED_MAX
        });
    }

    fn forget(&self, id: &str) {
        let mut infos = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        infos.retain(|info| info.id != id);
    }

    /// All of them, newest first.
    pub(super) fn infos(&self) -> Vec<SavepointInfo> {
        let infos = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        infos.iter().cloned().collect()
    }
}
