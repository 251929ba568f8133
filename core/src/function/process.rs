//! The function that most users write: one input, one state, timers of both domains.

use super::call::Call;
use super::context::{Context, OnTimerContext};
use super::error::{FunctionError, Result};
use super::{Element, Operator, TimerFired, state};
use crate::op::Payload;
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A keyed function: it sees the elements and the timers of one key at a time, with that key's state.
///
/// It follows from the elements, the timers and the state alone, since all of it is repeated after a
/// crash: no clock but the context's, no chance, nothing remembered in `self`. Its own fields are
/// for what never changes.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use stormwheel::function::{Context, KeyedProcessFunction, OnTimerContext, Result};
/// use stormwheel::time::Timestamp;
///
/// /// Emits (key, count) once a key has been silent for a minute of event time.
/// struct CountWithTimeout;
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Seen {
///     count: u64,
///     last: Timestamp,
/// }
///
/// impl KeyedProcessFunction for CountWithTimeout {
///     type Input = String;
///     type State = Seen;
///     type Output = (String, u64);
///
///     fn process_element(
///         &mut self,
///         _value: String,
///         state: &mut Seen,
///         ctx: &mut Context<Self::Output>,
///     ) -> Result<()> {
///         state.count += 1;
///         state.last = ctx.timestamp();
///         ctx.timers().register_event_time(state.last + 60_000);
///         Ok(())
///     }
///
///     fn on_timer(
///         &mut self,
///         time: Timestamp,
///         state: &mut Seen,
///         ctx: &mut OnTimerContext<Self::Output>,
///     ) -> Result<()> {
///         if time == state.last + 60_000 {
///             ctx.emit((ctx.key_str()?.to_owned(), state.count));
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait KeyedProcessFunction: Send + 'static {
    /// What elements are, decoded from JSON.
    type Input: DeserializeOwned;
    /// What is kept for each key. A key without any has the default, and one that equals the
    /// default has none.
    type State: Default + Serialize + DeserializeOwned;
    /// What is emitted, encoded as JSON.
    type Output: Serialize;

    /// The version of the state's type: raise it when the type changes, and take the older ones over
    /// in [`KeyedProcessFunction::migrate_state`].
    const STATE_VERSION: u32 = 1;

    /// A state that another version of the type has written down, `bytes` as
    /// [postcard](https://docs.rs/postcard) has it.
    fn migrate_state(version: u32, bytes: &[u8]) -> Result<Self::State> {
        let _ = bytes;
        refuse_version(version, Self::STATE_VERSION)
    }

    /// Called before the first callback of an instance, as a part of it: if it fails, that callback has
    /// failed, and the next one calls it again. It makes ready what callbacks need, which has to be the
    /// same at every start.
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called once for each instance when its lane lets go of it: its namespace has come to its end, was
    /// deleted, or has other options or another operator from now on; or the service stops in good order.
    /// An instance that had no callback was not opened, and is closed all the same. In a crash none is:
    /// what must not be lost belongs into the state, or into an output. A panic ends with it.
    fn close(&mut self) {}

    /// An element of the key has come.
    fn process_element(
        &mut self,
        value: Self::Input,
        state: &mut Self::State,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()>;

    /// A timer of the key fires. `time` is its own, not the one that the clock reads.
    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut Self::State,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        let _ = (time, state, ctx);
        Ok(())
    }
}

/// A typed function as an operator over bytes.
pub(super) struct Process<F> {
    function: F,
    /// How a new state is written down.
    new_state: Vec<u8>,
}

impl<F: KeyedProcessFunction> Process<F> {
    pub(super) fn new(function: F) -> Result<Self> {
        let new_state = state::encode_new::<F::State>(F::STATE_VERSION)?;
        Ok(Self { function, new_state })
    }
}

impl<F: KeyedProcessFunction> Operator for Process<F> {
    fn open(&mut self) -> Result<()> {
        self.function.open()
    }

    fn close(&mut self) {
        self.function.close();
    }

    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let value = decode_input(&element)?;
        let mut state = load_state(call, F::STATE_VERSION, F::migrate_state)?;
        let mut ctx = Context::on_element(call.reborrow());
        self.function.process_element(value, &mut state, &mut ctx)?;
        let is_cleared = ctx.is_cleared();
        store_state(call, F::STATE_VERSION, &self.new_state, &state, is_cleared);
        Ok(())
    }

    fn on_timer(&mut self, call: &mut Call<'_>, timer: TimerFired<'_>) -> Result<()> {
        let mut state = load_state(call, F::STATE_VERSION, F::migrate_state)?;
        let mut ctx = OnTimerContext::on_timer(call.reborrow(), timer.domain, &timer.id);
        self.function.on_timer(timer.time, &mut state, &mut ctx)?;
        let is_cleared = ctx.is_cleared();
        store_state(call, F::STATE_VERSION, &self.new_state, &state, is_cleared);
        Ok(())
    }
}

/// No other version is taken over.
pub(super) fn refuse_version<S>(found: u32, own: u32) -> Result<S> {
    Err(FunctionError::new(format!(
        "it is of version {found}, this function has version {own} and takes no other over"
    )))
}

/// An element as the function wants it.
pub(super) fn decode_input<I: DeserializeOwned>(element: &Element<'_>) -> Result<I> {
    match element.value {
        Payload::Json(text) => serde_json::from_slice(text).map_err(|error| {
            FunctionError::from(error).while_doing("the element is not what the function takes")
        }),
        Payload::Binary(_) => {
            Err(FunctionError::new("the element is binary, and the function takes JSON"))
        }
    }
}

/// The key's state as the function wants it.
pub(super) fn load_state<S: Default + DeserializeOwned>(
    call: &Call<'_>,
    version: u32,
    migrate: impl FnOnce(u32, &[u8]) -> Result<S>,
) -> Result<S> {
    match call.stored_state() {
        None => Ok(S::default()),
        Some(bytes) => read_state(bytes, version, migrate),
    }
}

/// A state as the function wants it.
pub(crate) fn decode_state<F: KeyedProcessFunction>(bytes: &[u8]) -> Result<F::State> {
    read_state(bytes, F::STATE_VERSION, F::migrate_state)
}

pub(super) fn read_state<S: DeserializeOwned>(
    bytes: &[u8],
    version: u32,
    migrate: impl FnOnce(u32, &[u8]) -> Result<S>,
) -> Result<S> {
    state::read(bytes, version, migrate)
        .map_err(|error| error.while_doing("the key's state cannot be read"))
}

/// Writes the key's state down as the function has left it.
pub(super) fn store_state<S: Serialize>(
    call: &mut Call<'_>,
    version: u32,
    new_state: &[u8],
    state: &S,
    is_cleared: bool,
) {
    if !is_cleared {
        call.write_state(|buffer| state::encode(buffer, version, state));
    }
    if is_cleared || call.state() == Some(new_state) {
        call.clear_state();
    }
}
