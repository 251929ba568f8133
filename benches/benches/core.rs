//! The pure core on one thread: what a shard does with operations that are in memory, from checking
//! and writing the record down to the outcome, with de-duplication by key and time. Keys have 15
//! bytes and come in no order.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stormwheel::op::Action;
use stormwheel::solo::Solo;
use stormwheel::time::Timestamp;
use stormwheel_benches::keys::Keys;
use stormwheel_benches::ops::{START, apply_all, cancel, empty, register, touch};

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPREAD_MS: u64 = 60_000;

fn due(n: u32, round: u64) -> Timestamp {
    let mixed = (n as u64 ^ round << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    START.saturating_add(1 + (mixed % SPREAD_MS) as i64)
}

fn filled(keys: &Keys) -> Solo {
    let mut solo = empty();
    apply_all(&mut solo, keys, START, |n| register(due(n, 0)));
    solo
}

/// A core whose memory has been used before, as after a minute in service: first touches of fresh
/// memory are the system's work, and what they cost is another matter.
fn used(keys: &Keys) -> Solo {
    let mut solo = filled(keys);
    apply_all(&mut solo, keys, START, |_| Action::DeleteAll);
    assert_eq!(solo.pending(), 0);
    solo
}

fn core(criterion: &mut Criterion) {
    let count = 1_000_000;
    let mut group = criterion.benchmark_group("core");
    group.sample_size(10);
    let keys = Keys::shuffled(count, 15, 1);
    let other = Keys::shuffled(count, 15, 2);
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(BenchmarkId::new("schedule", count), |bencher| {
        bencher.iter_batched_ref(
            || used(&keys),
            |solo| apply_all(solo, &other, START, |n| register(due(n, 0))),
            BatchSize::PerIteration,
        );
    });
    group.bench_function(BenchmarkId::new("schedule again (duplicate)", count), |bencher| {
        let mut solo = filled(&keys);
        bencher.iter(|| apply_all(&mut solo, &other, START, |n| register(due(n, 0))));
    });
    group.bench_function(BenchmarkId::new("heartbeat", count), |bencher| {
        let mut solo = empty();
        apply_all(&mut solo, &keys, START, |_| touch(60_000));
        let mut round = 0;
        bencher.iter(|| {
            round += 1;
            apply_all(&mut solo, &other, START, |_| touch(60_000 + round));
        });
    });
    group.bench_function(BenchmarkId::new("cancel by time", count), |bencher| {
        bencher.iter_batched_ref(
            || filled(&keys),
            |solo| {
                apply_all(solo, &other, START, |n| cancel(due(n, 0)));
                assert_eq!(solo.pending(), 0);
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function(BenchmarkId::new("fire, ms by ms, key goes", count), |bencher| {
        bencher.iter_batched_ref(
            || filled(&keys),
            |solo| {
                let mut fired = 0u32;
                for ms in 1..=SPREAD_MS as i64 {
                    solo.advance(START.saturating_add(ms), |_| fired += 1);
                }
                assert_eq!(fired, count);
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function(BenchmarkId::new("storm: all at one ms", count), |bencher| {
        bencher.iter_batched_ref(
            || {
                let mut solo = empty();
                let at = START.saturating_add(1_000);
                apply_all(&mut solo, &keys, START, |_| register(at));
                solo
            },
            |solo| {
                let mut fired = 0u32;
                solo.advance(START.saturating_add(1_000), |_| fired += 1);
                assert_eq!(fired, count);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, core);
criterion_main!(benches);
