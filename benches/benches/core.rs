//! The pure core on one thread: what a shard does with operations that are in memory, from checking
//! and writing the record down to the outcome, with de-duplication by key and time. Keys have 15
//! bytes and come in no order.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{Action, DEFAULT_TIMER_NAME, Only, Op, Register, Target, When};
use stormwheel::solo::Solo;
use stormwheel::time::{Domain, Timestamp};
use stormwheel_benches::keys::Keys;

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const BATCH_OPS: usize = 5_000;
const SPREAD_MS: u64 = 60_000;

fn due(n: u32, round: u64) -> Timestamp {
    let mixed = (n as u64 ^ round << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    START.saturating_add(1 + (mixed % SPREAD_MS) as i64)
}

fn register(at: Timestamp) -> Action<'static> {
    Action::Register(Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(at),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    })
}

fn touch(after_ms: i64) -> Action<'static> {
    Action::Touch { name: DEFAULT_TIMER_NAME, domain: Domain::Processing, after_ms }
}

fn empty() -> Solo {
    Solo::new(&NamespaceConfig::default(), START).expect("the default configuration is legal")
}

/// Applies one operation to each key, in batches as they come over HTTP.
fn apply_all(solo: &mut Solo, keys: &Keys, action: impl Fn(u32) -> Action<'static>) {
    let mut ops = Vec::with_capacity(BATCH_OPS);
    let mut keys = keys.iter();
    loop {
        ops.clear();
        ops.extend(keys.by_ref().take(BATCH_OPS).map(|(n, key)| Op { key, action: action(n) }));
        if ops.is_empty() {
            return;
        }
        std::hint::black_box(solo.apply(&ops, START));
    }
}

fn filled(keys: &Keys) -> Solo {
    let mut solo = empty();
    apply_all(&mut solo, keys, |n| register(due(n, 0)));
    solo
}

/// A core whose memory has been used before, as after a minute in service: first touches of fresh
/// memory are the system's work, and what they cost is another matter.
fn used(keys: &Keys) -> Solo {
    let mut solo = filled(keys);
    apply_all(&mut solo, keys, |_| Action::DeleteAll);
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
            |solo| apply_all(solo, &other, |n| register(due(n, 0))),
            BatchSize::PerIteration,
        );
    });
    group.bench_function(BenchmarkId::new("schedule again (duplicate)", count), |bencher| {
        let mut solo = filled(&keys);
        bencher.iter(|| apply_all(&mut solo, &other, |n| register(due(n, 0))));
    });
    group.bench_function(BenchmarkId::new("heartbeat", count), |bencher| {
        let mut solo = empty();
        apply_all(&mut solo, &keys, |_| touch(60_000));
        let mut round = 0;
        bencher.iter(|| {
            round += 1;
            apply_all(&mut solo, &other, |_| touch(60_000 + round));
        });
    });
    group.bench_function(BenchmarkId::new("cancel by time", count), |bencher| {
        bencher.iter_batched_ref(
            || filled(&keys),
            |solo| {
                apply_all(solo, &other, |n| Action::Delete {
                    domain: Domain::Processing,
                    target: Target::FireAt(due(n, 0)),
                });
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
                apply_all(&mut solo, &keys, |_| register(at));
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
