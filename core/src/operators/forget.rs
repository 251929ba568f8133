//! The timer of a key that lets an operator forget what it needs no more.

use crate::function::{Call, FunctionError, Result};
use crate::op::DEFAULT_TIMER_NAME;
use crate::time::{Domain, Timestamp};

/// The time that a domain has reached: its timers up to then have fired. `None`: none yet.
pub(super) fn reached(call: &Call<'_>, domain: Domain) -> Option<i64> {
    let reached = match domain {
        Domain::Event => call.watermark(),
        Domain::Processing => call.processing_time(),
    };
    reached.map(Timestamp::as_millis)
}

/// What the clock reads; an operator that follows it cannot do without.
pub(super) fn now(call: &Call<'_>) -> Result<i64> {
    let now = call.processing_time().map(Timestamp::as_millis);
    now.ok_or_else(|| FunctionError::new("the clock of the namespace has not been set yet"))
}

/// Lets the key's timer for this fire at `next` at the latest; `None`: there is nothing left to fire for.
///
/// It is left alone where it is early enough: when it fires, it is put where it belongs by then. So
/// what moves a time later costs nothing. Its name is the default one, which costs the least.
pub(super) fn arm(call: &mut Call<'_>, domain: Domain, next: Option<i64>) {
    let mut timer = call.timers().named(DEFAULT_TIMER_NAME);
    let armed = timer.time(domain).map(Timestamp::as_millis);
    match next {
        Some(next) if armed.is_none_or(|armed| next < armed) => {
            timer.register(domain, Timestamp::from_millis(next));
        }
        None if armed.is_some() => timer.delete(domain),
        Some(_) | None => {}
    }
}
