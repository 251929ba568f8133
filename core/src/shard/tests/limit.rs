//! A limit on a namespace's timers: what is there already is never refused.

use super::*;
use crate::op::ResultKind;

const AFTER_MS: i64 = 1_000;

fn limited(timers: u64) -> NamespaceConfig {
    let mut config = NamespaceConfig::default();
    config.limits.timers = Some(timers);
    config
}

fn touch(key: &str) -> Op<'_> {
    let action = Action::Touch { name: "timeout", domain: Domain::Processing, after_ms: AFTER_MS };
    Op { key: key.as_bytes(), action }
}

fn unnamed(key: &str, at: i64, only: Only) -> Op<'_> {
    let register = Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(Timestamp::from_millis(at)),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only,
    };
    Op { key: key.as_bytes(), action: Action::Register(register) }
}

fn delete_all(key: &str) -> Op<'_> {
    Op { key: key.as_bytes(), action: Action::DeleteAll }
}

impl World {
    /// One request, answered.
    fn batch(&mut self, namespace: NamespaceId, limit: u64, asked: &[Op<'_>]) -> Vec<Outcome> {
        let mut ops = Operations::default();
        for op in asked {
            ops.push(namespace, op, xxh3_64(op.key), None);
        }
        let answer = Arc::new(Mutex::new(Vec::new()));
        let mine = Arc::clone(&answer);
        let reply = Box::new(move |outcomes| *mine.lock().unwrap() = outcomes);
        let (ack, limit) = (Ack::Synced, Some(limit));
        self.inbox.push_back(Message::Ops(OpsPart { namespace, ops, ack, limit, reply }));
        self.turn();
        std::mem::take(&mut *answer.lock().unwrap())
    }

    fn results(
        &mut self,
        namespace: NamespaceId,
        limit: u64,
        ops: &[Op<'_>],
    ) -> Vec<Option<ResultKind>> {
        let outcomes = self.batch(namespace, limit, ops);
        assert_eq!(outcomes.len(), ops.len());
        let exceeded = Rejection::TimersExceeded { limit };
        let kinds = outcomes.into_iter().map(|outcome| match outcome {
            Ok(applied) => Some(applied.result),
            Err(rejection) => {
                assert_eq!(rejection, exceeded);
                None
            }
        });
        kinds.collect()
    }
}

#[test]
fn a_heartbeat_of_a_timer_that_is_there_is_never_refused() {
    let mut world = World::new(Pace::default(), 0);
    let id = world.create("few", limited(2));
    let created = Some(ResultKind::Created);
    let replaced = Some(ResultKind::Replaced);
    let first = world.results(id, 2, &[touch("a"), touch("b"), touch("c")]);
    assert_eq!(first, [created, created, None]);
    world.now = Timestamp::from_millis(10);
    let again = world.results(id, 2, &[touch("a"), touch("c"), touch("b"), touch("a")]);
    assert_eq!(again, [replaced, None, replaced, Some(ResultKind::Unchanged)]);
    world.settle();
    // The one that was refused left nothing behind, in the log neither.
    assert_eq!(world.fires(id).len(), 0);
    world.check_replay(&[id], 0);
    let (other, _) = world.follow();
    assert_eq!(other.shard.stats().pending, world.shard.stats().pending);
    world.now = Timestamp::from_millis(10 + AFTER_MS);
    world.settle();
    assert_eq!(world.fires(id).keys().collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(
        world.results(id, 2, &[touch("c"), touch("d"), touch("e")]),
        [created, created, None]
    );
}

#[test]
fn room_that_a_request_makes_can_be_used_in_it() {
    let mut world = World::new(Pace::default(), 0);
    let id = world.create("few", limited(2));
    world.results(id, 2, &[touch("a"), touch("b")]);
    let ops = [touch("c"), delete_all("a"), touch("c"), touch("d"), delete_all("b"), touch("d")];
    let cancelled = Some(ResultKind::Cancelled);
    let created = Some(ResultKind::Created);
    assert_eq!(world.results(id, 2, &ops), [None, cancelled, created, None, cancelled, created]);
    world.settle();
    world.check_replay(&[id], 0);
}

#[test]
fn what_adds_nothing_is_never_refused() {
    let mut world = World::new(Pace::default(), 100);
    let id = world.create("one", limited(1));
    let (always, absent, present) = (Only::Always, Only::Absent, Only::Present);
    let ops = [
        unnamed("a", 500, always),
        unnamed("a", 500, always),
        unnamed("a", 500, absent),
        unnamed("b", 500, present),
        // It fires at once: it holds no room.
        unnamed("b", 50, always),
        unnamed("b", 500, always),
    ];
    let kinds = [
        ResultKind::Created,
        ResultKind::Duplicate,
        ResultKind::Kept,
        ResultKind::Kept,
        ResultKind::Created,
    ];
    let mut expected: Vec<_> = kinds.into_iter().map(Some).collect();
    expected.push(None);
    assert_eq!(world.results(id, 1, &ops), expected);
    assert_eq!(world.fires(id).len(), 1);
}

#[test]
fn an_error_of_the_operation_goes_before_the_limit() {
    let mut world = World::new(Pace::default(), 0);
    let id = world.create("none", limited(0));
    let mut far = touch("a");
    far.action = Action::Touch { name: "timeout", domain: Domain::Event, after_ms: 1 };
    let outcomes = world.batch(id, 0, &[far, touch("a")]);
    assert_eq!(
        outcomes,
        [Err(Rejection::WatermarkUnset), Err(Rejection::TimersExceeded { limit: 0 })]
    );
}

#[test]
fn a_storm_that_drains_makes_room_and_refuses_nothing_that_is_there() {
    let pace = Pace { budget: 1, ..Pace::default() };
    let mut world = World::new(pace, 0);
    let id = world.create("storm", limited(60));
    let keys: Vec<String> = (0..60).map(|n| format!("{n}")).collect();
    let ops: Vec<_> = keys.iter().map(|key| touch(key)).collect();
    assert!(world.results(id, 60, &ops).iter().all(|it| *it == Some(ResultKind::Created)));
    world.now = Timestamp::from_millis(AFTER_MS);
    world.turn();
    assert!(world.shard.lanes.iter().any(Lane::is_busy), "the storm is under way");
    let again = world.results(id, 60, &ops);
    assert!(again.iter().all(Option::is_some), "{again:?}");
    world.settle();
    assert_eq!(world.shard.stats().pending, [0, 60]);
    assert!(!world.fires(id).is_empty(), "what was due in a lane has fired there");
}
