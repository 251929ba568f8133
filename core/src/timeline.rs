//! The time of one namespace on one lane: how far each domain has come, the wheels that know which
//! key is next, and the counts by due time.
//!
//! A wheel is an index and nothing more. It holds keys by their earliest time; the truth is in the
//! slots, and an entry counts only if it stands where its slot says ([`Armed`]).

use crate::due_counts::MinuteCounts;
use crate::held::Held;
use crate::keyed::{Pools, SlotIndex};
use crate::namespace::OverduePolicy;
use crate::time::{Domain, Timestamp};
use crate::wheel::{EntryPool, Owner, Wheel};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// Keys that hold something.
    pub(crate) keys: u64,
    domains: [DomainTime; 2],
}

/// One domain of a timeline.
#[derive(Debug)]
pub(crate) struct DomainTime {
    /// The last tick or watermark; due is what is at or below it. `None`: there was none yet.
    pub(crate) reached: Option<Timestamp>,
    /// Keys by their earliest time.
    pub(crate) wheel: Wheel,
    /// Timers by due time.
    pub(crate) counts: MinuteCounts,
    /// The advance that is under way.
    pub(crate) drain: Option<Box<Drain>>,
    /// What a restart holds back.
    pub(crate) held: Option<Box<Held>>,
    /// No entry of the wheel stands before this.
    pub(crate) wake: Timestamp,
    /// Entries that wait for the next advance, although time has passed them: not in the wheel.
    pub(crate) parked: BTreeSet<(Timestamp, u32)>,
}

/// An advance under way: firing everything due at `until`, slice by slice.
#[derive(Debug)]
pub(crate) struct Drain {
    /// How far time has come.
    pub(crate) until: Timestamp,
    /// The record that moved it.
    pub(crate) position: u64,
    /// What is done with what was due at a restart, if this is about that.
    pub(crate) overdue: Option<OverduePolicy>,
    /// What is done with what is left, if the clock comes to its end: nothing is due after that.
    pub(crate) ending: Option<Ending>,
    /// How many fired of it.
    pub(crate) fired: u64,
    /// Entries taken off the wheel and not yet looked at: those from `next` on, ascending.
    pub(crate) batch: Vec<(Timestamp, u32)>,
    /// See `batch`.
    pub(crate) next: usize,
    /// By hash of the key: outputs so far under `position`, for keys with more to come.
    pub(crate) ordinals: HashMap<u64, u32, ahash::RandomState>,
    /// What the namespace's clock reads for the callbacks of a function.
    pub(crate) clock: Option<Timestamp>,
    /// By hash of the key: how far a function is under `position`, for keys with more to come.
    progress: HashMap<u64, Progress, ahash::RandomState>,
    /// Keys whose callback has failed and is called again from `retry_at` on: not in the wheel.
    pub(crate) aside: Vec<(Timestamp, u32)>,
    /// See `aside`.
    pub(crate) retry_at: Timestamp,
    /// By hash of the key: how often the callback has failed that is called again.
    tries: HashMap<u64, u32, ahash::RandomState>,
    /// How far time had come before it. What was due by then was left by an advance in which its
    /// callback failed.
    pub(crate) before: Option<Timestamp>,
    /// By hash: keys that have nothing more to do with it, whatever is due of them.
    through: HashSet<u64, ahash::RandomState>,
}

/// What becomes of the timers that are left when a clock comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// They fire.
    Fire {
        /// What the clock read just before; `None`: it was never set.
        now: Option<Timestamp>,
    },
    /// They are cancelled.
    Discard,
}

/// How far the callbacks of a key are that one record has brought about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Outputs so far.
    pub(crate) ordinal: u32,
    /// Timers that they have registered so that they were due at once.
    pub(crate) due_at_once: u32,
    /// The last one has left a rest of its work, to be done at once.
    pub(crate) goes_on: bool,
}

impl Drain {
    /// An advance to `until`, caused by the record at `position`.
    pub(crate) fn new(until: Timestamp, position: u64) -> Self {
        // Fixed seeds: nothing may differ between a run and its replay.
        let seeds = || ahash::RandomState::with_seeds(1, 2, 3, 4);
        Self {
            until,
            position,
            overdue: None,
            ending: None,
            fired: 0,
            batch: Vec::new(),
            next: 0,
            ordinals: HashMap::with_hasher(seeds()),
            clock: Some(until),
            progress: HashMap::with_hasher(seeds()),
            aside: Vec::new(),
            retry_at: Timestamp::MIN,
            tries: HashMap::with_hasher(seeds()),
            before: None,
            through: HashSet::with_hasher(seeds()),
        }
    }

    /// What is due of a key from now on waits for the next advance.
    pub(crate) fn pass_by(&mut self, hash: u64) {
        self.through.insert(hash);
    }

    /// Whether what is due of a key waits for the next advance.
    pub(crate) fn passes_by(&self, hash: u64) -> bool {
        !self.through.is_empty() && self.through.contains(&hash)
    }

    /// How often the callback has failed for which a key stands aside; 0: it does not.
    pub(crate) fn tries_of(&self, hash: u64) -> u32 {
        if self.tries.is_empty() { 0 } else { self.tries.get(&hash).copied().unwrap_or(0) }
    }

    /// A callback has failed, and is called again at `retry_at`.
    pub(crate) fn set_aside(&mut self, hash: u64, entry: (Timestamp, u32), retry_at: Timestamp) {
        *self.tries.entry(hash).or_default() += 1;
        self.aside.push(entry);
        self.retry_at = self.retry_at.max(retry_at);
    }

    /// The callback that had failed is over.
    pub(crate) fn forget_tries(&mut self, hash: u64) {
        if !self.tries.is_empty() {
            self.tries.remove(&hash);
        }
    }

    /// How far the callbacks of a key are.
    pub(crate) fn progress_of(&self, hash: u64) -> Progress {
        self.progress.get(&hash).copied().unwrap_or_default()
    }

    /// Notes how far the callbacks of a key are; `None`: they are through.
    pub(crate) fn keep_progress(&mut self, hash: u64, progress: Option<Progress>) {
        match progress {
            Some(progress) => {
                self.progress.insert(hash, progress);
            }
            None if self.progress.is_empty() => {}
            None => {
                self.progress.remove(&hash);
            }
        }
    }
}

impl DomainTime {
    fn new(origin: Timestamp) -> Self {
        Self {
            reached: None,
            wheel: Wheel::new(origin),
            counts: MinuteCounts::default(),
            drain: None,
            held: None,
            wake: Timestamp::MAX,
            parked: BTreeSet::new(),
        }
    }

    /// When a key is let go whose earliest timer stands at `time`.
    #[inline]
    pub(crate) fn release_at(&self, pools: &Pools, slot: SlotIndex, time: Timestamp) -> Timestamp {
        match &self.held {
            None => time,
            Some(held) => held.release_at(time, pools.hash(slot)),
        }
    }
}

impl Timeline {
    /// A timeline on which nothing has happened yet; `origin` is about where the clock stands.
    pub(crate) fn new(origin: Timestamp) -> Self {
        // Nobody knows where event time begins: its wheel stands at the beginning of all time.
        Self::standing_at([Timestamp::MIN, origin])
    }

    /// A timeline on which nothing has happened yet, whose wheels stand at these times.
    pub(crate) fn standing_at(origins: [Timestamp; 2]) -> Self {
        Self { keys: 0, domains: origins.map(DomainTime::new) }
    }

    /// Begins processing time anew, with an empty wheel; what is counted stays counted.
    pub(crate) fn restart_processing(&mut self, entries: &mut EntryPool, origin: Timestamp) {
        let time = self.of_mut(Domain::Processing);
        time.wheel.clear(entries);
        let counts = std::mem::take(&mut time.counts);
        *time = DomainTime { counts, ..DomainTime::new(origin) };
    }

    /// What has waited for the next advance of a domain waits for it in the wheel from now on.
    pub(crate) fn unpark(&mut self, entries: &mut EntryPool, domain: Domain) {
        let time = self.of_mut(domain);
        for (at, slot) in std::mem::take(&mut time.parked) {
            time.wheel.insert(entries, at, slot);
            time.wake = time.wake.min(at);
        }
    }

    /// One of the domains.
    #[inline]
    pub(crate) fn of(&self, domain: Domain) -> &DomainTime {
        &self.domains[domain as usize]
    }

    /// One of the domains.
    #[inline]
    pub(crate) fn of_mut(&mut self, domain: Domain) -> &mut DomainTime {
        &mut self.domains[domain as usize]
    }

    /// When a key's earliest timer is let go.
    #[inline]
    pub(crate) fn release(
        &self,
        pools: &Pools,
        slot: SlotIndex,
        domain: Domain,
    ) -> Option<Timestamp> {
        let earliest = pools.earliest(slot, domain)?;
        Some(self.of(domain).release_at(pools, slot, earliest))
    }

    /// Whether time has come this far.
    #[inline]
    pub(crate) fn is_due(&self, domain: Domain, time: Timestamp) -> bool {
        self.of(domain).reached.is_some_and(|reached| time <= reached)
    }

    /// Whether an advance is under way.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.domains.iter().any(|domain| domain.drain.is_some())
    }

    /// Timers pending, over both domains.
    pub(crate) fn pending(&self) -> u64 {
        self.domains.iter().map(|domain| domain.counts.total()).sum()
    }
}

/// The slots of a shard, as the owner of a wheel's entries.
pub(crate) struct Armed<'a> {
    pub(crate) pools: &'a Pools,
    pub(crate) domain: Domain,
}

impl Owner for Armed<'_> {
    #[inline]
    fn armed_at(&self, slot: u32) -> Option<Timestamp> {
        self.pools.armed(SlotIndex(slot), self.domain)
    }

    #[inline]
    fn touch(&self, slot: u32) {
        self.pools.prefetch(SlotIndex(slot));
    }
}
