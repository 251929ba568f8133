//! What an engine is asked about checkpoints and savepoints.

use super::Engine;
use crate::error::Rejection;
use crate::runtime::checkpoints::{Checkpoint, CheckpointInfo};
use crate::runtime::savepoints::{SavepointAsked, SavepointInfo};
use crate::shard::Reply;

impl Engine {
    /// A checkpointer that has ended drops the reply.
    fn ask_checkpointer<T>(
        &self,
        reply: Reply<Result<T, Rejection>>,
        message: impl FnOnce(Reply<Result<T, Rejection>>) -> Checkpoint,
    ) {
        match self.common().parts.get() {
            Some(to) => drop(to.send(message(reply))),
            None => reply(Err(Rejection::NotDurable)),
        }
    }

    /// Begins a checkpoint, or joins the next one; the reply comes once it is published.
    pub fn checkpoint(&self, reply: Reply<Result<CheckpointInfo, Rejection>>) {
        self.ask_checkpointer(reply, Checkpoint::Begin);
    }

    /// The checkpoints of this process, and the one it began from: the newest first.
    pub fn checkpoints(&self) -> Vec<CheckpointInfo> {
        self.common().checkpoints.infos()
    }

    /// Makes a savepoint of these namespaces, or of all: a copy as of one moment, which can be
    /// restored elsewhere. The reply comes once all of it is stored.
    pub fn savepoint(
        &self,
        namespaces: Option<Vec<String>>,
        reply: Reply<Result<SavepointInfo, Rejection>>,
    ) {
        self.ask_checkpointer(reply, |reply| {
            Checkpoint::Savepoint(SavepointAsked { namespaces, reply })
        });
    }

    /// Removes a savepoint, unless it is just being written. The reply comes once it is none any more.
    pub fn remove_savepoint(&self, id: &str, reply: Reply<Result<(), Rejection>>) {
        let id = id.to_owned();
        self.ask_checkpointer(reply, |reply| Checkpoint::RemoveSavepoint(id, reply));
    }

    /// The savepoints that there are, and those of this process that failed: the newest first.
    pub fn savepoints(&self) -> Vec<SavepointInfo> {
        self.common().savepoints.infos()
    }
}
