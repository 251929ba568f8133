//! A pause: time stands still in a namespace until it goes on. A stop is one that a lane asks for, at
//! which the function has failed for good: what that was is kept with it.
//!
//! While it is paused its lanes hear of no watermark and no clock: what would have been sent is kept
//! here. The step that ends the pause says between which times nothing could fire, and is itself the
//! decision about what fell due in between; what was kept follows it.

use super::{Change, Control, ControlEffect, Controls, Ticket, Waiting};
use crate::error::Rejection;
use crate::namespace::control::StopReport;
use crate::namespace::{ClockKind, CommandReply, Stop};
use crate::output::NamespaceId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a paused namespace keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pause {
    /// Since when.
    at: Timestamp,
    /// What the manual clock read then, and still reads in the lanes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clock: Option<Timestamp>,
    /// The watermark that came meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    watermark: Option<Timestamp>,
    /// Why it has stopped, if that is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop: Option<Arc<Stop>>,
}

impl Controls {
    pub(super) fn pause(
        &mut self,
        ticket: Ticket,
        name: &str,
        now: Timestamp,
        effects: &mut Vec<ControlEffect>,
    ) -> Result<Option<CommandReply>, Rejection> {
        let control = self.control(name)?;
        control.check_clock()?;
        if control.paused.is_some() {
            return Ok(Some(CommandReply::Paused { changed: false }));
        }
        control.paused = Some(Pause::new(now, control.manual_now));
        let (id, number) = (control.id, control.next_step());
        let waiting = Waiting::new(ticket, true, CommandReply::Paused { changed: true });
        self.send(id, number, Change::Pause, None, Some(waiting), effects);
        Ok(None)
    }

    pub(super) fn resume(
        &mut self,
        ticket: Ticket,
        name: &str,
        now: Timestamp,
        effects: &mut Vec<ControlEffect>,
    ) -> Result<Option<CommandReply>, Rejection> {
        let control = self.control(name)?;
        let Some(Pause { at, clock, watermark, stop }) = control.paused.take() else {
            return Ok(Some(CommandReply::Resumed { changed: false }));
        };
        let mut watermark = watermark;
        let mut lost = match control.config.clock {
            ClockKind::System => (at < now).then_some((at, now)),
            // A manual clock that did not move made nothing due.
            ClockKind::Manual => control
                .manual_now
                .filter(|to| Some(*to) != clock)
                .map(|to| (clock.unwrap_or(to), to)),
        };
        if stop.is_some() {
            // Where callbacks have failed, time goes over what it has passed once more.
            let still = match control.config.clock {
                ClockKind::System => Some(at),
                ClockKind::Manual => control.manual_now,
            };
            lost = lost.or(still.map(|still| (still, still)));
            watermark = watermark.or(control.sources.combined());
        }
        let (id, number) = (control.id, control.next_step());
        control.resumed = number;
        self.stopped.remove(&id);
        let control = self.control(name)?;
        let watermark = watermark.map(|watermark| (control.next_step(), watermark));
        let waiting = Waiting::new(ticket, true, CommandReply::Resumed { changed: true });
        let (first, last) =
            if watermark.is_some() { (None, Some(waiting)) } else { (Some(waiting), None) };
        self.send(id, number, Change::Resume { lost }, None, first, effects);
        if let Some((number, watermark)) = watermark {
            self.send(id, number, Change::Watermark(watermark), None, last, effects);
        }
        Ok(None)
    }
}

impl Controls {
    /// How many namespaces have stopped.
    pub(crate) fn stopped_count(&self) -> u64 {
        self.stopped.len() as u64
    }

    fn by_id(&mut self, id: NamespaceId) -> Option<&mut Control> {
        self.by_name.values_mut().find(|control| control.id == id)
    }

    /// Whether what a lane has to say is new: the namespace is there, was not resumed since, and nothing
    /// is known yet.
    pub(crate) fn is_news(&mut self, report: &StopReport) -> bool {
        self.by_id(report.namespace).is_some_and(|control| {
            report.applied_number >= control.resumed
                && control.paused.as_ref().is_none_or(|pause| pause.stop.is_none())
        })
    }

    /// A lane has news: the namespace stops everywhere.
    pub(crate) fn stop(&mut self, report: &StopReport, effects: &mut Vec<ControlEffect>) {
        let Some(control) = self.by_id(report.namespace) else { return };
        let (at, clock) = (report.stop.since, control.manual_now);
        let pause = control.paused.get_or_insert_with(|| Pause::new(at, clock));
        pause.stop = Some(Arc::clone(&report.stop));
        let (id, number) = (control.id, control.next_step());
        self.stopped.insert(id);
        let change = Change::Stop(Arc::clone(&report.stop));
        self.send(id, number, change, None, None, effects);
    }
}

impl Pause {
    fn new(at: Timestamp, clock: Option<Timestamp>) -> Self {
        Self { at, clock, watermark: None, stop: None }
    }
}

impl Control {
    /// The watermark has moved: the number of the step that says so, unless that is kept for later.
    pub(super) fn watermark_step(&mut self, moved: Timestamp) -> Option<(u64, Timestamp)> {
        if let Some(pause) = &mut self.paused {
            pause.watermark = pause.watermark.max(Some(moved));
            return None;
        }
        Some((self.next_step(), moved))
    }

    /// It follows another clock from now on.
    pub(super) fn restart_pause(&mut self, now: Timestamp) {
        if let Some(pause) = &mut self.paused {
            (pause.at, pause.clock) = (now, None);
        }
    }
}
