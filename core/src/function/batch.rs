//! The function that wants columns: it gets the rows of an element as an Arrow record batch.
//!
//! The element is the batch. How many elements happen to travel together is no one's word, and a
//! replay would not find them together again; an element is a record of the log, its rows stay
//! together for ever, and the same batches come again in the same order. So whoever wants many rows
//! in a batch sends them as one element.

mod rows;

pub use rows::encode_batch;
/// The versions of the Arrow crates that batches are made of.
pub use {arrow_array, arrow_schema};

use super::call::Call;
use super::context::{Context, OnTimerContext};
use super::error::{FunctionError, Result};
use super::process::{load_state, read_state, refuse_version, store_state};
use super::{Element, Operator, TimerFired, state};
use crate::time::Timestamp;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A keyed function over columns. What is said of [`super::KeyedProcessFunction`] holds for it as
/// well; an element is a batch of rows, all of one key:
///
/// | an element that is | is a batch of |
/// |---|---|
/// | a JSON object | one row |
/// | a list of JSON objects | as many rows |
/// | binary: an Arrow IPC stream, as [`encode_batch`] writes it | the rows of the stream |
///
/// ```
/// use std::sync::Arc;
/// use stormwheel::function::arrow_array::cast::AsArray;
/// use stormwheel::function::arrow_array::types::Float64Type;
/// use stormwheel::function::arrow_array::{Array, RecordBatch};
/// use stormwheel::function::arrow_schema::{DataType, Field, Schema, SchemaRef};
/// use stormwheel::function::{Context, KeyedBatchFunction, Result};
///
/// /// Emits the sum of all amounts so far.
/// struct Total;
///
/// impl KeyedBatchFunction for Total {
///     type State = f64;
///     type Output = f64;
///
///     fn schema(&self) -> SchemaRef {
///         Arc::new(Schema::new(vec![Field::new("amount", DataType::Float64, false)]))
///     }
///
///     fn process_batch(
///         &mut self,
///         batch: &RecordBatch,
///         total: &mut f64,
///         ctx: &mut Context<f64>,
///     ) -> Result<()> {
///         *total += batch.column(0).as_primitive::<Float64Type>().values().iter().sum::<f64>();
///         ctx.emit(*total);
///         Ok(())
///     }
/// }
/// ```
pub trait KeyedBatchFunction: Send + 'static {
    /// What is kept for each key. A key without any has the default, and one that equals the
    /// default has none.
    type State: Default + Serialize + DeserializeOwned;
    /// What is emitted, encoded as JSON.
    type Output: Serialize;

    /// The version of the state's type.
    const STATE_VERSION: u32 = 1;

    /// A state that another version of the type has written down.
    fn migrate_state(version: u32, bytes: &[u8]) -> Result<Self::State> {
        let _ = bytes;
        refuse_version(version, Self::STATE_VERSION)
    }

    /// Called before the first callback of an instance: see [`super::KeyedProcessFunction::open`].
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called once when its lane lets go of an instance: see [`super::KeyedProcessFunction::close`].
    fn close(&mut self) {}

    /// The columns that it takes; it is asked once, when the instance is made. Elements are brought
    /// to them by name: what else they have is left out, and what they lack is null, or makes them
    /// fail where the column may not be. Rows of JSON can fill columns of booleans, numbers, texts,
    /// and timestamps in milliseconds; all other types come in Arrow streams.
    fn schema(&self) -> SchemaRef;

    /// The rows of an element of the key have come, with exactly the columns of
    /// [`KeyedBatchFunction::schema`]. There may be none.
    fn process_batch(
        &mut self,
        batch: &RecordBatch,
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

/// A function over columns as an operator.
pub fn batch_operator<F: KeyedBatchFunction>(function: F) -> Result<Box<dyn Operator>> {
    let new_state = state::encode(Vec::new(), F::STATE_VERSION, &F::State::default())?;
    let schema = function.schema();
    Ok(Box::new(Batches { function, schema, new_state }))
}

/// A function over columns as an operator over bytes.
struct Batches<F> {
    function: F,
    schema: SchemaRef,
    /// How a new state is written down.
    new_state: Vec<u8>,
}

impl<F: KeyedBatchFunction> Operator for Batches<F> {
    fn open(&mut self) -> Result<()> {
        self.function.open()
    }

    fn close(&mut self) {
        self.function.close();
    }

    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let batch = rows::decode(&element, &self.schema).map_err(|error: FunctionError| {
            error.while_doing("the element is not what the function takes")
        })?;
        let mut state = load_state(call, F::STATE_VERSION, F::migrate_state)?;
        let mut ctx = Context::on_element(call.reborrow());
        self.function.process_batch(&batch, &mut state, &mut ctx)?;
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

/// The state of a key as the function wants it.
pub(crate) fn decode_batch_state<F: KeyedBatchFunction>(bytes: &[u8]) -> Result<F::State> {
    read_state(bytes, F::STATE_VERSION, F::migrate_state)
}
