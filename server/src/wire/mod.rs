//! How things are spelled on the wire: bytes to operations, outcomes and outputs to bytes.
//! Knows nothing of HTTP connections; everything here is a function of its arguments.

pub mod arrow;
pub(crate) mod document;
pub mod elements;
mod failures;
mod fields;
mod json;
pub mod key;
pub mod namespace;
pub mod ndjson;
pub mod op;
pub mod output;
pub mod problem;
mod summary;
pub mod time;
