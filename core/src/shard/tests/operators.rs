//! Functions and operators where time has stood still: in a pause, and behind what a restart holds
//! back.

use super::*;
use crate::op::Element;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn create(world: &mut World, operator: &str, options: serde_json::Value) -> NamespaceId {
    let (operator, overdue) = (operator.to_owned(), OverduePolicy::Shift);
    world.create("n", NamespaceConfig { operator, options, overdue, ..NamespaceConfig::default() })
}

fn element(world: &mut World, namespace: NamespaceId, key: &str, now: i64, value: &str) {
    world.now = at(now);
    world.settle();
    let value = Payload::Json(value.as_bytes());
    let element = Element { timestamp: world.now, input: 0, value };
    world.op(namespace, &Op { key: key.as_bytes(), action: Action::Element(element) });
    world.settle();
}

/// What has come out of a key when the clock reads `now`.
fn taken(world: &mut World, namespace: NamespaceId, key: &str, now: i64) -> Vec<serde_json::Value> {
    world.now = at(now);
    world.settle();
    let fires = world.fires(namespace).remove(key.as_bytes()).unwrap_or_default();
    let values = fires.into_iter().map(|fire| fire.5.expect("a value"));
    values.map(|value| serde_json::from_slice(&value).expect("JSON")).collect()
}

#[test]
fn a_silence_is_no_longer_than_the_time_that_has_passed() {
    let mut world = World::new(Pace::default(), 1_000);
    let namespace = create(&mut world, "timeout", serde_json::json!({"after": 1_000}));
    element(&mut world, namespace, "a", 1_000, "1");
    element(&mut world, namespace, "b", 1_000, "1");
    world.now = at(1_500);
    world.command("n", Command::Pause);
    world.settle();
    element(&mut world, namespace, "a", 3_000, "2");
    assert_eq!(taken(&mut world, namespace, "a", 3_500), [serde_json::Value::Null; 0]);
    world.command("n", Command::Resume);
    world.settle();
    // Its deadline of 2,000 was moved to 4,000.
    element(&mut world, namespace, "b", 3_600, "2");
    assert_eq!(taken(&mut world, namespace, "b", 4_599), [serde_json::Value::Null; 0]);
    for (key, last_seen) in [("a", 3_000), ("b", 3_600)] {
        let alarms = taken(&mut world, namespace, key, 4_600);
        assert_eq!((alarms.len(), &alarms[0]["last_seen"]), (1, &last_seen.into()));
    }
    world.check_replay(&[namespace], 0);
}

#[test]
fn what_is_delayed_keeps_its_order_behind_what_is_held_back() {
    let mut world = World::new(Pace::default(), 1_000);
    let namespace = create(&mut world, "delay", serde_json::json!({"at": "/at"}));
    element(&mut world, namespace, "k", 1_000, r#"{"at":2000}"#);
    world.now = at(1_500);
    world.command("n", Command::Pause);
    world.settle();
    world.now = at(3_500);
    world.command("n", Command::Resume);
    world.settle();
    element(&mut world, namespace, "k", 3_600, r#"{"at":3550}"#);
    assert_eq!(taken(&mut world, namespace, "k", 3_999), [serde_json::Value::Null; 0]);
    let times: Vec<_> =
        taken(&mut world, namespace, "k", 4_000).iter().map(|value| value["at"].as_i64()).collect();
    assert_eq!(times, [Some(2_000), Some(3_550)]);
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_timer_of_the_past_fires_at_once_unless_an_earlier_one_is_held() {
    let mut world = World::new(Pace::default(), 1_000);
    let namespace = create(&mut world, "busy", serde_json::Value::Null);
    let times = |world: &mut World, key: &str, now: i64| -> Vec<i64> {
        let values = taken(world, namespace, key, now);
        values.iter().map(|value| value[0].as_i64().expect("a time")).collect()
    };
    // A timer without a name is `[1, time]`, the one that is called `n` is `[3, time]`.
    element(&mut world, namespace, "k", 1_000, "[[1,1499]]");
    element(&mut world, namespace, "moved", 1_000, "[[3,1499]]");
    world.restart(1_000);
    world.settle();
    assert_eq!(world.shard.stats().overdue_at_restart, [0, 0, 2, 0]);
    element(&mut world, namespace, "new", 2_100, "[[1,1895],[1,1888]]");
    assert_eq!(times(&mut world, "new", 2_100), [1_888, 1_895]);
    element(&mut world, namespace, "k", 2_100, "[[1,1209]]");
    assert_eq!(times(&mut world, "k", 2_100), [1_209], "nothing goes before it");
    element(&mut world, namespace, "k", 2_100, "[[1,1895]]");
    assert_eq!(times(&mut world, "k", 2_498), [1_209]);
    // That of 1,499 registers one of 1,501.
    assert_eq!(times(&mut world, "k", 2_499), [1_209, 1_499, 1_501]);
    assert_eq!(times(&mut world, "k", 2_895), [1_209, 1_499, 1_501, 1_895]);
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_timer_of_the_past_fires_at_once_in_place_of_the_one_that_was_held() {
    let mut world = World::new(Pace::default(), 1_000);
    let namespace = create(&mut world, "busy", serde_json::Value::Null);
    element(&mut world, namespace, "k", 1_000, "[[3,1499]]");
    world.restart(1_000);
    world.settle();
    element(&mut world, namespace, "k", 2_100, "[[3,1895]]");
    let values = taken(&mut world, namespace, "k", 2_100);
    assert_eq!((values.len(), &values[0][0]), (1, &1_895.into()));
    world.check_replay(&[namespace], 0);
}
