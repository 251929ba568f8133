//! Stopping a timer: of event time, of processing time, and all that a key has.

use serde::{Deserialize, Serialize};
use stormwheel::error::Rejection;
use stormwheel::function::{Context, FunctionError, KeyedProcessFunction, OnTimerContext, Result};
use stormwheel::testing::Harness;
use stormwheel::time::{Domain, Timestamp};

const MINUTE: i64 = 60_000;

#[derive(Serialize, Deserialize)]
enum Order {
    Placed,
    Paid,
    Cancelled,
}

/// Tells of orders that were not paid within a minute, by each of the two clocks.
struct Unpaid;

/// When the timers of an order are due. To stop a timer, its time has to be known.
#[derive(Default, Serialize, Deserialize)]
struct Deadlines {
    event: Option<Timestamp>,
    processing: Option<Timestamp>,
}

impl KeyedProcessFunction for Unpaid {
    type Input = Order;
    type State = Deadlines;
    type Output = Domain;

    fn process_element(
        &mut self,
        order: Order,
        deadlines: &mut Deadlines,
        ctx: &mut Context<Domain>,
    ) -> Result<()> {
        match order {
            Order::Placed => {
                let now = ctx.processing_time();
                let now = now.ok_or_else(|| FunctionError::new("the clock was never set"))?;
                let (event, processing) = (ctx.timestamp() + MINUTE, now + MINUTE);
                ctx.timers().register_event_time(event);
                ctx.timers().register_processing_time(processing);
                *deadlines = Deadlines { event: Some(event), processing: Some(processing) };
            }
            Order::Paid => {
                // To stop one that is not registered has no effect, as in Flink.
                if let Some(time) = deadlines.event.take() {
                    ctx.timers().delete_event_time(time);
                }
                if let Some(time) = deadlines.processing.take() {
                    ctx.timers().delete_processing_time(time);
                }
            }
            Order::Cancelled => {
                // Flink has no such call: nothing needs to be known.
                ctx.timers().delete_all();
                ctx.clear_state();
            }
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        _time: Timestamp,
        _deadlines: &mut Deadlines,
        ctx: &mut OnTimerContext<Domain>,
    ) -> Result<()> {
        ctx.emit(ctx.domain());
        Ok(())
    }
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    let mut harness = Harness::new(|| Unpaid);
    for order in ["forgotten", "paid", "cancelled"] {
        harness.process_element(order, Order::Placed, 1_000)?;
        assert_eq!(harness.timers(order).len(), 2);
    }
    harness.process_element("paid", Order::Paid, 2_000)?;
    harness.process_element("paid", Order::Paid, 3_000)?;
    harness.process_element("cancelled", Order::Cancelled, 3_000)?;
    assert_eq!((harness.timers("paid"), harness.timers("cancelled")), (vec![], vec![]));

    harness.advance_watermark(1_000_000);
    harness.advance_clock(1_000_000);
    let outputs = harness.take_outputs();
    assert!(outputs.iter().all(|output| output.key == b"forgotten"));
    let domains: Vec<Domain> = outputs.iter().map(|output| output.value).collect();
    assert_eq!(domains, [Domain::Event, Domain::Processing]);
    Ok(())
}
