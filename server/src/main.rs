//! The `stormwheel` binary: the service as it is built, and its allocator.

use mimalloc::MiMalloc;
use std::process::ExitCode;
use stormwheel_server::Server;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Server::builder().run()
}
