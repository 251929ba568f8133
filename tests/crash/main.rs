//! Real crashes: the real server, met over HTTP alone, on real files.
//!
//! - `cycles`: load, `kill -9` at a random instant, start again on what is left, fifty times; the
//!   client's ledger says what must be there. `STORMWHEEL_CRASH_CYCLES=2000` is the long form, and
//!   `STORMWHEEL_CRASH_SEED` draws another run.
//! - `full_disk`: a small filesystem that fills up, empties, and goes on.
//! - `refused`: data directories on which a start must be refused before anything is written.
//!
//! The client (`world`) outlives the servers. Its workers own keys and wait for each answer, so
//! that the history of a key is a sequence; `model` follows all runs without a crash that agree
//! with the answers, the silences and the fires, and finds a breach where there is none.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this crate is a test: a failure is its way to speak"
)]

mod act;
mod consumer;
mod cycles;
mod driver;
mod findings;
mod folder;
mod full_disk;
mod history;
mod model;
mod refused;
mod rng;
mod server;
mod shared;
mod worker;
mod world;
