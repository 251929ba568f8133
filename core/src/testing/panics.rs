//! What panic hooks are told of functions.

use super::Harness;
use crate::function::{Context, KeyedProcessFunction, Result, caught_panic};
use crate::namespace::{ErrorPolicy, NamespaceConfig, OnError};
use std::sync::{Arc, Mutex};

/// Notes what a hook would be told, and fails: twice by an error, then by a panic.
struct Notes(Arc<Mutex<Vec<Option<u32>>>>);

impl KeyedProcessFunction for Notes {
    type Input = bool;
    type State = ();
    type Output = ();

    fn process_element(&mut self, fails: bool, (): &mut (), _: &mut Context<()>) -> Result<()> {
        let tried = caught_panic();
        self.0.lock().unwrap().push(tried);
        match tried {
            Some(0 | 1) if fails => Err(crate::function::FunctionError::new("not yet")),
            Some(_) if fails => panic!("once more"),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_hook_can_tell_a_function_and_how_often_it_was_tried() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let own = Arc::clone(&notes);
    let on_error = OnError { retry: 2, backoff_ms: 0, then: ErrorPolicy::Skip };
    let config = NamespaceConfig { on_error, ..NamespaceConfig::default() };
    let mut harness = Harness::with_config(move || Notes(Arc::clone(&own)), config).unwrap();
    harness.process_element("a", true, 1).unwrap();
    assert_eq!(caught_panic(), None, "the panic is over");
    harness.process_element("a", false, 2).unwrap();
    assert_eq!(caught_panic(), None);
    assert_eq!(*notes.lock().unwrap(), [Some(0), Some(1), Some(2), Some(0)]);
}
