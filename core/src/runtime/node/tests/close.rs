//! The end of a namespace's input over crashes, checkpoints and savepoints; and that of its readers.

use super::*;
use crate::namespace::{Closing, CommandReply, NamespaceStatus, ProcessingTimers};
use ProcessingTimers::{Discard, Drain, Wait};
use std::collections::BTreeSet;
use std::task::{Context, Waker};

type Answer<T> = Arc<Mutex<Option<Result<T, Rejection>>>>;

fn slot<T: Send + 'static>() -> (Answer<T>, crate::runtime::Reply<Result<T, Rejection>>) {
    let answer = Arc::new(Mutex::new(None));
    let mine = Arc::clone(&answer);
    (answer, Box::new(move |it| *mine.lock().unwrap() = Some(it)))
}

impl World {
    /// With thirty timers of processing time at 5,000, and as many of event time.
    fn filled(shards: u16) -> Self {
        let mut world = Self::new(shards);
        world.register(0..30, 5_000);
        let outcomes = world.register_event(0..30);
        assert!(outcomes.iter().all(Result::is_ok));
        world
    }

    fn register_event(&mut self, keys: std::ops::Range<u32>) -> Vec<Outcome> {
        let engine = self.node().engine().clone();
        let namespace = engine.namespace("default").expect("it is always there");
        let mut batch = engine.batch(&namespace);
        for n in keys {
            let register = Register {
                domain: Domain::Event,
                name: None,
                when: When::At(Timestamp::from_millis(7)),
                payload: None,
                resolution_ms: None,
                spread_ms: None,
                only: Only::Always,
            };
            let key = format!("event {n}");
            let op = Op { key: key.as_bytes(), action: Action::Register(register) };
            batch.push(&op).expect("it is well-formed");
        }
        let answer = Arc::new(Mutex::new(Vec::new()));
        let mine = Arc::clone(&answer);
        engine.submit(
            batch,
            Box::new(move |outcomes: Vec<Outcome>| *mine.lock().unwrap() = outcomes),
        );
        self.settle();
        std::mem::take(&mut answer.lock().unwrap())
    }

    fn ask_close(&mut self, timers: ProcessingTimers) -> Answer<CommandReply> {
        let (answer, reply) = slot();
        self.node().engine().command("default", Command::Close(timers), true, reply);
        answer
    }

    fn close(&mut self, timers: ProcessingTimers) -> Closing {
        let answer = self.ask_close(timers);
        self.settle();
        let answer = answer.lock().unwrap().take().expect("it was answered");
        match answer {
            Ok(CommandReply::Closed { closing, .. }) => closing,
            other => panic!("{other:?}"),
        }
    }

    fn status(&mut self) -> NamespaceStatus {
        let (answer, reply) = slot();
        let engine = self.node().engine().clone();
        engine.describe(&engine.namespace("default").expect("it is always there"), reply);
        self.settle();
        let status = answer.lock().unwrap().take().expect("it was answered");
        status.expect("it is there")
    }

    /// Whether its readers end; nobody can write to it then.
    fn is_ended(&mut self) -> bool {
        let engine = self.node().engine().clone();
        let namespace = engine.namespace("default").expect("it is always there");
        let is_ended = engine.outputs().is_ended(namespace.id);
        assert!(namespace.is_closed() || !is_ended);
        is_ended
    }

    fn check_closed(&mut self, timers: ProcessingTimers) {
        assert!(self.is_ended());
        let status = self.status();
        assert_eq!(status.closing, Some(Closing { processing_timers: timers, is_closed: true }));
        assert_eq!((status.pending_event, status.pending_processing), (0, 0));
        assert_eq!(status.watermark, Some(Timestamp::MAX));
        let refused = self.register_event(0..3);
        assert_eq!(refused, vec![Err(Rejection::NamespaceClosed); 3]);
        let outputs = self.outputs(None);
        let keys: BTreeSet<&str> = outputs.iter().map(|(_, key, _)| key.as_str()).collect();
        let ids: BTreeSet<&str> = outputs.iter().map(|(_, _, id)| id.as_str()).collect();
        let expected = if timers == Discard { 30 } else { 60 };
        assert_eq!([outputs.len(), keys.len(), ids.len()], [expected; 3], "each once");
    }
}

/// Goes down after so many steps of a close; `false`: it had come to its end.
fn goes_down(timers: ProcessingTimers, shards: u16, steps: usize) -> bool {
    let mut world = World::filled(shards);
    let answer = world.ask_close(timers);
    let parts = world.node().parts();
    let mut idle = 0;
    for step in 0..steps {
        let is_busy = world.node().step(parts[step % parts.len()]).expect("the disk works");
        idle = if is_busy { 0 } else { idle + 1 };
    }
    let is_answered = answer.lock().unwrap().is_some();
    world.crash();
    if is_answered {
        assert_eq!(world.register_event(0..1), [Err(Rejection::NamespaceClosed)], "it was said");
    }
    let closing = world.close(timers);
    assert_eq!(closing, Closing { processing_timers: timers, is_closed: timers != Wait });
    assert_eq!(world.is_ended(), timers != Wait);
    world.pass(5_000);
    world.settle();
    world.check_closed(timers);
    world.crash();
    world.check_closed(timers);
    idle < parts.len()
}

#[test]
fn a_close_survives_a_crash_after_every_step() {
    for timers in ProcessingTimers::ALL {
        for shards in [1, 3] {
            let steps = (0..10_000).take_while(|steps| goes_down(timers, shards, *steps)).count();
            assert!(steps > 10, "{steps}");
        }
    }
}

#[test]
fn a_close_stands_in_a_checkpoint() {
    for timers in ProcessingTimers::ALL {
        let mut world = World::filled(2);
        assert_eq!(world.close(timers).is_closed, timers != Wait);
        world.checkpoint();
        world.crash();
        let closing = Closing { processing_timers: timers, is_closed: timers != Wait };
        assert_eq!(world.status().closing, Some(closing));
        assert_eq!(world.register_event(0..1), [Err(Rejection::NamespaceClosed)]);
        world.pass(5_000);
        world.settle();
        world.check_closed(timers);
        world.checkpoint();
        world.shards = 4;
        world.crash();
        world.check_closed(timers);
    }
}

#[test]
fn a_savepoint_of_what_is_waited_for_is_restored_and_runs_out() {
    let mut world = World::filled(2);
    assert!(!world.close(Wait).is_closed);
    let waiting = world.savepoint(&[]);
    assert!(world.close(Drain).is_closed);
    let closed = world.savepoint(&[]);
    for layout in [(8, 4), (5, 2), (16, 16)] {
        let (mut restored, _) = world.restored(&closed.id, layout, 2);
        restored.check_closed(Drain);
        let (mut restored, info) = world.restored(&waiting.id, layout, 2);
        assert_eq!(info.timers, 30);
        let closing = Some(Closing { processing_timers: Wait, is_closed: false });
        assert_eq!((restored.status().closing, restored.is_ended()), (closing, false));
        assert_eq!(restored.register_event(0..1), [Err(Rejection::NamespaceClosed)]);
        if layout.0 == 8 {
            assert!(restored.close(Drain).is_closed);
            restored.check_closed(Drain);
        }
    }
    // The clock goes on for all of them.
    world.pass(5_000);
    let (mut restored, _) = world.restored(&waiting.id, (7, 3), 1);
    restored.check_closed(Wait);
}

#[test]
fn who_waits_for_outputs_is_told_of_the_end() {
    let mut world = World::filled(2);
    let engine = world.node().engine().clone();
    let namespace = engine.namespace("default").expect("it is always there");
    let latest = engine.outputs().latest();
    let mut waiter = engine.outputs().waiter(namespace.id);
    let context = &mut Context::from_waker(Waker::noop());
    assert!(waiter.poll_ready(latest, context).is_pending());
    assert!(!world.close(Wait).is_closed);
    assert!(waiter.poll_ready(latest, context).is_ready(), "the event timers have fired");
    let latest = engine.outputs().latest();
    assert!(waiter.poll_ready(latest, context).is_pending());
    assert!(world.close(Discard).is_closed);
    assert!(waiter.poll_ready(latest, context).is_ready(), "nothing will ever come");
    assert!(engine.outputs().is_ended(namespace.id));
    assert_eq!(engine.metrics().discarded, 30);
    // Emptied, it begins anew.
    engine.command("default", Command::Delete { force: true }, true, Box::new(drop));
    drop((engine, waiter));
    world.settle();
    assert_eq!((world.status().closing, world.is_ended()), (None, false));
    assert!(world.register_event(0..3).iter().all(Result::is_ok));
}
