//! Waiting for conditions: the only clock of these tests.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up. Far more than a slow machine needs: a test
/// that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);

/// Asks again and again until there is an answer. `Err` says what is still missing; the last one
/// stands in the failure.
pub fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let started = now();
    loop {
        match condition() {
            Ok(found) => return found,
            Err(missing) => assert!(
                started.elapsed() < PATIENCE,
                "gave up waiting for {what} after {PATIENCE:?}: {missing}"
            ),
        }
        pause();
    }
}

#[allow(clippy::disallowed_methods, reason = "the deadline of a wait is of the machine's time")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
fn pause() {
    thread::sleep(POLL);
}
