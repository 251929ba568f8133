//! Controls made again from what was written of them behave as those that went on.

use super::*;
use crate::error::Rejection;
use crate::key_group::LaneIndex;
use crate::namespace::control::{Asked, ControlEffect, StepDone, Ticket};
use crate::namespace::{
    ClockChange, ClockKind, Command, CommandReply, ProcessingTimers, SourceChange, WatermarkConfig,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const LANES: u16 = 3;
const NAMES: [&str; 3] = ["default", "orders", "x"];

#[derive(Debug, Clone)]
enum Event {
    Command(usize, Box<Command>),
    /// So much time passes.
    Silence(i64),
    /// The lanes acknowledge so many times, the oldest steps first.
    Acknowledge(u8),
}

/// Controls with lanes that have heard of steps and not yet answered.
struct World {
    controls: Controls,
    now: i64,
    tickets: u64,
    /// Acknowledgements still to come, in their order.
    owed: Vec<StepDone>,
    published: BTreeMap<Arc<str>, (NamespaceId, u64, Arc<NamespaceConfig>)>,
    answers: Vec<(Ticket, Result<CommandReply, Rejection>)>,
    sent: Vec<(NamespaceId, u64, Change)>,
    born: BTreeMap<NamespaceId, Option<Cursor>>,
    finished: Vec<NamespaceId>,
}

impl World {
    fn new() -> Self {
        Self {
            controls: Controls::new(1, LANES),
            now: 0,
            tickets: 0,
            owed: Vec::new(),
            published: BTreeMap::new(),
            answers: Vec::new(),
            sent: Vec::new(),
            born: BTreeMap::new(),
            finished: Vec::new(),
        }
    }

    fn take(&mut self, effects: Vec<ControlEffect>) {
        for effect in effects {
            match effect {
                ControlEffect::Send(step) => {
                    for is_settled in [false, true] {
                        let (namespace, number) = (step.namespace, step.number);
                        let timers = if is_settled { number } else { 0 };
                        let done =
                            StepDone { namespace, number, is_settled, timers, is_failed: false };
                        self.owed.extend([done; LANES as usize]);
                    }
                    self.sent.push((step.namespace, step.number, step.change));
                }
                ControlEffect::Answer(ticket, answer) => self.answers.push((ticket, answer)),
                ControlEffect::Publish { id, name, config, version, born } => {
                    let asked = self.born.entry(id).or_insert(born);
                    assert_eq!(*asked, born, "it is born once");
                    self.published.insert(name, (id, version, config));
                }
                ControlEffect::Finish { id } => {
                    assert!(!self.finished.contains(&id), "it is said once");
                    self.finished.push(id);
                }
                ControlEffect::Withdraw { id, name } => {
                    self.published.retain(|own, it| *own != name || it.0 != id);
                }
            }
        }
    }

    fn happen(&mut self, event: &Event) {
        let mut effects = Vec::new();
        match event {
            Event::Command(name, command) => {
                self.tickets += 1;
                let (ticket, now) = (Ticket(self.tickets), Timestamp::from_millis(self.now));
                let settle = self.tickets.is_multiple_of(2);
                let (name, command) = (NAMES[*name].to_owned(), (**command).clone());
                let cursor = Some(self.tickets);
                let asked = Asked { settle, cursor, ..Asked::new(name, command) };
                self.controls.command(ticket, &asked, now, &mut effects);
            }
            Event::Silence(millis) => {
                self.now += millis;
                self.controls.idle_silent(Timestamp::from_millis(self.now), &mut effects);
            }
            Event::Acknowledge(count) => {
                for done in self.owed.drain(..self.owed.len().min(*count as usize)) {
                    self.controls.step_done(done, &mut effects);
                }
            }
        }
        self.take(effects);
    }

    /// The same after a restart, with the lanes asked again.
    fn reborn(&self) -> Self {
        let state = self.controls.to_state();
        let text = serde_json::to_string(&state).expect("plain data");
        let read: ControlsState = serde_json::from_str(&text).expect("it was just written");
        assert_eq!(read, state);
        let (now, tickets, born) = (self.now, self.tickets, self.born.clone());
        let mut it = Self { now, tickets, born, ..Self::new() };
        it.controls = Controls::from_state(1, LANES, read);
        assert_eq!(it.controls.to_state(), state);
        assert_eq!(it.controls.next_idle(), self.controls.next_idle());
        let mut effects = Vec::new();
        // Of the steps under way no lane knows but of those that all have applied.
        let mut numbers: BTreeMap<NamespaceId, u64> =
            it.controls.by_name.values().map(|it| (it.id, it.steps)).collect();
        for ((id, number), step) in self.controls.in_flight.iter().rev() {
            let is_applied = step.applied == LANES;
            numbers.insert(*id, if is_applied { *number } else { number - 1 });
        }
        let everywhere = |number: u64| (0..LANES).map(|lane| (LaneIndex(lane), number)).collect();
        let numbers = numbers.into_iter().map(|(id, number)| (id, everywhere(number))).collect();
        it.controls.recovered(&numbers, &mut effects);
        it.take(effects);
        it
    }
}

fn config() -> impl Strategy<Value = NamespaceConfig> {
    let sources = prop::collection::vec(prop_oneof![Just("a"), Just("b")], 0..2);
    let idle = prop::option::of(1..50i64);
    (any::<bool>(), sources, idle, 1..3i64).prop_map(|(manual, sources, idle, resolution_ms)| {
        NamespaceConfig {
            clock: if manual { ClockKind::Manual } else { ClockKind::System },
            resolution_ms,
            watermark: WatermarkConfig {
                sources: sources.into_iter().map(str::to_owned).collect(),
                idle_after_ms: idle,
                delay_ms: None,
            },
            ..NamespaceConfig::default()
        }
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let time = || (-20..100i64).prop_map(Timestamp::from_millis);
    let change = prop_oneof![
        6 => time().prop_map(SourceChange::Watermark),
        1 => Just(SourceChange::Idle),
        1 => Just(SourceChange::Forget),
    ];
    let source = prop_oneof![Just("a"), Just("b"), Just("c")];
    let command = prop_oneof![
        4 => config().prop_map(|config| Command::Put { config, expected_version: None }),
        1 => any::<bool>().prop_map(|force| Command::Delete { force }),
        6 => (source, change).prop_map(|(source, change)| {
            Command::Source { source: source.to_owned(), change }
        }),
        2 => time().prop_map(|to| Command::Clock(ClockChange::Set(to))),
        1 => (0..9i64).prop_map(|by| Command::Clock(ClockChange::Advance(by))),
        1 => Just(Command::Pause),
        1 => Just(Command::Resume),
        1 => (0..3usize).prop_map(|which| Command::Close(ProcessingTimers::ALL[which])),
    ];
    let event = prop_oneof![
        6 => (0..NAMES.len(), command).prop_map(|(name, command)| Event::Command(name, Box::new(command))),
        1 => (0..30i64).prop_map(Event::Silence),
        2 => (0..20u8).prop_map(Event::Acknowledge),
    ];
    prop::collection::vec(event, 0..40)
}

proptest! {
    #[test]
    fn controls_made_again_behave_alike(before in events(), after in events()) {
        let mut world = World::new();
        for event in &before {
            world.happen(event);
        }
        let mut other = world.reborn();
        let asked = world.tickets;
        for name in world.published.keys() {
            // A configuration under way is published once it stands everywhere, as it was before.
            let is_under_way = world.controls.in_flight.values().any(|step| {
                step.publish.as_ref().is_some_and(|publish| publish.name == *name)
            });
            prop_assert!(is_under_way || other.published.get(name) == world.published.get(name));
        }
        for it in [&mut world, &mut other] {
            while !it.owed.is_empty() {
                it.happen(&Event::Acknowledge(u8::MAX));
            }
            prop_assert!(it.controls.in_flight.is_empty());
            (it.answers, it.sent) = (Vec::new(), Vec::new());
        }
        prop_assert_eq!(&world.published, &other.published);
        for event in &after {
            for it in [&mut world, &mut other] {
                it.happen(event);
            }
        }
        prop_assert!(world.answers.iter().all(|(ticket, _)| ticket.0 > asked));
        for it in world.controls.by_name.values() {
            let is_said = [&world, &other].map(|world| world.finished.contains(&it.id));
            prop_assert_eq!(is_said, [it.is_finished; 2]);
        }
        prop_assert_eq!(world.answers, other.answers);
        prop_assert_eq!(world.sent, other.sent);
        prop_assert_eq!(world.published, other.published);
        prop_assert_eq!(world.controls.to_state(), other.controls.to_state());
    }
}
