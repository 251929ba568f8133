//! A function with broadcasts: elements for all keys, whose state the callbacks of each key read.

use super::broadcast::{BroadcastCall, BroadcastSide, Visit};
use super::call::Call;
use super::context::{Context, OnTimerContext, OutputTag};
use super::error::Result;
use super::process::{decode_input, load_state, read_state, refuse_version, store_state};
use super::{Element, Operator, TimerFired, state};
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::sync::Arc;

/// A keyed function with a second kind of elements, *broadcasts*, which are for all keys: rules, say,
/// or rates. They change the broadcast state, which all keys read and none can write. What is said
/// of [`super::KeyedProcessFunction`] holds for it as well.
///
/// The broadcast state is there once for each lane, decoded: reading it costs an element nothing. For
/// each broadcast it is decoded, and written down, whole: it is for what is small beside the keys.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use std::collections::BTreeMap;
/// use stormwheel::function::{BroadcastContext, Context, KeyedBroadcastProcessFunction, Result};
///
/// /// Emits what is above the threshold of its kind.
/// struct Above;
///
/// #[derive(Deserialize)]
/// struct Reading {
///     kind: String,
///     value: i64,
/// }
///
/// #[derive(Deserialize)]
/// struct Rule {
///     kind: String,
///     threshold: i64,
/// }
///
/// impl KeyedBroadcastProcessFunction for Above {
///     type Input = Reading;
///     type Broadcast = Rule;
///     type State = ();
///     type BroadcastState = BTreeMap<String, i64>;
///     type Output = i64;
///
///     fn process_element(
///         &mut self,
///         reading: Reading,
///         _state: &mut (),
///         thresholds: &BTreeMap<String, i64>,
///         ctx: &mut Context<Self::Output>,
///     ) -> Result<()> {
///         if thresholds.get(&reading.kind).is_some_and(|threshold| reading.value > *threshold) {
///             ctx.emit(reading.value);
///         }
///         Ok(())
///     }
///
///     fn process_broadcast(
///         &mut self,
///         rule: Rule,
///         thresholds: &mut BTreeMap<String, i64>,
///         _ctx: &mut BroadcastContext<Self>,
///     ) -> Result<()> {
///         thresholds.insert(rule.kind, rule.threshold);
///         Ok(())
///     }
/// }
/// ```
pub trait KeyedBroadcastProcessFunction: Send + Sized + 'static {
    /// What elements of a key are, decoded from JSON.
    type Input: DeserializeOwned;
    /// What broadcasts are.
    type Broadcast: DeserializeOwned;
    /// What is kept for each key.
    type State: Default + Serialize + DeserializeOwned;
    /// What is kept for all keys together.
    type BroadcastState: Default + Serialize + DeserializeOwned + Send;
    /// What is emitted, encoded as JSON.
    type Output: Serialize;

    /// The version of the type of a key's state.
    const STATE_VERSION: u32 = 1;
    /// The version of the type of the broadcast state.
    const BROADCAST_STATE_VERSION: u32 = 1;

    /// A key's state that another version of the type has written down.
    fn migrate_state(version: u32, bytes: &[u8]) -> Result<Self::State> {
        let _ = bytes;
        refuse_version(version, Self::STATE_VERSION)
    }

    /// A broadcast state that another version of the type has written down.
    fn migrate_broadcast_state(version: u32, bytes: &[u8]) -> Result<Self::BroadcastState> {
        let _ = bytes;
        refuse_version(version, Self::BROADCAST_STATE_VERSION)
    }

    /// Called before the first callback of an instance: see [`super::KeyedProcessFunction::open`].
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called once when its lane lets go of an instance: see [`super::KeyedProcessFunction::close`].
    fn close(&mut self) {}

    /// An element of the key has come.
    fn process_element(
        &mut self,
        value: Self::Input,
        state: &mut Self::State,
        broadcast: &Self::BroadcastState,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()>;

    /// A broadcast has come. It is processed on each lane, and has to come to the same state on all
    /// of them: it sees no keys. [`BroadcastContext::apply_to_keyed_state`] reaches these.
    fn process_broadcast(
        &mut self,
        value: Self::Broadcast,
        broadcast: &mut Self::BroadcastState,
        ctx: &mut BroadcastContext<Self>,
    ) -> Result<()>;

    /// A timer of the key fires.
    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut Self::State,
        broadcast: &Self::BroadcastState,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        let _ = (time, state, broadcast, ctx);
        Ok(())
    }
}

/// What the callback for a broadcast gets in hand. It has no key, and no timers.
pub struct BroadcastContext<'a, F: KeyedBroadcastProcessFunction> {
    call: BroadcastCall<'a>,
    new_state: Arc<[u8]>,
    function: PhantomData<fn() -> F>,
}

impl<F: KeyedBroadcastProcessFunction> BroadcastContext<'_, F> {
    /// The broadcast's timestamp.
    pub fn timestamp(&self) -> Timestamp {
        self.call.timestamp()
    }

    /// The watermark. `None`: none yet.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.call.watermark()
    }

    /// What the namespace's clock read when the broadcast came in, the same on replay. `None`: a
    /// manual clock that was never set.
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.call.processing_time()
    }

    /// Lets `visit` see each key that has a state, once this callback has returned: whatever comes
    /// behind the broadcast finds a key as its visit has left it. A key is visited once, and in no
    /// order that could be told; a visit that fails leaves its key as it was, and harms no other.
    pub fn apply_to_keyed_state(
        &mut self,
        visit: impl Fn(&mut F::State, &mut VisitContext<F::Output>) -> Result<()> + Send + 'static,
    ) {
        let new_state = Arc::clone(&self.new_state);
        let visit = StateVisit::<F, _> { visit, new_state, function: PhantomData };
        self.call.visit_keys(Box::new(visit));
    }

    /// Emits a value to the main output, with the broadcast's timestamp and without a key: once,
    /// however many lanes process the broadcast.
    #[allow(clippy::needless_pass_by_value, reason = "what is emitted is handed over")]
    pub fn emit(&mut self, value: F::Output) {
        self.emit_value(None, self.timestamp(), &value);
    }

    /// Emits a value to the main output with a timestamp of its own.
    #[allow(clippy::needless_pass_by_value, reason = "what is emitted is handed over")]
    pub fn emit_at(&mut self, timestamp: Timestamp, value: F::Output) {
        self.emit_value(None, timestamp, &value);
    }

    /// Emits a value to a side output.
    #[allow(clippy::needless_pass_by_value, reason = "what is emitted is handed over")]
    pub fn emit_to<T: Serialize>(&mut self, tag: &OutputTag<T>, value: T) {
        self.emit_value(Some(tag.name()), self.timestamp(), &value);
    }

    fn emit_value<T: Serialize>(&mut self, tag: Option<&str>, timestamp: Timestamp, value: &T) {
        let write = |out: &mut Vec<u8>| Ok(serde_json::to_writer(out, value)?);
        self.call.emit_json(tag, Some(timestamp), write);
    }
}

/// What the visit of a key gets in hand: what the callback for an element does, save the timers.
pub struct VisitContext<'a, O>(Context<'a, O>);

impl<'a, O> VisitContext<'a, O> {
    /// The key.
    pub fn key(&self) -> &'a [u8] {
        self.0.key()
    }

    /// The key as text, or the error that it is none.
    pub fn key_str(&self) -> Result<&'a str> {
        self.0.key_str()
    }

    /// The broadcast's timestamp.
    pub fn timestamp(&self) -> Timestamp {
        self.0.timestamp()
    }

    /// The watermark. `None`: none yet.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.0.watermark()
    }

    /// What the namespace's clock reads, the same on replay. `None`: a manual clock that was never
    /// set.
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.0.processing_time()
    }

    /// Takes the key's state away once the visit has returned, whatever it has put into it.
    pub fn clear_state(&mut self) {
        self.0.clear_state();
    }
}

impl<O: Serialize> VisitContext<'_, O> {
    /// Emits a value of the key to the main output, with the broadcast's timestamp.
    pub fn emit(&mut self, value: O) {
        self.0.emit(value);
    }

    /// Emits a value of the key to the main output with a timestamp of its own.
    pub fn emit_at(&mut self, timestamp: Timestamp, value: O) {
        self.0.emit_at(timestamp, value);
    }
}

impl<O> VisitContext<'_, O> {
    /// Emits a value of the key to a side output, with the broadcast's timestamp.
    pub fn emit_to<T: Serialize>(&mut self, tag: &OutputTag<T>, value: T) {
        self.0.emit_to(tag, value);
    }
}

/// What is done to the state of each key.
struct StateVisit<F, V> {
    visit: V,
    /// How a new state of a key is written down.
    new_state: Arc<[u8]>,
    function: PhantomData<fn() -> F>,
}

impl<F, V> Visit for StateVisit<F, V>
where
    F: KeyedBroadcastProcessFunction,
    V: Fn(&mut F::State, &mut VisitContext<F::Output>) -> Result<()> + Send,
{
    fn visit(&self, call: &mut Call<'_>) -> Result<()> {
        let mut state = load_state(call, F::STATE_VERSION, F::migrate_state)?;
        let mut ctx = VisitContext(Context::on_element(call.reborrow()));
        (self.visit)(&mut state, &mut ctx)?;
        let is_cleared = ctx.0.is_cleared();
        store_state(call, F::STATE_VERSION, &self.new_state, &state, is_cleared);
        Ok(())
    }
}

/// A typed function with broadcasts as an operator over bytes.
pub(super) struct BroadcastProcess<F: KeyedBroadcastProcessFunction> {
    function: F,
    /// How a new state of a key is written down.
    new_state: Arc<[u8]>,
    /// How a new broadcast state is.
    new_broadcast: Vec<u8>,
    /// What was written down, or why it cannot be read.
    broadcast: Result<F::BroadcastState>,
}

impl<F: KeyedBroadcastProcessFunction> BroadcastProcess<F> {
    pub(super) fn new(function: F) -> Result<Self> {
        let new_state = state::encode(Vec::new(), F::STATE_VERSION, &F::State::default())?;
        let broadcast = F::BroadcastState::default();
        let new_broadcast = state::encode(Vec::new(), F::BROADCAST_STATE_VERSION, &broadcast)?;
        Ok(Self { function, new_state: new_state.into(), new_broadcast, broadcast: Ok(broadcast) })
    }
}

impl<F: KeyedBroadcastProcessFunction> Operator for BroadcastProcess<F> {
    fn open(&mut self) -> Result<()> {
        self.function.open()
    }

    fn close(&mut self) {
        self.function.close();
    }

    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let value = decode_input(&element)?;
        let broadcast = self.broadcast.as_ref().map_err(Clone::clone)?;
        let mut state = load_state(call, F::STATE_VERSION, F::migrate_state)?;
        let mut ctx = Context::on_element(call.reborrow());
        self.function.process_element(value, &mut state, broadcast, &mut ctx)?;
        let is_cleared = ctx.is_cleared();
        store_state(call, F::STATE_VERSION, &self.new_state, &state, is_cleared);
        Ok(())
    }

    fn on_timer(&mut self, call: &mut Call<'_>, timer: TimerFired<'_>) -> Result<()> {
        let broadcast = self.broadcast.as_ref().map_err(Clone::clone)?;
        let mut state = load_state(call, F::STATE_VERSION, F::migrate_state)?;
        let mut ctx = OnTimerContext::on_timer(call.reborrow(), timer.domain, &timer.id);
        self.function.on_timer(timer.time, &mut state, broadcast, &mut ctx)?;
        let is_cleared = ctx.is_cleared();
        store_state(call, F::STATE_VERSION, &self.new_state, &state, is_cleared);
        Ok(())
    }

    fn broadcast_side(&mut self) -> Option<&mut dyn BroadcastSide> {
        Some(self)
    }
}

impl<F: KeyedBroadcastProcessFunction> BroadcastSide for BroadcastProcess<F> {
    fn load(&mut self, state: Option<&[u8]>) {
        self.broadcast = decode_broadcast_state::<F>(state);
    }

    fn process_broadcast(
        &mut self,
        call: &mut BroadcastCall<'_>,
        element: Element<'_>,
    ) -> Result<()> {
        let value = decode_input(&element)?;
        // A copy: if the callback fails, what the keys read has not changed.
        let mut broadcast = decode_broadcast_state::<F>(call.state())?;
        let (call_of_it, new_state) = (call.reborrow(), Arc::clone(&self.new_state));
        let mut ctx = BroadcastContext { call: call_of_it, new_state, function: PhantomData };
        self.function.process_broadcast(value, &mut broadcast, &mut ctx)?;
        let bytes = state::encode(Vec::new(), F::BROADCAST_STATE_VERSION, &broadcast);
        let bytes = bytes
            .map_err(|error| error.while_doing("the broadcast state cannot be written down"))?;
        if bytes == self.new_broadcast {
            call.clear_state();
        } else {
            call.set_state(&bytes);
        }
        Ok(())
    }
}

/// A broadcast state as the function wants it.
fn read_broadcast<F: KeyedBroadcastProcessFunction>(bytes: &[u8]) -> Result<F::BroadcastState> {
    state::read(bytes, F::BROADCAST_STATE_VERSION, F::migrate_broadcast_state)
        .map_err(|error| error.while_doing("the broadcast state cannot be read"))
}

/// The broadcast state as the function wants it.
pub(crate) fn decode_broadcast_state<F: KeyedBroadcastProcessFunction>(
    bytes: Option<&[u8]>,
) -> Result<F::BroadcastState> {
    bytes.map_or_else(|| Ok(F::BroadcastState::default()), read_broadcast::<F>)
}

/// The state of a key as the function wants it.
pub(crate) fn decode_broadcast_process_state<F: KeyedBroadcastProcessFunction>(
    bytes: &[u8],
) -> Result<F::State> {
    read_state(bytes, F::STATE_VERSION, F::migrate_state)
}
