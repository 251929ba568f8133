//! A reader that waits for more. It has a place of its own in its namespace's list while it waits,
//! and leaves nothing there when it goes.

use super::OutputLog;
use crate::output::{Cursor, NamespaceId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// See the module.
#[derive(Debug)]
pub struct Waiter {
    log: Arc<OutputLog>,
    namespace: NamespaceId,
    number: u64,
    /// It may stand in the list: it was told to wait, and not to go on since.
    is_listed: bool,
}

/// Numbers for waiters: each has its own.
#[derive(Debug, Default)]
pub(super) struct Numbers(AtomicU64);

impl OutputLog {
    /// Somebody who waits for records of a namespace.
    pub fn waiter(self: &Arc<Self>, namespace: NamespaceId) -> Waiter {
        // Relaxed: they only have to differ.
        let number = self.waiters.0.fetch_add(1, Ordering::Relaxed);
        Waiter { log: Arc::clone(self), namespace, number, is_listed: false }
    }
}

impl Waiter {
    /// Ready once the namespace has records after `after`, or is closed or gone, or the log is closed. The
    /// waker of the last call is the one that is woken.
    pub fn poll_ready(&mut self, after: Cursor, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.log.lock();
        if state.is_closed {
            return Poll::Ready(());
        }
        let Some(recent) = state.by_namespace.get_mut(&self.namespace) else {
            return Poll::Ready(());
        };
        if recent.newest > after || recent.is_finished {
            return Poll::Ready(());
        }
        let waker = context.waker();
        recent
            .wakers
            .entry(self.number)
            .and_modify(|standing| standing.clone_from(waker))
            .or_insert_with(|| Waker::clone(waker));
        self.is_listed = true;
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if !self.is_listed {
            return;
        }
        let mut state = self.log.lock();
        let recent = state.by_namespace.get_mut(&self.namespace);
        let waker = recent.and_then(|recent| recent.wakers.remove(&self.number));
        // Whoever is behind it may do something as it goes.
        drop(state);
        drop(waker);
    }
}
