//! The operators that come along: whoever needs no more than them configures a namespace, and
//! writes no code.
//!
//! Each is an [`Operator`](crate::function::Operator) over JSON values. What it keeps for a key it
//! keeps as compactly as it can, and no longer than it needs it. Nothing here knows partitions,
//! lanes and logs.
//!
//! To add one: a module of its own, whose factory reads the namespace's options with
//! [`options::Options`], a line in [`built_in`], and a section in the docs.

mod debounce;
mod delay;
mod held;
mod machine;
mod options;
mod periodic;
mod state;
#[cfg(test)]
mod tests;
mod throttle;
mod timeout;
mod value;

pub use debounce::debounce;
pub use delay::delay;
pub use periodic::periodic;
pub use throttle::throttle;
pub use timeout::timeout;

use crate::function::Operators;

/// All of them, by name.
pub fn built_in() -> Operators {
    Operators::default()
        .with("timeout", timeout)
        .with("debounce", debounce)
        .with("throttle", throttle)
        .with("delay", delay)
        .with("periodic", periodic)
}
