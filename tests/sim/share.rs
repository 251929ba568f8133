//! Work shared out among threads: each takes the next case when it is done with one, and the first
//! case that fails ends them all.
//!
//! `STORMWHEEL_SIM_THREADS` says how many there are, one unless told otherwise. A world is on one
//! thread all the same: which one makes no difference to it.

use crate::number;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Lets threads work off the cases in their order, until one says `false`: it is enough. Fails with what
/// is said of the first case that does, and ends the others where they are.
pub(crate) fn share(
    cases: Range<u64>,
    work: impl Fn(u64) -> Result<bool, String> + Sync,
) -> Result<(), String> {
    let next = AtomicU64::new(cases.start);
    let is_over = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let work_off = || {
        while !is_over.load(Ordering::Relaxed) {
            let case = next.fetch_add(1, Ordering::Relaxed);
            if case >= cases.end {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| work(case)));
            let outcome = outcome.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                Err(text.unwrap_or_else(|| format!("case {case}: a panic")))
            });
            if outcome != Ok(true) {
                is_over.store(true, Ordering::Relaxed);
            }
            if let Err(detail) = outcome {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(detail);
            }
        }
    };
    let threads = number("STORMWHEEL_SIM_THREADS").unwrap_or(1).max(1);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work_off);
        }
        work_off();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_is_worked_off_once_and_the_first_failure_is_told() {
        let sum = AtomicU64::new(0);
        let add = |case| {
            sum.fetch_add(case, Ordering::Relaxed);
            Ok(case < 1_000)
        };
        assert_eq!(share(1..101, add), Ok(()));
        assert_eq!(sum.load(Ordering::Relaxed), 5_050);
        assert_eq!(share(1_000..u64::MAX, add), Ok(()));
        let failed = share(0..9, |case| if case == 3 { Err("three".to_owned()) } else { Ok(true) });
        assert_eq!(failed, Err("three".to_owned()));
    }
}
