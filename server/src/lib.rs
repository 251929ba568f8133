//! The Stormwheel service: HTTP in, fires out, Prometheus beside it.
//!
//! [`Server::builder`] is the way to a service with functions of one's own; the binary `stormwheel` is
//! made by it, with nothing added.
//!
//! `wire` spells things, `http` serves them, `service` runs the engine with HTTP in front, `serve`
//! is the life of the process, `command_line` what it can be asked for, `store` keeps its snapshots, `cli` its clients at a shell and `bench` the one that measures. Time,
//! timers and keys are the business of the crate `stormwheel`.

pub mod bench;
mod builder;
pub mod cli;
mod command_line;
pub mod config;
pub mod http;
mod logging;
mod metrics;
pub mod serve;
mod service;
pub mod store;
pub mod wire;

pub use builder::ServerBuilder;
pub use service::{RunningServer, Server, StartError};
