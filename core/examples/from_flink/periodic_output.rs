//! Periodic output with no incoming data: the sum of each minute, of the empty ones as well.
//!
//! In the guide, the timer registers the next one for ever: no key is ever forgotten, and a bounded
//! input never ends. Here a key is forgotten after three empty minutes; and at the final watermark an
//! event timer that a callback registers is refused, so that even the guide's version would end.

use serde::{Deserialize, Serialize};
use stormwheel::error::Rejection;
use stormwheel::function::{Context, KeyedProcessFunction, OnTimerContext, Result};
use stormwheel::testing::Harness;
use stormwheel::time::Timestamp;

const MINUTE: i64 = 60_000;
const EMPTY_MAX: u32 = 3;

struct SumEachMinute;

#[derive(Default, Serialize, Deserialize)]
struct Sum {
    is_open: bool,
    total: i64,
    /// Empty minutes since the last value.
    empty: u32,
}

impl KeyedProcessFunction for SumEachMinute {
    type Input = i64;
    type State = Sum;
    type Output = i64;

    fn process_element(
        &mut self,
        value: i64,
        state: &mut Sum,
        ctx: &mut Context<i64>,
    ) -> Result<()> {
        if !state.is_open {
            let end = ctx.timestamp().floor_to(MINUTE) + MINUTE;
            ctx.timers().register_event_time(end);
        }
        *state = Sum { is_open: true, total: state.total + value, empty: 0 };
        Ok(())
    }

    fn on_timer(
        &mut self,
        end: Timestamp,
        state: &mut Sum,
        ctx: &mut OnTimerContext<i64>,
    ) -> Result<()> {
        ctx.emit(state.total);
        if state.empty == EMPTY_MAX {
            ctx.clear_state();
            return Ok(());
        }
        *state = Sum { is_open: true, total: 0, empty: state.empty + 1 };
        ctx.timers().register_event_time(end + MINUTE);
        Ok(())
    }
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    let mut harness = Harness::new(|| SumEachMinute);
    harness.process_element("a", 4, 1_000)?;
    harness.advance_watermark(120_000);
    assert_eq!(harness.take_values(), [4, 0]);
    harness.process_element("a", 6, 130_000)?;
    harness.advance_watermark(1_000_000_000);
    assert_eq!(harness.take_values(), [6, 0, 0, 0]);
    assert_eq!(harness.keys(), 0, "it is forgotten");

    harness.process_element("b", 9, 1_000_000_001)?;
    harness.advance_watermark(i64::MAX);
    assert_eq!(harness.take_values(), [9], "the end of the input is the end of the timers");
    assert_eq!(harness.timers("b"), []);
    Ok(())
}
