//! HTTP: connections, manners, routes and the calls behind them.
//!
//! Arrows: `accept` (connections) → `app` (one request) → a call (`timers`, `batch`, …) → the engine.
//! `routes` is the one table that the router and the `OpenAPI` document are made from. Formats of
//! bodies are `wire`'s business; nothing here keeps state beyond a connection.

mod accept;
mod ack;
mod app;
mod batch;
mod body;
mod bound;
mod broadcast;
mod checkpoints;
mod elements;
mod kinds;
mod manners;
mod namespaces;
pub mod openapi;
mod outputs;
mod pages;
mod producer;
mod query;
mod refusal;
mod respond;
pub mod routes;
mod running;
mod savepoints;
pub mod schema;
mod starting;
mod stopping;
mod timers;
mod watch;
mod watermarks;

pub(crate) use accept::Acceptor;
pub(crate) use app::{App, Routed};
pub(crate) use bound::router;
pub use manners::Media;
pub use query::{Param, ParamKind};
pub(crate) use starting::Starting;
pub(crate) use stopping::StopSwitch;
