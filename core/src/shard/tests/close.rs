//! The end of a namespace's input: what is left fires, runs out or goes, and nothing more comes in.

use super::*;
use crate::namespace::Closing;
use crate::op::Element;
use ProcessingTimers::{Discard, Drain, Wait};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn register(key: &str, domain: Domain, time: i64) -> Op<'_> {
    let register = Register {
        domain,
        name: None,
        when: When::At(at(time)),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    };
    Op { key: key.as_bytes(), action: Action::Register(register) }
}

/// A namespace at 1,000, with three timers of processing time and one of event time.
fn filled(config: NamespaceConfig) -> (World, NamespaceId) {
    let mut world = World::new(Pace::default(), 1_000);
    let namespace = world.create("n", config);
    for (key, time) in [("a", 3_000), ("b", 2_000), ("c", 4_000)] {
        world.op(namespace, &register(key, Domain::Processing, time));
    }
    world.op(namespace, &register("a", Domain::Event, 5_000));
    world.settle();
    (world, namespace)
}

impl World {
    fn close(&mut self, timers: ProcessingTimers) -> Result<CommandReply, Rejection> {
        self.command("n", Command::Close(timers));
        self.settle();
        self.answer()
    }

    fn answer(&self) -> Result<CommandReply, Rejection> {
        self.answers.lock().unwrap().last().expect("an answer").clone()
    }

    /// Steps of closing namespaces under way, and positions of those that drain.
    pub(super) fn drains(&self) -> Vec<(u16, u64)> {
        let mut drains = Vec::new();
        for LaneBlock { lane, first_position, records, .. } in &self.outside.blocks {
            let (mut rest, mut position) = (&records[..], *first_position);
            while let Some((record, behind)) = split_record(rest) {
                if matches!(record, Record::Step { change: b"\"drain\"", .. }) {
                    drains.push((*lane, position));
                }
                (rest, position) = (behind, position + 1);
            }
        }
        drains
    }

    /// What has fired: domain and times, `fire_at` and `due_by`.
    fn fired(&self, namespace: NamespaceId) -> Vec<(Domain, i64, i64)> {
        let blocks = self.outside.outputs.iter().filter(|block| block.namespace == namespace);
        let mut fired: Vec<_> = blocks
            .flat_map(OutputBytes::iter)
            .map(|it| (it.domain, it.fire_at.as_millis(), it.due_by.as_millis()))
            .collect();
        fired.sort_unstable();
        fired
    }

    fn is_finished(&self, namespace: NamespaceId) -> bool {
        self.outside.registry.finished.lock().unwrap().contains(&namespace)
    }

    /// Whether an operation is refused because the namespace is closed.
    fn refuses(&mut self, namespace: NamespaceId) -> bool {
        let before = self.outcomes.lock().unwrap().len();
        self.op(namespace, &register("z", Domain::Event, 1));
        self.settle();
        self.outcomes.lock().unwrap().len() == before
    }
}

#[allow(clippy::unnecessary_wraps, reason = "it is compared with an answer, which may be refused")]
fn closed(
    changed: bool,
    processing_timers: ProcessingTimers,
    is_closed: bool,
    timers: u64,
) -> Result<CommandReply, Rejection> {
    let closing = Closing { processing_timers, is_closed };
    Ok(CommandReply::Closed { changed, closing, timers })
}

const FINAL: (Domain, i64, i64) = (Domain::Event, 5_000, i64::MAX);

fn processing(time: i64, due_by: i64) -> (Domain, i64, i64) {
    (Domain::Processing, time, due_by)
}

#[test]
fn what_is_drained_fires_at_once_in_its_order_and_says_when() {
    let (mut world, namespace) = filled(NamespaceConfig::default());
    assert!(!world.refuses(namespace));
    world.command("n", Command::Close(Drain));
    // Asked again before it is done: answered when it is.
    assert_eq!(world.close(Discard), closed(false, Drain, true, 0));
    let answers = world.answers.lock().unwrap().clone();
    assert_eq!(answers[answers.len() - 2], closed(true, Drain, true, 3));
    let drained = [processing(2_000, 1_000), processing(3_000, 1_000), processing(4_000, 1_000)];
    let first = (Domain::Event, 1, i64::MAX);
    assert_eq!(world.fired(namespace), [&[first, FINAL][..], &drained].concat());
    assert!(world.is_finished(namespace) && world.refuses(namespace));
    world.watermark("n", 9_000);
    world.settle();
    assert_eq!(world.answer(), Err(Rejection::NamespaceClosed));
    assert_eq!(world.close(Drain), closed(false, Drain, true, 0));
    world.check_replay(&[namespace], 0);
    world.restart(5_000);
    world.settle();
    assert!(world.is_finished(namespace) && world.refuses(namespace));
    assert_eq!(world.shard.stats().keys, 0);
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_drain_by_a_manual_clock_says_what_that_read_or_the_timers_own_time() {
    let config = NamespaceConfig { clock: ClockKind::Manual, ..NamespaceConfig::default() };
    let (mut world, namespace) = filled(config.clone());
    assert_eq!(world.close(Drain), closed(true, Drain, true, 3));
    let own = [processing(2_000, 2_000), processing(3_000, 3_000), processing(4_000, 4_000)];
    assert_eq!(world.fired(namespace), [&[FINAL][..], &own].concat());
    world.check_replay(&[namespace], 0);
    world.clock("n", 7);
    world.settle();
    assert_eq!(world.answer(), Err(Rejection::NamespaceClosed), "it stands at its end");

    let (mut world, namespace) = filled(config);
    world.clock("n", 2_500);
    world.settle();
    assert_eq!(world.close(Drain), closed(true, Drain, true, 2));
    let drained = [processing(2_000, 2_500), processing(3_000, 2_500), processing(4_000, 2_500)];
    assert_eq!(world.fired(namespace), [&[FINAL][..], &drained].concat());
    world.check_replay(&[namespace], 0);
}

#[test]
fn what_is_waited_for_fires_at_its_time_also_after_a_restart() {
    let (mut world, namespace) = filled(NamespaceConfig::default());
    assert_eq!(world.close(Wait), closed(true, Wait, false, 0));
    assert_eq!(world.close(Wait), closed(false, Wait, false, 0));
    assert_eq!(world.fired(namespace), [FINAL]);
    assert!(world.refuses(namespace) && !world.is_finished(namespace));
    world.now = at(2_000);
    world.settle();
    world.check_replay(&[namespace], 0);
    world.restart(1_000);
    world.settle();
    assert!(world.refuses(namespace) && !world.is_finished(namespace));
    world.now = at(3_999);
    world.settle();
    assert!(!world.is_finished(namespace));
    world.now = at(4_000);
    world.settle();
    let out = [processing(2_000, 2_000), processing(3_000, 3_000), processing(4_000, 4_000)];
    assert_eq!(world.fired(namespace), [&[FINAL][..], &out].concat());
    assert!(world.is_finished(namespace));
    assert_eq!(world.close(Wait), closed(false, Wait, true, 0));
    world.check_replay(&[namespace], 0);
}

#[test]
fn what_is_discarded_goes_and_is_counted() {
    let (mut world, namespace) = filled(NamespaceConfig::default());
    assert_eq!(world.close(Discard), closed(true, Discard, true, 3));
    assert_eq!(world.fired(namespace), [FINAL]);
    let stats = world.shard.stats();
    assert_eq!((stats.discarded, stats.keys, stats.pending), (3, 0, [0, 0]));
    assert!(world.is_finished(namespace));
    world.check_replay(&[namespace], 0);
}

#[test]
fn what_is_waited_for_can_be_drained_after_all() {
    for timers in [Drain, Discard] {
        let (mut world, namespace) = filled(NamespaceConfig::default());
        assert_eq!(world.close(Wait), closed(true, Wait, false, 0));
        world.now = at(2_000);
        world.settle();
        assert_eq!(world.close(timers), closed(true, timers, true, 2));
        assert_eq!(world.fired(namespace).len(), if timers == Drain { 4 } else { 2 });
        assert_eq!(world.close(Wait), closed(false, timers, true, 0), "that is final");
        world.check_replay(&[namespace], 0);
    }
}

#[test]
fn one_that_is_paused_is_resumed_first() {
    let (mut world, namespace) = filled(NamespaceConfig::default());
    world.command("n", Command::Pause);
    world.settle();
    assert_eq!(world.close(Wait), Err(Rejection::NamespacePaused));
    assert!(!world.refuses(namespace));
    world.command("n", Command::Resume);
    world.settle();
    assert_eq!(world.close(Wait), closed(true, Wait, false, 0));
    // Time may stand still in what is waited for, too.
    world.command("n", Command::Pause);
    world.settle();
    world.now = at(9_000);
    assert_eq!(world.close(Drain), Err(Rejection::NamespacePaused));
    assert_eq!(world.close(Wait), closed(false, Wait, false, 0));
    world.command("n", Command::Resume);
    world.settle();
    assert!(world.is_finished(namespace));
    assert_eq!(world.close(Discard), closed(true, Discard, true, 0));
    world.command("n", Command::Pause);
    world.settle();
    assert_eq!(world.answer(), Err(Rejection::NamespaceClosed));
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_namespace_without_timers_is_closed_at_once_and_one_that_is_deleted_waits_for_nothing() {
    let mut world = World::new(Pace::default(), 1_000);
    let empty = world.create("n", NamespaceConfig::default());
    assert_eq!(world.close(Wait), closed(true, Wait, true, 0));
    assert!(world.is_finished(empty));
    let (mut world, namespace) = filled(NamespaceConfig::default());
    assert_eq!(world.close(Wait), closed(true, Wait, false, 0));
    let is_in_flight = |world: &World| world.shard.controls.iter().any(Controls::is_step_in_flight);
    assert!(!is_in_flight(&world), "a savepoint does not wait for the timers");
    world.command("n", Command::Delete { force: true });
    world.settle();
    assert_eq!(world.answer(), Ok(CommandReply::Deleted { timers: 3 }));
    let state = world.shard.controls.iter().flat_map(|controls| controls.to_state().in_flight);
    assert_eq!(state.count(), 0);
    assert!(!world.refuses(namespace), "it is not there any more");
    assert_eq!(
        world.outcomes.lock().unwrap().last().map(|it| it.1.clone()),
        Some(Err(Rejection::NamespaceUnknown))
    );
}

/// Goes down after so many turns of a close; `false`: that was its end.
fn goes_down(timers: ProcessingTimers, turns: u32) -> bool {
    let pace = Pace { ops: 1, messages: 1, budget: 2, ..Pace::default() };
    let mut world = World::new(pace, 1_000);
    let namespace = world.create("n", NamespaceConfig::default());
    for n in 0..20 {
        for (domain, key) in [(Domain::Event, key_of(n)), (Domain::Processing, key_of(n))] {
            world.op(namespace, &register(&key, domain, 2_000 + n as i64));
        }
    }
    world.settle();
    world.command("n", Command::Close(timers));
    let goes_on = (0..=turns).all(|_| world.turn() == Next::Now);
    world.restart(10);
    world.settle();
    // Whoever asked may have got no answer, and asks again.
    let again = world.close(timers);
    let is_left = timers == Wait;
    assert_eq!(again, closed(false, timers, !is_left, 0));
    assert_eq!((world.refuses(namespace), world.is_finished(namespace)), (true, !is_left));
    world.now = at(3_000);
    world.settle();
    assert!(world.is_finished(namespace));
    let fired = world.fired(namespace);
    let of = |domain| fired.iter().filter(|it| it.0 == domain).count();
    let expected = if timers == Discard { 0 } else { 20 };
    assert_eq!([of(Domain::Event), of(Domain::Processing)], [20, expected]);
    assert_eq!(world.shard.stats().keys, 0);
    world.check_replay(&[namespace], 20);
    goes_on
}

#[test]
fn a_close_survives_a_crash_after_every_turn() {
    for timers in ProcessingTimers::ALL {
        let turns = (1..10_000).take_while(|turns| goes_down(timers, *turns)).count();
        assert!(turns > 8, "{turns}");
    }
}

#[test]
fn a_function_sees_the_end_of_time_and_what_it_asks_for_there_is_refused() {
    let mut world = World::new(Pace::default(), 1_000);
    let operator = "busy".to_owned();
    let namespace = world.create("n", NamespaceConfig { operator, ..NamespaceConfig::default() });
    // By its remainder of seven, the first asks for one more timer of processing time, two later, and
    // the second one for one of event time.
    for (key, time) in [("a", 7_001), ("b", 7_003)] {
        let value = serde_json::to_vec(&[(1, time)]).expect("plain data");
        let element = Element { timestamp: at(0), input: 0, value: Payload::Json(&value) };
        world.op(namespace, &Op { key: key.as_bytes(), action: Action::Element(element) });
    }
    assert_eq!(world.close(Drain), closed(true, Drain, true, 2));
    let stats = world.shard.stats();
    assert_eq!((stats.refused_at_the_end, stats.pending), (2, [0, 0]));
    let outputs = world.outside.outputs.iter().flat_map(OutputBytes::iter);
    let mut values: Vec<_> = outputs
        .map(|it| String::from_utf8_lossy(it.payload.expect("a value").bytes()).into_owned())
        .collect();
    values.sort_unstable();
    let end = i64::MAX;
    let value = |time| format!("[{time},\"processing\",null,null,1,{end},{end}]");
    assert_eq!(values, [7_001, 7_003].map(value));
    world.check_replay(&[namespace], 0);
}
