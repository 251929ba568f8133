//! What the tests that cross crates share: the real server on a free port, a small HTTP client, and
//! waiting for conditions.
//!
//! A test here owns every process that it starts: a [`Process`] ends with the value, also when the
//! test fails. Nothing in here looks into the server; it is met only as a user meets it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this crate is tests: a failure is its way to speak"
)]

mod http;
mod process;
mod wait;

pub use http::{Answer, Client};
pub use process::{
    Process, Server, built_binary, fail_stormwheel, free_port, refuse_start, repository,
    run_stormwheel, server_binary,
};
pub use wait::wait_until;
