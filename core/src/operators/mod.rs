//! The operators that come along: whoever needs no more than them configures a namespace, and
//! writes no code.
//!
//! Each is an [`Operator`](crate::function::Operator) over JSON values. What it keeps for a key it
//! keeps as compactly as it can, and no longer than it needs it. Nothing here knows partitions,
//! lanes and logs.
//!
//! To add one: a module of its own with the type of its options, which is read with
//! [`options::Options`] and written by serde ([`BuiltIn`]), a line in [`built_in`], and a section in the
//! docs.

mod built_in;
mod canonical;
mod debounce;
mod deduplicate;
mod delay;
mod forget;
mod held;
mod joins;
mod machine;
mod options;
mod periodic;
#[cfg(test)]
mod seeds;
mod state;
#[cfg(test)]
mod tests;
mod throttle;
mod timeout;
mod value;
mod windows;

pub use built_in::BuiltIn;
pub use debounce::Debounce;
pub use deduplicate::Deduplicate;
pub use delay::Delay;
pub use joins::{Enrich, IntervalJoin};
pub use periodic::Periodic;
pub use throttle::Throttle;
pub use timeout::Timeout;
pub use windows::Windows;

use crate::function::Operators;

/// All of them, by name.
pub fn built_in() -> Operators {
    let operators = with::<Timeout>(Operators::default());
    let operators = with::<Throttle>(with::<Debounce>(operators));
    let operators = with::<Periodic>(with::<Delay>(operators));
    let operators = with::<IntervalJoin>(with::<Windows>(operators));
    with::<Deduplicate>(with::<Enrich>(operators))
}

fn with<B: BuiltIn + 'static>(operators: Operators) -> Operators {
    operators.with(B::NAME, B::from_options)
}
