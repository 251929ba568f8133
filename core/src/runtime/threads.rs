//! One thread for each part of an engine: waits for what comes in, lets the part work, and sees to
//! what happens when it cannot.
//!
//! A full disk is waited out. Every other failure of the log ends the writing for good: the engine
//! is poisoned, says so, and nothing is acknowledged any more.

use super::checkpoints::Checkpoints;
use super::committer::Committer;
use super::common::Common;
use super::fault::Fault;
use super::open::Opened;
use super::publisher::Publisher;
use crate::storage::{DiskFault, Segments};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// A committer that has heard nothing for so long is idle.
const IDLE: Duration = Duration::from_millis(20);
/// How soon a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(100);
/// How soon a checkpoint that could not be stored is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How often it is looked whether spare segments are missing.
const SPARE_EVERY: Duration = Duration::from_millis(10);
/// How often the checkpointer looks up.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(200);

/// Starts the threads of all parts.
pub(super) fn spawn(opened: Opened, pin: bool) -> Result<Vec<JoinHandle<()>>, Fault> {
    let Opened { common, workers, committers, publisher, checkpoints } = opened;
    let cores = if pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
    let mut threads = Vec::new();
    for (index, worker) in workers.into_iter().enumerate() {
        common.cells[index].is_alive.store(true, Ordering::Release);
        let core = (!cores.is_empty()).then(|| cores[index % cores.len()]);
        threads.push(start(format!("shard-{index}"), move || {
            if let Some(core) = core {
                core_affinity::set_for_current(core);
            }
            worker.run();
        })?);
    }
    for (index, committer) in committers.into_iter().enumerate() {
        let common = Arc::clone(&common);
        threads.push(start(format!("journal-{index}"), move || commit(&common, index, committer))?);
    }
    if let Some(publisher) = publisher {
        let common = Arc::clone(&common);
        threads.push(start("outputs".to_owned(), move || publish(&common, publisher))?);
    }
    if let Some(checkpoints) = checkpoints {
        let common = Arc::clone(&common);
        threads.push(start("checkpoints".to_owned(), move || checkpoint(&common, checkpoints))?);
    }
    if let Some(segments) = common.segments.clone() {
        threads.push(start("segments".to_owned(), move || prepare(&common, &segments))?);
    }
    Ok(threads)
}

fn start(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Fault> {
    let builder = Builder::new().name(name.clone());
    builder.spawn(run).map_err(|source| Fault::Thread { name, source })
}

/// What to do after a failure of the log.
fn outlasts(common: &Common, fault: &DiskFault) -> bool {
    if fault.is_full() {
        common.rest(FULL_RETRY);
        return !common.is_ended.load(Ordering::Acquire);
    }
    common.poison(&fault.to_string());
    false
}

/// What came in, or what kept it from coming.
enum Came<T> {
    Something(T),
    Nothing,
    End,
}

fn wait<T>(inbox: &Receiver<T>, timeout: Duration) -> Came<T> {
    match inbox.recv_timeout(timeout) {
        Ok(something) => Came::Something(something),
        Err(RecvTimeoutError::Timeout) => Came::Nothing,
        Err(RecvTimeoutError::Disconnected) => Came::End,
    }
}

fn commit(common: &Common, index: usize, mut committer: Committer) {
    let (machine, work) = (common.clock.machine(), &common.watch.journals[index]);
    loop {
        let done = match wait(committer.inbox(), IDLE) {
            Came::Something(first) => {
                let mut done = work.watched(machine, || committer.step(Some(first)));
                while matches!(done, Ok(true)) && !common.is_poisoned() {
                    done = work.watched(machine, || committer.step(None));
                }
                done
            }
            Came::Nothing => {
                work.watched(machine, || committer.step(None).and_then(|_| committer.idle()))
            }
            Came::End => {
                if let Err(fault) = work.watched(machine, || committer.seal()) {
                    common.poison(&fault.to_string());
                }
                return;
            }
        };
        if common.is_poisoned() {
            return;
        }
        if let Err(fault) = done
            && !outlasts(common, &fault)
        {
            return;
        }
    }
}

fn publish(common: &Common, mut publisher: Publisher) {
    let (machine, work) = (common.clock.machine(), &common.watch.outputs);
    loop {
        let done = match wait(publisher.inbox(), IDLE) {
            Came::Something(first) => work.watched(machine, || publisher.step(Some(first))),
            Came::Nothing => {
                work.watched(machine, || publisher.step(None).and_then(|_| publisher.idle()))
            }
            Came::End => {
                if let Err(fault) = publisher.idle() {
                    common.poison(&fault.to_string());
                }
                return;
            }
        };
        if common.is_poisoned() {
            return;
        }
        if let Err(fault) = done
            && !outlasts(common, &fault)
        {
            return;
        }
    }
}

fn checkpoint(common: &Common, mut checkpoints: Checkpoints) {
    while !common.is_ended.load(Ordering::Acquire) && !common.is_poisoned() {
        let wait_for = if checkpoints.is_busy() { Duration::ZERO } else { CHECKPOINT_EVERY };
        let first = match wait(checkpoints.inbox(), wait_for) {
            Came::Something(first) => Some(first),
            Came::Nothing => None,
            Came::End => return,
        };
        let (machine, work) = (common.clock.machine(), &common.watch.checkpoints);
        if work.watched(machine, || checkpoints.step(first)).is_err() {
            // It is on the board, and counted; what was to be stored is kept.
            common.rest(STORE_RETRY);
        }
    }
}

fn prepare(common: &Common, segments: &Segments) {
    while !common.is_ended.load(Ordering::Acquire) && !common.is_poisoned() {
        match segments.prepare() {
            Ok(true) => {}
            Ok(false) => common.rest(if segments.is_full() { FULL_RETRY } else { SPARE_EVERY }),
            Err(fault) => {
                if !outlasts(common, &fault) {
                    return;
                }
            }
        }
    }
}
