//! The wheel by hand at its edges, then at random against an ordered map.

use super::level::{BUCKETS, LEVELS, Place, pack, slot_of};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// What the wheel of a shard lives among: the pool, the slots, and what was handed out.
struct Bench {
    pool: EntryPool,
    wheel: Wheel,
    slots: Slots,
    /// Handed out, and not looked at by the owner yet.
    hands: VecDeque<(Timestamp, u32)>,
    /// What fires when: the oracle.
    due: BTreeMap<u32, Timestamp>,
}

/// The armed time of each slot.
struct Slots(Vec<Option<Timestamp>>);

impl Owner for Slots {
    fn armed_at(&self, slot: u32) -> Option<Timestamp> {
        self.0[slot as usize]
    }
}

impl Bench {
    fn new(origin: i64, slots: usize) -> Self {
        Self {
            pool: EntryPool::new(),
            wheel: Wheel::new(at(origin)),
            slots: Slots(vec![None; slots]),
            hands: VecDeque::new(),
            due: BTreeMap::new(),
        }
    }

    /// Registers, or moves in either direction.
    fn set(&mut self, slot: u32, time: Timestamp) {
        self.due.insert(slot, time);
        let armed = self.slots.0[slot as usize];
        if armed.is_some_and(|armed| armed <= time) {
            return;
        }
        self.slots.0[slot as usize] = Some(time);
        self.wheel.insert(&mut self.pool, time, slot);
        if let Some(old) = armed {
            self.wheel.strand(&mut self.pool, &self.slots, old, slot);
        }
    }

    fn cancel(&mut self, slot: u32) {
        self.due.remove(&slot);
        if let Some(old) = self.slots.0[slot as usize].take() {
            self.wheel.strand(&mut self.pool, &self.slots, old, slot);
        }
    }

    /// One slice of a gather into the owner's hands; whether it is done.
    fn gather(&mut self, until: Timestamp, room: usize, budget: u32) -> bool {
        let mut out = Vec::new();
        let mut left = budget;
        let (pool, slots) = (&mut self.pool, &self.slots);
        let is_done = self.wheel.gather(pool, slots, until, &mut out, room, &mut left);
        assert!(out.len() <= room && out.len() <= budget as usize);
        assert!(out.is_sorted_by_key(|&(time, _)| time), "{out:?}");
        assert!(out.iter().all(|&(time, _)| time <= until), "early: {out:?}");
        assert!(is_done || room == 0 || left == 0 || out.len() == room);
        if is_done {
            assert!(self.wheel.position() >= until);
            assert!(self.wheel.next_time().is_none_or(|next| next > until));
        }
        self.hands.extend(out);
        is_done
    }

    /// The owner looks at one entry in its hands: it fires, goes back, or means nothing.
    fn work(&mut self) -> Option<(Timestamp, u32)> {
        let (time, slot) = self.hands.pop_front()?;
        if self.slots.0[slot as usize] != Some(time) {
            return None;
        }
        let due = self.due[&slot];
        assert!(due >= time);
        if due > time {
            self.slots.0[slot as usize] = Some(due);
            self.wheel.insert(&mut self.pool, due, slot);
            return None;
        }
        self.slots.0[slot as usize] = None;
        self.due.remove(&slot);
        Some((time, slot))
    }

    /// Gathers and fires until nothing is due; returns what fired.
    fn advance(&mut self, until: Timestamp) -> Vec<(Timestamp, u32)> {
        let mut fired = Vec::new();
        loop {
            let is_done = self.gather(until, usize::MAX, u32::MAX);
            if self.hands.is_empty() && is_done {
                break;
            }
            while !self.hands.is_empty() {
                fired.extend(self.work());
            }
        }
        assert!(self.due.values().all(|&due| due > until), "lost");
        fired
    }

    /// Checks what must hold between any two calls.
    fn check(&self) {
        let lower = self.wheel.next_time();
        let held = self.slots.0.iter().flatten().filter(|_| self.hands.is_empty());
        assert!(held.min().is_none_or(|&first| lower.is_some_and(|lower| lower <= first)));
        let Some(stack) = &self.wheel.stack else {
            assert!(self.wheel.small.is_sorted() && self.wheel.past.is_empty());
            return assert_eq!(self.pool.used_chunks(), 0);
        };
        let mut len = stack.limbo_entries(&self.pool).len();
        for (number, level) in stack.levels.iter().enumerate() {
            for index in 0..BUCKETS {
                let place = Place { level: number, index };
                len += level.as_ref().map_or(0, |level| self.check_bucket(stack, level, place));
            }
        }
        assert_eq!(len, stack.len);
    }

    fn check_bucket(&self, stack: &Stack, level: &level::Level, place: Place) -> usize {
        let bucket = &level.buckets[place.index];
        let mut entries = bucket.list.entries(&self.pool);
        entries.extend(stack.sweep.lent_list(place).entries(&self.pool));
        assert_eq!(level.occupied >> place.index & 1 == 1, !entries.is_empty());
        let is_live = |entry: &&u64| {
            let armed = self.slots.0[slot_of(**entry) as usize];
            armed.map(Timestamp::to_ordered).is_some_and(|time| {
                // At or below the position, the entry that is meant is not in a bucket.
                time > self.wheel.position
                    && pack(time, slot_of(**entry)) == **entry
                    && Place::of(time, stack.base) == place
            })
        };
        let live: BTreeSet<u64> = entries.iter().filter(is_live).copied().collect();
        assert!(bucket.stranded as usize <= entries.len() - live.len(), "counted too many");
        entries.len()
    }
}

fn check_place(time: u64, base: u64, level: usize, index: usize) {
    let place = Place::of(time, base);
    assert_eq!(place, Place { level, index }, "{time:#x} from {base:#x}");
    assert!((place.start(base)..=place.end(base)).contains(&time));
}

#[test]
fn places_are_told_by_the_highest_differing_digit() {
    check_place(0, 0, 0, 0);
    check_place(63, 0, 0, 63);
    check_place(64, 0, 1, 1);
    check_place(4_095, 0, 1, 63);
    check_place(4_096, 0, 2, 1);
    check_place(64, 63, 1, 1);
    check_place(1 << 36, (1 << 36) - 1, 6, 1);
    check_place((1 << 60) - 1, 0, 9, 63);
    check_place(1 << 60, 0, 10, 1);
    check_place(1 << 63, (1 << 63) - 1, 10, 8);
    check_place(u64::MAX, 0, 10, 15);
    check_place(u64::MAX, u64::MAX - 1, 0, 63);
}

#[test]
fn the_drawn_example_stands_as_drawn() {
    let mut bench = Bench::new(i64::MIN, 4_200);
    let mut stack = Stack::new(0);
    for time in [5, 70, 71, 4_100] {
        stack.insert(&mut bench.pool, time, time as u32);
    }
    let standing = |stack: &Stack, pool: &EntryPool| {
        let mut found = Vec::new();
        for (number, level) in stack.levels.iter().enumerate() {
            for (index, bucket) in level.iter().flat_map(|level| level.buckets.iter().enumerate()) {
                let mut slots: Vec<_> =
                    bucket.list.entries(pool).into_iter().map(slot_of).collect();
                slots.sort_unstable();
                if !slots.is_empty() {
                    found.push((number, index, slots));
                }
            }
        }
        found
    };
    let drawn = vec![(0, 5, vec![5]), (1, 1, vec![70, 71]), (2, 1, vec![4_100])];
    assert_eq!(standing(&stack, &bench.pool), drawn);

    let (mut out, mut budget, mut position) = (Vec::new(), 100, 0);
    let mut sink = Sink { out: &mut out, room: 100, budget: &mut budget };
    assert!(stack.gather(&mut bench.pool, &bench.slots, 69, &mut position, &mut sink));
    assert_eq!(standing(&stack, &bench.pool), drawn[1..], "70 is not due, so nothing cascades");
    assert!(stack.gather(&mut bench.pool, &bench.slots, 70, &mut position, &mut sink));
    let cascaded = vec![(0, 7, vec![71]), (2, 1, vec![4_100])];
    assert_eq!(standing(&stack, &bench.pool), cascaded);
    let slots: Vec<_> = out.iter().map(|&(_, slot)| slot).collect();
    assert_eq!(slots, [5, 70]);
}

#[test]
fn every_time_is_ordinary() {
    let mut times = vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for level in 0..LEVELS {
        for center in [1_i64 << (level * 6), -1_i64 << (level * 6), i64::MIN + (1 << (level * 6))] {
            times.extend(center.saturating_sub(2)..=center.saturating_add(2));
        }
    }
    for origin in [i64::MIN, -(1 << 36), 0, 1 << 59, i64::MAX] {
        let mut bench = Bench::new(origin, times.len());
        for (slot, &time) in times.iter().enumerate() {
            bench.set(slot as u32, at(time));
            bench.check();
        }
        let mut expected = times.clone();
        expected.sort_unstable();
        let mut fired = Vec::new();
        for &until in &expected {
            let now = bench.advance(at(until));
            fired.extend(now.into_iter().map(|(time, _)| time.as_millis()));
            bench.check();
        }
        assert_eq!(fired, expected, "from {origin}");
        assert!(bench.wheel.is_empty());
    }
}

#[test]
fn a_few_entries_take_no_levels() {
    let mut bench = Bench::new(0, 200);
    for slot in 0..SMALL_LEN_MAX as u32 {
        bench.set(slot, at(i64::from(slot) * 1_000_000));
    }
    assert!(bench.wheel.stack.is_none() && bench.pool.memory_bytes() == 0);
    bench.set(100, at(-5));
    assert!(bench.wheel.stack.is_some());
    bench.check();
    assert_eq!(bench.wheel.next_time(), Some(at(-5)));
    assert_eq!(bench.advance(at(i64::MAX)).len(), SMALL_LEN_MAX + 1);
    assert!(bench.wheel.stack.is_none(), "an empty wheel is small again");
    assert!(size_of::<Wheel>() <= 96);
}

#[test]
fn what_a_small_wheel_handed_out_is_not_counted_when_it_grows() {
    let mut bench = Bench::new(0, 200);
    (0..50).for_each(|slot| bench.set(slot, at(1_000)));
    assert!(!bench.gather(at(1_000), 40, 1_000));
    (100..200).for_each(|slot| bench.set(slot, at(1_000)));
    (0..40).for_each(|slot| bench.cancel(slot));
    bench.check();
    assert_eq!(bench.advance(at(1_000)).len(), 110);
}

#[test]
fn a_stale_entry_does_not_follow_its_slot_into_the_past() {
    let mut bench = Bench::new(-1, 100);
    (0..100).for_each(|slot| bench.set(slot, at(8 << 32 | i64::from(7 + slot))));
    assert!(bench.gather(at(5 << 32), 0, 0));
    // Of the stale entry, the low half of the time and the bucket fit the new time as well.
    bench.set(0, at(3 << 32 | 7));
    assert!(bench.gather(at(9 << 32), usize::MAX, u32::MAX));
    assert_eq!(bench.hands.len(), 100);
    assert_eq!(bench.advance(at(9 << 32)).len(), 100);
}

#[test]
fn a_run_is_handed_out_without_a_cascade() {
    let count = 100_000;
    let mut bench = Bench::new(0, count as usize);
    for slot in 0..count {
        bench.set(slot, at(1 << 40));
    }
    assert_eq!(bench.wheel.next_time(), Some(at(1 << 40)));
    assert!(bench.gather(at((1 << 40) - 1), 0, 0), "nothing is due, so nothing is spent");
    assert!(!bench.gather(at(1 << 40), 1_000, 1_000));
    assert_eq!(bench.hands.len(), 1_000, "all of the budget went into entries handed out");
    assert_eq!(bench.wheel.position(), at(1 << 40));
    bench.set(5, at(1 << 40));
    bench.check();
    assert_eq!(bench.advance(at(1 << 40)).len(), count as usize);
}

#[test]
fn the_far_past_comes_first() {
    let mut bench = Bench::new(0, 300);
    for slot in 0..200 {
        bench.set(slot, at(10_000 + i64::from(slot)));
    }
    assert!(bench.gather(at(5_000), 10, 10));
    bench.set(201, at(4_000));
    bench.set(202, at(i64::MIN));
    bench.set(203, at(5_000));
    bench.set(204, at(4_500));
    bench.cancel(204);
    assert_eq!(bench.wheel.next_time(), Some(at(i64::MIN)));
    let fired = bench.advance(at(10_000));
    assert_eq!(fired, [(at(i64::MIN), 202), (at(4_000), 201), (at(5_000), 203), (at(10_000), 0)]);
}

#[test]
fn sparse_buckets_are_gathered_together() {
    let mut bench = Bench::new(0, 5_000);
    for slot in 0..5_000 {
        bench.set(slot, at(86_400_000 + i64::from(slot) * 7_919));
    }
    assert!(bench.gather(at(200_000_000), usize::MAX, u32::MAX));
    assert_eq!(bench.hands.len(), 5_000);
}

#[test]
fn entries_follow_live_timers_not_the_traffic() {
    let live = 1_000;
    for span in [1, 50, 5_000_000, 1 << 45] {
        let mut bench = Bench::new(0, live as usize);
        for round in 0..200_000_u32 {
            let slot = round.wrapping_mul(2_654_435_761) % live;
            bench.cancel(slot);
            bench.set(slot, at(100 + i64::from(round.wrapping_mul(40_503) >> 3) % span));
            assert!(bench.wheel.len() <= 4 * live as usize + 4_096, "{}", bench.wheel.len());
        }
        bench.check();
        bench.wheel.sweep(&mut bench.pool, &bench.slots, &mut { u32::MAX });
        bench.check();
        let constant = 64 * 64;
        assert!(bench.wheel.len() <= 2 * live as usize + constant, "{}", bench.wheel.len());
        assert_eq!(bench.advance(at(i64::MAX)).len(), live as usize);
    }
}

#[test]
fn twins_are_swept_too() {
    let slots = 500;
    let mut bench = Bench::new(0, slots as usize);
    for _ in 0..400 {
        for slot in 0..slots {
            bench.cancel(slot);
            bench.set(slot, at(1_000));
        }
        assert!(bench.wheel.len() <= 4 * slots as usize, "{}", bench.wheel.len());
    }
    bench.check();
    assert_eq!(bench.advance(at(1_000)).len(), slots as usize);
}

#[test]
fn a_bucket_that_is_all_stranded_is_freed_unseen() {
    let mut bench = Bench::new(0, 10_000);
    for slot in 0..10_000 {
        bench.set(slot, at(1_000_000));
    }
    for slot in 0..10_000 {
        bench.cancel(slot);
    }
    assert!(bench.wheel.is_empty());
    assert_eq!(bench.pool.used_chunks(), 0);
}

#[test]
fn clearing_gives_all_chunks_back() {
    let mut bench = Bench::new(0, 10_000);
    for slot in 0..10_000 {
        bench.set(slot, at(i64::from(slot) << (slot % 48)));
    }
    for slot in (0..10_000).step_by(2) {
        bench.cancel(slot);
    }
    bench.gather(at(100_000), 7, 50);
    bench.wheel.clear(&mut bench.pool);
    assert!(bench.wheel.is_empty() && bench.wheel.next_time().is_none());
    assert_eq!(bench.pool.used_chunks(), 0);
}

const SLOTS: u32 = 400;

#[derive(Debug, Clone)]
enum Op {
    Set(u32, i64),
    /// So many slots at one time.
    Storm(u32, u32, i64),
    Cancel(u32),
    CancelMany(u32, u32),
    Gather(i64, usize, u32),
    Work(usize),
    Sweep(u32),
}

fn arb_time() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 0..300_i64,
        4 => (0..200_i64).prop_map(|step| step * 1_000),
        3 => (0..64_u32, -3..=3_i64).prop_map(|(bit, offset)| (1_i64 << bit).wrapping_add(offset)),
        2 => (0..40_i64).prop_map(|step| step << 32 | 7),
        1 => (0..50_i64).prop_map(|step| i64::MIN + step),
        1 => (0..50_i64).prop_map(|step| i64::MAX - step),
        2 => any::<i64>(),
    ]
}

fn arb_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..SLOTS, arb_time()).prop_map(|(slot, time)| Op::Set(slot, time)),
        3 => (0..SLOTS, 1..SLOTS, arb_time()).prop_map(|(a, count, t)| Op::Storm(a, count, t)),
        4 => (0..SLOTS).prop_map(Op::Cancel),
        2 => (0..SLOTS, 1..SLOTS).prop_map(|(slot, count)| Op::CancelMany(slot, count)),
        4 => (arb_time(), 0..200_usize, 0..300_u32).prop_map(|(t, r, b)| Op::Gather(t, r, b)),
        3 => (0..100_usize).prop_map(Op::Work),
        1 => (0..200_u32).prop_map(Op::Sweep),
    ]
}

fn apply(bench: &mut Bench, op: &Op) {
    match *op {
        Op::Set(slot, time) => bench.set(slot, at(time)),
        Op::Storm(slot, count, time) => {
            (slot..slot + count).for_each(|slot| bench.set(slot % SLOTS, at(time)));
        }
        Op::Cancel(slot) => bench.cancel(slot),
        Op::CancelMany(slot, count) => {
            (slot..slot + count).for_each(|slot| bench.cancel(slot % SLOTS));
        }
        Op::Gather(until, room, budget) => {
            bench.gather(at(until), room, budget);
        }
        Op::Work(count) => {
            for _ in 0..count {
                bench.work();
            }
        }
        Op::Sweep(mut budget) => {
            bench.wheel.sweep(&mut bench.pool, &bench.slots, &mut budget);
        }
    }
}

/// Gathers to the end in small slices with the owner idle meanwhile: ascending over all calls.
fn drain_in_slices(bench: &mut Bench, until: i64) {
    while bench.work().is_some() || !bench.hands.is_empty() {}
    while !bench.gather(at(until), 13, 29) {}
    let times: Vec<_> = bench.hands.iter().map(|&(time, _)| time).collect();
    assert!(times.is_sorted(), "not ascending over slices: {times:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_early_or_counted_twice(
        origin in arb_time(),
        ops in prop::collection::vec(arb_op(), 1..120),
        pause in arb_time(),
    ) {
        let mut bench = Bench::new(origin, SLOTS as usize);
        for op in &ops {
            apply(&mut bench, op);
            bench.check();
        }
        drain_in_slices(&mut bench, pause);
        bench.check();
        bench.advance(at(pause));
        bench.advance(at(i64::MAX));
        prop_assert!(bench.due.is_empty() && bench.wheel.is_empty());
        prop_assert_eq!(bench.pool.used_chunks(), 0);
    }
}
