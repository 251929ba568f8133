//! Partitions whose operations wait because the function has failed at one of them: how often it has,
//! and when it is called again. Nothing of that is written down, since such an operation has no position.
//! A whole partition waits, since it remembers of a producer only how far it has come.

use crate::key_group::KeyGroup;
use crate::time::Timestamp;
use hashbrown::HashMap;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trials(HashMap<KeyGroup, Trial, ahash::RandomState>);

#[derive(Debug, Clone, Copy)]
struct Trial {
    tries: u32,
    at: Timestamp,
}

impl Default for Trials {
    fn default() -> Self {
        Self(HashMap::with_hasher(ahash::RandomState::with_seeds(2, 3, 4, 5)))
    }
}

impl Trials {
    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The function has failed `tries` times at the first operation that waits of a partition; it is called
    /// again at this time.
    pub(crate) fn wait(&mut self, group: KeyGroup, tries: u32, at: Timestamp) {
        self.0.insert(group, Trial { tries, at });
    }

    /// When the first operation that waits of a partition is tried again, if one waits.
    pub(crate) fn due(&self, group: KeyGroup) -> Option<Timestamp> {
        self.0.get(&group).map(|trial| trial.at)
    }

    /// The first operation of a partition that waits is tried: how often the function has failed at it.
    pub(crate) fn take(&mut self, group: KeyGroup) -> u32 {
        self.0.remove(&group).map_or(0, |trial| trial.tries)
    }

    /// Nobody waits any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
