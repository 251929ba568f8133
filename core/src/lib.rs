//! Stormwheel: keyed timers with Apache Flink's semantics, at the speed of memory.
//!
//! The log is the truth; a partition is a deterministic state machine that follows it. Everything
//! outside of [`runtime`] is pure: it takes time and input as arguments and returns effects.
//! `docs/architecture.md` has the map.

mod due_counts;
pub mod duration;
pub mod error;
pub mod function;
mod held;
pub mod key_group;
mod keyed;
mod lane;
pub mod limits;
mod log;
pub mod namespace;
pub mod op;
pub mod operators;
pub mod output;
mod partition;
pub mod ports;
mod prefetch;
pub mod query;
pub mod runtime;
mod shard;
mod snapshot;
pub mod solo;
mod stats;
pub mod storage;
pub mod testing;
pub mod text;
pub mod time;
mod timeline;
pub mod timer_service;
mod watermark;
pub mod wheel;

pub use timer_service::TimerService;

#[cfg(doctest)]
#[doc = include_str!("../../docs/from-flink.md")]
mod from_flink {}
