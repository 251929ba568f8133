//! Heartbeat alert: a minute without an element of the key. As the guide has it, deleting the timer
//! before it registers the next; and with a named timer, which needs no state for that.
//!
//! Without code it is the operator `timeout`, and for timers from outside it is a touch.

use stormwheel::error::Rejection;
use stormwheel::function::{
    Context, FunctionError, KeyedProcessFunction, OnTimerContext, OutputTag, Result,
};
use stormwheel::testing::{Harness, Output};
use stormwheel::time::Timestamp;

const MINUTE: i64 = 60_000;
/// Apart from the main output, as the guide advises.
const ALERTS: OutputTag<String> = OutputTag::new("alerts");

fn timeout<O>(ctx: &Context<O>) -> Result<Timestamp> {
    let now = ctx.processing_time();
    Ok(now.ok_or_else(|| FunctionError::new("the manual clock was never set"))? + MINUTE)
}

/// Deletes and registers.
struct Heartbeat;

impl KeyedProcessFunction for Heartbeat {
    type Input = String;
    /// The timer that is registered.
    type State = Option<Timestamp>;
    type Output = String;

    fn process_element(
        &mut self,
        value: String,
        timer: &mut Option<Timestamp>,
        ctx: &mut Context<String>,
    ) -> Result<()> {
        if let Some(timer) = *timer {
            ctx.timers().delete_processing_time(timer);
        }
        let timeout = timeout(ctx)?;
        ctx.timers().register_processing_time(timeout);
        *timer = Some(timeout);
        ctx.emit(value);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _time: Timestamp,
        timer: &mut Option<Timestamp>,
        ctx: &mut OnTimerContext<String>,
    ) -> Result<()> {
        *timer = None;
        ctx.emit_to(&ALERTS, format!("Heartbeat timeout: {}", ctx.key_str()?));
        Ok(())
    }
}

/// Registers a timer with a name, which replaces the one before.
struct NamedHeartbeat;

impl KeyedProcessFunction for NamedHeartbeat {
    type Input = String;
    type State = ();
    type Output = String;

    fn process_element(
        &mut self,
        value: String,
        _state: &mut (),
        ctx: &mut Context<String>,
    ) -> Result<()> {
        let timeout = timeout(ctx)?;
        ctx.timers().named("timeout").register_processing_time(timeout);
        ctx.emit(value);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _time: Timestamp,
        _state: &mut (),
        ctx: &mut OnTimerContext<String>,
    ) -> Result<()> {
        ctx.emit_to(&ALERTS, format!("Heartbeat timeout: {}", ctx.key_str()?));
        Ok(())
    }
}

fn check<F>(make: impl Fn() -> F + Send + Sync + 'static) -> std::result::Result<(), Rejection>
where
    F: KeyedProcessFunction<Output = String>,
{
    let mut harness = Harness::new(make);
    for beat in [0, 30_000, 45_000] {
        harness.advance_clock(beat);
        harness.process_element("pump-4", "up", beat)?;
        assert_eq!(harness.timers("pump-4").len(), 1, "they do not add up");
    }
    assert_eq!(harness.take_values(), ["up"; 3]);
    harness.crash();
    harness.advance_clock(104_999);
    assert_eq!(harness.take_side_outputs(&ALERTS), []);
    harness.advance_clock(105_000);
    let alert = Output {
        key: b"pump-4".to_vec(),
        // To a side output, what a processing timer emits has the timer's time.
        timestamp: Some(Timestamp::from_millis(105_000)),
        value: "Heartbeat timeout: pump-4".to_owned(),
    };
    assert_eq!(harness.take_side_outputs(&ALERTS), [alert]);
    harness.advance_clock(1_000_000);
    assert_eq!(harness.take_side_outputs(&ALERTS), [], "one alert for one silence");
    assert_eq!(harness.keys(), 0);
    Ok(())
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    check(|| Heartbeat)?;
    check(|| NamedHeartbeat)
}
