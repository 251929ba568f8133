//! The end of a namespace's input: the lanes take no more operations, the final watermark comes, and
//! then the processing timers that are left go as was asked.
//!
//! Three steps say so, one after the other. The first of them, which refuses operations, is settled
//! once a lane has no timer left: as the last of a drain has fired, or in days, where they are waited
//! for. Then nothing can come any more. Nobody writes that down: after a restart the step is sent
//! again, and the lanes say again how they stand.

use super::steps::InFlight;
use super::{Change, Control, ControlEffect, Controls, Ticket, Waiting};
use crate::error::Rejection;
use crate::namespace::{Closing, CommandReply, ProcessingTimers};
use crate::output::NamespaceId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How the input of a namespace has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    /// The number of the first step.
    step: u64,
    processing_timers: ProcessingTimers,
}

impl Controls {
    pub(super) fn close(
        &mut self,
        ticket: Ticket,
        name: &str,
        processing_timers: ProcessingTimers,
        effects: &mut Vec<ControlEffect>,
    ) -> Result<Option<CommandReply>, Rejection> {
        let control = self.control(name)?;
        let (id, before) = (control.id, control.closed);
        // What is waited for can still be drained or discarded; the rest is final.
        let changed = before.is_none_or(|before| {
            before.processing_timers == ProcessingTimers::Wait
                && processing_timers != ProcessingTimers::Wait
        });
        if changed && control.paused.is_some() {
            return Err(Rejection::NamespacePaused);
        }
        let mut changes = Vec::new();
        if before.is_none() {
            control.sources.finish();
            changes.extend([Change::Close, Change::Watermark(Timestamp::MAX)]);
        }
        if changed {
            changes.extend(match processing_timers {
                ProcessingTimers::Drain => Some(Change::Drain),
                ProcessingTimers::Wait => None,
                ProcessingTimers::Discard => Some(Change::Discard),
            });
        }
        let first = control.steps + 1;
        let step = before.map_or(first, |before| before.step);
        let closed = if changed { None } else { before };
        let closed = closed.unwrap_or(Close { step, processing_timers });
        control.closed = Some(closed);
        control.steps += changes.len() as u64;
        for (number, change) in (first..).zip(changes) {
            self.send(id, number, change, None, None, effects);
        }
        // What is waited for is not waited for here: the event timers are.
        let waits = closed.processing_timers == ProcessingTimers::Wait;
        let number = closed.step + u64::from(waits);
        let closing = self.closing(id).ok_or(Rejection::NamespaceUnknown)?;
        let reply = CommandReply::Closed { changed, closing, timers: 0 };
        let Some(step) = self.in_flight.get_mut(&(id, number)) else {
            return Ok(Some(reply));
        };
        let is_bystander = waits || !changed;
        step.waiting.push_back(Waiting { is_bystander, ..Waiting::new(ticket, true, reply) });
        Ok(None)
    }

    /// Every lane says that no timer is left of a namespace.
    pub(super) fn finish(&mut self, id: NamespaceId, effects: &mut Vec<ControlEffect>) {
        if let Some(control) = self.by_name.values_mut().find(|control| control.id == id) {
            control.is_finished = true;
            effects.push(ControlEffect::Finish { id });
        }
    }

    /// How far a namespace is whose input has ended.
    pub(super) fn closing(&self, id: NamespaceId) -> Option<Closing> {
        self.by_name.values().find(|control| control.id == id)?.closing()
    }

    /// After the log was followed: what the lanes have to say again.
    pub(super) fn ask_closed(&mut self) {
        for control in self.by_name.values() {
            if let Some(closed) = control.closed {
                let step = self.in_flight.entry((control.id, closed.step));
                step.or_insert_with(|| InFlight::new(Change::Close));
            }
        }
    }
}

impl Control {
    pub(super) fn closing(&self) -> Option<Closing> {
        let Close { processing_timers, .. } = self.closed?;
        Some(Closing { processing_timers, is_closed: self.is_finished })
    }

    /// Refuses what would be new input.
    pub(super) fn check_open(&self) -> Result<(), Rejection> {
        if self.closed.is_some() { Err(Rejection::NamespaceClosed) } else { Ok(()) }
    }

    /// Refuses what a function would have to take in that has failed for good.
    pub(super) fn check_going(&self) -> Result<(), Rejection> {
        match self.paused.as_ref().and_then(|pause| pause.stop.as_ref()) {
            Some(stop) => Err(Rejection::NamespaceStopped { detail: stop.to_string() }),
            None => Ok(()),
        }
    }

    /// Refuses what would move its clock, unless somebody waits for that.
    pub(super) fn check_clock(&self) -> Result<(), Rejection> {
        match self.closed {
            Some(Close { processing_timers: ProcessingTimers::Wait, .. }) | None => Ok(()),
            Some(_) => Err(Rejection::NamespaceClosed),
        }
    }
}
