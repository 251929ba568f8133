//! An answer that may not be there yet: waited for on a thread, or awaited by any executor.

use super::Error;
use super::park::block_on;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The answer to something that is under way: it goes on whether or not anybody waits for it.
#[must_use = "without waiting nobody knows whether it took effect"]
#[derive(Debug)]
pub struct Answer<T> {
    shared: Arc<Shared<T>>,
}

/// The side that answers. Dropped without an answer, the service has ended.
#[derive(Debug)]
pub(super) struct Promise<T> {
    shared: Arc<Shared<T>>,
    is_kept: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: Option<Result<T, Error>>,
    waker: Option<Waker>,
}

/// The two sides of an answer.
pub(super) fn promise<T>() -> (Promise<T>, Answer<T>) {
    let state = Mutex::new(State { value: None, waker: None });
    let shared = Arc::new(Shared { state });
    (Promise { shared: Arc::clone(&shared), is_kept: false }, Answer { shared })
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, value: Result<T, Error>) {
        let waker = {
            let mut state = self.lock();
            state.value = Some(value);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Promise<T> {
    pub(super) fn keep(mut self, value: Result<T, Error>) {
        self.is_kept = true;
        self.shared.answer(value);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.shared.answer(Err(Error::Unanswered));
        }
    }
}

impl<T> Answer<T> {
    /// Waits until it is there.
    pub fn wait(self) -> Result<T, Error> {
        block_on(self)
    }

    /// The answer, if it is there.
    #[cfg(test)]
    pub(super) fn take(&self) -> Option<Result<T, Error>> {
        self.shared.lock().value.take()
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock();
        if let Some(value) = state.value.take() {
            return Poll::Ready(value);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
