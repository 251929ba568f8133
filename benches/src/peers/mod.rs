//! What else a Rust program would keep its timers in, each behind the same few calls.
//!
//! The work is that of the core: a timer is known by its key and its time, the same one registered
//! again stays one, it is cancelled by key and time, a heartbeat moves the one timer of a key, and
//! what fires tells its key. Where a structure does not do so by itself it is given a map that does.
//!
//! The peers have it easier throughout:
//!
//! - They do less. None writes a record down (the core encodes one for each operation and each
//!   fire), none knows namespaces, named timers, payloads, event time or a limit, and none answers
//!   what became of an operation. Nothing of theirs survives a restart.
//! - Their keys are arrays of a length that the compiler knows, kept in place. The core takes keys
//!   of any length.
//! - Their maps are hashbrown's with ahash, which is faster than the standard library's; the wheel
//!   with a map of its own has that of its defaults.
//! - With a heartbeat, [`BTreeSet`](btree_set) and [`BinaryHeap`](binary_heap) are told when the
//!   timer had been due, which somebody would have to remember.

pub mod binary_heap;
pub mod btree_set;
pub mod core;
pub mod delay_queue;
pub mod hash_wheel;

use crate::keys::Keys;
use ahash::RandomState;

/// Milliseconds from the beginning of a run.
pub type Millis = u32;

/// How the peers' maps hash.
pub fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// Something that holds the timers of many keys, and can be measured.
pub trait Subject {
    /// Registers a timer for each key.
    fn register(&mut self, keys: &Keys, at: impl Fn(u32) -> Millis);
    /// Cancels the timers that were registered for this key and time.
    fn cancel(&mut self, keys: &Keys, at: impl Fn(u32) -> Millis);
    /// A heartbeat of each key: its timer, if there is one due at `before`, is due at `at` from now on.
    fn touch(&mut self, keys: &Keys, before: Option<Millis>, at: Millis);
    /// Lets time pass, and tells how many fired.
    fn advance(&mut self, to: Millis) -> usize;
    /// What the parts hold, in bytes, where that is known.
    fn memory(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }
}

/// A peer: it takes one timer at a time. Keys have `K` bytes.
pub trait Peer<const K: usize> {
    /// Registers a timer, unless it is there.
    fn register(&mut self, key: [u8; K], at: Millis);
    /// Cancels a timer.
    fn cancel(&mut self, key: [u8; K], at: Millis);
    /// See [`Subject::touch`].
    fn touch(&mut self, key: [u8; K], before: Option<Millis>, at: Millis);
    /// See [`Subject::advance`].
    fn advance(&mut self, to: Millis, fired: impl FnMut(&[u8; K])) -> usize;
}

/// A peer that is given the keys one by one.
#[derive(Debug, Default)]
pub struct Each<P, const K: usize>(P);

impl<P: Peer<K>, const K: usize> Each<P, K> {
    fn each(&mut self, keys: &Keys, mut one: impl FnMut(&mut P, u32, [u8; K])) {
        for (n, key) in keys.iter() {
            one(&mut self.0, n, key.try_into().expect("keys are of this length"));
        }
    }
}

impl<P: Peer<K>, const K: usize> Subject for Each<P, K> {
    fn register(&mut self, keys: &Keys, at: impl Fn(u32) -> Millis) {
        self.each(keys, |peer, n, key| peer.register(key, at(n)));
    }

    fn cancel(&mut self, keys: &Keys, at: impl Fn(u32) -> Millis) {
        self.each(keys, |peer, n, key| peer.cancel(key, at(n)));
    }

    fn touch(&mut self, keys: &Keys, before: Option<Millis>, at: Millis) {
        self.each(keys, |peer, _, key| peer.touch(key, before, at));
    }

    fn advance(&mut self, to: Millis) -> usize {
        self.0.advance(to, |key| {
            std::hint::black_box(key);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every subject does alike; a count that is off here would be a figure for other work.
    fn check(mut subject: impl Subject) {
        let keys = [1, 2].map(|seed| Keys::shuffled(1_000, 15, seed));
        let at = |n: u32| 1 + n % 500;
        subject.register(&keys[0], at);
        subject.register(&keys[1], at);
        subject.register(&keys[1], |n| 501 + n);
        subject.register(&keys[1], |n| 2_001 + n);
        subject.cancel(&keys[0], |n| 501 + n);
        assert_eq!(subject.advance(100), 200, "the same timer again is the same timer");
        assert_eq!(subject.advance(2_000), 800, "each once, and none that was cancelled");
        assert_eq!(subject.advance(4_000), 1_000, "a key has a timer for each time");
        subject.touch(&keys[0], None, 5_000);
        subject.touch(&keys[1], Some(5_000), 6_000);
        assert_eq!(subject.advance(5_999), 0, "a heartbeat moves the timer");
        assert_eq!(subject.advance(6_000), 1_000);
    }

    #[test]
    fn all_do_the_same_work() {
        check(core::Core::default());
        check(Each::<btree_set::Timers<15>, 15>::default());
        check(Each::<binary_heap::Timers<15>, 15>::default());
        check(Each::<delay_queue::Timers<15>, 15>::default());
        check(Each::<hash_wheel::Timers<15>, 15>::default());
    }
}
