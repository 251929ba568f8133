//! The operator `windows`: aggregates of the elements of a key over spans of time, as Flink's
//! window operator has them.
//!
//! A window fires when its time has passed: in event time, when the watermark reaches its last
//! millisecond; by the clock, when that has left it. It then stays open for `lateness`: a late element
//! of it lets it fire again at once. After that it is gone, and an element that belongs to no
//! window any more is late.
//!
//! The timers of a window are in a namespace of its own, named by its start, which no other open
//! window of the key shares. There is one at a time: the one that fires it, and from then on the one
//! that cleans it up. Between the two, nothing can come that would tell this from having both.

mod aggregate;
mod assign;
mod options;
mod state;
#[cfg(test)]
mod tests;

use super::forget::{now, reached};
use super::state::{load, save};
use super::value::json_text;
use crate::function::{Call, Element, Operator, Result, TimerFired};
use crate::time::{Domain, Timestamp};
use aggregate::{Field, Held};
use assign::{Assigner, Span};
use options::Early;
pub use options::Windows;
use state::{State, Window};

/// Why a window shows what it holds.
#[derive(Debug, Clone, Copy)]
enum Pane {
    Early,
    OnTime,
    Late,
}

impl Pane {
    fn as_str(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::OnTime => "on_time",
            Self::Late => "late",
        }
    }
}

impl Operator for Windows {
    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let at = match self.domain {
            Domain::Event => element.timestamp.as_millis(),
            Domain::Processing => now(call)?,
        };
        let mut state: State<'_> = load(call)?.unwrap_or_default();
        let mut read: Option<Vec<Held<'_>>> = None;
        for span in self.assigner.assign(at)? {
            // Whether a session is late is told by all of it: it cannot end before what it is made of,
            // so one that is open never becomes late by growing.
            let span = match self.assigner {
                Assigner::Aligned { .. } => span,
                Assigner::Session { .. } => state.session_of(span),
            };
            if self.is_cleaned_up(call, span) {
                continue;
            }
            let held = match &read {
                Some(held) => held.clone(),
                None => read.insert(self.read(at, &element)?).clone(),
            };
            let place = self.open_window(call, &mut state, span)?;
            let window = &mut state.windows[place];
            window.add(held)?;
            self.element_came(call, window)?;
        }
        if read.is_none() {
            call.refuse_late();
            return Ok(());
        }
        save(call, Some(&state));
        Ok(())
    }

    fn on_timer(&mut self, call: &mut Call<'_>, timer: TimerFired<'_>) -> Result<()> {
        let mut state: State<'_> = load(call)?.unwrap_or_default();
        let start =
            timer.id.namespace().and_then(|name| std::str::from_utf8(name).ok()?.parse().ok());
        // A timer of a window that is there no more says nothing.
        let Some(place) = start.and_then(|start| state.at(start)) else {
            return Ok(());
        };
        let window = &mut state.windows[place];
        let (span, time) = (window.span(), timer.time.as_millis());
        if timer.domain == Domain::Processing && window.early_at == Some(time) {
            window.early_at = None;
            self.fire(call, window, Pane::Early);
        } else if timer.domain != self.domain {
            return Ok(());
        } else if time == self.fires_at(span) {
            if let Some(early_at) = window.early_at.take() {
                delete(call, span, Domain::Processing, early_at);
            }
            self.fire(call, window, Pane::OnTime);
            if self.is_cleaned_up(call, span) {
                state.windows.remove(place);
            } else {
                self.register_cleanup(call, span);
            }
        } else if time == self.cleans_up_at(span) {
            state.windows.remove(place);
        }
        save(call, (!state.windows.is_empty()).then_some(&state));
        Ok(())
    }

    fn keeps_options(&self) -> bool {
        true
    }

    fn judges_lateness(&self) -> bool {
        true
    }

    fn needs_clock_timers(&self) -> bool {
        self.domain == Domain::Processing || matches!(self.early, Early::Every(_))
    }
}

impl Windows {
    /// What the element says, field by field.
    fn read<'e>(&self, at: i64, element: &Element<'e>) -> Result<Vec<Held<'e>>> {
        let fields = &self.fields;
        let text = if fields.iter().any(Field::needs_value) { json_text(element)? } else { "" };
        fields.iter().map(|field| field.of_element(at, text)).collect()
    }

    /// The place of the window of this span. Sessions that it is made of are merged, and their timers
    /// with them.
    fn open_window(&self, call: &mut Call<'_>, state: &mut State<'_>, span: Span) -> Result<usize> {
        let (place, gone) = state.open(span)?;
        let Some(gone) = gone else {
            return Ok(place);
        };
        let domain = self.domain;
        let window = &mut state.windows[place];
        for old in gone {
            let old_span = old.span();
            if self.is_past(call, old_span) {
                delete(call, old_span, domain, self.cleans_up_at(old_span));
            } else {
                delete(call, old_span, domain, self.fires_at(old_span));
            }
            if let Some(early_at) = old.early_at {
                delete(call, old_span, Domain::Processing, early_at);
            }
            window.merge(old)?;
        }
        if self.is_past(call, span) {
            self.register_cleanup(call, span);
        } else {
            register(call, span, domain, self.fires_at(span));
        }
        if let Some(early_at) = window.early_at {
            register(call, span, Domain::Processing, early_at);
        }
        Ok(place)
    }

    /// An element has come into a window.
    fn element_came(&self, call: &mut Call<'_>, window: &mut Window<'_>) -> Result<()> {
        let span = window.span();
        if self.is_past(call, span) {
            self.fire(call, window, Pane::Late);
            return Ok(());
        }
        match self.early {
            Early::Elements(count) if window.fresh >= count => {
                self.fire(call, window, Pane::Early);
            }
            Early::Every(every) if window.early_at.is_none() => {
                let early_at = now(call)?.checked_add(every.0);
                // By the clock, the end may come first.
                let is_before_end =
                    |at: &i64| self.domain == Domain::Event || *at < self.fires_at(span);
                window.early_at = early_at.filter(is_before_end);
                if let Some(early_at) = window.early_at {
                    register(call, span, Domain::Processing, early_at);
                }
            }
            Early::Never | Early::Every(_) | Early::Elements(_) => {}
        }
        Ok(())
    }

    /// Shows what a window holds, stamped with its last millisecond.
    fn fire(&self, call: &mut Call<'_>, window: &mut Window<'_>, pane: Pane) {
        let span = window.span();
        let Some(fields) = window.pane(&self.fields) else {
            return;
        };
        call.emit_json(None, Some(Timestamp::from_millis(span.max_timestamp())), |out| {
            let (Span { start, end }, pane) = (span, pane.as_str());
            let head = format!("{{\"start\":{start},\"end\":{end},\"pane\":\"{pane}\"");
            out.extend_from_slice(head.as_bytes());
            for (field, held) in fields {
                field.write(out, held)?;
            }
            out.push(b'}');
            Ok(())
        });
        window.shown(self.is_discarding);
    }

    /// When its time has passed.
    fn fires_at(&self, span: Span) -> i64 {
        match self.domain {
            Domain::Event => span.max_timestamp(),
            // A clock that reads its last millisecond has not left it: more may come in.
            Domain::Processing => span.end,
        }
    }

    /// Whether its time has passed: it has fired, and fires again with each element.
    fn is_past(&self, call: &Call<'_>, span: Span) -> bool {
        self.domain == Domain::Event
            && reached(call, Domain::Event).is_some_and(|reached| span.max_timestamp() <= reached)
    }

    /// When it is there no more; the end of time: never, save that nothing comes after that.
    fn cleans_up_at(&self, span: Span) -> i64 {
        self.fires_at(span).saturating_add(self.lateness.0)
    }

    fn is_cleaned_up(&self, call: &Call<'_>, span: Span) -> bool {
        match self.domain {
            Domain::Event => reached(call, Domain::Event)
                .is_some_and(|reached| self.cleans_up_at(span) <= reached),
            // By the clock, no element is late: what fires is over.
            Domain::Processing => call.domain().is_some(),
        }
    }

    fn register_cleanup(&self, call: &mut Call<'_>, span: Span) {
        let at = self.cleans_up_at(span);
        if at < i64::MAX {
            register(call, span, self.domain, at);
        }
    }
}

fn register(call: &mut Call<'_>, window: Span, domain: Domain, at: i64) {
    let namespace = window.start.to_string();
    call.timers().in_namespace(&namespace).register(domain, Timestamp::from_millis(at));
}

fn delete(call: &mut Call<'_>, window: Span, domain: Domain, at: i64) {
    let namespace = window.start.to_string();
    call.timers().in_namespace(&namespace).delete(domain, Timestamp::from_millis(at));
}
