//! Commands in, steps and answers out, without lanes.

use super::*;
use crate::namespace::SourceResult;
use serde_json::json;

const LANES: u16 = 3;

struct World {
    controls: Controls,
    tickets: u64,
}

impl World {
    fn new() -> Self {
        Self { controls: Controls::new(1, LANES), tickets: 0 }
    }

    fn command(&mut self, name: &str, command: &Command, pending: u64) -> Vec<ControlEffect> {
        self.ask(name, command, pending, false)
    }

    fn ask(
        &mut self,
        name: &str,
        command: &Command,
        pending: u64,
        settle: bool,
    ) -> Vec<ControlEffect> {
        let mut effects = Vec::new();
        self.tickets += 1;
        let (ticket, now) = (Ticket(self.tickets), Timestamp::from_millis(0));
        let (name, command) = (name.to_owned(), command.clone());
        let asked = Asked { keeps_options: true, settle, pending, ..Asked::new(name, command) };
        self.controls.command(ticket, &asked, now, &mut effects);
        effects
    }

    /// Acknowledges a step in all lanes.
    fn finish(&mut self, step: &Step, timers: u64) -> Vec<ControlEffect> {
        let mut effects = self.done(step, false, 0);
        effects.extend(self.done(step, true, timers));
        effects
    }

    fn done(&mut self, step: &Step, is_settled: bool, timers: u64) -> Vec<ControlEffect> {
        let mut effects = Vec::new();
        for _ in 0..LANES {
            let (namespace, number) = (step.namespace, step.number);
            let done = StepDone { namespace, number, is_settled, timers, is_failed: false };
            self.controls.step_done(done, &mut effects);
        }
        effects
    }

    fn create(&mut self, name: &str, config: NamespaceConfig) -> Step {
        let put = Command::Put { config, expected_version: None };
        let effects = self.command(name, &put, 0);
        let [ControlEffect::Send(step)] = &effects[..] else { panic!("{effects:?}") };
        let step = step.clone();
        self.finish(&step, 0);
        step
    }
}

fn manual() -> NamespaceConfig {
    NamespaceConfig { clock: ClockKind::Manual, ..NamespaceConfig::default() }
}

fn answer(effects: &[ControlEffect]) -> &Result<CommandReply, Rejection> {
    let mut answers = effects.iter().filter_map(|effect| match effect {
        ControlEffect::Answer(_, answer) => Some(answer),
        _ => None,
    });
    let answer = answers.next().expect("an answer");
    assert!(answers.next().is_none(), "one answer");
    answer
}

#[test]
fn a_namespace_is_published_when_every_lane_has_it() {
    let mut world = World::new();
    let put = Command::Put { config: NamespaceConfig::default(), expected_version: None };
    let effects = world.command("orders", &put, 0);
    let [ControlEffect::Send(step)] = &effects[..] else { panic!("{effects:?}") };
    let (namespace, number) = (step.namespace, step.number);
    assert_eq!(namespace.0 % LANES as u64, 1, "an incarnation tells its home");
    let done = StepDone { namespace, number, is_settled: false, timers: 0, is_failed: false };
    let mut effects = Vec::new();
    for _ in 1..LANES {
        world.controls.step_done(done, &mut effects);
        assert!(effects.is_empty());
    }
    world.controls.step_done(done, &mut effects);
    assert!(matches!(effects[0], ControlEffect::Publish { version: 1, .. }));
    let created = CommandReply::Configured { created: true, version: 1 };
    assert_eq!(answer(&effects), &Ok(created));
}

#[test]
fn a_namespace_that_is_gone_is_not_published_any_more() {
    let mut world = World::new();
    let put = Command::Put { config: NamespaceConfig::default(), expected_version: None };
    let mut steps = world.command("orders", &put, 0);
    steps.extend(world.command("orders", &Command::Delete { force: false }, 0));
    for step in steps {
        if let ControlEffect::Send(step) = step {
            let effects = world.finish(&step, 0);
            assert!(!effects.iter().any(|it| matches!(it, ControlEffect::Publish { .. })));
        }
    }
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let mut world = World::new();
    world.create("orders", manual());
    let put = Command::Put { config: manual(), expected_version: None };
    let effects = world.command("orders", &put, 0);
    assert_eq!(answer(&effects), &Ok(CommandReply::Configured { created: false, version: 1 }));
    assert_eq!(effects.len(), 1);
}

#[test]
fn the_options_of_an_operator_are_fixed_once_there_are_keys() {
    let mut world = World::new();
    let with = |options: serde_json::Value| {
        let operator = "windows".to_owned();
        NamespaceConfig { operator, options, ..NamespaceConfig::default() }
    };
    world.create("orders", with(json!({"size": "1m"})));
    let put = |options| Command::Put { config: with(options), expected_version: None };
    let other = put(json!({"size": "2m"}));
    let effects = world.command("orders", &other, 1);
    assert_eq!(answer(&effects), &Err(Rejection::OptionFixed { field: "options" }));
    let effects = world.command("orders", &other, 0);
    assert!(matches!(effects[..], [ControlEffect::Send(_)]), "it holds no key");
    world.create("plain", with(json!(null)));
    let effects = world.command("plain", &put(json!({})), 1);
    assert!(matches!(effects[..], [ControlEffect::Send(_)]), "neither says anything");
}

#[test]
fn the_clock_is_fixed_once_there_are_keys() {
    let mut world = World::new();
    world.create("orders", manual());
    let system = Command::Put { config: NamespaceConfig::default(), expected_version: None };
    let effects = world.command("orders", &system, 1);
    assert_eq!(answer(&effects), &Err(Rejection::OptionFixed { field: "clock" }));
    let effects = world.command("orders", &system, 0);
    assert!(matches!(effects[..], [ControlEffect::Send(_)]));
}

#[test]
fn a_change_based_on_an_old_version_is_refused() {
    let mut world = World::new();
    world.create("orders", manual());
    let config = NamespaceConfig { spread_ms: 5, ..manual() };
    let put = Command::Put { config, expected_version: Some(7) };
    assert_eq!(answer(&world.command("orders", &put, 0)), &Err(Rejection::VersionConflict));
}

#[test]
fn a_clock_moves_forward_only_and_answers_when_settled() {
    let mut world = World::new();
    world.create("orders", manual());
    let advance = Command::Clock(ClockChange::Advance(5));
    assert_eq!(answer(&world.command("orders", &advance, 0)), &Err(Rejection::ClockUnset));
    let at = |millis| Command::Clock(ClockChange::Set(Timestamp::from_millis(millis)));
    let effects = world.command("orders", &at(100), 0);
    let [ControlEffect::Send(step)] = &effects[..] else { panic!("{effects:?}") };
    let step = step.clone();
    let effects = world.finish(&step, 4);
    let now = Timestamp::from_millis(100);
    let fired = 4 * LANES as u64;
    assert_eq!(answer(&effects), &Ok(CommandReply::Clock { advanced: true, now, fired }));
    assert_eq!(
        answer(&world.command("orders", &at(99), 0)),
        &Ok(CommandReply::Clock { advanced: false, now, fired: 0 })
    );
}

#[test]
fn a_deleted_namespace_never_comes_back_as_itself() {
    let mut world = World::new();
    let first = world.create(DEFAULT_NAMESPACE, manual());
    let delete = Command::Delete { force: false };
    assert_eq!(
        answer(&world.command(DEFAULT_NAMESPACE, &delete, 3)),
        &Err(Rejection::NamespaceNotEmpty { timers: 3 })
    );
    let effects = world.command(DEFAULT_NAMESPACE, &Command::Delete { force: true }, 3);
    let steps: Vec<&Step> = effects
        .iter()
        .filter_map(|effect| match effect {
            ControlEffect::Send(step) => Some(step),
            _ => None,
        })
        .collect();
    assert_eq!(steps[0].change, Change::Remove);
    assert_eq!(steps[0].namespace, first.namespace);
    assert!(matches!(steps[1].change, Change::Configure(_)));
    assert!(steps[1].namespace > first.namespace);
    let removed = steps[0].clone();
    let effects = world.finish(&removed, 1);
    assert_eq!(answer(&effects), &Ok(CommandReply::Deleted { timers: LANES as u64 }));
}

#[test]
fn an_unknown_source_cannot_be_forgotten() {
    let mut world = World::new();
    world.create("orders", manual());
    let forget = Command::Source { source: "a".to_owned(), change: SourceChange::Forget };
    assert_eq!(answer(&world.command("orders", &forget, 0)), &Err(Rejection::SourceUnknown));
}

#[test]
fn silence_idles_a_source_once_and_a_deleted_namespace_never() {
    let mut world = World::new();
    let watermark = crate::namespace::WatermarkConfig {
        sources: vec!["a".to_owned(), "b".to_owned()],
        idle_after_ms: Some(100),
        delay_ms: None,
    };
    world.create("orders", NamespaceConfig { watermark, ..manual() });
    let at = Timestamp::from_millis;
    let change = SourceChange::Watermark(at(7));
    world.command("orders", &Command::Source { source: "a".to_owned(), change }, 0);
    assert_eq!(world.controls.next_idle(), Some(at(100)));
    let mut effects = Vec::new();
    world.controls.idle_silent(at(99), &mut effects);
    assert!(effects.is_empty());
    world.controls.idle_silent(at(100), &mut effects);
    assert!(matches!(
        &effects[..],
        [ControlEffect::Send(Step { change: Change::Watermark(to), .. })] if *to == at(7)
    ));
    assert_eq!(world.controls.next_idle(), None, "all are idle");
    let change = SourceChange::Watermark(at(8));
    world.command("orders", &Command::Source { source: "a".to_owned(), change }, 0);
    assert_eq!(world.controls.next_idle(), Some(at(100)));
    world.command("orders", &Command::Delete { force: true }, 0);
    assert_eq!(world.controls.next_idle(), None);
}

#[test]
fn what_was_silent_while_nobody_listened_was_not_silent() {
    let mut world = World::new();
    let watermark = crate::namespace::WatermarkConfig {
        sources: vec!["a".to_owned(), "b".to_owned()],
        idle_after_ms: Some(100),
        delay_ms: None,
    };
    world.create("orders", NamespaceConfig { watermark, ..manual() });
    let at = Timestamp::from_millis;
    assert_eq!(world.controls.next_idle(), Some(at(100)));
    assert!(world.controls.is_deaf_until(at(5_000)));
    world.controls.restarted(at(5_000));
    assert!(!world.controls.is_deaf_until(at(5_000)));
    assert_eq!(world.controls.next_idle(), Some(at(5_100)));
}

/// The answers among effects, in their order.
fn answers(effects: &[ControlEffect]) -> Vec<(Ticket, CommandReply)> {
    let answers = effects.iter().filter_map(|effect| match effect {
        ControlEffect::Answer(ticket, Ok(reply)) => Some((*ticket, reply.clone())),
        _ => None,
    });
    answers.collect()
}

fn sent(effects: &[ControlEffect]) -> Step {
    let [ControlEffect::Send(step)] = effects else { panic!("one step: {effects:?}") };
    step.clone()
}

#[test]
fn the_same_configuration_again_is_answered_once_the_namespace_can_be_used() {
    let mut world = World::new();
    let put = Command::Put { config: manual(), expected_version: None };
    let step = sent(&world.command("orders", &put, 0));
    assert_eq!(world.command("orders", &put, 0), []);
    let effects = world.done(&step, false, 0);
    assert!(matches!(effects[0], ControlEffect::Publish { .. }));
    let configured = |created| CommandReply::Configured { created, version: 1 };
    assert_eq!(answers(&effects), [(Ticket(1), configured(true)), (Ticket(2), configured(false))]);
    // Applied everywhere, settled not yet: that is all that it waits for.
    assert_eq!(answers(&world.command("orders", &put, 0)).len(), 1);
}

#[test]
fn a_clock_call_that_is_repeated_is_answered_once_the_first_has_settled() {
    let mut world = World::new();
    world.create("orders", manual());
    let now = Timestamp::from_millis(100);
    let set = Command::Clock(ClockChange::Set(now));
    let step = sent(&world.command("orders", &set, 0));
    assert_eq!(world.command("orders", &set, 0), []);
    assert_eq!(world.done(&step, false, 0), []);
    assert_eq!(world.command("orders", &set, 0), [], "applied is not enough");
    let clock = |advanced, fired| CommandReply::Clock { advanced, now, fired };
    assert_eq!(
        answers(&world.done(&step, true, 4)),
        [
            (Ticket(2), clock(true, 4 * LANES as u64)),
            (Ticket(3), clock(false, 0)),
            (Ticket(4), clock(false, 0)),
        ]
    );
}

#[test]
fn a_watermark_that_is_repeated_waits_for_the_newest_step_as_far_as_it_asks() {
    let mut world = World::new();
    world.create("orders", manual());
    let at = |millis| Command::Source {
        source: "a".to_owned(),
        change: SourceChange::Watermark(Timestamp::from_millis(millis)),
    };
    let first = sent(&world.ask("orders", &at(5), 0, true));
    let second = sent(&world.command("orders", &at(6), 0));
    assert_eq!(world.ask("orders", &at(5), 0, true), []);
    assert_eq!(world.command("orders", &at(6), 0), []);
    assert_eq!(answers(&world.finish(&first, 1)).len(), 1, "the first itself");
    let applied: Vec<Ticket> =
        answers(&world.done(&second, false, 0)).into_iter().map(|it| it.0).collect();
    assert_eq!(applied, [Ticket(3), Ticket(5)]);
    let settled = answers(&world.done(&second, true, 7));
    let watermark = Some(Timestamp::from_millis(6));
    let ignored = CommandReply::Source { result: SourceResult::Ignored, watermark, fired: 0 };
    assert_eq!(settled, [(Ticket(4), ignored)]);
}

#[test]
fn a_listed_source_that_is_forgotten_stays_away() {
    let mut world = World::new();
    let listed = |names: &[&str], spread_ms| {
        let sources = names.iter().map(|name| (*name).to_owned()).collect();
        let watermark =
            crate::namespace::WatermarkConfig { sources, idle_after_ms: None, delay_ms: None };
        NamespaceConfig { spread_ms, watermark, ..manual() }
    };
    world.create("orders", listed(&["a", "b"], 0));
    let source = |name: &str, change| Command::Source { source: name.to_owned(), change };
    let to = |millis| SourceChange::Watermark(Timestamp::from_millis(millis));
    world.command("orders", &source("a", to(5)), 0);
    let effects = world.command("orders", &source("b", SourceChange::Forget), 0);
    let [ControlEffect::Send(first), ControlEffect::Send(second)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(first.change, Change::Configure(Arc::new(listed(&["a"], 0))));
    assert_eq!(second.change, Change::Watermark(Timestamp::from_millis(5)));
    let effects = world.finish(&first.clone(), 0);
    assert!(matches!(effects[..], [ControlEffect::Publish { version: 2, .. }]), "{effects:?}");
    // A change of something else, made from what stands, does not bring it back.
    let put = Command::Put { config: listed(&["a"], 7), expected_version: Some(2) };
    world.command("orders", &put, 0);
    let sources = world.controls.status("orders").expect("it is there").sources;
    assert_eq!(sources.iter().map(|it| &it.source[..]).collect::<Vec<_>>(), ["a"]);
    // One that lists it does.
    let put = Command::Put { config: listed(&["a", "b"], 7), expected_version: None };
    world.command("orders", &put, 0);
    let sources = world.controls.status("orders").expect("it is there").sources;
    assert_eq!(sources.len(), 2);
}

#[test]
fn a_paused_namespace_keeps_its_time_until_it_is_resumed() {
    let mut world = World::new();
    world.create("orders", manual());
    let at = Timestamp::from_millis;
    let clock = |millis| Command::Clock(ClockChange::Set(at(millis)));
    let report = |millis| Command::Source {
        source: "a".to_owned(),
        change: SourceChange::Watermark(at(millis)),
    };
    let set = sent(&world.command("orders", &clock(10), 0));
    world.finish(&set, 0);
    let resume = world.command("orders", &Command::Resume, 0);
    assert_eq!(answer(&resume), &Ok(CommandReply::Resumed { changed: false }));
    let pause = sent(&world.command("orders", &Command::Pause, 0));
    assert_eq!(pause.change, Change::Pause);
    let again = world.command("orders", &Command::Pause, 0);
    assert_eq!(again, [], "what it answers is not true yet");
    let paused = |changed| CommandReply::Paused { changed };
    assert_eq!(
        answers(&world.finish(&pause, 0)),
        [(Ticket(4), paused(true)), (Ticket(5), paused(false))]
    );
    assert!(world.controls.status("orders").expect("it is there").paused);
    for (command, expected) in [
        (clock(20), CommandReply::Clock { advanced: true, now: at(20), fired: 0 }),
        (
            report(7),
            CommandReply::Source {
                result: SourceResult::Advanced,
                watermark: Some(at(7)),
                fired: 0,
            },
        ),
    ] {
        let effects = world.ask("orders", &command, 0, true);
        assert_eq!((effects.len(), answer(&effects)), (1, &Ok(expected)), "no step is sent");
    }
    // What is kept outlives a restart.
    world.controls = Controls::from_state(1, LANES, world.controls.to_state());
    let effects = world.command("orders", &Command::Resume, 0);
    let [ControlEffect::Send(first), ControlEffect::Send(second)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(first.change, Change::Resume { lost: Some((at(10), at(20))) });
    assert_eq!(second.change, Change::Watermark(at(7)));
    assert_eq!(world.finish(first, 3), []);
    assert_eq!(answer(&world.finish(second, 0)), &Ok(CommandReply::Resumed { changed: true }));
    assert!(!world.controls.status("orders").expect("it is there").paused);
    assert_eq!(sent(&world.command("orders", &report(9), 0)).change, Change::Watermark(at(9)));
}

#[test]
fn a_pause_in_which_no_time_came_makes_nothing_due() {
    let mut world = World::new();
    world.create("orders", manual());
    for config in [manual(), NamespaceConfig::default()] {
        world.command("orders", &Command::Put { config, expected_version: None }, 0);
        world.command("orders", &Command::Pause, 0);
        let resume = sent(&world.command("orders", &Command::Resume, 0));
        assert_eq!(resume.change, Change::Resume { lost: None });
    }
}
