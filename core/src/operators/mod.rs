//! The operators that come along: whoever needs no more than them configures a namespace, and
//! writes no code.
//!
//! Each is an [`Operator`](crate::function::Operator) over JSON values. What it keeps for a key it
//! keeps as compactly as it can, and no longer than it needs it. Nothing here knows partitions,
//! lanes and logs.
//!
//! To add one: a module of its own, whose factory reads the namespace's options with
//! [`options::Options`], a line in [`built_in`], and a section in the docs.

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

pub use debounce::debounce;
pub use deduplicate::deduplicate;
pub use delay::delay;
pub use joins::{enrich, interval_join};
pub use periodic::periodic;
pub use throttle::throttle;
pub use timeout::timeout;
pub use windows::windows;

use crate::function::Operators;

/// All of them, by name.
pub fn built_in() -> Operators {
    Operators::default()
        .with("timeout", timeout)
        .with("debounce", debounce)
        .with("throttle", throttle)
        .with("delay", delay)
        .with("periodic", periodic)
        .with("windows", windows)
        .with("interval_join", interval_join)
        .with("enrich", enrich)
        .with("deduplicate", deduplicate)
}
