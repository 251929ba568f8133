//! The standard library's ordered set of (time, key).

use super::{Millis, Peer};
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug, Default)]
pub struct Timers<const K: usize>(BTreeSet<(Millis, [u8; K])>);

impl<const K: usize> Peer<K> for Timers<K> {
    fn register(&mut self, key: [u8; K], at: Millis) {
        self.0.insert((at, key));
    }

    fn cancel(&mut self, key: [u8; K], at: Millis) {
        self.0.remove(&(at, key));
    }

    fn touch(&mut self, key: [u8; K], before: Option<Millis>, at: Millis) {
        if let Some(before) = before {
            self.0.remove(&(before, key));
        }
        self.0.insert((at, key));
    }

    fn advance(&mut self, to: Millis, mut fired: impl FnMut(&[u8; K])) -> usize {
        let mut count = 0;
        while let Some(first) = self.0.first()
            && first.0 <= to
            && let Some((_, key)) = self.0.pop_first()
        {
            fired(&key);
            count += 1;
        }
        count
    }
}
