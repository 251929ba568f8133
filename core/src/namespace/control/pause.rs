//! A pause: time stands still in a namespace until it goes on.
//!
//! While it is paused its lanes hear of no watermark and no clock: what would have been sent is kept
//! here. The step that ends the pause says between which times nothing could fire, and is itself the
//! decision about what fell due in between; what was kept follows it.

use super::{Change, Control, ControlEffect, Controls, Ticket, Waiting};
use crate::error::Rejection;
use crate::namespace::{ClockKind, CommandReply};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a paused namespace keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
        control.paused = Some(Pause { at: now, clock: control.manual_now, watermark: None });
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
        let Some(Pause { at, clock, watermark }) = control.paused.take() else {
            return Ok(Some(CommandReply::Resumed { changed: false }));
        };
        let lost = match control.config.clock {
            ClockKind::System => (at < now).then_some((at, now)),
            // A manual clock that did not move made nothing due.
            ClockKind::Manual => control
                .manual_now
                .filter(|to| Some(*to) != clock)
                .map(|to| (clock.unwrap_or(to), to)),
        };
        let (id, number) = (control.id, control.next_step());
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
