//! Snapshots of partitions while a lane goes on working, and lanes made again from them.

use super::*;
use crate::due_counts::{MinuteCounts, SecondCounts};
use crate::key_group::xxh3_64;
use crate::log::{KeyRecord, encode_op};
use crate::namespace::{
    Change, ClockKind, LateTimers, NamespaceConfig, OverduePolicy, Step, StepDone,
};
use crate::op::{Action, Only, Op, Payload, Register, Target, When};
use crate::output::OutputBytes;
use crate::partition::Partition;
use crate::ports::NamespaceGauge;
use crate::snapshot::PartitionReader;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::collections::BTreeMap;
use std::sync::Arc;

const IDS: [NamespaceId; 2] = [NamespaceId(1), NamespaceId(2)];
const GROUPS: u16 = 4;

type Timer = (Domain, i64, Option<String>, Option<Vec<u8>>);
type Keys = BTreeMap<Vec<u8>, Vec<Timer>>;

struct NoGauges;

impl Gauges for NoGauges {
    fn gauge(&self, _: NamespaceId) -> Arc<NamespaceGauge> {
        Arc::default()
    }
}

/// What came out of a lane: records, outputs without an order, and what became of steps.
type Seen = (Vec<(u64, Vec<u8>)>, Vec<String>, Vec<StepDone>);

struct World {
    lane: Lane,
    shared: Shared,
    layout: Layout,
    now: Timestamp,
    watermark: i64,
    clock: i64,
    numbers: [u64; 2],
    /// By namespace: when it was paused.
    paused: [Option<Timestamp>; 2],
    /// By namespace: the step that closed it.
    closed: [Option<u64>; 2],
}

/// One thing that happens to a lane.
#[derive(Clone)]
enum Event {
    Op(usize, Vec<u8>, Deed),
    Tick(i64),
    Watermark(usize, i64),
    Clock(i64),
    Down(i64, OverduePolicy),
    /// Paused if it is not, else resumed.
    Pause(usize),
    /// No more operations; the final watermark; and what becomes of processing timers.
    Close(usize, Option<Change>),
}

#[derive(Clone, Copy)]
enum Deed {
    Put(Domain, When, usize, usize),
    Touch(i64),
    Delete(usize),
    DeleteAll,
}

const NAMES: [Option<&str>; 4] = [None, Some("timeout"), Some("a"), Some("expiry")];

struct Dice(TestRng);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn event(&mut self, keys: u64, world: &World) -> Event {
        let n = self.below(keys);
        let key =
            if n.is_multiple_of(3) { format!("{n}") } else { format!("more than 15 bytes {n}") };
        let place = self.below(2) as usize;
        let around = [world.now.as_millis(), world.watermark, world.clock][self.below(3) as usize];
        let at = Timestamp::from_millis(match self.below(30) {
            0 => self.0.next_u64() as i64,
            _ => around + self.below(4_000) as i64 - 300,
        });
        let domain = Domain::ALL[self.below(2) as usize];
        let when =
            if self.below(3) == 0 { When::After(self.below(2_000) as i64) } else { When::At(at) };
        let deed = match self.below(12) {
            0 => Deed::DeleteAll,
            1 => Deed::Delete(self.below(4) as usize),
            2..5 => Deed::Touch(self.below(3_000) as i64),
            _ => Deed::Put(domain, when, self.below(4) as usize, self.below(30) as usize),
        };
        match self.below(60) {
            0 => Event::Watermark(place, world.watermark + self.below(500) as i64),
            1 => Event::Clock(world.clock + 1 + self.below(500) as i64),
            2..8 => Event::Tick(self.below(100) as i64),
            8 if self.below(3) == 0 => {
                let policy = match self.below(4) {
                    0 => OverduePolicy::Drop,
                    1 => OverduePolicy::Shift,
                    _ => OverduePolicy::Spread { over_ms: 1 + self.below(2_000) as i64 },
                };
                Event::Down(1 + self.below(1_000) as i64, policy)
            }
            9 if self.below(3) == 0 => Event::Pause(place),
            10 if self.below(20) == 0 => {
                let end = [None, Some(Change::Drain), Some(Change::Discard)];
                Event::Close(place, end[self.below(3) as usize].clone())
            }
            _ => Event::Op(place, key.into_bytes(), deed),
        }
    }
}

impl World {
    fn empty(now: i64) -> Self {
        let shared = Shared::default();
        Self {
            lane: Lane::new(0, 0, GROUPS + 1),
            shared,
            layout: Layout::new(GROUPS, 1, 1).expect("a legal layout"),
            now: Timestamp::from_millis(now),
            watermark: now,
            clock: now,
            numbers: [0; 2],
            paused: [None; 2],
            closed: [None; 2],
        }
    }

    /// With a namespace on the system clock and one on a manual clock.
    fn new() -> Self {
        let mut it = Self::empty(1_000_000);
        for (place, clock) in [ClockKind::System, ClockKind::Manual].into_iter().enumerate() {
            let late_timers = [LateTimers::Fire, LateTimers::NextWatermark][place];
            let config = NamespaceConfig { clock, late_timers, ..NamespaceConfig::default() };
            it.step(place, Change::Configure(Arc::new(config)));
        }
        it
    }

    fn step(&mut self, place: usize, change: Change) {
        self.numbers[place] += 1;
        let step = Step { namespace: IDS[place], number: self.numbers[place], change };
        self.lane.step(&mut self.shared, step, self.now, &NoGauges);
    }

    fn drain(&mut self, budget: u32) {
        let mut budget = budget;
        self.lane.drain(&mut self.shared, self.layout, self.now, &NoGauges, &mut budget);
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Tick(millis) => {
                self.now = self.now.saturating_add(*millis);
                self.shared.near.advance(self.now);
                let mut budget = 10_000;
                self.lane.look(&mut self.shared, self.now, &mut budget);
                self.lane.tick(&mut self.shared, self.layout, self.now, &mut budget);
            }
            Event::Watermark(place, to) => {
                self.watermark = self.watermark.max(*to);
                if self.paused[*place].is_some() {
                    return;
                }
                self.step(*place, Change::Watermark(Timestamp::from_millis(*to)));
            }
            Event::Clock(to) => {
                self.clock = self.clock.max(*to);
                if self.paused[1].is_some() {
                    return;
                }
                self.step(1, Change::Clock(Timestamp::from_millis(*to)));
            }
            Event::Pause(place) => {
                self.settle();
                let now = [self.now, Timestamp::from_millis(self.clock)][*place];
                match self.paused[*place].take() {
                    None => {
                        self.paused[*place] = Some(now);
                        self.step(*place, Change::Pause);
                    }
                    Some(from) => self.step(*place, Change::Resume { lost: Some((from, now)) }),
                }
            }
            Event::Close(place, end) => {
                if self.paused[*place].is_none() && self.closed[*place].is_none() {
                    self.step(*place, Change::Close);
                    self.closed[*place] = Some(self.numbers[*place]);
                    self.step(*place, Change::Watermark(Timestamp::MAX));
                    end.clone().into_iter().for_each(|end| self.step(*place, end));
                }
            }
            Event::Op(place, key, deed) => self.operate(*place, key, *deed),
            Event::Down(millis, overdue) => {
                self.settle();
                let config = NamespaceConfig { overdue: *overdue, ..NamespaceConfig::default() };
                self.step(0, Change::Configure(Arc::new(config)));
                let from = self.now;
                let ups: Arc<[_]> = Arc::new([from..=from]);
                self.lane.restarted(&ups, from.saturating_add(*millis));
                self.happen(&Event::Tick(*millis));
            }
        }
    }

    fn operate(&mut self, place: usize, key: &[u8], deed: Deed) {
        let payload = [5; 30];
        let (resolution_ms, spread_ms, domain) = (None, None, Domain::Processing);
        let action = match deed {
            Deed::Put(domain, when, name, length) => Action::Register(Register {
                domain,
                name: NAMES[name],
                when,
                payload: (length % 3 == 0).then_some(Payload::Json(&payload[..length])),
                resolution_ms,
                spread_ms,
                only: if length == 1 { Only::Later } else { Only::Always },
            }),
            Deed::Touch(after_ms) => Action::Touch { name: "timeout", domain, after_ms },
            Deed::Delete(name) => {
                let target = NAMES[name].map_or(Target::FireAt(self.now), Target::Name);
                Action::Delete { domain, target }
            }
            Deed::DeleteAll => Action::DeleteAll,
        };
        let (op, hash) = (Op { key, action }, xxh3_64(key));
        let mut bytes = Vec::new();
        encode_op(&mut bytes, IDS[place], &op);
        let Some(home) = self.lane.find_open(IDS[place]) else {
            assert_eq!(self.lane.refusal(IDS[place]), Rejection::NamespaceClosed);
            return;
        };
        let group = self.layout.group_of(hash);
        let (shared, now) = (&mut self.shared, self.now);
        let record = KeyRecord { namespace: IDS[place], op, produced: None };
        let _ = self.lane.apply(shared, home, group, hash, &record, &bytes, now);
    }

    fn is_draining(&self, place: usize) -> bool {
        let home = self.lane.find(IDS[place]).expect("it is configured");
        self.lane.home(home).around.timeline.is_draining()
    }

    fn settle(&mut self) {
        while self.lane.is_busy() {
            self.drain(1_000);
        }
    }

    /// What came out since the last call.
    fn take_seen(&mut self) -> Seen {
        let block = self.lane.take_block(self.now);
        let records = block.map(|block| (block.first_position, block.records));
        let mut blocks = Vec::new();
        self.lane.take_outputs(&mut blocks);
        let records_of = |block: &OutputBytes| -> Vec<String> {
            block.iter().map(|it| format!("{it:?}")).collect()
        };
        let mut outputs: Vec<String> = blocks.iter().flat_map(records_of).collect();
        outputs.sort();
        (records.into_iter().collect(), outputs, self.lane.take_done())
    }

    fn partition(&mut self, place: usize, group: u16) -> Option<&mut Partition> {
        let home = self.lane.find(IDS[place]).expect("it is configured");
        self.lane.home_mut(home).partition_mut(KeyGroup(group))
    }

    fn keys(&self, place: usize, group: u16) -> Keys {
        let mut keys = Keys::new();
        let (pools, home) = (&self.shared.pools, self.lane.find(IDS[place]).expect("it is there"));
        let Some(partition) = self.lane.partition(home, KeyGroup(group)) else { return keys };
        for bucket in 0..partition.table().visit_len() {
            pools.visit(partition.table(), bucket, |slot| {
                let mut timers = Vec::new();
                for domain in Domain::ALL {
                    pools.for_each(slot, domain, |cell| {
                        let (name, payload) = pools.blob(cell);
                        let payload = payload.map(|payload| payload.bytes().to_vec());
                        timers.push((
                            domain,
                            cell.time.as_millis(),
                            name.map(str::to_owned),
                            payload,
                        ));
                    });
                }
                let before = keys.insert(pools.key(slot).to_vec(), timers);
                assert!(before.is_none(), "a key stands once");
            });
        }
        keys
    }

    fn write_all(&mut self, place: usize, group: u16) -> Option<Vec<u8>> {
        let home = self.lane.find(IDS[place]).expect("it is there");
        let partition = self.lane.home_mut(home).partition_mut(KeyGroup(group))?;
        partition.begin_snapshot();
        let mut out = Vec::new();
        while !partition.write_slice(&mut self.shared.pools, &mut out, &mut 50) {}
        Some(out)
    }

    /// A lane made from what this one writes, at this moment, with nothing under way.
    fn reborn(&mut self, head: &LaneHead) -> Self {
        let mut it = Self::empty(self.now.as_millis());
        (it.watermark, it.clock, it.numbers) = (self.watermark, self.clock, self.numbers);
        (it.paused, it.closed) = (self.paused, self.closed);
        it.shared.near.advance(it.now);
        let head = LaneHead::decode("head", &head.encode()).expect("it was just written");
        it.lane.load_head(&it.shared, head, &NoGauges).expect("it needs no function");
        for (place, namespace) in IDS.into_iter().enumerate() {
            for group in 0..GROUPS {
                let Some(bytes) = self.write_all(place, group) else { continue };
                let (shared, layout, now) = (&mut it.shared, it.layout, it.now);
                let (id, group) = (namespace, KeyGroup(group));
                let mut load =
                    |id| it.lane.load_partition(shared, layout, id, group, 0, now, "p", &bytes);
                assert_eq!(load(id), Ok(()));
                assert!(load(id).is_err(), "it is there already");
                assert_eq!(load(NamespaceId(99)), Ok(()));
            }
        }
        it
    }

    /// Everything that two lanes that behave alike have in common.
    fn check_like(&self, other: &Self) {
        assert_eq!(self.lane.last_position(), other.lane.last_position());
        assert_eq!(self.shared.stats.keys, other.shared.stats.keys);
        assert_eq!(self.shared.stats.pending, other.shared.stats.pending);
        assert_eq!(self.shared.near.total(), other.shared.near.total());
        let second = SecondCounts::step_of(self.now);
        for range in [i64::MIN..second, second..second + 2, second + 2..i64::MAX] {
            let (own, theirs) = (&self.shared.near, &other.shared.near);
            assert_eq!(own.count(range.clone()), theirs.count(range));
        }
        for (place, namespace) in IDS.into_iter().enumerate() {
            for group in 0..GROUPS {
                assert_eq!(self.keys(place, group), other.keys(place, group));
            }
            let home = |it: &Self| it.lane.find(namespace).expect("it is there");
            let (own, theirs) = (self.lane.home(home(self)), other.lane.home(home(other)));
            assert_eq!(own.around.timeline.keys, theirs.around.timeline.keys);
            assert_eq!(own.around.config, theirs.around.config);
            assert_eq!(own.closed.is_some(), theirs.closed.is_some());
            assert_eq!(own.around.now(self.now), theirs.around.now(other.now));
            for domain in Domain::ALL {
                let (own, theirs) =
                    (own.around.timeline.of(domain), theirs.around.timeline.of(domain));
                assert_eq!((own.reached, &own.held), (theirs.reached, &theirs.held));
                let minute = MinuteCounts::step_of(self.now);
                for range in [i64::MIN..minute, minute..minute + 1, minute + 1..i64::MAX] {
                    assert_eq!(own.counts.count(range.clone()), theirs.counts.count(range));
                }
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Keys {
    let mut reader = PartitionReader::open("partition", bytes).expect("it was just written");
    let mut keys = Keys::new();
    while let Some((key, count)) = reader.next_key().expect("a key") {
        let timers = (0..count).map(|_| {
            let it = reader.next_timer().expect("a timer");
            let payload = it.payload.map(|payload| payload.bytes().to_vec());
            (it.domain, it.time.as_millis(), it.name.map(str::to_owned), payload)
        });
        let timers = timers.collect();
        assert!(keys.insert(key.to_vec(), timers).is_none(), "a key is written once");
    }
    assert_eq!(keys.len() as u64, reader.keys());
    keys
}

/// A snapshot under way: what the partition held when it began, and what is written.
#[derive(Default)]
struct Begun {
    keys: Keys,
    written: Vec<u8>,
    is_writing: bool,
}

fn play_writing(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut world = World::new();
    // With many keys tables grow while they are written, and storms go over many slices.
    let (keys, events) = [(40, 1_500), (300, 1_500), (3_000, 4_000)][dice.below(3) as usize];
    let slice = [1, 5, 100][dice.below(3) as usize];
    let mut begun: BTreeMap<(usize, u16), Begun> = BTreeMap::new();
    let mut finished = 0;
    for _ in 0..events {
        let event = dice.event(keys, &world);
        world.happen(&event);
        if dice.below(4) == 0 {
            world.drain(1 + dice.below(30) as u32);
        }
        let (place, group) = (dice.below(2) as usize, dice.below(GROUPS as u64) as u16);
        let (now, is_draining) = (world.keys(place, group), world.is_draining(place));
        let Some(partition) = world.partition(place, group) else { continue };
        let it = begun.entry((place, group)).or_default();
        assert!(partition.is_dirty() || it.keys == now, "what has changed is dirty");
        assert_eq!(partition.is_writing(), it.is_writing);
        if it.is_writing {
            let home = world.lane.find(IDS[place]).expect("it is there");
            let partition = world.lane.home_mut(home).partition_mut(KeyGroup(group));
            let partition = partition.expect("it was there before");
            let mut budget = 1 + dice.below(slice) as u32;
            let pools = &mut world.shared.pools;
            if partition.write_slice(pools, &mut it.written, &mut budget) {
                assert_eq!(decode(&it.written), it.keys);
                it.is_writing = false;
                finished += 1;
            }
        } else if !is_draining && dice.below(3) == 0 {
            let count = partition.begin_snapshot();
            assert!(!partition.is_dirty());
            *it = Begun { keys: now, written: Vec::new(), is_writing: true };
            assert_eq!(count, it.keys.len() as u64);
        }
    }
    assert!(finished > 0, "some snapshot came to its end");
}

#[test]
fn a_snapshot_is_what_was_there_when_it_began() {
    for seed in 0..60 {
        let game = std::panic::catch_unwind(|| play_writing(seed));
        assert!(game.is_ok(), "seed {seed}");
    }
}

fn play_reborn(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut world = World::new();
    let (keys, events) = [(40, 400), (1_000, 3_000)][dice.below(2) as usize];
    for _ in 0..events {
        let event = dice.event(keys, &world);
        world.happen(&event);
        if dice.below(4) == 0 {
            world.drain(1 + dice.below(30) as u32);
        }
    }
    world.settle();
    world.take_seen();
    let head = world.lane.head();
    let mut other = world.reborn(&head);
    assert_eq!(other.lane.head(), head);
    assert_eq!(other.lane.dirty_keys(), 0);
    other.take_seen();
    world.check_like(&other);
    // After a restart, lanes are asked again for what they have not settled.
    for (place, number) in world.closed.into_iter().enumerate() {
        let Some(number) = number else { continue };
        for it in [&mut world, &mut other] {
            let step = Step { namespace: IDS[place], number, change: Change::Close };
            it.lane.step(&mut it.shared, step, it.now, &NoGauges);
        }
    }
    for _ in 0..400 {
        let event = dice.event(keys, &world);
        for it in [&mut world, &mut other] {
            it.happen(&event);
            it.settle();
        }
        assert_eq!(world.take_seen(), other.take_seen());
    }
    world.check_like(&other);
    assert_eq!(world.lane.dirty_keys(), other.lane.dirty_keys());
}

#[test]
fn a_lane_made_from_its_snapshot_behaves_alike() {
    for seed in 0..40 {
        let game = std::panic::catch_unwind(|| play_reborn(seed));
        assert!(game.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_does_not_belong_into_a_partition_is_refused() {
    let mut world = World::new();
    world.operate(0, b"key", Deed::Put(Domain::Event, When::At(Timestamp::MAX), 0, 1));
    let group = world.layout.group_of(xxh3_64(b"key"));
    let good = world.write_all(0, group.0).expect("it is there");
    let head = world.lane.head();
    let check = |group: KeyGroup, bytes: &[u8], expected: &str| {
        let mut it = World::empty(0);
        it.lane.load_head(&it.shared, head.clone(), &NoGauges).expect("it needs no function");
        let (shared, layout, now) = (&mut it.shared, it.layout, it.now);
        let loaded = it.lane.load_partition(shared, layout, IDS[0], group, 0, now, "p", bytes);
        match loaded {
            Ok(()) => assert_eq!(expected, ""),
            Err(fault) => assert!(fault.to_string().contains(expected), "{fault}"),
        }
    };
    check(group, &good, "");
    let other = KeyGroup((group.0 + 1) % GROUPS);
    check(other, &good, "a key belongs to another key group");
    // A second key that is the first, and a second timer of one name at another time.
    let head_len = good.len() - (2 + 3 + 9);
    let (head, key) = good.split_at(head_len);
    let twice = [&head[..head_len - 1], &[2], key, key].concat();
    check(group, &twice, "a key stands twice");
    let named = |time: u8| [&[3][..], &[time; 8]].concat();
    let names = [head, b"\x03\x04key", &named(1)[..], &named(2)].concat();
    check(group, &names, "a name stands twice");
    let unnamed = [head, b"\x03\x04key", &key[5..], &key[5..]].concat();
    check(group, &unnamed, "out of order");
    for cut in 0..good.len() {
        check(group, &good[..cut], "is damaged");
    }
}
