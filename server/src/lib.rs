//! The Stormwheel service: HTTP in, fires out, Prometheus beside it.
//!
//! `wire` spells things, `http` serves them, `service` runs the engine with HTTP in front, `serve`
//! is the life of the process, `store` keeps its snapshots, `cli` its clients at a shell and `bench` the one that measures. Time,
//! timers and keys are the business of the crate `stormwheel`.

pub mod bench;
pub mod cli;
pub mod config;
pub mod http;
mod logging;
mod metrics;
pub mod serve;
mod service;
pub mod store;
pub mod wire;

pub use service::{RunningServer, Server, StartError};
