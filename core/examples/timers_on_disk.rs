//! A timer service that survives: what was scheduled is there after a restart, and a fire comes again
//! until it was acknowledged.
//!
//! `cargo run -p stormwheel --example timers_on_disk -- some/directory`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::{Path, PathBuf};
use std::time::Duration;
use stormwheel::TimerService;
use stormwheel::timer_service::{Error, Fire};

fn main() -> Result<(), Error> {
    let directory = std::env::args_os().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("stormwheel-example-{}", std::process::id())),
        PathBuf::from,
    );
    println!("the timers are in {}", directory.display());
    run(&directory)
}

fn run(directory: &Path) -> Result<(), Error> {
    let timers = TimerService::open(directory)?;
    let mut batch = timers.batch()?;
    for order in 1..=3 {
        // A name: if this runs again, or is retried, it is the same timer.
        let after = Duration::from_millis(10 * order);
        batch.schedule_named(format!("order-{order}"), "payment", after, "send a reminder")?;
    }
    // All three are durable when this returns.
    batch.commit()?;

    // Two are handled, and one of these is not acknowledged: say the mail server was down.
    for fire in timers.fires().take(2) {
        let fire = fire?;
        if handle(&fire) {
            fire.ack()?;
        }
    }
    timers.close()?;

    println!("-- the process ends, and is started again --");
    let timers = TimerService::open(directory)?;
    let mut handled = 0;
    while handled < 2 {
        let fire = timers.next()?;
        println!("{}: {}", text(fire.key()), text(fire.payload()));
        fire.ack()?;
        handled += 1;
    }
    timers.close()
}

/// Whether it worked. Whoever must not do a thing twice remembers `fire.id()` with what was done.
fn handle(fire: &Fire) -> bool {
    let works = fire.key() != b"order-1";
    let outcome = if works { "done" } else { "failed, and comes again" };
    println!("{}: {outcome}", text(fire.key()));
    works
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_runs() {
    let name = format!("stormwheel-example-test-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let _ = std::fs::remove_dir_all(&directory);
    run(&directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}
