//! Event-time windows with a timer: the sum of each key's values over a minute.
//!
//! The operator `windows` does that without code, and better: here, as in the guide, a value of the
//! next minute that comes before the watermark has left this one is counted to this one.

use stormwheel::error::Rejection;
use stormwheel::function::{Context, KeyedProcessFunction, OnTimerContext, Result};
use stormwheel::testing::{Harness, Output};
use stormwheel::time::Timestamp;

const MINUTE: i64 = 60_000;

struct WindowSum;

impl KeyedProcessFunction for WindowSum {
    type Input = i64;
    /// The sum of the open window, if one is open.
    type State = Option<i64>;
    type Output = (String, i64);

    fn process_element(
        &mut self,
        value: i64,
        sum: &mut Option<i64>,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        if sum.is_none() {
            // Flink's guide needs a helper for times before 1970; this rounds down there, too.
            let end = ctx.timestamp().floor_to(MINUTE) + MINUTE;
            ctx.timers().register_event_time(end);
        }
        *sum = Some(sum.unwrap_or(0) + value);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _end: Timestamp,
        sum: &mut Option<i64>,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        let sum = sum.take().unwrap_or(0);
        ctx.emit((ctx.key_str()?.to_owned(), sum));
        Ok(())
    }
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    let mut harness = Harness::new(|| WindowSum);
    harness.process_element("early", 5, -1)?;
    harness.process_element("a", 1, 10_000)?;
    harness.process_element("a", 2, 59_999)?;
    assert_eq!(harness.timers("a").len(), 1, "one for the window, not one for each value");

    harness.advance_watermark(0);
    assert_eq!(harness.take_values(), [("early".to_owned(), 5)], "its minute ended at 0");
    harness.advance_watermark(59_999);
    assert_eq!(harness.take_values(), []);
    harness.crash();
    harness.advance_watermark(60_000);
    let timestamp = Some(Timestamp::from_millis(60_000));
    let sum = Output { key: b"a".to_vec(), timestamp, value: ("a".to_owned(), 3) };
    assert_eq!(harness.take_outputs(), [sum]);

    harness.process_element("a", 7, 60_001)?;
    harness.advance_watermark(600_000);
    assert_eq!(harness.take_values(), [("a".to_owned(), 7)], "no output without data");
    assert_eq!(harness.keys(), 0, "a key that waits for nothing costs nothing");
    Ok(())
}
