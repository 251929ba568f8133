//! Coalescing: fewer timers, by rounding down to a second, and by waiting for the next watermark.

use stormwheel::error::Rejection;
use stormwheel::function::{Context, FunctionError, KeyedProcessFunction, OnTimerContext, Result};
use stormwheel::testing::Harness;
use stormwheel::time::Timestamp;

const SECOND: i64 = 1_000;

/// At most one timer for a key and second: it fires up to a second earlier than asked, never later.
/// The elements are timeouts in milliseconds.
struct BySecond;

impl KeyedProcessFunction for BySecond {
    type Input = i64;
    type State = ();
    type Output = Timestamp;

    fn process_element(
        &mut self,
        timeout: i64,
        _state: &mut (),
        ctx: &mut Context<Timestamp>,
    ) -> Result<()> {
        let now = ctx.processing_time();
        let now = now.ok_or_else(|| FunctionError::new("the manual clock was never set"))?;
        ctx.timers().register_processing_time((now + timeout).floor_to(SECOND));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        _state: &mut (),
        ctx: &mut OnTimerContext<Timestamp>,
    ) -> Result<()> {
        ctx.emit(time);
        Ok(())
    }
}

/// All elements between two watermarks, together.
struct ByWatermark;

impl KeyedProcessFunction for ByWatermark {
    type Input = u32;
    type State = Vec<u32>;
    type Output = Vec<u32>;

    fn process_element(
        &mut self,
        value: u32,
        values: &mut Vec<u32>,
        ctx: &mut Context<Vec<u32>>,
    ) -> Result<()> {
        values.push(value);
        // Before the first watermark there is none, not the smallest number. At the last one, adding
        // stops at the end of time, where Flink's sum would come out at its beginning.
        let next = ctx.watermark().unwrap_or(Timestamp::MIN) + 1;
        ctx.timers().register_event_time(next);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _time: Timestamp,
        values: &mut Vec<u32>,
        ctx: &mut OnTimerContext<Vec<u32>>,
    ) -> Result<()> {
        ctx.emit(std::mem::take(values));
        Ok(())
    }
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    let mut harness = Harness::new(|| BySecond);
    harness.advance_clock(500);
    for timeout in [1_499, 600, 501, 1_500] {
        harness.process_element("a", timeout, 0)?;
    }
    assert_eq!(harness.timers("a").len(), 2, "three at 1,000 and one at 2,000");
    harness.advance_clock(5_000);
    assert_eq!(harness.take_values(), [1_000, 2_000].map(Timestamp::from_millis));
    // Dividing whole numbers, as in Flink's page, would round up to 0.
    assert_eq!(Timestamp::from_millis(-1).floor_to(SECOND), Timestamp::from_millis(-1_000));

    let mut harness = Harness::new(|| ByWatermark);
    for (value, timestamp) in [(1, 30), (2, 20), (3, 40)] {
        harness.process_element("a", value, timestamp)?;
    }
    assert_eq!(harness.timers("a").len(), 1);
    harness.advance_watermark(10);
    assert_eq!(harness.take_values(), [[1, 2, 3]]);
    harness.process_element("a", 4, 50)?;
    harness.process_element("a", 5, 60)?;
    harness.advance_watermark(11);
    assert_eq!(harness.take_values(), [[4, 5]]);
    harness.advance_watermark(12);
    assert_eq!(harness.take_values(), Vec::<Vec<u32>>::new());
    Ok(())
}
