//! What a partition remembers of producers: of each the last operation that it took, so that one
//! that is sent again is taken once only.

use crate::limits::PRODUCERS_MAX;
use crate::log::Produced;
use crate::snapshot::Producer;

/// Those that were heard of last stand at the end.
#[derive(Debug, Default)]
pub(super) struct Producers(Vec<Producer>);

impl Producers {
    /// Producers as they were, in their order.
    pub(super) fn new(producers: Vec<Producer>) -> Self {
        Self(producers)
    }

    /// All of them, in their order.
    pub(super) fn as_slice(&self) -> &[Producer] {
        &self.0
    }

    /// Whether an operation was taken before: it, or a later one of the same producer.
    pub(super) fn has_taken(&self, it: &Produced<'_>) -> bool {
        let known = self.0.iter().rev().find(|known| known.0 == it.producer);
        known.is_some_and(|(_, sequence, index)| (it.sequence, it.index) <= (*sequence, *index))
    }

    /// An operation was taken. Beyond the limit, the producer that was silent the longest is
    /// forgotten.
    pub(super) fn take(&mut self, it: &Produced<'_>) {
        if let Some((name, sequence, index)) = self.0.last_mut()
            && name == it.producer
        {
            (*sequence, *index) = (it.sequence, it.index);
            return;
        }
        if let Some(place) = self.0.iter().position(|known| known.0 == it.producer) {
            self.0.remove(place);
        } else if self.0.len() >= PRODUCERS_MAX {
            self.0.remove(0);
        }
        self.0.push((it.producer.to_owned(), it.sequence, it.index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_known_and_the_longest_silent_is_forgotten_first() {
        let mut producers = Producers::default();
        let it = |producer, sequence, index| Produced { producer, sequence, index };
        assert!(!producers.has_taken(&it("a", 0, 0)));
        producers.take(&it("a", 5, 1));
        for (sequence, index, expected) in
            [(5, 0, true), (5, 1, true), (4, 9, true), (5, 2, false), (6, 0, false)]
        {
            assert_eq!(producers.has_taken(&it("a", sequence, index)), expected);
        }
        let names: Vec<String> = (0..PRODUCERS_MAX - 1).map(|n| format!("p{n}")).collect();
        for name in &names {
            producers.take(&it(name, 1, 0));
        }
        producers.take(&it("a", 6, 0));
        producers.take(&it("one more", 1, 0));
        assert!(producers.has_taken(&it("a", 6, 0)), "it was heard of meanwhile");
        assert!(!producers.has_taken(&it("p0", 1, 0)));
        assert_eq!(producers.as_slice().len(), PRODUCERS_MAX);
    }
}
