//! The service end to end over HTTP: every call, every manner, every kind of bad input.
//!
//! Each test starts a service of its own in-process on a free port. Whatever depends on time runs
//! in a namespace with a manual clock, so nothing depends on how fast the machine is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may; the lints take helpers of integration tests for something else"
)]

mod bad_input;
mod batches;
mod batches_of_columns;
mod broadcast;
mod close;
mod connections;
mod durability;
mod elements;
mod elements_input;
mod failing;
mod functions;
mod harness;
mod manners;
mod namespaces;
mod outputs;
mod running;
mod savepoints;
mod time;
mod timers;
