//! The conformance suite: what timers, windows and functions have to do, as data.
//!
//! A case is a line of JSON in `cases/`: what happens to a system, and what has to come out of it
//! after each step. `README.md` beside this file has the format. Expectations were derived by hand
//! from Flink's rules, numbered as in `docs/semantics.md`, and never from running what they test.
//!
//! Every case is played in every way in which the engine can be run ([`plays`]): whatever the way,
//! the outputs are the same for each key. Which rules have cases, and that the others are accounted
//! for in `docs/semantics.md`, is held by [`rules`].
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests may; the lints take helpers of integration tests for something else"
)]

mod broadcast;
mod case;
mod command;
mod compare;
mod drained;
mod http;
mod load;
mod plays;
mod rules;
mod script;
