//! Namespaces of functions in which nothing goes on: they are paused, or their function has stopped them.
//!
//! When a function fails nobody outside can tell. So the ledger does not follow when a namespace stops;
//! it knows what may not happen meanwhile, as at any time (nothing twice, nothing out of order, nothing
//! past a callback that fails still), and at rest what must have.

use crate::client::{Fate, fate};
use crate::model::{Violation, text};
use crate::script::{KeyModel, Step, until};
use crate::stage::Stage;
use stormwheel::error::Rejection;
use stormwheel::namespace::{CommandReply, ErrorPolicy, NamespaceStatus, Stop, StopAt};

/// Whether anything goes on in a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Halt {
    /// It was told to pause or to go on, and has not answered.
    pub(crate) is_turning: bool,
    /// How often it was told so.
    pub(crate) turns: u64,
    /// Whether time stands still in it, if that is known.
    pub(crate) is_paused: Option<bool>,
    /// Its function has stopped it, as was heard last.
    pub(crate) is_stopped: bool,
    /// The version of the function that has tried everything that had failed.
    pub(crate) tried: u64,
}

impl Halt {
    /// Of one that is new.
    pub(crate) const fn new() -> Self {
        let is_paused = Some(false);
        Self { is_turning: false, turns: 0, is_paused, is_stopped: false, tried: 0 }
    }
}

impl Stage {
    /// A callback that fails for good stops it.
    pub(crate) fn stops(&self) -> bool {
        self.config.on_error.then == ErrorPolicy::Stop
    }

    /// Nothing goes on in it, as far as is known.
    pub(crate) fn is_halted(&self) -> bool {
        self.halt.is_stopped || self.halt.is_paused.unwrap_or(true)
    }

    /// What was answered to a pause.
    pub(crate) fn paused(
        &mut self,
        reply: &Result<CommandReply, Rejection>,
    ) -> Result<(), Violation> {
        self.is_told = false;
        match (reply, fate(reply.as_ref().err())) {
            // It may have been stopped before.
            (Ok(CommandReply::Paused { changed }), _) if *changed || self.may_be_halted() => {
                (self.halt.is_turning, self.halt.is_paused) = (false, Some(true));
                Ok(())
            }
            (Err(_), Fate::NotDone) => {
                self.halt.is_turning = false;
                Ok(())
            }
            (Err(_), Fate::Unknown) => Ok(()),
            _ => Err(self.wrong("wrong answer", format!("to a pause: {reply:?}"))),
        }
    }

    /// What was answered to a resume, asked for when the function had this version.
    pub(crate) fn resumed(
        &mut self,
        version: u64,
        reply: &Result<CommandReply, Rejection>,
    ) -> Result<(), Violation> {
        self.is_told = false;
        match (reply, fate(reply.as_ref().err())) {
            (Ok(CommandReply::Resumed { changed }), _)
                if *changed || self.halt.is_paused != Some(true) =>
            {
                (self.halt.is_turning, self.halt.is_stopped, self.halt.is_paused) =
                    (false, false, Some(false));
                // What had failed before is tried by it.
                if *changed {
                    self.halt.tried = version;
                }
                Ok(())
            }
            // It went on, and something has failed again.
            (Err(Rejection::NamespaceStopped { .. }), _) if self.stops() => {
                (self.halt.is_turning, self.halt.is_stopped, self.halt.is_paused) =
                    (false, true, Some(true));
                self.halt.tried = version;
                Ok(())
            }
            (Err(_), Fate::NotDone) if !self.stops() => {
                self.halt.is_turning = false;
                Ok(())
            }
            (Err(_), Fate::NotDone | Fate::Unknown) => Ok(()),
            _ => Err(self.wrong("wrong answer", format!("to a resume: {reply:?}"))),
        }
    }

    /// Whether it may be paused, or stopped, whatever was heard.
    fn may_be_halted(&self) -> bool {
        self.stops() || self.halt.is_paused != Some(false)
    }

    /// Nothing is under way: it is paused if that was answered, and has stopped only at what fails.
    pub(crate) fn settle_pause(
        &mut self,
        status: &NamespaceStatus,
        version: u64,
    ) -> Result<(), Violation> {
        let is_right = match self.halt.is_paused {
            Some(true) => status.paused,
            Some(false) => !status.paused || self.stops() && status.stopped.is_some(),
            None => true,
        };
        if !is_right {
            let detail = format!("{}, not {:?}", status.paused, self.halt.is_paused);
            return Err(self.wrong("lost pause", detail));
        }
        if let Some(stop) = &status.stopped
            && (!status.paused || !self.is_right_to_stop(stop, version))
        {
            let detail = format!("{stop:?} at {}, tried by {}", text(&stop.key), self.halt.tried);
            return Err(self.wrong("wrong stop", detail));
        }
        self.halt.is_turning = false;
        self.halt.is_paused = Some(status.paused);
        self.halt.is_stopped = status.stopped.is_some();
        Ok(())
    }

    /// Whether the callback fails: by no version that has tried it before, and it did not take place.
    ///
    /// A replay by a function that was mended meanwhile may have let a timer fire.
    fn is_right_to_stop(&self, stop: &Stop, version: u64) -> bool {
        match &stop.at {
            StopAt::Element { timestamp, .. } => self.sent.values().any(|sent| {
                let fails =
                    |step: &Step| matches!(step, Step::Until(until) if *until > self.halt.tried);
                sent.key == stop.key
                    && sent.timestamp == timestamp.as_millis()
                    && sent.taken.is_none()
                    && sent.steps.iter().any(fails)
            }),
            StopAt::Timer { domain, fire_at, name, .. } => {
                let timers = self.keys.get(&stop.key).map(KeyModel::timers);
                let first = timers.and_then(|timers| timers.iter().find(|it| it.0 == *domain));
                let Some(until) = name.as_deref().and_then(until) else { return false };
                let is_first = first.is_some_and(|it| it.1 == fire_at.as_millis() && it.2 == *name);
                until > self.halt.tried && (is_first || until <= version)
            }
        }
    }
}
