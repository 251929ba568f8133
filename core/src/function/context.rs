//! What a typed callback gets in hand: [`Context`] for an element, [`OnTimerContext`] for a timer.

use super::call::{Call, Timers};
use super::error::{FunctionError, Result};
use super::timer::TimerId;
use crate::time::{Domain, Timestamp};
use serde::Serialize;
use std::borrow::Cow;
use std::marker::PhantomData;

/// What the callback for an element gets in hand.
pub type Context<'a, O> = CallContext<'a, O, OnElement>;

/// What the callback for a timer gets in hand.
pub type OnTimerContext<'a, O> = CallContext<'a, O, OnTimer<'a>>;

/// A callback of a function whose outputs are `O`.
pub struct CallContext<'a, O, C> {
    call: Call<'a>,
    is_cleared: bool,
    cause: C,
    output: PhantomData<fn(O)>,
}

/// An element has come.
#[derive(Debug)]
pub struct OnElement(());

/// A timer fires.
#[derive(Debug)]
pub struct OnTimer<'a> {
    domain: Domain,
    id: &'a TimerId<'a>,
}

impl<'a, O> Context<'a, O> {
    pub(super) fn on_element(call: Call<'a>) -> Self {
        Self { call, is_cleared: false, cause: OnElement(()), output: PhantomData }
    }
}

impl<'a, O> OnTimerContext<'a, O> {
    pub(super) fn on_timer(call: Call<'a>, domain: Domain, id: &'a TimerId<'a>) -> Self {
        Self { call, is_cleared: false, cause: OnTimer { domain, id }, output: PhantomData }
    }

    /// Which clock the timer followed.
    pub fn domain(&self) -> Domain {
        self.cause.domain
    }

    /// The timer's name, if it has one.
    pub fn name(&self) -> Option<&'a str> {
        self.cause.id.name()
    }

    /// The timer's namespace, if it is in one.
    pub fn namespace(&self) -> Option<&'a [u8]> {
        self.cause.id.namespace()
    }
}

impl<'a, O, C> CallContext<'a, O, C> {
    /// The key.
    pub fn key(&self) -> &'a [u8] {
        self.call.key()
    }

    /// The key as text, or the error that it is none.
    pub fn key_str(&self) -> Result<&'a str> {
        std::str::from_utf8(self.call.key())
            .map_err(|error| FunctionError::from(error).while_doing("the key is no text"))
    }

    /// The element's timestamp, or the time of the timer.
    pub fn timestamp(&self) -> Timestamp {
        self.call.timestamp()
    }

    /// The watermark: while timers fire, the one that made them due. `None`: none yet.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.call.watermark()
    }

    /// What the namespace's clock reads, the same on replay. `None`: a manual clock that was never
    /// set. While a namespace that is closed is drained: the end of time.
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.call.processing_time()
    }

    /// The key's timers.
    pub fn timers(&mut self) -> Timers<'_> {
        self.call.timers()
    }

    /// Takes the key's state away once the callback has returned, whatever it has put into it.
    pub fn clear_state(&mut self) {
        self.is_cleared = true;
    }

    pub(super) fn is_cleared(&self) -> bool {
        self.is_cleared
    }
}

impl<O: Serialize, C> CallContext<'_, O, C> {
    /// Emits a value to the main output. It has the element's timestamp, or that of the event-time
    /// timer; one from a processing-time timer has none.
    #[allow(clippy::needless_pass_by_value, reason = "what is emitted is handed over")]
    pub fn emit(&mut self, value: O) {
        self.emit_value(None, self.call.output_timestamp(None), &value);
    }

    /// Emits a value to the main output with a timestamp of its own.
    #[allow(clippy::needless_pass_by_value, reason = "what is emitted is handed over")]
    pub fn emit_at(&mut self, timestamp: Timestamp, value: O) {
        self.emit_value(None, Some(timestamp), &value);
    }
}

impl<O, C> CallContext<'_, O, C> {
    /// Emits a value to a side output, with the element's timestamp, or that of the timer.
    #[allow(clippy::needless_pass_by_value, reason = "what is emitted is handed over")]
    pub fn emit_to<T: Serialize>(&mut self, tag: &OutputTag<T>, value: T) {
        let name = Some(tag.name());
        self.emit_value(name, self.call.output_timestamp(name), &value);
    }

    fn emit_value<T: Serialize>(
        &mut self,
        tag: Option<&str>,
        timestamp: Option<Timestamp>,
        value: &T,
    ) {
        self.call.emit_json(tag, timestamp, |out| Ok(serde_json::to_writer(out, value)?));
    }
}

/// The name of a side output, and the type of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTag<T> {
    name: Cow<'static, str>,
    value: PhantomData<fn(T)>,
}

impl<T> OutputTag<T> {
    /// The side output of this name, 1 to 128 bytes: a callback that emits to another one fails.
    pub const fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), value: PhantomData }
    }

    /// The side output of a name that is made at run time.
    pub fn named(name: String) -> Self {
        Self { name: Cow::Owned(name), value: PhantomData }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
