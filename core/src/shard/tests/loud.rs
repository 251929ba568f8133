//! Much at once, by what is emitted or by what is asked for: turns stay bounded.

use super::*;
use crate::function::{Context, KeyedProcessFunction, OnTimerContext, Result};
use crate::limits::EMITTED_BYTES_A_TURN;
use crate::op::Element;

/// Emits half a megabyte for each element and each timer.
pub(super) struct Loud;

const CALLS: u64 = 100;
const BYTES: usize = 512 << 10;

impl KeyedProcessFunction for Loud {
    type Input = i64;
    type State = ();
    type Output = String;

    fn process_element(&mut self, at: i64, (): &mut (), ctx: &mut Context<String>) -> Result<()> {
        ctx.timers().register_event_time(Timestamp::from_millis(at));
        ctx.emit("x".repeat(BYTES));
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timestamp,
        (): &mut (),
        ctx: &mut OnTimerContext<String>,
    ) -> Result<()> {
        ctx.emit("x".repeat(BYTES));
        Ok(())
    }
}

impl World {
    /// Elements of many keys in one message.
    fn elements(&mut self, namespace: NamespaceId) {
        let mut ops = Operations::default();
        for n in 0..CALLS {
            let (timestamp, input) = (Timestamp::from_millis(0), 0);
            let element = Element { timestamp, input, value: Payload::Json(b"1000") };
            let action = Action::Element(element);
            let key = key_of(n);
            let hash = xxh3_64(key.as_bytes());
            ops.push(namespace, &Op { key: key.as_bytes(), action }, hash, None);
        }
        let outcomes = Arc::clone(&self.outcomes);
        let reply = Box::new(move |outcome: Vec<Outcome>| {
            outcomes.lock().unwrap().extend(outcome.into_iter().map(|outcome| (0, outcome)));
        });
        let (ack, limit) = (Ack::Synced, None);
        self.inbox.push_back(Message::Ops(OpsPart { namespace, ops, ack, limit, reply }));
    }

    /// Takes turns until all has been emitted; returns how many emitted something.
    fn count_turns(&mut self) -> usize {
        let all = CALLS as usize * BYTES;
        let (mut turns, mut total) = (0, 0);
        while total < all {
            let before = self.emitted_bytes();
            self.turn();
            let emitted = self.emitted_bytes() - before;
            assert!(
                emitted < 2 * EMITTED_BYTES_A_TURN as usize + (1 << 20),
                "{emitted} bytes in one turn"
            );
            total += emitted;
            turns += usize::from(emitted > 0);
        }
        turns
    }

    fn emitted_bytes(&self) -> usize {
        self.outside.outputs.iter().map(OutputBytes::len_bytes).sum()
    }

    fn answered(&self) -> usize {
        self.outcomes.lock().unwrap().len()
    }
}

#[test]
fn what_elements_and_timers_emit_is_bounded_in_each_turn() {
    let mut world = World::new(Pace::default(), 0);
    let operator = "loud".to_owned();
    let config = NamespaceConfig { operator, ..NamespaceConfig::default() };
    let namespace = world.create("a", config);
    world.elements(namespace);
    world.elements(namespace);
    world.turn();
    assert_eq!(world.answered(), 0, "some of it waits for the next turn");
    let before = world.emitted_bytes();
    let held = Room { are_outputs_held: true, ..Room::ENDLESS };
    for _ in 0..3 {
        let inbox = &mut world.inbox;
        let (turn, next) = world.shard.turn(world.now, false, held, &mut || inbox.pop_front());
        assert!(turn.outputs.is_empty() && next != Next::Now, "outputs are held up");
    }
    assert_eq!(world.emitted_bytes(), before);
    assert!(world.count_turns() > 2);
    world.settle();
    assert_eq!(world.answered(), 2 * CALLS as usize);
    world.outside.outputs.clear();
    world.watermark("a", 2_000);
    assert!(world.count_turns() > 2);
    world.settle();
    assert_eq!(world.outside.outputs.iter().flat_map(OutputBytes::iter).count(), CALLS as usize);
}

#[test]
fn a_request_of_many_operations_takes_several_turns() {
    let mut world = World::new(Pace { ops: 100, ..Pace::default() }, 0);
    let namespace = world.create("a", NamespaceConfig::default());
    let mut ops = Operations::default();
    for n in 0..250 {
        let (key, action) = (key_of(n), Action::DeleteAll);
        ops.push(namespace, &Op { key: key.as_bytes(), action }, xxh3_64(key.as_bytes()), None);
    }
    let outcomes = Arc::clone(&world.outcomes);
    let reply = Box::new(move |all: Vec<Outcome>| {
        outcomes.lock().unwrap().extend(all.into_iter().map(|outcome| (0, outcome)));
    });
    let (ack, limit) = (Ack::Accepted, None);
    world.inbox.push_back(Message::Ops(OpsPart { namespace, ops, ack, limit, reply }));
    let has_read = Arc::new(Mutex::new(false));
    let reader = Arc::clone(&has_read);
    let reply = Box::new(move |_| *reader.lock().unwrap() = true);
    world.inbox.push_back(Message::Read(Read::Key { namespace, key: b"key".to_vec(), reply }));
    // That outputs are held up is nothing to operations that emit none.
    let held = Room { are_outputs_held: true, ..Room::ENDLESS };
    let mut answered = Vec::new();
    for _ in 0..4 {
        let inbox = &mut world.inbox;
        let (turn, next) = world.shard.turn(world.now, false, held, &mut || inbox.pop_front());
        let records: u32 = turn.blocks.iter().map(|block| block.count).sum();
        let has_taken = world.inbox.is_empty();
        answered.push((records, next == Next::Now, world.answered()));
        assert_eq!(has_taken, world.answered() > 0, "what came later is taken in later");
        turn.synced.run(&mut |_, _| {}, &mut |_| {});
    }
    assert!(*has_read.lock().unwrap());
    assert_eq!(answered[..3], [(100, true, 0), (100, true, 0), (50, false, 250)]);
    assert_eq!(answered[3].0, 0);
}
