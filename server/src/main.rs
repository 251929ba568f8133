//! The `stormwheel` binary.
fn main() {}
