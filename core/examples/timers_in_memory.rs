//! A timer service in memory: on a clock that a test moves, and on the machine's clock in async code.
//!
//! `cargo run -p stormwheel --example timers_in_memory`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;
use stormwheel::TimerService;
use stormwheel::timer_service::{Error, Options, Timestamp};

fn main() -> Result<(), Error> {
    with_a_clock_of_its_own()?;
    block_on(with_async_code())
}

/// Time is an argument: nothing waits, and the same calls give the same fires each time.
fn with_a_clock_of_its_own() -> Result<(), Error> {
    let at = Timestamp::from_millis;
    let timers = Options::new().manual_clock().in_memory()?;

    timers.schedule("reminder", at(3_000), "water the plants")?;
    timers.schedule_named("session-7", "expiry", at(1_000), "")?;
    // The user was active: the timer of this name moves.
    timers.schedule_named("session-7", "expiry", at(2_000), "")?;
    let stale = timers.schedule("stale", at(1_500), "")?;
    assert!(timers.cancel("stale", stale.fire_at)?);

    assert!(timers.poll_due(at(1_999))?.is_empty());
    for fire in timers.poll_due(at(5_000))? {
        let (key, payload) = (text(fire.key()), text(fire.payload()));
        println!("{} fired at {}: {payload:?}", key, fire.fire_at());
        fire.ack()?;
    }
    assert!(timers.is_empty());
    Ok(())
}

/// Any executor will do: this one has no more than it needs.
async fn with_async_code() -> Result<(), Error> {
    let timers = TimerService::in_memory()?;
    let mut batch = timers.batch()?;
    for number in 1..=3 {
        batch.schedule(format!("job-{number}"), Duration::from_millis(10 * number), "")?;
    }
    batch.submit().await?;

    let mut fires = timers.stream();
    let mut left = 3;
    while left > 0
        && let Some(fire) = fires.next().await
    {
        let fire = fire?;
        println!("{} is due", text(fire.key()));
        fire.submit_ack().await?;
        left -= 1;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

#[test]
fn it_runs() {
    main().unwrap();
}
