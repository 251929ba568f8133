//! The end of a harness's input.

use super::*;
use crate::namespace::{Closing, ProcessingTimers};

#[test]
fn a_harness_closes_its_namespace() {
    let mut harness = busy(NamespaceConfig::default());
    let steps = [(1, 7_001), (0, 7_003)];
    harness.process_element("k", steps, 0).expect("it is an element");
    let closing = |processing_timers, is_closed| Closing { processing_timers, is_closed };
    let waits = harness.close(ProcessingTimers::Wait);
    assert_eq!(waits, Ok(closing(ProcessingTimers::Wait, false)));
    assert!(harness.process_element("k", steps, 0).is_err());
    harness.restart();
    let drained = harness.close(ProcessingTimers::Drain);
    assert_eq!(drained, Ok(closing(ProcessingTimers::Drain, true)));
    assert_eq!(harness.take_outputs().len(), 2);
}
