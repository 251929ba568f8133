//! A function of two inputs: one state, and one set of timers.

use super::*;

/// Pairs an order with its payment; whatever is alone after ten of event time goes to `alone`.
struct Pairs;

const ALONE: OutputTag<(Option<u32>, Option<String>)> = OutputTag::new("alone");

impl KeyedCoProcessFunction for Pairs {
    type Input1 = u32;
    type Input2 = String;
    type State = (Option<u32>, Option<String>);
    type Output = (u32, String);

    fn process_element1(
        &mut self,
        order: u32,
        state: &mut Self::State,
        ctx: &mut Context<Self::Output>,
    ) -> FunctionResult<()> {
        state.0 = Some(order);
        pair(state, ctx);
        Ok(())
    }

    fn process_element2(
        &mut self,
        payment: String,
        state: &mut Self::State,
        ctx: &mut Context<Self::Output>,
    ) -> FunctionResult<()> {
        state.1 = Some(payment);
        pair(state, ctx);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timestamp,
        state: &mut Self::State,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> FunctionResult<()> {
        ctx.emit_to(&ALONE, std::mem::take(state));
        Ok(())
    }
}

fn pair(state: &mut (Option<u32>, Option<String>), ctx: &mut Context<(u32, String)>) {
    if let (Some(order), Some(payment)) = (&state.0, &state.1) {
        ctx.emit((*order, payment.clone()));
        *state = (None, None);
        ctx.timers().delete_all();
    } else {
        let time = ctx.timestamp() + 10;
        ctx.timers().named("timeout").register_event_time(time);
    }
}

#[test]
fn two_inputs_share_the_state_and_the_timers_of_a_key() {
    let mut harness = CoHarness::with_config(|| Pairs, skipping()).expect("legal");
    harness.process_element1("a", 7, 1).expect("taken");
    harness.process_element2("b", "cash", 2).expect("taken");
    harness.crash();
    harness.process_element2("a", "card", 3).expect("taken");
    assert_eq!(harness.take_values(), [(7, "card".to_owned())]);
    harness.rescale(3);
    harness.advance_watermark(12);
    let alone = harness.take_side_outputs(&ALONE).remove(0);
    assert_eq!((alone.value, alone.timestamp), ((None, Some("cash".to_owned())), Some(ms(12))));
    assert_eq!((harness.keys(), harness.state("b")), (0, Ok(None)));
    assert_eq!(harness.process_element1("a", "no number", 20), Ok(ResultKind::Failed));
}
