//! The whole pure core, message in and output out, against the oracle: all operations, both
//! domains, times over all of `i64`, several namespaces and lanes, slices of every size.
//!
//! The oracle follows the log that the shard wrote, so what is compared is also whether the log
//! holds everything that is needed to say what happened.
//!
//! `STORMWHEEL_ORACLE_OPS=10000000 cargo test --release -p stormwheel oracle` is the long form.

mod behaviour;
mod close;
mod function;
mod limit;
mod loud;
mod operators;
mod oracle;
mod overdue;
mod pause;
mod round;

use super::*;
use crate::function::busy::Busy;
use crate::lane::AsOf;
use crate::log::{LaneBlock, Operations, Record, split_record};
use crate::namespace::{
    Asked, Change, ClockChange, ClockKind, LateTimers, NamespaceConfig, OverduePolicy,
    ProcessingTimers, SourceChange,
};
use crate::op::{Action, Only, Op, Outcome, Payload, Register, Target, When};
use crate::operators::built_in;
use crate::output::OutputBytes;
use crate::ports::{Gauges, NamespaceGauge};
use crate::snapshot::Part;
use crate::time::Domain;
use oracle::{Fire, Oracle, Oracles, follow};
use proptest::test_runner::{RngAlgorithm, TestRng};
use rand_like::Dice;
use std::sync::{Arc, Mutex};

mod rand_like {
    //! Dice from proptest's generator, so that the tests need no other.

    use super::TestRng;
    use proptest::prelude::Rng;

    pub(super) struct Dice(pub(super) TestRng);

    impl Dice {
        pub(super) fn below(&mut self, bound: u64) -> u64 {
            self.0.next_u64() % bound
        }

        pub(super) fn any(&mut self) -> i64 {
            self.0.next_u64() as i64
        }

        pub(super) fn one_in(&mut self, n: u64) -> bool {
            self.below(n) == 0
        }
    }
}

/// Everything outside of the shard, in memory.
#[derive(Default)]
struct Outside {
    blocks: Vec<LaneBlock>,
    outputs: Vec<OutputBytes>,
    parts: Vec<Part>,
    registry: Arc<TestRegistry>,
}

#[derive(Default)]
struct TestRegistry {
    published: Mutex<BTreeMap<String, NamespaceId>>,
    gauges: Mutex<BTreeMap<NamespaceId, Arc<NamespaceGauge>>>,
    finished: Mutex<Vec<NamespaceId>>,
}

impl Gauges for TestRegistry {
    fn gauge(&self, namespace: NamespaceId) -> Arc<NamespaceGauge> {
        Arc::clone(self.gauges.lock().unwrap().entry(namespace).or_default())
    }
}

impl Registry for TestRegistry {
    fn publish(&self, id: NamespaceId, name: Arc<str>, _: Arc<NamespaceConfig>, _: u64) {
        self.published.lock().unwrap().insert(name.to_string(), id);
    }

    fn finish(&self, id: NamespaceId) {
        self.finished.lock().unwrap().push(id);
    }

    fn withdraw(&self, _: NamespaceId, name: &str) {
        self.published.lock().unwrap().remove(name);
    }

    fn namespaces(&self) -> usize {
        self.published.lock().unwrap().len()
    }
}

type Seen = (u16, Outcome);

/// One shard with what surrounds it.
struct World {
    shard: Shard,
    layout: Layout,
    outside: Outside,
    inbox: VecDeque<Message>,
    now: Timestamp,
    outcomes: Arc<Mutex<Vec<Seen>>>,
    answers: Arc<Mutex<Vec<Result<CommandReply, Rejection>>>>,
}

fn operators() -> Operators {
    built_in().with_function("busy", || Busy).with_function("loud", || loud::Loud)
}

impl World {
    fn new(pace: Pace, now: i64) -> Self {
        let layout = Layout::new(8, 3, 1).expect("a legal layout");
        let outside = Outside::default();
        let registry = Arc::clone(&outside.registry) as Arc<dyn Registry>;
        Self {
            shard: Shard::new(ShardIndex(0), layout, pace, registry).with_operators(operators()),
            layout,
            outside,
            inbox: VecDeque::new(),
            now: Timestamp::from_millis(now),
            outcomes: Arc::default(),
            answers: Arc::default(),
        }
    }

    fn turn(&mut self) -> Next {
        let inbox = &mut self.inbox;
        let (turn, next) =
            self.shard.turn(self.now, false, Room::ENDLESS, &mut || inbox.pop_front());
        let Turn { blocks, written, synced, outputs, visible } = turn;
        assert!(written.is_empty(), "nobody asked for that");
        self.outside.blocks.extend(blocks);
        self.outside.outputs.extend(outputs);
        let mut send = |_, message| self.inbox.push_back(message);
        let mut part = |part| self.outside.parts.push(part);
        synced.run(&mut send, &mut part);
        visible.run(&mut send, &mut part);
        if self.inbox.is_empty() { next } else { Next::Now }
    }

    fn settle(&mut self) {
        for _ in 0..10_000_000 {
            if self.turn() != Next::Now {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn op(&mut self, namespace: NamespaceId, op: &Op<'_>) {
        let mut ops = Operations::default();
        ops.push(namespace, op, xxh3_64(op.key), None);
        let lane = self.layout.lane_of(self.layout.group_of(xxh3_64(op.key))).0;
        let outcomes = Arc::clone(&self.outcomes);
        let reply = Box::new(move |outcome: Vec<Outcome>| {
            // What a closed namespace refuses leaves no record.
            let taken = |outcome: &Outcome| *outcome != Err(Rejection::NamespaceClosed);
            let taken = outcome.into_iter().filter(taken).map(|outcome| (lane, outcome));
            outcomes.lock().unwrap().extend(taken);
        });
        self.inbox.push_back(Message::Ops(OpsPart {
            namespace,
            ops,
            ack: Ack::Synced,
            limit: None,
            reply,
        }));
    }

    fn command(&mut self, name: &str, command: Command) {
        let answers = Arc::clone(&self.answers);
        let reply = Box::new(move |answer| answers.lock().unwrap().push(answer));
        let asked = Box::new(Asked::new(name.to_owned(), command));
        let request = CommandRequest { asked, reply };
        self.inbox.push_back(Message::Command(request));
    }

    fn create(&mut self, name: &str, config: NamespaceConfig) -> NamespaceId {
        self.command(name, Command::Put { config, expected_version: None });
        self.settle();
        self.outside.registry.published.lock().unwrap()[name]
    }

    fn clock(&mut self, name: &str, to: i64) {
        self.command(name, Command::Clock(ClockChange::Set(Timestamp::from_millis(to))));
    }

    fn watermark(&mut self, name: &str, to: i64) {
        let change = SourceChange::Watermark(Timestamp::from_millis(to));
        self.command(name, Command::Source { source: "s".to_owned(), change });
    }

    fn fires(&self, namespace: NamespaceId) -> BTreeMap<Vec<u8>, Vec<Fire>> {
        let mut fires: BTreeMap<Vec<u8>, Vec<Fire>> = BTreeMap::new();
        let blocks = self.outside.outputs.iter().filter(|block| block.namespace == namespace);
        let drains = self.drains();
        for it in blocks.flat_map(OutputBytes::iter) {
            let is_drained = drains.contains(&(it.id.lane, it.id.position));
            assert!(it.fire_at <= it.due_by || is_drained, "none fires early");
            assert_eq!(it.id.key_hash, Oracle::hash(it.key));
            fires.entry(it.key.to_vec()).or_default().push((
                it.id.position,
                it.id.ordinal,
                it.domain,
                it.fire_at,
                it.name.map(str::to_owned),
                it.payload.map(|payload| payload.bytes().to_vec()),
            ));
        }
        fires
    }

    /// Another shard that has followed the log so far, and what it emitted.
    fn follow(&self) -> (World, Vec<OutputBytes>) {
        let mut other = World::new(Pace::default(), self.now.as_millis());
        let mut outputs = Vec::new();
        for block in &self.outside.blocks {
            let followed =
                other.shard.replay(block, &AsOf::default(), &mut |block| outputs.push(block));
            followed.expect("the log can be followed");
        }
        let mut numbers = BTreeMap::new();
        other.shard.add_applied_numbers(&mut numbers);
        let turn = other.shard.recovered(&numbers);
        let mut send = |_, message| other.inbox.push_back(message);
        turn.synced.run(&mut send, &mut |_| {});
        (other, outputs)
    }

    /// The service goes down at once, and is back after so long.
    fn restart(&mut self, down_ms: i64) {
        let from = self.outside.blocks.iter().map(|block| block.now_ms).max();
        let to = self.now.saturating_add(down_ms);
        let (mut other, outputs) = self.follow();
        let all = all_records(&outputs);
        for (id, record) in all_records(&self.outside.outputs) {
            assert_eq!(all.get(&id), Some(&record));
        }
        other.shard.pace = self.shard.pace;
        other.outside.blocks = std::mem::take(&mut self.outside.blocks);
        other.outside.outputs = outputs;
        other.outcomes = Arc::clone(&self.outcomes);
        other.answers = Arc::clone(&self.answers);
        other.now = to;
        let up = from.map(Timestamp::from_millis).map(|from| from..=from);
        other.shard.restarted(&up.into_iter().collect(), to);
        *self = other;
    }

    /// Checks that a shard that follows the log comes to the same: outputs, and what is there.
    fn check_replay(&self, namespaces: &[NamespaceId], keys: u64) {
        let (other, outputs) = self.follow();
        let mut sent = other.inbox.iter();
        let is_asked =
            |it: &Message| matches!(it, Message::Step(step) if step.change == Change::Close);
        assert!(sent.all(is_asked), "every lane has every step");
        assert_eq!(all_records(&outputs), all_records(&self.outside.outputs));
        let published = |world: &World| world.outside.registry.published.lock().unwrap().clone();
        assert_eq!(published(&other), published(self));
        for (mine, its) in self.shard.lanes.iter().zip(&other.shard.lanes) {
            assert_eq!(mine.last_position(), its.last_position());
            for id in namespaces {
                let Some(home) = mine.find(*id) else {
                    assert_eq!(its.find(*id), None);
                    continue;
                };
                let (mine, its) = (mine.home(home), its.home(its.find(*id).expect("it is there")));
                for domain in Domain::ALL {
                    let (mine, its) =
                        (mine.around.timeline.of(domain), its.around.timeline.of(domain));
                    assert_eq!((mine.reached, &mine.held), (its.reached, &its.held));
                    assert_eq!(mine.counts.total(), its.counts.total());
                }
                for key in (0..keys).map(key_of) {
                    let group = self.layout.group_of(xxh3_64(key.as_bytes()));
                    let timers = mine.key_timers(&self.shard.shared.pools, group, key.as_bytes());
                    let its_timers =
                        its.key_timers(&other.shard.shared.pools, group, key.as_bytes());
                    assert_eq!(timers, its_timers, "{key}");
                    let state = mine.key_state(&self.shard.shared.pools, group, key.as_bytes());
                    let its_state = its.key_state(&other.shard.shared.pools, group, key.as_bytes());
                    assert_eq!(state, its_state, "{key}");
                }
            }
        }
    }

    /// Lets oracles follow the log, and compares outcomes, outputs and what is still there. Returns
    /// what they have met.
    fn check(&self, namespaces: &[(NamespaceId, ClockKind, i64)]) -> [usize; 6] {
        let mut oracles = Oracles::new();
        let mut outcomes: BTreeMap<u16, Vec<Outcome>> = BTreeMap::new();
        for (lane, outcome) in self.outcomes.lock().unwrap().iter() {
            outcomes.entry(*lane).or_default().push(outcome.clone());
        }
        let mut outcomes: BTreeMap<u16, _> =
            outcomes.into_iter().map(|(lane, all)| (lane, all.into_iter())).collect();
        for LaneBlock { lane, first_position, now_ms, records, .. } in &self.outside.blocks {
            let (mut rest, mut position) = (&records[..], *first_position);
            while let Some((record, behind)) = split_record(rest) {
                let now = Timestamp::from_millis(*now_ms);
                follow(&mut oracles, namespaces, *lane, position, now, &record, || {
                    outcomes.get_mut(lane).and_then(Iterator::next).expect("an outcome a record")
                });
                (rest, position) = (behind, position + 1);
            }
        }
        assert!(outcomes.values_mut().all(|rest| rest.next().is_none()), "a record an outcome");
        for (namespace, ..) in namespaces {
            let mut fires = BTreeMap::new();
            let mut pending = 0;
            for ((_, id), oracle) in &mut oracles {
                if id == namespace {
                    fires.append(&mut oracle.fires);
                    pending += oracle.timers.len() as u64;
                }
            }
            assert_eq!(self.fires(*namespace), fires);
            let lanes = self.shard.lanes.iter();
            let homes = lanes.filter_map(|lane| Some(lane.home(lane.find(*namespace)?)));
            assert_eq!(homes.map(|home| home.around.timeline.pending()).sum::<u64>(), pending);
        }
        oracles.values().fold([0; 6], |sum, oracle| add(sum, oracle.met))
    }
}

/// Output records by what makes them themselves.
fn all_records(blocks: &[OutputBytes]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for it in blocks.iter().flat_map(OutputBytes::iter) {
        let before = all.insert(it.id.to_string(), format!("{it:?}"));
        assert_eq!(before, None, "an id is never used twice");
    }
    all
}

/// Times that meet each other, and times at every end.
fn any_time(dice: &mut Dice, around: i64) -> i64 {
    match dice.below(12) {
        0 => dice.any(),
        1 => [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX][dice.below(6) as usize],
        2 => around.saturating_add(dice.any() >> (20 + dice.below(40))),
        3..6 => around.saturating_add(dice.below(5) as i64),
        _ => around.saturating_add(dice.below(3_000) as i64 - 200),
    }
}

fn key_of(n: u64) -> String {
    if n.is_multiple_of(3) { format!("{n}") } else { format!("a key of more than fifteen {n}") }
}

fn any_op(dice: &mut Dice, world: &mut World, namespace: NamespaceId, around: i64, keys: u64) {
    let key = key_of(dice.below(keys));
    let names = ["timeout", "expiry", "b", "a"];
    let name = names[dice.below(4) as usize];
    let domain = Domain::ALL[dice.below(2) as usize];
    let at = Timestamp::from_millis(any_time(dice, around));
    let after_ms = if dice.one_in(30) { dice.any() & i64::MAX } else { dice.below(2_000) as i64 };
    let payload = [7; 40];
    let payload = &payload[..dice.below(40) as usize];
    let action = match dice.below(16) {
        0..8 => Action::Register(Register {
            domain,
            name: dice.one_in(2).then_some(name),
            when: if dice.one_in(3) { When::After(after_ms) } else { When::At(at) },
            payload: dice.one_in(3).then_some(Payload::Binary(payload)),
            resolution_ms: None,
            spread_ms: None,
            only: match dice.below(12) {
                0 => Only::Absent,
                1 => Only::Present,
                2 => Only::Earlier,
                3 => Only::Later,
                _ => Only::Always,
            },
        }),
        8..12 => {
            let name = if dice.one_in(5) { name } else { "timeout" };
            Action::Touch { name, domain, after_ms }
        }
        12 => Action::DeleteAll,
        13 => Action::Delete { domain, target: Target::Name(name) },
        14 => Action::Delete { domain, target: Target::FireAt(at) },
        _ => {
            let (resolution_ms, spread_ms) = (None, None);
            Action::Delete { domain, target: Target::At { at, resolution_ms, spread_ms } }
        }
    };
    world.op(namespace, &Op { key: key.as_bytes(), action });
}

fn any_policy(dice: &mut Dice) -> OverduePolicy {
    match dice.below(5) {
        0 => OverduePolicy::Fire,
        1 => OverduePolicy::Shift,
        2 => OverduePolicy::Drop,
        3 => OverduePolicy::Spread { over_ms: 1 + dice.below(3_000) as i64 },
        _ => OverduePolicy::Spread { over_ms: 1 + dice.below(60_000) as i64 },
    }
}

fn add<const N: usize>(a: [usize; N], b: [usize; N]) -> [usize; N] {
    std::array::from_fn(|place| a[place] + b[place])
}

fn play(seed: u64, ops: u64) -> [usize; 6] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut dice = Dice(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let budget = [1, 2, 3, 7, 40, 1_000, 100_000][dice.below(7) as usize];
    let pace = Pace {
        ops: 1 + dice.below(9) as u32,
        messages: 1 + dice.below(9) as u32,
        budget,
        ..Pace::default()
    };
    let mut world = World::new(pace, 1_000_000);
    let late_timers = [LateTimers::Fire, LateTimers::NextWatermark][dice.below(2) as usize];
    let base = || NamespaceConfig { late_timers, ..NamespaceConfig::default() };
    let manual = NamespaceConfig { clock: ClockKind::Manual, ..base() };
    let spread_ms = if dice.one_in(2) { 0 } else { 100 };
    let system = |overdue| NamespaceConfig { spread_ms, overdue, ..base() };
    let namespaces = [
        (world.create("m", manual), ClockKind::Manual, 0),
        (world.create("s", system(any_policy(&mut dice))), ClockKind::System, spread_ms),
    ];
    let (mut clock, mut watermark) = (any_time(&mut dice, 0), any_time(&mut dice, 0));
    // Few keys meet each other often; with many the wheels grow levels, and strand entries.
    // In some games few keys have many timers, and restarts are frequent.
    let is_dense = seed % 3 == 2;
    let few = if is_dense { 12 } else { 200 };
    let keys = 1 + dice.below(if ops > 2 * OPS_A_GAME { 3_000 } else { few });
    let closes_at = if dice.one_in(2) { ops } else { ops - dice.below(ops / 20) - 1 };
    // What waits for a watermark behind the final one goes only when the namespace is closed.
    let closes = closes_at < ops || late_timers == LateTimers::NextWatermark;
    for index in 0..ops {
        if index == closes_at {
            let timers = ProcessingTimers::ALL[dice.below(3) as usize];
            world.command(["m", "s"][dice.below(2) as usize], Command::Close(timers));
        }
        match dice.below(40) {
            0 => {
                clock = clock.max(any_time(&mut dice, clock));
                world.clock("m", clock);
            }
            1 => {
                watermark = watermark.max(any_time(&mut dice, watermark));
                world.watermark(["m", "s"][dice.below(2) as usize], watermark);
            }
            2 if dice.one_in(4) => {
                let command = if dice.one_in(2) { Command::Pause } else { Command::Resume };
                world.command(["m", "s"][dice.below(2) as usize], command);
            }
            2..6 => world.now = world.now.saturating_add(dice.below(300) as i64),
            6 if dice.one_in(if is_dense { 3 } else { 8 }) => {
                world.restart([0, 50, 500, 5_000][dice.below(4) as usize]);
                if dice.one_in(4) {
                    let config = system(any_policy(&mut dice));
                    world.command("s", Command::Put { config, expected_version: None });
                }
            }
            6..20 => {
                world.turn();
            }
            _ => {
                let (namespace, kind, _) = namespaces[is_dense as usize | dice.below(2) as usize];
                let now = if kind == ClockKind::Manual { clock } else { world.now.as_millis() };
                let around = if is_dense || dice.one_in(2) { now } else { watermark };
                any_op(&mut dice, &mut world, namespace, around, keys);
            }
        }
    }
    world.settle();
    world.check_replay(&[namespaces[0].0, namespaces[1].0], keys);
    for name in ["m", "s"] {
        world.command(name, Command::Resume);
    }
    world.settle();
    if closes {
        for _ in 0..2 {
            for name in ["m", "s"] {
                let timers = ProcessingTimers::ALL[2 * dice.below(2) as usize];
                world.command(name, Command::Close(timers));
            }
            world.turn();
            world.turn();
            world.restart(50);
        }
    } else {
        world.now = Timestamp::MAX;
        world.clock("m", i64::MAX);
        for name in ["m", "s"] {
            world.watermark(name, i64::MAX);
        }
        world.settle();
        // The system clock never reaches the end of time: what waits for it is cancelled.
        for n in 0..keys {
            let key = key_of(n);
            world.op(namespaces[1].0, &Op { key: key.as_bytes(), action: Action::DeleteAll });
        }
    }
    world.settle();
    let met = world.check(&namespaces);
    world.check_replay(&[namespaces[0].0, namespaces[1].0], keys);
    assert!(world.shard.memory().iter().all(|(part, bytes)| *part != "payloads" || *bytes == 0));
    assert_eq!(world.shard.stats().keys, 0, "everything has fired or was cancelled");
    assert_eq!(world.shard.near().total(), 0);
    met
}

const OPS_A_GAME: u64 = 1_000;

#[test]
#[allow(clippy::disallowed_methods, reason = "how long to play is the caller's choice")]
fn the_core_agrees_with_the_oracle() {
    let ops = std::env::var("STORMWHEEL_ORACLE_OPS");
    let ops: u64 = ops.map_or(100_000, |ops| ops.parse().expect("a number of operations"));
    let (mut played, mut seed, mut met) = (0, 0, [0; 6]);
    while played < ops {
        let ops = if seed % 10 == 9 { 20 * OPS_A_GAME } else { OPS_A_GAME };
        let game = std::panic::catch_unwind(|| play(seed, ops));
        met = add(met, game.unwrap_or_else(|_| panic!("seed {seed}")));
        (played, seed) = (played + ops, seed + 1);
    }
    // The last one is rare: a long game meets it.
    assert!(met[..5].iter().all(|times| *times > 10), "every kind of restart was met: {met:?}");
}
