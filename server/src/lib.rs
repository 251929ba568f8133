//! The Stormwheel service.
pub mod wire;
