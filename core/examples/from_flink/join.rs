//! Low-level join: trades with the customer as it was at the time of the trade, complete and the same
//! each time, in whatever order the two inputs come.
//!
//! Without code it is the operator `enrich`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stormwheel::error::Rejection;
use stormwheel::function::{Context, KeyedCoProcessFunction, OnTimerContext, Result};
use stormwheel::testing::CoHarness;
use stormwheel::time::Timestamp;

struct Join;

/// What Flink would keep in two `MapState`s.
#[derive(Default, Serialize, Deserialize)]
struct Sides {
    /// Trades that wait for the watermark.
    trades: BTreeMap<Timestamp, Vec<u32>>,
    /// What the customer was from when on.
    customer: BTreeMap<Timestamp, String>,
}

impl KeyedCoProcessFunction for Join {
    type Input1 = u32;
    type Input2 = String;
    type State = Sides;
    type Output = (u32, Option<String>);

    fn process_element1(
        &mut self,
        trade: u32,
        sides: &mut Sides,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        let time = ctx.timestamp();
        sides.trades.entry(time).or_default().push(trade);
        // At this watermark nothing can come any more that says who the customer was.
        ctx.timers().register_event_time(time);
        Ok(())
    }

    fn process_element2(
        &mut self,
        customer: String,
        sides: &mut Sides,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        sides.customer.insert(ctx.timestamp(), customer);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        sides: &mut Sides,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        let known = sides.customer.range(..=time).next_back();
        let known = known.map(|(since, customer)| (*since, customer.clone()));
        for trade in sides.trades.remove(&time).unwrap_or_default() {
            ctx.emit((trade, known.as_ref().map(|(_, customer)| customer.clone())));
        }
        // Nobody asks for older ones any more.
        if let Some((since, _)) = known {
            sides.customer = sides.customer.split_off(&since);
        }
        Ok(())
    }
}

pub(crate) fn run() -> std::result::Result<(), Rejection> {
    let mut harness = CoHarness::new(|| Join);
    harness.process_element1("ann", 1, 500)?;
    harness.process_element2("ann", "silver", 1_000)?;
    harness.process_element1("ann", 2, 5_000)?;
    harness.process_element1("ann", 3, 9_000)?;
    harness.process_element2("ann", "gold", 8_000)?;
    assert_eq!(harness.take_values(), [], "none of them is sure yet");

    harness.advance_watermark(8_999);
    let silver = Some("silver".to_owned());
    assert_eq!(harness.take_values(), [(1, None), (2, silver)]);
    harness.rescale(3);
    harness.advance_watermark(9_000);
    assert_eq!(harness.take_values(), [(3, Some("gold".to_owned()))]);
    let kept = harness.state("ann").ok().flatten();
    assert_eq!(kept.map(|sides| sides.customer.len()), Some(1), "the last one, for what follows");
    Ok(())
}
