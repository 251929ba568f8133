//! Shared pieces of the benches.

pub mod keys;
pub mod ops;
pub mod process;
