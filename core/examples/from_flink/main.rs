//! The examples of Flink's pages on timers, and of the guides to them, as functions here: each with what
//! comes out of it. The page beside them is `docs/from-flink.md`; the first example of all, count with
//! timeout, is a program of its own in `examples/count-with-timeout`.
//!
//! `cargo run -p stormwheel --example from_flink`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod coalescing;
mod heartbeat;
mod join;
mod late_data;
mod periodic_output;
mod processing_time_windows;
mod rules;
mod stop_a_timer;
mod storm;
mod window_sum;

use stormwheel::error::Rejection;

/// A name, and a run that asserts what comes out.
type Example = (&'static str, fn() -> Result<(), Rejection>);

const EXAMPLES: [Example; 10] = [
    ("event-time windows with a timer", window_sum::run),
    ("periodic output with no data", periodic_output::run),
    ("processing-time windows", processing_time_windows::run),
    ("heartbeat alert", heartbeat::run),
    ("coalescing", coalescing::run),
    ("low-level join", join::run),
    ("side outputs, and late data", late_data::run),
    ("a storm, spread", storm::run),
    ("stopping a timer", stop_a_timer::run),
    ("rules for all keys", rules::run),
];

fn main() -> Result<(), Rejection> {
    for (name, run) in EXAMPLES {
        run()?;
        println!("{name}: what came out is what should");
    }
    Ok(())
}

#[test]
fn what_comes_out_of_each_is_what_should() {
    main().unwrap();
}
