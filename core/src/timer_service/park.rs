//! A thread that waits to be woken.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub(super) struct Parker {
    is_woken: Mutex<bool>,
    bell: Condvar,
}

impl Parker {
    /// Waits to be woken, since the last time; not longer than this.
    pub(super) fn park(&self, at_most: Option<Duration>) {
        let mut is_woken = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_woken {
            let Some(at_most) = at_most else {
                is_woken = self.bell.wait(is_woken).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let woken = self.bell.wait_timeout(is_woken, at_most);
            let (guard, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            is_woken = guard;
            if timeout.timed_out() {
                break;
            }
        }
        *is_woken = false;
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }
}

/// Drives a future on this thread to its end.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let parker = Arc::<Parker>::default();
    let waker = Waker::from(Arc::clone(&parker));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        parker.park(None);
    }
}
