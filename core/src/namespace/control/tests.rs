//! Commands in, steps and answers out, without lanes.

use super::*;

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
        let mut effects = Vec::new();
        self.tickets += 1;
        let (ticket, now) = (Ticket(self.tickets), Timestamp::from_millis(0));
        let (name, command) = (name.to_owned(), command.clone());
        let asked = Asked { name, command, settle: false, pending };
        self.controls.command(ticket, &asked, now, &mut effects);
        effects
    }

    /// Acknowledges a step in all lanes.
    fn finish(&mut self, step: &Step, timers: u64) -> Vec<ControlEffect> {
        let mut effects = Vec::new();
        for is_settled in [false, true] {
            for _ in 0..LANES {
                let timers = if is_settled { timers } else { 0 };
                let (namespace, number) = (step.namespace, step.number);
                let done = StepDone { namespace, number, is_settled, timers };
                self.controls.step_done(done, &mut effects);
            }
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
    let done = StepDone { namespace, number, is_settled: false, timers: 0 };
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
