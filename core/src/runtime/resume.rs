//! How a namespace that has stopped goes on: from a checkpoint.
//!
//! Where it has stopped, callbacks have failed, and the records of that are still to be followed after a
//! crash: by a function that was mended meanwhile, perhaps, which does not fail there any more. What it
//! then does there must not have been done elsewhere before. So what the resume does follows a
//! checkpoint, which no crash goes back behind.

use super::batch::Reply;
use super::engine::Engine;
use crate::error::Rejection;
use crate::namespace::{Command, CommandReply, NamespaceStatus};

type Answer = Reply<Result<CommandReply, Rejection>>;

impl Engine {
    /// Lets a namespace go on.
    pub(super) fn resume(&self, name: &str, settle: bool, reply: Answer) {
        let Ok(entry) = self.namespace(name) else {
            self.send_command(name, Command::Resume, settle, reply);
            return;
        };
        let (engine, name) = (self.clone(), name.to_owned());
        let described = Box::new(move |status: Result<NamespaceStatus, _>| match status {
            Ok(status) if status.stopped.is_some() => engine.resume_stopped(name, settle, reply),
            Ok(_) => engine.send_command(&name, Command::Resume, settle, reply),
            Err(rejection) => reply(Err(rejection)),
        });
        self.describe(&entry, described);
    }

    fn resume_stopped(&self, name: String, settle: bool, reply: Answer) {
        let (engine, asked) = (self.clone(), name.clone());
        // It is paused already; that is answered once it stands still on every lane.
        let paused = Box::new(move |paused: Result<CommandReply, Rejection>| {
            if let Err(rejection) = paused {
                reply(Err(rejection));
                return;
            }
            let sender = engine.clone();
            engine.checkpoint(Box::new(move |done| match done {
                // Where nothing is durable, nothing is followed.
                Ok(_) | Err(Rejection::NotDurable) => {
                    sender.send_command(&name, Command::Resume, settle, reply);
                }
                Err(rejection) => reply(Err(rejection)),
            }));
        });
        self.send_command(&asked, Command::Pause, true, paused);
    }
}
