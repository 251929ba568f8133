//! Shared pieces of the benches.

pub mod keys;
pub mod ops;
pub mod peers;
pub mod process;
pub mod report;
pub mod work;
