//! The timing wheel alone, a million entries at a time.
//!
//! Every figure is for the wheel's part only: the owner answers from a flat array.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use stormwheel::time::Timestamp;
use stormwheel::wheel::{EntryPool, Owner, Wheel};

const ENTRIES: u32 = 1_000_000;
const ORIGIN_MS: i64 = 1_767_225_600_123;
const DAY_MS: i64 = 86_400_000;

/// An owner that keeps armed times in an array, as slots would.
struct Slots(Vec<Option<Timestamp>>);

impl Owner for Slots {
    fn armed_at(&self, slot: u32) -> Option<Timestamp> {
        self.0[slot as usize]
    }

    fn touch(&self, slot: u32) {
        black_box(self.0[slot as usize].is_some());
    }
}

/// Times spread evenly, in no order, over `span_ms` after the origin.
fn times(span_ms: i64) -> Vec<Timestamp> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..ENTRIES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            Timestamp::from_millis(ORIGIN_MS + 1 + (state % span_ms as u64) as i64)
        })
        .collect()
}

struct Filled {
    pool: EntryPool,
    wheel: Wheel,
    slots: Slots,
    out: Vec<(Timestamp, u32)>,
}

fn fill(pool: EntryPool, times: &[Timestamp]) -> Filled {
    let mut filled = Filled {
        pool,
        wheel: Wheel::new(Timestamp::from_millis(ORIGIN_MS)),
        slots: Slots(times.iter().copied().map(Some).collect()),
        out: Vec::with_capacity(ENTRIES as usize),
    };
    insert_all(&mut filled, times);
    filled
}

fn insert_all(filled: &mut Filled, times: &[Timestamp]) {
    for (slot, &time) in times.iter().enumerate() {
        filled.wheel.insert(&mut filled.pool, time, slot as u32);
    }
}

/// A pool that has held everything once, so that no bench measures page faults.
fn warm_pool(times: &[Timestamp]) -> EntryPool {
    let mut filled = fill(EntryPool::new(), times);
    filled.wheel.clear(&mut filled.pool);
    filled.pool
}

/// Gathers in steps of `step_ms` up to `span_ms`, in pieces of at most 4,096.
fn gather_all(filled: &mut Filled, span_ms: i64, step_ms: i64) -> usize {
    let mut count = 0;
    let mut now_ms = ORIGIN_MS;
    while now_ms <= ORIGIN_MS + span_ms {
        now_ms += step_ms;
        loop {
            let mut budget = 8_192;
            let is_done = filled.wheel.gather(
                &mut filled.pool,
                &filled.slots,
                Timestamp::from_millis(now_ms),
                &mut filled.out,
                4_096,
                &mut budget,
            );
            count += filled.out.len();
            filled.out.clear();
            if is_done {
                break;
            }
        }
    }
    count
}

fn bench_wheel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    group.throughput(Throughput::Elements(u64::from(ENTRIES)));
    group.sample_size(10);
    let minute = times(60_000);
    let day = times(DAY_MS);
    let storm = vec![Timestamp::from_millis(ORIGIN_MS + 30_000); ENTRIES as usize];

    for (name, times) in [("minute", &minute), ("day", &day), ("storm", &storm)] {
        group.bench_function(format!("insert/{name}"), |bencher| {
            bencher.iter_batched_ref(
                || fill(warm_pool(times), &[]),
                |filled| insert_all(filled, times),
                BatchSize::PerIteration,
            );
        });
    }
    for (name, times, span_ms, step_ms) in [
        ("minute by ms", &minute, 60_000, 1),
        ("minute by s", &minute, 60_000, 1_000),
        ("minute at once", &minute, 60_000, 60_000),
        ("storm", &storm, 60_000, 1_000),
        ("day by s", &day, DAY_MS, 1_000),
        ("day by min", &day, DAY_MS, 60_000),
    ] {
        group.bench_function(format!("gather/{name}"), |bencher| {
            bencher.iter_batched_ref(
                || fill(EntryPool::new(), times),
                |filled| assert_eq!(gather_all(filled, span_ms, step_ms), ENTRIES as usize),
                BatchSize::PerIteration,
            );
        });
    }
    for (name, times) in [("minute", &minute), ("day", &day)] {
        group.bench_function(format!("strand/{name}"), |bencher| {
            bencher.iter_batched_ref(
                || fill(EntryPool::new(), times),
                |filled| {
                    for (slot, &time) in times.iter().enumerate() {
                        filled.slots.0[slot] = None;
                        let Filled { wheel, pool, slots, .. } = filled;
                        wheel.strand(pool, slots, time, slot as u32);
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, bench_wheel);
criterion_main!(benches);
