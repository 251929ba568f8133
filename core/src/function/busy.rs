//! A function for tests that leaves nothing out.

use super::{Context, FunctionError, KeyedProcessFunction, OnTimerContext, OutputTag, Result};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const SIDE: OutputTag<Value> = OutputTag::new("side");

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Does all that a function can do, as its input says; and on a timer, as the time says.
pub(crate) struct Busy;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum(pub(crate) i64);

impl KeyedProcessFunction for Busy {
    type Input = Vec<(u8, i64)>;
    type State = Sum;
    type Output = Value;

    fn process_element(
        &mut self,
        steps: Self::Input,
        state: &mut Sum,
        ctx: &mut Context<Value>,
    ) -> Result<()> {
        for (step, n) in steps {
            match step {
                0 => ctx.timers().register_event_time(ms(n)),
                1 => ctx.timers().register_processing_time(ms(n)),
                2 => ctx.timers().delete_event_time(ms(n)),
                3 => ctx.timers().named("n").register_processing_time(ms(n)),
                4 => ctx.timers().named("timeout").register_event_time(ms(n)),
                5 => ctx.timers().in_namespace(&n.to_le_bytes()).register_event_time(ms(n)),
                6 => ctx.timers().delete_all(),
                7 => state.0 += n,
                8 => ctx.clear_state(),
                9 => ctx.emit_to(&SIDE, json!(n)),
                10 => return Err(FunctionError::new(format!("asked for {n}"))),
                11 => panic!("asked for {n}"),
                _ => ctx.emit(json!([n, state.0, ctx.watermark(), ctx.processing_time()])),
            }
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut Sum,
        ctx: &mut OnTimerContext<Value>,
    ) -> Result<()> {
        state.0 += 1;
        let (watermark, now) = (ctx.watermark(), ctx.processing_time());
        ctx.emit(json!([time, ctx.domain(), ctx.name(), ctx.namespace(), state.0, watermark, now]));
        match (time.as_millis().rem_euclid(7), state.0) {
            (0, n) if n % 4 != 0 => ctx.timers().register_event_time(time + 3),
            (1, _) => ctx.timers().register_processing_time(time + 2),
            (2, _) => ctx.timers().delete_event_time(time + 1),
            (3, n) if n % 3 != 0 => ctx.timers().named("n").register_event_time(time - 1),
            (4, n) if n % 2 == 0 => {
                ctx.timers().in_namespace("a").register_processing_time(time);
            }
            (5, _) => ctx.clear_state(),
            (6, n) if n % 2 == 0 => return Err(FunctionError::new("no sixes")),
            _ => {}
        }
        Ok(())
    }
}
