//! Shared pieces of the benches.

pub mod keys;
pub mod process;
