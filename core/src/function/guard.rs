//! Where a panic of the user's code is caught: the only place.

use super::error::{FunctionError, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Whether code of the user's runs on this thread.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    /// How often what it is called for was tried before.
    static TRIED: Cell<u32> = const { Cell::new(0) };
}

/// For panic hooks: whether the panic that is under way on this thread is that of a function. Such a
/// one is caught, and becomes the error of its callback. `Some` tells how often the same callback was
/// tried before, so that a hook can speak of it once.
///
/// ```
/// let before = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |panic| match stormwheel::function::caught_panic() {
///     None => before(panic),
///     Some(0) => eprintln!("a function has panicked"),
///     Some(_) => {}
/// }));
/// ```
pub fn caught_panic() -> Option<u32> {
    IS_RUNNING.get().then(|| TRIED.get())
}

/// What is called next on this thread was tried so often before.
pub(crate) fn set_tried(times: u32) {
    TRIED.set(times);
}

/// Runs code of the user's: its panic is an error like any other.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let was_running = IS_RUNNING.replace(true);
    // What a panic leaves half done is thrown away, save what is in the function's own fields; and
    // nothing may follow from these.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    IS_RUNNING.set(was_running);
    outcome.unwrap_or_else(|panic| Err(FunctionError::of_panic(&*panic)))
}
