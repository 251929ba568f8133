//! The operator `interval_join`: each element of the left input with each of the right one whose time
//! is from `lower` to `upper` away from its own.
//!
//! A pair goes out with the second of the two that comes. An element is kept until the watermark says
//! that no more can come that it would meet. One at or below the watermark is late: what it would meet
//! may be gone.

#[cfg(test)]
mod tests;

use super::{Side, check_room, emit_pair, trimmed};
use crate::duration::{DurationValue, format_duration};
use crate::function::{Call, Element, Operator, Result, TimerFired};
use crate::limits::SPAN_MS_MAX;
use crate::operators::built_in::sealed::Read;
use crate::operators::built_in::{BuiltIn, read_by_serde};
use crate::operators::forget::{arm, reached};
use crate::operators::options::Options;
use crate::operators::state::{as_json, load, raw_json, save};
use crate::time::Domain;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

/// The options of `interval_join`: each element of the left input with each of the right one whose time
/// is from `lower` to `upper` away from its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct IntervalJoin {
    lower: DurationValue,
    upper: DurationValue,
}

impl IntervalJoin {
    /// From `lower_ms` to `upper_ms` milliseconds after the left one's time; before it, if negative.
    pub fn between(lower_ms: i64, upper_ms: i64) -> Self {
        Self { lower: DurationValue(lower_ms), upper: DurationValue(upper_ms) }
    }
}

impl BuiltIn for IntervalJoin {
    const NAME: &'static str = "interval_join";
}

impl Read for IntervalJoin {
    fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let lower = read_bound(&mut options, "lower", "\"-5s\"")?;
        let upper = read_bound(&mut options, "upper", "\"10s\"")?;
        if lower > upper {
            let (lower, upper) = (format_duration(lower), format_duration(upper));
            return Err(options.wrong("lower", format!("is {lower}, more than `upper`, {upper}")));
        }
        options.close()?;
        Ok(Self::between(lower, upper))
    }

    fn run(self) -> Box<dyn Operator> {
        Box::new(self)
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        as_json::<State<'_>>(state)
    }
}

read_by_serde!(IntervalJoin);

fn read_bound(options: &mut Options<'_>, name: &'static str, example: &str) -> Result<i64> {
    let bound = options.duration(name)?;
    let bound = options.required(name, bound, example)?;
    let allowed = -SPAN_MS_MAX..=SPAN_MS_MAX;
    options.within(name, bound, allowed, |ms| format_duration(*ms))?;
    Ok(bound)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State<'a> {
    /// In the order of (time, arrival), as the other one.
    #[serde(borrow)]
    left: Vec<Row<'a>>,
    #[serde(borrow)]
    right: Vec<Row<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row<'a> {
    at: i64,
    #[serde(borrow, serialize_with = "raw_json")]
    text: Cow<'a, str>,
}

impl Operator for IntervalJoin {
    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let at = element.timestamp.as_millis();
        let reached = reached(call, Domain::Event);
        if reached.is_some_and(|reached| at <= reached) {
            call.refuse_late();
            return Ok(());
        }
        let side = Side::of(&element)?;
        let text = trimmed(&element)?;
        let mut state: State<'_> = load(call)?.unwrap_or_default();
        let (first, last) = self.meets(side, at);
        let others = if side == Side::Left { &state.right } else { &state.left };
        let start = others.partition_point(|row| i128::from(row.at) < first);
        for other in others[start..].iter().take_while(|row| i128::from(row.at) <= last) {
            let (left, right) = match side {
                Side::Left => (text, &*other.text),
                Side::Right => (&*other.text, text),
            };
            emit_pair(call, at.max(other.at), left, right, "");
        }
        if reached.is_some_and(|reached| self.needed_until(side, at) <= reached) {
            return Ok(());
        }
        check_room(state.left.len() + state.right.len())?;
        let rows = if side == Side::Left { &mut state.left } else { &mut state.right };
        let place = rows.partition_point(|row| row.at <= at);
        rows.insert(place, Row { at, text: text.into() });
        self.forget_next(call, &state);
        Ok(())
    }

    fn on_timer(&mut self, call: &mut Call<'_>, _: TimerFired<'_>) -> Result<()> {
        let mut state: State<'_> = load(call)?.unwrap_or_default();
        if let Some(reached) = reached(call, Domain::Event) {
            let is_over = |side, row: &Row<'_>| self.needed_until(side, row.at) <= reached;
            let left = state.left.partition_point(|row| is_over(Side::Left, row));
            state.left.drain(..left);
            let right = state.right.partition_point(|row| is_over(Side::Right, row));
            state.right.drain(..right);
        }
        self.forget_next(call, &state);
        Ok(())
    }

    fn keeps_options(&self) -> bool {
        true
    }

    fn judges_lateness(&self) -> bool {
        true
    }

    fn inputs(&self) -> u8 {
        2
    }
}

impl IntervalJoin {
    /// From when to when the others are that an element meets.
    fn meets(&self, side: Side, at: i64) -> (i128, i128) {
        let (at, lower, upper) =
            (i128::from(at), i128::from(self.lower.0), i128::from(self.upper.0));
        match side {
            Side::Left => (at + lower, at + upper),
            Side::Right => (at - upper, at - lower),
        }
    }

    /// Once the watermark is there, nothing more can come that an element meets.
    fn needed_until(&self, side: Side, at: i64) -> i64 {
        let (_, last) = self.meets(side, at);
        last.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    fn forget_next(&self, call: &mut Call<'_>, state: &State<'_>) {
        let left = state.left.first().map(|row| self.needed_until(Side::Left, row.at));
        let right = state.right.first().map(|row| self.needed_until(Side::Right, row.at));
        let next = left.into_iter().chain(right).min();
        arm(call, Domain::Event, next);
        save(call, next.map(|_| state));
    }
}
