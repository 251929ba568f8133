//! A harness for functions: hand it elements, move its watermark and its clock, see what comes out.
//!
//! It is the engine itself, with its log, its snapshots and its recovery, over a disk in memory; but
//! without threads, and without a clock that moves by itself. So whatever a test sees here is what
//! the service does, and it is the same each time.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use stormwheel::function::{Context, KeyedProcessFunction, OnTimerContext, Result};
//! use stormwheel::testing::Harness;
//! use stormwheel::time::Timestamp;
//!
//! /// Emits (key, count) once a key has been silent for a minute of event time.
//! struct CountWithTimeout;
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Seen {
//!     count: u64,
//!     last: Timestamp,
//! }
//!
//! impl KeyedProcessFunction for CountWithTimeout {
//!     type Input = String;
//!     type State = Seen;
//!     type Output = (String, u64);
//!
//!     fn process_element(
//!         &mut self,
//!         _value: String,
//!         state: &mut Seen,
//!         ctx: &mut Context<Self::Output>,
//!     ) -> Result<()> {
//!         state.count += 1;
//!         state.last = ctx.timestamp();
//!         ctx.timers().register_event_time(state.last + 60_000);
//!         Ok(())
//!     }
//!
//!     fn on_timer(
//!         &mut self,
//!         time: Timestamp,
//!         state: &mut Seen,
//!         ctx: &mut OnTimerContext<Self::Output>,
//!     ) -> Result<()> {
//!         if time == state.last + 60_000 {
//!             ctx.emit((ctx.key_str()?.to_owned(), state.count));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut harness = Harness::new(|| CountWithTimeout);
//! harness.process_element("device-9", "on", 1_000)?;
//! harness.process_element("device-9", "off", 5_000)?;
//! harness.advance_watermark(64_999);
//! assert!(harness.take_values().is_empty());
//!
//! harness.crash();
//! harness.rescale(4);
//! harness.advance_watermark(65_000);
//! assert_eq!(harness.take_values(), [("device-9".to_owned(), 2)]);
//! # Ok::<(), stormwheel::error::Rejection>(())
//! ```

#[cfg(feature = "arrow")]
#[cfg(test)]
mod batches;
#[cfg(test)]
mod broadcast_tests;
mod operator;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod tests;

pub use operator::{Emitted, HarnessSnapshot, OperatorHarness};

use crate::error::Rejection;
use crate::function::{
    FunctionTimer, KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedProcessFunction,
    Operators, OutputTag, Result as FunctionResult, decode_broadcast_process_state,
    decode_broadcast_state, decode_co_state, decode_state,
};
#[cfg(feature = "arrow")]
use crate::function::{
    KeyedBatchFunction, arrow_array::RecordBatch, decode_batch_state, encode_batch,
};
use crate::namespace::{BroadcastResult, Closing, NamespaceConfig, ProcessingTimers, Stop};
use crate::op::{Payload, ResultKind};
use crate::runtime::Fault;
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

const FUNCTION: &str = "function";

/// What a function has emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output<T> {
    /// Its key.
    pub key: Vec<u8>,
    /// Its timestamp, if it has one.
    pub timestamp: Option<Timestamp>,
    /// What it is.
    pub value: T,
}

/// What a harness is of: a function, with its types.
pub trait HarnessOf {
    /// The function.
    type Function;
    /// What the function keeps for each key.
    type State;
    /// What it emits.
    type Output;

    /// The operators with this one among them.
    fn operators(make: impl Fn() -> Self::Function + Send + Sync + 'static) -> Operators;

    /// A state that was written down.
    fn decode_state(bytes: &[u8]) -> FunctionResult<Self::State>;
}

/// A [`KeyedProcessFunction`].
pub struct One<F>(PhantomData<fn() -> F>);

/// A [`KeyedCoProcessFunction`].
pub struct Two<F>(PhantomData<fn() -> F>);

impl<F: KeyedProcessFunction> HarnessOf for One<F> {
    type Function = F;
    type State = F::State;
    type Output = F::Output;

    fn operators(make: impl Fn() -> F + Send + Sync + 'static) -> Operators {
        Operators::default().with_function(FUNCTION, make)
    }

    fn decode_state(bytes: &[u8]) -> FunctionResult<F::State> {
        decode_state::<F>(bytes)
    }
}

impl<F: KeyedCoProcessFunction> HarnessOf for Two<F> {
    type Function = F;
    type State = F::State;
    type Output = F::Output;

    fn operators(make: impl Fn() -> F + Send + Sync + 'static) -> Operators {
        Operators::default().with_co_function(FUNCTION, make)
    }

    fn decode_state(bytes: &[u8]) -> FunctionResult<F::State> {
        decode_co_state::<F>(bytes)
    }
}

/// A [`KeyedBatchFunction`].
#[cfg(feature = "arrow")]
pub struct Batches<F>(PhantomData<fn() -> F>);

#[cfg(feature = "arrow")]
impl<F: KeyedBatchFunction> HarnessOf for Batches<F> {
    type Function = F;
    type State = F::State;
    type Output = F::Output;

    fn operators(make: impl Fn() -> F + Send + Sync + 'static) -> Operators {
        Operators::default().with_batch_function(FUNCTION, make)
    }

    fn decode_state(bytes: &[u8]) -> FunctionResult<F::State> {
        decode_batch_state::<F>(bytes)
    }
}

/// A [`KeyedBroadcastProcessFunction`].
pub struct Keyed<F>(PhantomData<fn() -> F>);

impl<F: KeyedBroadcastProcessFunction> HarnessOf for Keyed<F> {
    type Function = F;
    type State = F::State;
    type Output = F::Output;

    fn operators(make: impl Fn() -> F + Send + Sync + 'static) -> Operators {
        Operators::default().with_broadcast_function(FUNCTION, make)
    }

    fn decode_state(bytes: &[u8]) -> FunctionResult<F::State> {
        decode_broadcast_process_state::<F>(bytes)
    }
}

/// A harness of a function with one input.
pub type Harness<F> = TypedHarness<One<F>>;

/// A harness of a function with two inputs.
pub type CoHarness<F> = TypedHarness<Two<F>>;

/// A harness of a function over columns.
#[cfg(feature = "arrow")]
pub type BatchHarness<F> = TypedHarness<Batches<F>>;

/// A harness of a function with broadcasts.
pub type BroadcastHarness<F> = TypedHarness<Keyed<F>>;

/// A harness of one function. See the module.
pub struct TypedHarness<T> {
    inner: OperatorHarness,
    function: PhantomData<fn() -> T>,
}

impl<F: KeyedProcessFunction> Harness<F> {
    /// Hands an element over, encoded as JSON, and lets everything happen that follows from it.
    pub fn process_element(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl Serialize,
        timestamp_ms: i64,
    ) -> Result<ResultKind, Rejection> {
        self.process(key.as_ref(), 0, &value, timestamp_ms)
    }

    /// Starts again with another version of the function: what keys hold is the new one's.
    pub fn upgrade<G: KeyedProcessFunction>(
        mut self,
        make: impl Fn() -> G + Send + Sync + 'static,
    ) -> Result<Harness<G>, Fault> {
        self.inner.restart_with(One::operators(make))?;
        Ok(Harness { inner: self.inner, function: PhantomData })
    }
}

impl<F: KeyedCoProcessFunction> CoHarness<F> {
    /// Hands an element of the first input over, and lets everything happen that follows from it.
    pub fn process_element1(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl Serialize,
        timestamp_ms: i64,
    ) -> Result<ResultKind, Rejection> {
        self.process(key.as_ref(), 0, &value, timestamp_ms)
    }

    /// Hands an element of the second input over, and lets everything happen that follows from it.
    pub fn process_element2(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl Serialize,
        timestamp_ms: i64,
    ) -> Result<ResultKind, Rejection> {
        self.process(key.as_ref(), 1, &value, timestamp_ms)
    }
}

#[cfg(feature = "arrow")]
impl<F: KeyedBatchFunction> BatchHarness<F> {
    /// Hands an element of these rows over, and lets everything happen that follows from it.
    pub fn process_batch(
        &mut self,
        key: impl AsRef<[u8]>,
        batch: &RecordBatch,
        timestamp_ms: i64,
    ) -> Result<ResultKind, Rejection> {
        let value = encode_batch(batch).map_err(|error| Rejection::OptionInvalid {
            field: "value",
            detail: error.to_string(),
        })?;
        let timestamp = Timestamp::from_millis(timestamp_ms);
        self.inner.process(key.as_ref(), 0, Payload::Binary(&value), timestamp)
    }

    /// Hands an element over that is encoded as JSON: a row, or a list of rows.
    pub fn process_rows(
        &mut self,
        key: impl AsRef<[u8]>,
        rows: impl Serialize,
        timestamp_ms: i64,
    ) -> Result<ResultKind, Rejection> {
        self.process(key.as_ref(), 0, &rows, timestamp_ms)
    }
}

impl<F: KeyedBroadcastProcessFunction> BroadcastHarness<F> {
    /// Hands an element over, encoded as JSON, and lets everything happen that follows from it.
    pub fn process_element(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl Serialize,
        timestamp_ms: i64,
    ) -> Result<ResultKind, Rejection> {
        self.process(key.as_ref(), 0, &value, timestamp_ms)
    }

    /// Hands a broadcast over, encoded as JSON, and lets everything happen that follows from it.
    pub fn process_broadcast(
        &mut self,
        value: impl Serialize,
        timestamp_ms: i64,
    ) -> Result<BroadcastResult, Rejection> {
        let value = serde_json::to_string(&value).map_err(|error| not_json(&error))?;
        self.inner.broadcast(&value, Timestamp::from_millis(timestamp_ms))
    }

    /// The broadcast state.
    pub fn broadcast_state(&mut self) -> FunctionResult<F::BroadcastState> {
        decode_broadcast_state::<F>(self.inner.broadcast_state().as_deref())
    }

    /// Starts again with another version of the function.
    pub fn upgrade<G: KeyedBroadcastProcessFunction>(
        mut self,
        make: impl Fn() -> G + Send + Sync + 'static,
    ) -> Result<BroadcastHarness<G>, Fault> {
        self.inner.restart_with(Keyed::operators(make))?;
        Ok(BroadcastHarness { inner: self.inner, function: PhantomData })
    }
}

fn not_json(error: &serde_json::Error) -> Rejection {
    Rejection::OptionInvalid { field: "value", detail: error.to_string() }
}

impl<T: HarnessOf> TypedHarness<T> {
    /// A harness of a namespace with nothing in it, its clock at 0, before any watermark. `make` makes
    /// an instance of the function for each lane, and after each restart.
    pub fn new(make: impl Fn() -> T::Function + Send + Sync + 'static) -> Self {
        Self::with_config(make, NamespaceConfig::default()).expect("the defaults suit any function")
    }

    /// The same, configured otherwise; the operator and the clock are the harness's.
    pub fn with_config(
        make: impl Fn() -> T::Function + Send + Sync + 'static,
        config: NamespaceConfig,
    ) -> Result<Self, Rejection> {
        let config = NamespaceConfig { operator: FUNCTION.to_owned(), ..config };
        let inner = OperatorHarness::new(T::operators(make), config)?;
        Ok(Self { inner, function: PhantomData })
    }

    fn process(
        &mut self,
        key: &[u8],
        input: u8,
        value: &impl Serialize,
        timestamp_ms: i64,
    ) -> Result<ResultKind, Rejection> {
        let value = serde_json::to_vec(value).map_err(|error| not_json(&error))?;
        let timestamp = Timestamp::from_millis(timestamp_ms);
        self.inner.process(key, input, Payload::Json(&value), timestamp)
    }

    /// Moves the watermark, if that is forward, and fires what it makes due.
    pub fn advance_watermark(&mut self, to_ms: i64) {
        self.inner.advance_watermark(to_ms);
    }

    /// Moves the clock, if that is forward, and fires what it makes due.
    pub fn advance_clock(&mut self, to_ms: i64) {
        self.inner.advance_clock(to_ms);
    }

    /// Ends the input: the final watermark comes, and the timers of processing time fire, wait or go.
    pub fn close(&mut self, timers: ProcessingTimers) -> Result<Closing, Rejection> {
        self.inner.close(timers)
    }

    /// What was emitted to the main output since this was called last; for each key in its order.
    pub fn take_outputs(&mut self) -> Vec<Output<T::Output>>
    where
        T::Output: DeserializeOwned,
    {
        self.take(None)
    }

    /// The same, the values alone.
    pub fn take_values(&mut self) -> Vec<T::Output>
    where
        T::Output: DeserializeOwned,
    {
        self.take(None).into_iter().map(|output| output.value).collect()
    }

    /// What was emitted to a side output since this was called last; for each key in its order.
    /// Elements that are late may be in `late`, what the function has failed at is in `errors`.
    pub fn take_side_outputs<S: DeserializeOwned>(&mut self, tag: &OutputTag<S>) -> Vec<Output<S>> {
        self.take(Some(tag.name()))
    }

    fn take<S: DeserializeOwned>(&mut self, tag: Option<&str>) -> Vec<Output<S>> {
        let outputs = self.inner.take_outputs(tag).into_iter().map(|it| Output {
            value: serde_json::from_slice(&it.value).expect("it is read as what it was written as"),
            key: it.key,
            timestamp: it.timestamp,
        });
        outputs.collect()
    }

    /// Why it has stopped, if it has: as `on_error` wants it where the function fails.
    pub fn stopped(&mut self) -> Option<Stop> {
        self.inner.stopped()
    }

    /// Lets it go on after a stop, and everything happen that follows from that.
    pub fn resume(&mut self) {
        self.inner.resume();
    }

    /// The timers of a key, in the order (domain, time, name).
    pub fn timers(&mut self, key: impl AsRef<[u8]>) -> Vec<FunctionTimer> {
        self.inner.timers(key.as_ref())
    }

    /// The state of a key; `None`: it has none, so the function would see the default.
    pub fn state(&mut self, key: impl AsRef<[u8]>) -> FunctionResult<Option<T::State>> {
        self.inner.state(key.as_ref()).map(|bytes| T::decode_state(&bytes)).transpose()
    }

    /// How many keys hold a state or timers.
    pub fn keys(&mut self) -> u64 {
        self.inner.keys()
    }

    /// Writes everything down as of now.
    pub fn snapshot(&mut self) -> HarnessSnapshot {
        self.inner.snapshot()
    }

    /// Goes back to what was written down.
    pub fn restore(&mut self, snapshot: &HarnessSnapshot) {
        self.inner.restore(snapshot);
    }

    /// The power goes, and comes back.
    pub fn crash(&mut self) {
        self.inner.crash();
    }

    /// Ends in good order, and starts again.
    pub fn restart(&mut self) {
        self.inner.restart();
    }

    /// The same, on so many threads (or what would be threads): 1 to 8.
    pub fn rescale(&mut self, shards: u16) {
        self.inner.rescale(shards);
    }
}
