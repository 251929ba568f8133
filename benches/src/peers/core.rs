//! The core of this repository, as it stands: operations in batches, as requests bring them.

use super::{Millis, Subject};
use crate::keys::Keys;
use crate::ops::{START, apply_all, cancel, empty, register};
use stormwheel::op::{Action, DEFAULT_TIMER_NAME};
use stormwheel::solo::Solo;
use stormwheel::time::{Domain, Timestamp};

/// See the module.
pub struct Core {
    solo: Solo,
    now: Timestamp,
}

impl Default for Core {
    fn default() -> Self {
        Self { solo: empty(), now: START }
    }
}

fn time(at: Millis) -> Timestamp {
    START.saturating_add(i64::from(at))
}

impl Subject for Core {
    fn register(&mut self, keys: &Keys, at: impl Fn(u32) -> Millis) {
        apply_all(&mut self.solo, keys, self.now, |n| register(time(at(n))));
    }

    fn cancel(&mut self, keys: &Keys, at: impl Fn(u32) -> Millis) {
        apply_all(&mut self.solo, keys, self.now, |n| cancel(time(at(n))));
    }

    fn touch(&mut self, keys: &Keys, _before: Option<Millis>, at: Millis) {
        let after_ms = time(at).as_millis() - self.now.as_millis();
        let (name, domain) = (DEFAULT_TIMER_NAME, Domain::Processing);
        apply_all(&mut self.solo, keys, self.now, |_| Action::Touch { name, domain, after_ms });
    }

    fn advance(&mut self, to: Millis) -> usize {
        self.now = time(to);
        let mut fired = 0;
        self.solo.advance(self.now, |output| {
            std::hint::black_box(output.key);
            fired += 1;
        });
        fired
    }

    fn memory(&self) -> Vec<(&'static str, usize)> {
        self.solo.memory().into_iter().collect()
    }
}
