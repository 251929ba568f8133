//! The core beside its peers, by criterion: wall time of what `--bin peers` tells in CPU time.

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use stormwheel_benches::keys::Keys;
use stormwheel_benches::peers::core::Core;
use stormwheel_benches::peers::{Each, Subject, binary_heap, btree_set, delay_queue, hash_wheel};

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const COUNT: u32 = 1_000_000;

fn due(n: u32) -> u32 {
    1 + ((u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % 60_000) as u32
}

fn filled<S: Subject + Default>(keys: &Keys) -> S {
    let mut subject = S::default();
    subject.register(keys, due);
    subject
}

fn one<S: Subject + Default>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    keys: &[Keys; 2],
) {
    group.bench_function(format!("schedule/{name}"), |bencher| {
        bencher.iter_batched_ref(
            S::default,
            |s| s.register(&keys[0], due),
            BatchSize::PerIteration,
        );
    });
    group.bench_function(format!("cancel by time/{name}"), |bencher| {
        bencher.iter_batched_ref(
            || filled::<S>(&keys[0]),
            |subject| subject.cancel(&keys[1], due),
            BatchSize::PerIteration,
        );
    });
    group.bench_function(format!("fire, ms by ms/{name}"), |bencher| {
        bencher.iter_batched_ref(
            || filled::<S>(&keys[0]),
            |subject| {
                let fired: usize = (1..=60_000).map(|ms| subject.advance(ms)).sum();
                assert_eq!(fired, COUNT as usize);
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function(format!("heartbeat/{name}"), |bencher| {
        bencher.iter_batched_ref(
            || {
                let mut subject = S::default();
                subject.touch(&keys[0], None, 60_000);
                subject
            },
            |subject| subject.touch(&keys[1], Some(60_000), 60_001),
            BatchSize::PerIteration,
        );
    });
}

fn peers(criterion: &mut Criterion) {
    let keys = [1, 2].map(|seed| Keys::shuffled(COUNT, 15, seed));
    let mut group = criterion.benchmark_group("peers");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(COUNT)));
    one::<Core>(&mut group, "core", &keys);
    one::<Each<btree_set::Timers<15>, 15>>(&mut group, "BTreeSet", &keys);
    one::<Each<binary_heap::Timers<15>, 15>>(&mut group, "BinaryHeap", &keys);
    one::<Each<delay_queue::Timers<15>, 15>>(&mut group, "DelayQueue", &keys);
    one::<Each<hash_wheel::Timers<15>, 15>>(&mut group, "hash wheel", &keys);
    group.finish();
}

criterion_group!(benches, peers);
criterion_main!(benches);
