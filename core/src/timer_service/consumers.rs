//! Those who wait for fires: each is woken by whatever may be one, and looks for itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// See the module.
#[derive(Default)]
pub(super) struct Consumers {
    wakers: Mutex<BTreeMap<u64, Waker>>,
    numbers: AtomicU64,
}

/// One of them. It leaves nothing behind when it goes.
pub(super) struct Consumer {
    consumers: Arc<Consumers>,
    number: u64,
}

impl Consumers {
    pub(super) fn join(consumers: &Arc<Self>) -> Consumer {
        // Relaxed: they only have to differ.
        let number = consumers.numbers.fetch_add(1, Ordering::Relaxed);
        Consumer { consumers: Arc::clone(consumers), number }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.lock());
        wakers.into_values().for_each(Waker::wake);
    }
}

impl Wake for Consumers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

impl Consumer {
    /// Wakes this one the next time.
    pub(super) fn wait(&self, waker: &Waker) {
        let before = self.consumers.lock().insert(self.number, waker.clone());
        // Whoever is behind it may do something as it goes.
        drop(before);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let waker = self.consumers.lock().remove(&self.number);
        drop(waker);
    }
}
