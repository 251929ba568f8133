//! Operators of two inputs: what comes on one meets what comes on the other, under the same key.

mod enrich;
mod interval;

pub use enrich::Enrich;
pub use interval::IntervalJoin;

use super::value::json_text;
use crate::function::{Call, Element, FunctionError, Result};
use crate::limits::HELD_ELEMENTS_MAX;
use crate::time::Timestamp;

/// On which of the two an element came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    fn of(element: &Element<'_>) -> Result<Self> {
        match element.input {
            0 => Ok(Self::Left),
            1 => Ok(Self::Right),
            input => Err(FunctionError::new(format!(
                "the element came on the input {input}, and the operator has 0 and 1"
            ))),
        }
    }
}

fn check_room(kept: usize) -> Result<()> {
    if kept < HELD_ELEMENTS_MAX {
        return Ok(());
    }
    Err(FunctionError::new(format!(
        "the key keeps {HELD_ELEMENTS_MAX} elements, and no more are allowed"
    )))
}

/// Emits two values as one; `note` is what stands behind them.
fn emit_pair(call: &mut Call<'_>, at: i64, left: &str, right: &str, note: &str) {
    call.emit_json(None, Some(Timestamp::from_millis(at)), |out| {
        for text in ["{\"left\":", left, ",\"right\":", right, note, "}"] {
            out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    });
}

/// The element's value without white space around it.
fn trimmed<'e>(element: &Element<'e>) -> Result<&'e str> {
    Ok(json_text(element)?.trim_ascii())
}
