//! Side outputs: one of the function's own, and the one for late data, which the namespace's
//! configuration opens.
//!
//! In Flink late data has a side output at windows only; elsewhere each function has to compare
//! timestamps with the watermark.

use stormwheel::error::Rejection;
use stormwheel::function::{Context, KeyedProcessFunction, OutputTag, Result};
use stormwheel::namespace::{LateElements, NamespaceConfig};
use stormwheel::op::ResultKind;
use stormwheel::testing::{Harness, Output};
use stormwheel::time::Timestamp;

const HOT: OutputTag<String> = OutputTag::new("hot");
const LATE: OutputTag<f64> = OutputTag::new("late");

/// Passes readings on, and says which are too hot.
struct Readings;

impl KeyedProcessFunction for Readings {
    type Input = f64;
    type State = ();
    type Output = f64;

    fn process_element(
        &mut self,
        celsius: f64,
        _state: &mut (),
        ctx: &mut Context<f64>,
    ) -> Result<()> {
        if celsius > 90.0 {
            ctx.emit_to(&HOT, format!("{} at {celsius} degrees", ctx.key_str()?));
        }
        ctx.emit(celsius);
        Ok(())
    }
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    let config = NamespaceConfig {
        late_elements: LateElements::SideOutput,
        // What Flink calls allowed lateness.
        lateness_ms: 1_000,
        ..NamespaceConfig::default()
    };
    let mut harness = Harness::with_config(|| Readings, config)?;
    harness.process_element("oven", 80.5, 9_000)?;
    harness.process_element("oven", 91.0, 9_500)?;
    harness.advance_watermark(10_000);
    let within = harness.process_element("oven", 81.0, 9_001)?;
    let late = harness.process_element("oven", 99.0, 9_000)?;
    assert_eq!((within, late), (ResultKind::Processed, ResultKind::Late));

    assert_eq!(harness.take_values(), [80.5, 91.0, 81.0]);
    let at = |millis, value| Output {
        key: b"oven".to_vec(),
        timestamp: Some(Timestamp::from_millis(millis)),
        value,
    };
    assert_eq!(harness.take_side_outputs(&LATE), [at(9_000, 99.0)]);
    let hot = harness.take_side_outputs(&HOT);
    assert_eq!(hot.len(), 1, "the late one was not looked at");
    assert_eq!(hot[0].value, "oven at 91 degrees");
    Ok(())
}
