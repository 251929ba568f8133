//! `DelayQueue` of tokio-util, and a map from (key, time) to its handles.
//!
//! Its clock is tokio's, paused and moved by hand; the 60,000 steps of a minute cost it some 20 ms in
//! all, whatever fires. A heartbeat is its own `reset_at`, of a timer that the map knows by key alone.

use super::{Millis, Peer, hasher};
use ahash::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::time::{Instant, advance};
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

/// Where the map has the time of a timer: this one is moved by heartbeats.
const MOVES: Millis = Millis::MAX;

/// See the module.
#[derive(Debug)]
pub struct Timers<const K: usize> {
    queue: DelayQueue<([u8; K], Millis)>,
    handles: HashMap<([u8; K], Millis), Key, RandomState>,
    clock: &'static Runtime,
    /// The queue is used where its clock is the thread's.
    _inside: EnterGuard<'static>,
    start: Instant,
    now: Millis,
}

impl<const K: usize> Default for Timers<K> {
    fn default() -> Self {
        let clock = Builder::new_current_thread().enable_time().start_paused(true).build();
        // Left behind: entering it for each timer would be counted with the timer.
        let clock: &Runtime = Box::leak(Box::new(clock.expect("it needs nothing that may lack")));
        let inside = clock.enter();
        Self {
            queue: DelayQueue::new(),
            handles: HashMap::with_hasher(hasher()),
            clock,
            _inside: inside,
            start: Instant::now(),
            now: 0,
        }
    }
}

impl<const K: usize> Timers<K> {
    fn time(&self, at: Millis) -> Instant {
        self.start + Duration::from_millis(u64::from(at))
    }
}

impl<const K: usize> Peer<K> for Timers<K> {
    fn register(&mut self, key: [u8; K], at: Millis) {
        let due = self.time(at);
        if let Entry::Vacant(entry) = self.handles.entry((key, at)) {
            entry.insert(self.queue.insert_at((key, at), due));
        }
    }

    fn cancel(&mut self, key: [u8; K], at: Millis) {
        if let Some(handle) = self.handles.remove(&(key, at)) {
            self.queue.remove(&handle);
        }
    }

    fn touch(&mut self, key: [u8; K], _before: Option<Millis>, at: Millis) {
        let due = self.time(at);
        match self.handles.entry((key, MOVES)) {
            Entry::Occupied(entry) => self.queue.reset_at(entry.get(), due),
            Entry::Vacant(entry) => {
                entry.insert(self.queue.insert_at((key, MOVES), due));
            }
        }
    }

    fn advance(&mut self, to: Millis, mut fired: impl FnMut(&[u8; K])) -> usize {
        let step = Duration::from_millis(u64::from(to - self.now));
        self.now = to;
        self.clock.block_on(advance(step));
        let mut context = Context::from_waker(Waker::noop());
        let mut count = 0;
        while let Poll::Ready(Some(expired)) = self.queue.poll_expired(&mut context) {
            let timer = expired.into_inner();
            self.handles.remove(&timer);
            fired(&timer.0);
            count += 1;
        }
        count
    }
}
