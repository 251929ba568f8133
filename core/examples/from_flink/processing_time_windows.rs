//! Processing-time windows: the sum of what came within a minute of the clock.

use stormwheel::error::Rejection;
use stormwheel::function::{Context, FunctionError, KeyedProcessFunction, OnTimerContext, Result};
use stormwheel::testing::{Harness, Output};
use stormwheel::time::Timestamp;

const MINUTE: i64 = 60_000;

struct SumByTheClock;

impl KeyedProcessFunction for SumByTheClock {
    type Input = i64;
    /// The sum of the open window, if one is open.
    type State = Option<i64>;
    type Output = i64;

    fn process_element(
        &mut self,
        value: i64,
        sum: &mut Option<i64>,
        ctx: &mut Context<i64>,
    ) -> Result<()> {
        if sum.is_none() {
            let now = ctx.processing_time();
            let now = now.ok_or_else(|| FunctionError::new("the manual clock was never set"))?;
            ctx.timers().register_processing_time(now.floor_to(MINUTE) + MINUTE);
        }
        *sum = Some(sum.unwrap_or(0) + value);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _end: Timestamp,
        sum: &mut Option<i64>,
        ctx: &mut OnTimerContext<i64>,
    ) -> Result<()> {
        ctx.emit(sum.take().unwrap_or(0));
        Ok(())
    }
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    let mut harness = Harness::new(|| SumByTheClock);
    harness.advance_clock(5_000);
    harness.process_element("a", 1, 0)?;
    harness.advance_clock(59_999);
    harness.process_element("a", 2, 0)?;
    assert!(harness.take_values().is_empty());
    harness.advance_clock(60_000);
    // As in Flink: what a processing timer emits to the main output has no timestamp.
    assert_eq!(harness.take_outputs(), [Output { key: b"a".to_vec(), timestamp: None, value: 3 }]);
    harness.process_element("a", 4, 0)?;
    harness.advance_clock(130_000);
    assert_eq!(harness.take_values(), [4]);
    Ok(())
}
