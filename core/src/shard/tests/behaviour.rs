//! What the oracle does not see: what waits for what, what reads show, what is given back.

use super::*;
use crate::namespace::{BroadcastStep, Step};
use crate::op::TimerView;
use crate::query::ListQuery;
use crate::time::Domain;
use std::collections::BTreeSet;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn manual() -> NamespaceConfig {
    NamespaceConfig { clock: ClockKind::Manual, ..NamespaceConfig::default() }
}

fn register(world: &mut World, namespace: NamespaceId, key: &str, time: i64) {
    let register = Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(at(time)),
        payload: Some(Payload::Json(b"{}")),
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    };
    world.op(namespace, &Op { key: key.as_bytes(), action: Action::Register(register) });
}

fn fired(world: &World, namespace: NamespaceId) -> usize {
    world.fires(namespace).values().map(Vec::len).sum()
}

const SMALL: Pace = Pace { ops: 1_000, messages: 1_000, bytes: 1 << 20, budget: 30 };

#[test]
fn a_namespace_that_drains_is_off_the_agenda_until_it_has() {
    let mut world = World::new(SMALL, 0);
    let ids: Vec<_> =
        (0..5).map(|n| world.create(&format!("n{n}"), NamespaceConfig::default())).collect();
    for id in &ids {
        (0..200).for_each(|n| register(&mut world, *id, &format!("{n}"), 10));
    }
    world.settle();
    world.now = at(10);
    let is_listed = |world: &World| {
        world.shard.lanes.iter().any(|lane| lane.next_wake().is_some_and(|time| time <= at(20)))
    };
    assert!(is_listed(&world));
    // Budgets are small: it takes some turns until all of them are found.
    while is_listed(&world) {
        assert_eq!(world.turn(), Next::Now);
    }
    assert!(world.shard.lanes.iter().any(Lane::is_busy), "the storm is under way");
    assert_eq!(world.shard.oldest_due(), Some(at(10)));
    for id in &ids {
        register(&mut world, *id, "0", 15);
    }
    world.turn();
    assert!(world.shard.lanes.iter().any(Lane::is_busy), "and goes on");
    world.settle();
    assert!(is_listed(&world), "what came meanwhile is known");
    world.now = at(20);
    world.settle();
    assert!(ids.iter().all(|id| fired(&world, *id) == 201));
}

#[test]
fn a_storm_of_one_namespace_does_not_hold_up_anothers_time() {
    let mut world = World::new(SMALL, 0);
    let storm = world.create("storm", NamespaceConfig::default());
    let other = world.create("other", NamespaceConfig::default());
    for n in 0..20_000 {
        register(&mut world, storm, &format!("{n}"), 10);
    }
    for n in 0..10 {
        register(&mut world, other, &format!("{n}"), 11 + n);
    }
    world.settle();
    let mut turns = 0;
    for now in 10..=20 {
        world.now = at(now);
        while world.turn() == Next::Now && fired(&world, other) < (now - 10) as usize {
            turns += 1;
            assert!(turns < 200, "the other namespace fires in time");
        }
    }
    let so_far = fired(&world, storm);
    assert!(so_far > 0 && so_far < 20_000, "the storm is under way: {so_far}");
    world.settle();
    assert_eq!((fired(&world, storm), fired(&world, other)), (20_000, 10));
}

#[test]
fn a_turn_fires_no_more_than_its_budget() {
    let mut world = World::new(SMALL, 0);
    let storm = world.create("storm", manual());
    for n in 0..1_000 {
        register(&mut world, storm, &format!("{n}"), 10);
    }
    world.settle();
    world.clock("storm", 10);
    let mut before = 0;
    while world.turn() == Next::Now {
        let now = fired(&world, storm);
        // Each of the three lanes has its share, and finishes the entries it has asked for.
        assert!(now - before <= 3 * 32, "{} in one turn", now - before);
        before = now;
    }
    assert_eq!(fired(&world, storm), 1_000);
}

#[test]
fn the_next_advance_waits_for_the_one_before_it() {
    let mut world = World::new(SMALL, 0);
    let namespace = world.create("n", manual());
    for n in 0..500 {
        register(&mut world, namespace, &format!("{n}"), 10);
        register(&mut world, namespace, &format!("{n}"), 20);
    }
    world.settle();
    world.clock("n", 10);
    world.clock("n", 20);
    world.settle();
    for (key, fires) in world.fires(namespace) {
        let times: Vec<i64> = fires.iter().map(|fire| fire.3.as_millis()).collect();
        assert_eq!(times, [10, 20], "{key:?}");
        assert!(fires[0].0 < fires[1].0, "each by its own record");
    }
    let answers: Vec<_> = world.answers.lock().unwrap().drain(..).skip(1).collect();
    for (answer, now) in answers.iter().zip([10, 20]) {
        let expected = CommandReply::Clock { advanced: true, now: at(now), fired: 500 };
        assert_eq!(*answer, Ok(expected), "answered when all of it can be read");
    }
}

#[test]
fn across_keys_an_advance_fires_in_the_order_of_time() {
    let mut world = World::new(Pace { budget: 7, ..SMALL }, 0);
    let namespace = world.create("n", manual());
    let mut dice = Dice(TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]));
    for n in 0..3_000u64 {
        register(&mut world, namespace, &format!("{}", n % 50), dice.below(5_000) as i64);
    }
    world.settle();
    world.clock("n", 5_000);
    world.settle();
    let mut last = BTreeMap::new();
    for block in &world.outside.outputs {
        for fire in block {
            let before = last.insert(block.lane, fire.fire_at);
            assert!(before <= Some(fire.fire_at), "ascending within a lane");
        }
    }
    assert_eq!(last.len(), 3, "all lanes took part");
}

#[test]
fn a_removed_namespace_gives_everything_back_and_never_fires() {
    let mut world = World::new(SMALL, 0);
    let removed = world.create("removed", NamespaceConfig::default());
    for n in 0..1_000 {
        register(&mut world, removed, &format!("a key of more than fifteen bytes {n}"), 10);
    }
    world.settle();
    world.command("removed", Command::Delete { force: true });
    world.settle();
    world.now = at(20);
    world.settle();
    let deleted = world.answers.lock().unwrap().pop();
    assert_eq!(deleted, Some(Ok(CommandReply::Deleted { timers: 1_000 })));
    assert_eq!(fired(&world, removed), 0);
    assert_eq!((world.shard.stats().keys, world.shard.near().total()), (0, 0));
    let payloads = world.shard.memory().into_iter().find(|(part, _)| *part == "payloads");
    assert_eq!(payloads, Some(("payloads", 0)));
    register(&mut world, removed, "late", 30);
    world.settle();
    let last = world.outcomes.lock().unwrap().pop().expect("it was answered").1;
    assert_eq!(last, Err(Rejection::NamespaceUnknown));
}

#[test]
fn nothing_happens_without_a_record_and_an_idle_lane_writes_none() {
    let mut world = World::new(SMALL, 0);
    let namespace = world.create("n", NamespaceConfig::default());
    register(&mut world, namespace, "k", 1_000_000);
    world.settle();
    let written = world.outside.blocks.len();
    for now in [1, 1_000, 999_999] {
        world.now = at(now);
        assert!(matches!(world.turn(), Next::At(_)));
    }
    assert_eq!(world.outside.blocks.len(), written);
    world.now = at(1_000_000);
    world.settle();
    assert_eq!(world.outside.blocks.len(), written + 1, "one tick");
}

fn list(world: &mut World, namespace: NamespaceId, query: ListQuery) -> Vec<TimerView> {
    let page = Arc::new(Mutex::new(None));
    let mine = Arc::clone(&page);
    let reply = Box::new(move |answer| *mine.lock().unwrap() = Some(answer));
    world.inbox.push_back(Message::Read(Read::List { namespace, query, reply }));
    world.settle();
    let page = page.lock().unwrap().take().expect("an answer").expect("a known namespace");
    page.timers
}

#[test]
fn pages_of_a_listing_follow_each_other_without_gap_or_overlap() {
    let mut world = World::new(SMALL, 0);
    let namespace = world.create("n", manual());
    let mut dice = Dice(TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]));
    let mut expected = BTreeSet::new();
    for n in 0..500u64 {
        let (key, time) = (format!("{}", n % 100), dice.below(50) as i64);
        register(&mut world, namespace, &key, time);
        if key.starts_with('1') && (5..40).contains(&time) {
            expected.insert((time, key));
        }
    }
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let query = ListQuery {
            domain: Some(Domain::Processing),
            due_after: at(5),
            due_before: Some(at(40)),
            key_prefix: b"1".to_vec(),
            after: after.take(),
            limit: 7,
        };
        let page = list(&mut world, namespace, query);
        let Some(last) = page.last() else { break };
        after = Some(crate::query::ListPosition::of(last));
        found.extend(page.into_iter().map(|timer| (timer.fire_at.as_millis(), timer.key)));
    }
    let expected: Vec<_> =
        expected.into_iter().map(|(time, key)| (time, key.into_bytes())).collect();
    assert_eq!(found, expected);
}

#[test]
fn reads_hide_what_is_due() {
    let mut world = World::new(SMALL, 0);
    let namespace = world.create("n", manual());
    for n in 0..200 {
        register(&mut world, namespace, &format!("{n}"), 10);
    }
    register(&mut world, namespace, "199", 11);
    world.settle();
    world.clock("n", 10);
    world.turn();
    assert!(fired(&world, namespace) < 200, "the storm is under way");
    let query = ListQuery {
        domain: None,
        due_after: Timestamp::MIN,
        due_before: None,
        key_prefix: Vec::new(),
        after: None,
        limit: 100,
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    let reply = Box::new(move |answer| sender.send(answer).expect("the test listens"));
    let key = b"199".to_vec();
    world.inbox.push_back(Message::Read(Read::Key { namespace, key, reply }));
    world.turn();
    let timers = receiver.recv().expect("an answer").expect("a known namespace");
    assert_eq!(timers.iter().map(|timer| timer.fire_at).collect::<Vec<_>>(), [at(11)]);
    assert_eq!(list(&mut world, namespace, query).len(), 1);
}

#[test]
fn a_forecast_counts_each_timer_once() {
    let mut world = World::new(SMALL, 0);
    let namespace = world.create("n", manual());
    for n in 0..100 {
        register(&mut world, namespace, &format!("{n}"), n * 6_000);
    }
    world.settle();
    let (sender, receiver) = std::sync::mpsc::channel();
    let reply = Box::new(move |answer| sender.send(answer).expect("the test listens"));
    let query = ForecastQuery {
        domain: Domain::Processing,
        from: at(60_000),
        step_ms: 2 * FORECAST_STEP_MS,
        steps: 3,
    };
    world.inbox.push_back(Message::Read(Read::Forecast { namespace, query, reply }));
    world.settle();
    let forecast = receiver.recv().expect("an answer");
    let expected = Forecast { counts: vec![20, 20, 20], before: 10, after: 30 };
    assert_eq!(forecast, Ok(expected));
}

#[test]
fn another_clock_begins_anew() {
    let mut world = World::new(SMALL, 0);
    let namespace = world.create("n", manual());
    world.clock("n", 1_000_000);
    world.settle();
    assert_eq!(world.create("n", NamespaceConfig::default()), namespace);
    register(&mut world, namespace, "k", 10);
    world.settle();
    assert_eq!(fired(&world, namespace), 0, "the manual clock's time is not the system's");
    world.now = at(10);
    world.settle();
    assert_eq!(fired(&world, namespace), 1);
    register(&mut world, namespace, "k", 20);
    world.op(namespace, &Op { key: b"k", action: Action::DeleteAll });
    world.settle();
    world.create("n", manual());
    world.now = at(30);
    world.settle();
    register(&mut world, namespace, "k", 5);
    world.settle();
    assert_eq!(fired(&world, namespace), 1, "the clock that is to be set has not come so far");
    world.clock("n", 5);
    world.settle();
    assert_eq!(fired(&world, namespace), 2);
}

#[test]
fn steps_that_wait_for_room_keep_their_order() {
    let mut world = World::new(Pace::default(), 1_000);
    let namespace = world.create("n", NamespaceConfig::default());
    let time = Timestamp::from_millis(5);
    let value = "1".repeat(1_000).into();
    let large = Change::Broadcast(BroadcastStep { home: 0, timestamp: time, now: None, value });
    let step = |(number, change)| Message::Step(Step { namespace, number, change });
    let mut inbox = [(100, large), (101, Change::Watermark(time))].map(step).into_iter();
    let little = Room { log_bytes: 100, is_widest: false, ..Room::ENDLESS };
    let mut numbers = Vec::new();
    for room in [Room { are_steps_held: true, ..little }, little, little, Room::ENDLESS] {
        let (turn, _) = world.shard.turn(world.now, false, room, &mut || inbox.next());
        for block in turn.blocks.iter().filter(|block| block.lane == 0) {
            let mut rest = &block.records[..];
            while let Some((record, behind)) = split_record(rest) {
                rest = behind;
                numbers.extend(match record {
                    Record::Step { number, .. } => Some(number),
                    _ => None,
                });
            }
        }
    }
    assert_eq!(numbers, [100, 101]);
}
