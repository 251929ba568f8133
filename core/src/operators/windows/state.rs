//! The open windows of a key, by their starts. No two begin at the same time.

use super::aggregate::{Field, Held};
use super::assign::Span;
use crate::function::{FunctionError, Result};
use crate::limits::{WINDOW_VALUE_BYTES_MAX, WINDOWS_PER_KEY_MAX};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State<'a> {
    #[serde(borrow)]
    pub(super) windows: Vec<Window<'a>>,
}

/// An open window.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Window<'a> {
    start: i64,
    size: u64,
    /// Elements that no pane has shown.
    pub(super) fresh: u64,
    /// When it is to show them early, by the clock.
    pub(super) early_at: Option<i64>,
    /// What it holds, field by field. Empty: its last pane took all along.
    #[serde(borrow)]
    held: Vec<Held<'a>>,
}

impl<'a> State<'a> {
    /// The span of the session that an element of this span falls into: of all that it touches.
    pub(super) fn session_of(&self, span: Span) -> Span {
        // They do not touch each other, so their ends are in the same order as their starts.
        let first = self.windows.partition_point(|window| window.span().end < span.start);
        let touched = self.windows[first..].iter().map(Window::span);
        touched.take_while(|window| window.touches(span)).fold(span, Span::cover)
    }

    /// The place of the window that begins at this time.
    pub(super) fn at(&self, start: i64) -> Option<usize> {
        self.windows.binary_search_by_key(&start, |window| window.start).ok()
    }

    /// The place of the window of this span; that it has to be made of others, or opened, is told by
    /// the windows that went for it. `None`: it is there.
    pub(super) fn open(&mut self, span: Span) -> Result<(usize, Option<Vec<Window<'a>>>)> {
        let first = self.windows.partition_point(|window| window.start < span.start);
        // A window within another one is of a session: aligned ones are all of one size.
        let within = |window: &&Window<'_>| window.span().end <= span.end;
        let count = self.windows[first..].iter().take_while(within).count();
        if count == 1 && self.windows[first].span() == span {
            return Ok((first, None));
        }
        if count == 0 && self.windows.len() >= WINDOWS_PER_KEY_MAX {
            return Err(FunctionError::new(format!(
                "the key has {WINDOWS_PER_KEY_MAX} open windows, and no more are allowed"
            )));
        }
        let gone: Vec<_> = self.windows.drain(first..first + count).collect();
        self.windows.insert(first, Window::new(span));
        Ok((first, Some(gone)))
    }
}

impl<'a> Window<'a> {
    fn new(span: Span) -> Self {
        let size = span.end.abs_diff(span.start);
        Self { start: span.start, size, fresh: 0, early_at: None, held: Vec::new() }
    }

    pub(super) fn span(&self) -> Span {
        Span { start: self.start, end: self.start.saturating_add_unsigned(self.size) }
    }

    /// Takes in what an earlier session held.
    pub(super) fn merge(&mut self, other: Self) -> Result<()> {
        self.fresh += other.fresh;
        self.early_at = match (self.early_at, other.early_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.take(other.held)
    }

    /// Takes in one element.
    pub(super) fn add(&mut self, element: Vec<Held<'a>>) -> Result<()> {
        self.fresh += 1;
        self.take(element)?;
        let text_bytes: usize = self.held.iter().map(Held::text_bytes).sum();
        if text_bytes > WINDOW_VALUE_BYTES_MAX {
            let Span { start, end } = self.span();
            return Err(FunctionError::new(format!(
                "the window from {start} to {end} would hold {text_bytes} bytes of values that are \
                 collected or kept, allowed are {WINDOW_VALUE_BYTES_MAX}"
            )));
        }
        Ok(())
    }

    fn take(&mut self, more: Vec<Held<'a>>) -> Result<()> {
        if self.held.is_empty() {
            self.held = more;
            return Ok(());
        }
        if self.held.len() != more.len() && !more.is_empty() {
            return Err(Held::misfit());
        }
        self.held.iter_mut().zip(more).try_for_each(|(held, more)| held.take(more))
    }

    /// What a pane shows, with the names of the fields. `None`: there is nothing to show.
    pub(super) fn pane<'w>(
        &'w self,
        fields: &'w [Field],
    ) -> Option<impl Iterator<Item = (&'w Field, &'w Held<'a>)>> {
        (!self.held.is_empty()).then(|| fields.iter().zip(&self.held))
    }

    /// It has been shown; it goes on with nothing, if panes take along what they show.
    pub(super) fn shown(&mut self, is_discarding: bool) {
        self.fresh = 0;
        if is_discarding {
            self.held.clear();
        }
    }
}
