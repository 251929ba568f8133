//! A whole engine on the thread that calls it: the same parts as with threads, each taking a step
//! when it is told to. For simulation, and for whoever has a loop of their own.

use super::checkpoints::Checkpoints;
use super::committer::Committer;
use super::common::Common;
use super::engine::{Engine, EngineOptions};
use super::fault::Fault;
use super::open::{Opened, open};
use super::publisher::Publisher;
use super::storage_options::StorageOptions;
use super::worker::Worker;
use crate::ports::MachineClock;
use crate::shard::Next;
use crate::storage::DiskFault;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A part of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodePart {
    /// Takes requests in, applies them, fires.
    Shard(u16),
    /// Writes a shard's journal.
    Committer(u16),
    /// Makes outputs readable.
    Publisher,
    /// Stores snapshots.
    Checkpointer,
    /// Makes files in advance.
    Segments,
}

/// See the module.
pub struct Node {
    engine: Engine,
    common: Arc<Common>,
    workers: Vec<Worker>,
    committers: Vec<Committer>,
    publisher: Option<Publisher>,
    checkpoints: Option<Checkpoints>,
}

impl Node {
    /// Opens an engine: recovers what the storage holds. The namespace `default` is asked for, and
    /// there after some steps.
    pub fn open(
        options: &EngineOptions,
        storage: Option<StorageOptions>,
        clock: Arc<dyn MachineClock>,
    ) -> Result<Self, Fault> {
        Ok(Self::of(open(options, storage, clock, false)?, options))
    }

    fn of(opened: Opened, options: &EngineOptions) -> Self {
        let Opened { common, workers, committers, publisher, checkpoints } = opened;
        let engine = Engine::over(Arc::clone(&common), options);
        drop(engine.create_default());
        Self { engine, common, workers, committers, publisher, checkpoints }
    }

    /// Where requests go in. Answers come while steps are taken.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// All parts that there are.
    pub fn parts(&self) -> Vec<NodePart> {
        let mut parts: Vec<NodePart> =
            (0..self.workers.len() as u16).map(NodePart::Shard).collect();
        parts.extend((0..self.committers.len() as u16).map(NodePart::Committer));
        parts.extend(self.publisher.is_some().then_some(NodePart::Publisher));
        parts.extend(self.checkpoints.is_some().then_some(NodePart::Checkpointer));
        parts.extend(self.common.segments.is_some().then_some(NodePart::Segments));
        parts
    }

    /// Lets a part take one bounded step. `false`: it had nothing to do. After a fault of the disk
    /// that does not say that it is full, the node is good for nothing any more.
    pub fn step(&mut self, part: NodePart) -> Result<bool, DiskFault> {
        let outcome = self.try_step(part);
        match &outcome {
            Err(fault) if !fault.is_full() && part != NodePart::Checkpointer => {
                self.common.poison(&fault.to_string());
            }
            _ => {}
        }
        outcome
    }

    fn try_step(&mut self, part: NodePart) -> Result<bool, DiskFault> {
        match part {
            NodePart::Shard(index) => Ok(match self.workers.get_mut(index as usize) {
                Some(worker) => {
                    let had_queue = !worker.is_queue_empty();
                    worker.step().next == Next::Now || had_queue
                }
                None => false,
            }),
            NodePart::Committer(index) => match self.committers.get_mut(index as usize) {
                Some(committer) => Ok(committer.step(None)? || committer.idle()?),
                None => Ok(false),
            },
            NodePart::Publisher => match &mut self.publisher {
                Some(publisher) => Ok(publisher.step(None)? || publisher.idle()?),
                None => Ok(false),
            },
            NodePart::Checkpointer => match &mut self.checkpoints {
                Some(checkpoints) => checkpoints.step(None),
                None => Ok(false),
            },
            NodePart::Segments => match &self.common.segments {
                Some(segments) => segments.prepare(),
                None => Ok(false),
            },
        }
    }

    /// Lets every part take steps until none has anything to do at this moment. Returns whether
    /// that came about within so many steps.
    pub fn settle(&mut self, steps_max: usize) -> Result<bool, DiskFault> {
        let parts = self.parts();
        let mut steps = 0;
        loop {
            let mut is_busy = false;
            for part in &parts {
                is_busy |= self.step(*part)?;
                steps += 1;
            }
            if !is_busy {
                return Ok(true);
            }
            if steps >= steps_max {
                return Ok(false);
            }
        }
    }

    /// A graceful end: takes nothing more in, works off what was taken, takes a last checkpoint and
    /// seals the journals.
    pub fn close(mut self, steps_max: usize) -> Result<(), DiskFault> {
        self.common.is_stopping.store(true, Ordering::Release);
        self.settle(steps_max)?;
        self.engine.checkpoint(Box::new(drop));
        self.settle(steps_max)?;
        self.common.end();
        self.workers.iter_mut().for_each(Worker::close);
        for committer in self.committers {
            committer.seal()?;
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.idle()?;
        }
        self.common.outputs.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
