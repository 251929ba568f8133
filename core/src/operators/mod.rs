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

use crate::function::{Operator, Operators, Result};
use serde_json::Value;

/// One of them.
struct Entry {
    name: &'static str,
    make: fn(&Value) -> Result<Box<dyn Operator>>,
    state_as_json: fn(&[u8]) -> Result<String>,
}

const fn entry<B: BuiltIn>() -> Entry {
    Entry { name: B::NAME, make: B::from_options, state_as_json: B::state_as_json }
}

const ALL: [Entry; 9] = [
    entry::<Timeout>(),
    entry::<Debounce>(),
    entry::<Throttle>(),
    entry::<Delay>(),
    entry::<Periodic>(),
    entry::<Windows>(),
    entry::<IntervalJoin>(),
    entry::<Enrich>(),
    entry::<Deduplicate>(),
];

/// All of them, by name.
pub fn built_in() -> Operators {
    let with = |operators: Operators, it: &Entry| operators.with(it.name, it.make);
    ALL.iter().fold(Operators::default(), with)
}

/// What an operator of this name keeps for a key, as JSON for people and programs to read: the fields are
/// the operator's own, and follow its version. `None`: none of these is called so, or it is not its.
pub fn state_as_json(operator: &str, state: &[u8]) -> Option<String> {
    let entry = ALL.iter().find(|it| it.name == operator)?;
    (entry.state_as_json)(state).ok()
}
