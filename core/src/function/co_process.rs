//! A function with two inputs, which share a key's state and its timers.

use super::call::Call;
use super::context::{Context, OnTimerContext};
use super::error::Result;
use super::process::{decode_input, load_state, read_state, refuse_version, store_state};
use super::{Element, Operator, TimerFired, state};
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A keyed function of two inputs: a stream of orders, say, and one of payments. What is said of
/// [`super::KeyedProcessFunction`] holds for it as well; the watermark is that of the namespace, the
/// least over its sources.
pub trait KeyedCoProcessFunction: Send + 'static {
    /// What elements of the first input are, decoded from JSON.
    type Input1: DeserializeOwned;
    /// What elements of the second input are.
    type Input2: DeserializeOwned;
    /// What is kept for each key, common to both inputs.
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

    /// An element of the key has come on the first input, number 0.
    fn process_element1(
        &mut self,
        value: Self::Input1,
        state: &mut Self::State,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()>;

    /// An element of the key has come on the second input, number 1.
    fn process_element2(
        &mut self,
        value: Self::Input2,
        state: &mut Self::State,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()>;

    /// A timer of the key fires, whichever input has registered it.
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

/// A typed function of two inputs as an operator over bytes.
pub(super) struct CoProcess<F> {
    function: F,
    /// How a new state is written down.
    new_state: Vec<u8>,
}

impl<F: KeyedCoProcessFunction> CoProcess<F> {
    pub(super) fn new(function: F) -> Result<Self> {
        let new_state = state::encode_new::<F::State>(F::STATE_VERSION)?;
        Ok(Self { function, new_state })
    }
}

impl<F: KeyedCoProcessFunction> Operator for CoProcess<F> {
    fn open(&mut self) -> Result<()> {
        self.function.open()
    }

    fn close(&mut self) {
        self.function.close();
    }

    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let mut state = load_state(call, F::STATE_VERSION, F::migrate_state)?;
        let mut ctx = Context::on_element(call.reborrow());
        if element.input == 0 {
            self.function.process_element1(decode_input(&element)?, &mut state, &mut ctx)?;
        } else {
            self.function.process_element2(decode_input(&element)?, &mut state, &mut ctx)?;
        }
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

    fn inputs(&self) -> u8 {
        2
    }
}

/// The state of a key as the function wants it.
pub(crate) fn decode_co_state<F: KeyedCoProcessFunction>(bytes: &[u8]) -> Result<F::State> {
    read_state(bytes, F::STATE_VERSION, F::migrate_state)
}
