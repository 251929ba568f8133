//! What a key must be like: every state that the answers, the silences and the fires so far allow.
//!
//! A key has one client, which waits for each answer, so its operations have an order; and its
//! fires have one, that of the output log. What is open is whether an operation without an answer
//! happened, and where between the operations each fire belongs. [`follow`] keeps all
//! possibilities at once; none left means that no run without a crash could have given these
//! answers and fires.
//!
//! Of a request that was cut off, a key may have seen the first few operations, never a later one
//! without the earlier: a key has one log, and it is cut at one place.

use crate::act::{Act, Ident, Only, Outcome, Shown, Slot, When};
use std::collections::{BTreeMap, BTreeSet};

/// Possibilities of one key beyond which something is wrong with the test itself.
const STATES_MAX: usize = 20_000;

/// A span of times, both ends in it.
pub(crate) type Span = (i64, i64);

/// A timer that may stand. Its time is a span until somebody tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) due: Span,
    pub(crate) serial: Option<u64>,
}

/// One possibility.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) timers: BTreeMap<Slot, Timer>,
    /// Fires that have happened.
    pub(crate) fired: usize,
    /// Operations of the present request that have happened to this key.
    pub(crate) done: u32,
}

/// One operation and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Attempts of one request share its number.
    pub(crate) request: u64,
    /// Which of the request's operations on this key.
    pub(crate) index: u32,
    pub(crate) act: Act,
    pub(crate) outcome: Outcome,
    /// What the namespace's clock read meanwhile.
    pub(crate) clock: Span,
}

/// A fire as the stream told it.
#[allow(clippy::struct_field_names, reason = "`fire_at` is the word everywhere")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fire {
    pub(crate) slot: Slot,
    pub(crate) fire_at: i64,
    pub(crate) serial: Option<u64>,
    pub(crate) id: String,
    pub(crate) cursor: u64,
}

/// What may go wrong in a run that is looked at to find out what went wrong in another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Leniency {
    /// Timers may vanish.
    pub(crate) lose: bool,
    /// Fires may come from nowhere.
    pub(crate) invent: bool,
}

/// The possibilities after `events`, if `fires` are all fires of the key; never none. `Err` is the
/// index of the first event that leaves none, or how many there are if the fires do.
pub(crate) fn follow(
    start: &BTreeSet<State>,
    last_request: Option<u64>,
    events: &[Event],
    fires: &[Fire],
    leniency: Leniency,
) -> Result<BTreeSet<State>, usize> {
    let mut states = with_fires(start.clone(), fires, leniency);
    let mut request = last_request;
    for (index, event) in events.iter().enumerate() {
        // A look at what stands comes between the attempts of a request.
        if event.act != Act::Read && request != Some(event.request) {
            request = Some(event.request);
            states = states.into_iter().map(|state| State { done: 0, ..state }).collect();
        }
        let next = states.iter().flat_map(|state| after(state, event)).collect();
        states = with_fires(next, fires, leniency);
        if states.is_empty() || states.len() > STATES_MAX {
            return Err(index);
        }
    }
    states.retain(|state| state.fired == fires.len());
    if states.is_empty() { Err(events.len()) } else { Ok(states) }
}

/// Adds what becomes possible if the next fires happen now.
fn with_fires(states: BTreeSet<State>, fires: &[Fire], leniency: Leniency) -> BTreeSet<State> {
    let mut found = BTreeSet::new();
    let mut open: Vec<State> = states.into_iter().collect();
    while let Some(state) = open.pop() {
        if found.len() > STATES_MAX || !found.insert(state.clone()) {
            continue;
        }
        if let Some(fire) = fires.get(state.fired) {
            let fired = state.fired + 1;
            if let Some(timer) = state.timers.get(&fire.slot)
                && timer.serial == fire.serial
                && holds(timer.due, fire.fire_at)
            {
                let mut timers = state.timers.clone();
                timers.remove(&fire.slot);
                open.push(State { timers, fired, ..state });
            }
            if leniency.invent {
                open.push(State { fired, ..state.clone() });
            }
        }
        if leniency.lose {
            for slot in state.timers.keys() {
                let mut lost = state.clone();
                lost.timers.remove(slot);
                open.push(lost);
            }
        }
    }
    found
}

fn holds(span: Span, time: i64) -> bool {
    (span.0..=span.1).contains(&time)
}

/// What one operation makes of a state; nothing if it cannot have been so.
fn after(state: &State, event: &Event) -> Vec<State> {
    match &event.outcome {
        Outcome::Refused => vec![State { done: event.index + 1, ..state.clone() }],
        Outcome::Repeated if event.index < state.done => vec![state.clone()],
        Outcome::Repeated => Vec::new(),
        Outcome::Unknown if event.act == Act::Read => vec![state.clone()],
        Outcome::Unknown => {
            let mut states = vec![state.clone()];
            // If an earlier operation of the request is missing, then so is this one; and a second
            // attempt changes nothing where the first came through.
            if event.index == state.done {
                let done = State { done: state.done + 1, ..state.clone() };
                states.extend(effects(&done, event, None).into_iter().map(|effect| effect.state));
            }
            states
        }
        Outcome::Timers(shown) => reading(state, shown).into_iter().collect(),
        // What was done before would have been `repeated`.
        Outcome::Done { .. } if event.index < state.done => Vec::new(),
        Outcome::Done { result, fire_at, cancelled } => {
            let done = State { done: event.index + 1, ..state.clone() };
            effects(&done, event, *fire_at)
                .into_iter()
                .filter(|effect| effect.result == result && effect.cancelled == *cancelled)
                .map(|effect| effect.state)
                .collect()
        }
    }
}

/// A state that a read showed, with the times that it told.
fn reading(state: &State, shown: &[Shown]) -> Option<State> {
    let mut state = state.clone();
    if shown.len() != state.timers.len() {
        return None;
    }
    for one in shown {
        let timer = state.timers.get_mut(&one.slot)?;
        if timer.serial != one.serial || !holds(timer.due, one.fire_at) {
            return None;
        }
        timer.due = (one.fire_at, one.fire_at);
    }
    Some(state)
}

/// One way in which an operation may have gone.
struct Effect {
    state: State,
    result: &'static str,
    cancelled: Option<u64>,
}

/// The ways in which an operation may have gone, if it was told the time `told`.
fn effects(state: &State, event: &Event, told: Option<i64>) -> Vec<Effect> {
    let timers = &state.timers;
    let change = |result, cancelled, change: &dyn Fn(&mut BTreeMap<Slot, Timer>)| {
        let mut state = state.clone();
        change(&mut state.timers);
        Effect { state, result, cancelled }
    };
    match &event.act {
        Act::Read => Vec::new(),
        Act::Delete { slot } => {
            let count = u64::from(timers.contains_key(slot));
            let result = if count > 0 { "cancelled" } else { "absent" };
            vec![change(result, Some(count), &|timers| {
                timers.remove(slot);
            })]
        }
        Act::DeleteAll => {
            let result = if timers.is_empty() { "absent" } else { "cancelled" };
            vec![change(result, Some(timers.len() as u64), &BTreeMap::clear)]
        }
        Act::Touch { after_ms } => {
            let slot = Slot { is_event: false, ident: Ident::Named("timeout") };
            let Some(due) = narrowed(shifted(event.clock, *after_ms), told) else {
                return Vec::new();
            };
            let standing = timers.get(&slot);
            let serial = standing.and_then(|timer| timer.serial);
            let moved = |result| {
                change(result, None, &|timers| {
                    timers.insert(slot, Timer { due, serial });
                })
            };
            match standing.map(|timer| timer.due) {
                None => vec![moved("created")],
                Some(stood) if stood == due && due.0 == due.1 => vec![moved("unchanged")],
                Some(stood) if narrowed(stood, told).is_some() => {
                    vec![moved("replaced"), moved("unchanged")]
                }
                Some(_) => vec![moved("replaced")],
            }
        }
        Act::Register { slot, when, serial, only, resolution_ms, spread_ms } => {
            let asked = match when {
                When::At(at) => (*at, *at),
                When::After(after_ms) => shifted(event.clock, *after_ms),
            };
            let floor = |time: i64| time.div_euclid(*resolution_ms) * resolution_ms;
            let asked = (floor(asked.0), floor(asked.1) + spread_ms);
            let standing = timers.get(slot);
            let mut effects = Vec::new();
            if may_be_kept(*only, standing, asked) {
                match standing {
                    None if told.is_none() => effects.push(change("kept", None, &|_| {})),
                    Some(timer) => {
                        if let Some(due) = narrowed(timer.due, told) {
                            effects.push(change("kept", None, &|timers| {
                                timers.insert(*slot, Timer { due, ..timer.clone() });
                            }));
                        }
                    }
                    None => {}
                }
            }
            if may_be_taken(*only, standing, asked)
                && let Some(due) = narrowed(asked, told)
            {
                let new = |timers: &mut BTreeMap<Slot, Timer>| {
                    timers.insert(*slot, Timer { due, serial: Some(*serial) });
                };
                effects.push(match (standing, slot.ident) {
                    (None, _) => change("created", None, &new),
                    (Some(_), Ident::Named(_)) => change("replaced", None, &new),
                    (Some(_), Ident::Unnamed(_)) => change("duplicate", None, &|_| {}),
                });
            }
            effects
        }
    }
}

fn shifted(span: Span, by: i64) -> Span {
    (span.0 + by, span.1 + by)
}

/// The span if nothing was told, the told time if it lies in the span.
fn narrowed(span: Span, told: Option<i64>) -> Option<Span> {
    match told {
        None => Some(span),
        Some(time) => holds(span, time).then_some((time, time)),
    }
}

fn may_be_kept(only: Only, standing: Option<&Timer>, asked: Span) -> bool {
    match (only, standing) {
        (Only::Absent, Some(_)) | (Only::Present, None) => true,
        (Only::Earlier, Some(timer)) => asked.1 >= timer.due.0,
        (Only::Later, Some(timer)) => asked.0 <= timer.due.1,
        _ => false,
    }
}

fn may_be_taken(only: Only, standing: Option<&Timer>, asked: Span) -> bool {
    match (only, standing) {
        (Only::Absent, Some(_)) | (Only::Present, None) => false,
        (Only::Earlier, Some(timer)) => asked.0 < timer.due.1,
        (Only::Later, Some(timer)) => asked.1 > timer.due.0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot { is_event: false, ident: Ident::Named("a") };

    fn register(serial: u64, at: i64) -> Act {
        Act::Register {
            slot: SLOT,
            when: When::At(at),
            serial,
            only: Only::Always,
            resolution_ms: 1,
            spread_ms: 0,
        }
    }

    fn done(result: &str, fire_at: i64) -> Outcome {
        Outcome::Done { result: result.to_owned(), fire_at: Some(fire_at), cancelled: None }
    }

    fn cancelled(count: u64) -> Outcome {
        let result = if count > 0 { "cancelled" } else { "absent" }.to_owned();
        Outcome::Done { result, fire_at: None, cancelled: Some(count) }
    }

    fn fire(serial: u64, fire_at: i64) -> Fire {
        Fire { slot: SLOT, fire_at, serial: Some(serial), id: String::new(), cursor: 0 }
    }

    fn shown(serial: u64, fire_at: i64) -> Outcome {
        Outcome::Timers(vec![Shown { slot: SLOT, fire_at, serial: Some(serial) }])
    }

    /// Whether some run explains operations, each in a request of its own, and fires.
    fn explains(events: &[(Act, Outcome)], fires: &[Fire]) -> bool {
        let numbered: Vec<(u64, u32, Act, Outcome)> = (0..)
            .zip(events)
            .map(|(request, (act, outcome))| (request, 0, act.clone(), outcome.clone()))
            .collect();
        explains_requests(&numbered, fires)
    }

    /// The same with the numbers of requests, and of operations in them.
    fn explains_requests(events: &[(u64, u32, Act, Outcome)], fires: &[Fire]) -> bool {
        let events: Vec<Event> = events
            .iter()
            .map(|(request, index, act, outcome)| Event {
                request: *request,
                index: *index,
                act: act.clone(),
                outcome: outcome.clone(),
                clock: (100, 110),
            })
            .collect();
        let start = BTreeSet::from([State::default()]);
        follow(&start, None, &events, fires, Leniency::default()).is_ok()
    }

    #[test]
    fn what_was_acknowledged_stands_or_has_fired_once() {
        let created = (register(1, 50), done("created", 50));
        let look = |outcome| (Act::Read, outcome);
        let empty = Outcome::Timers(Vec::new());
        for (last, fires, is_fine) in [
            (look(shown(1, 50)), vec![], true),
            (look(empty.clone()), vec![fire(1, 50)], true),
            (look(empty.clone()), vec![], false),
            (look(shown(1, 50)), vec![fire(1, 50)], true),
            (look(empty.clone()), vec![fire(1, 50), fire(1, 50)], false),
            (look(empty.clone()), vec![fire(1, 51)], false),
            (look(empty), vec![fire(2, 50)], false),
            (look(shown(1, 51)), vec![], false),
        ] {
            let what = format!("{last:?} {fires:?}");
            assert_eq!(explains(&[created.clone(), last], &fires), is_fine, "{what}");
        }
    }

    #[test]
    fn a_silence_leaves_it_open_until_something_is_seen() {
        let silent = (register(1, 50), Outcome::Unknown);
        let look = |outcome| (Act::Read, outcome);
        let empty = Outcome::Timers(Vec::new());
        assert!(explains(&[silent.clone(), look(empty.clone())], &[]));
        assert!(explains(&[silent.clone(), look(shown(1, 50))], &[]));
        assert!(explains(&[silent.clone(), look(empty.clone())], &[fire(1, 50)]));
        // Seen once, it stands; not seen once, it never comes.
        let events = [silent.clone(), look(shown(1, 50)), look(empty.clone())];
        assert!(!explains(&events, &[]));
        let events = [silent, look(empty), look(shown(1, 50))];
        assert!(!explains(&events, &[]));
    }

    #[test]
    fn what_was_cancelled_or_replaced_never_fires() {
        let created = (register(1, 50), done("created", 50));
        let delete = Act::Delete { slot: SLOT };
        assert!(explains(&[created.clone(), (delete.clone(), cancelled(1))], &[]));
        assert!(!explains(&[created.clone(), (delete.clone(), cancelled(1))], &[fire(1, 50)]));
        assert!(explains(&[created.clone(), (delete.clone(), cancelled(0))], &[fire(1, 50)]));
        assert!(!explains(&[created.clone(), (delete, cancelled(0))], &[]));
        assert!(!explains(&[created.clone(), (Act::DeleteAll, cancelled(2))], &[]));
        let replaced = (register(2, 60), done("replaced", 60));
        assert!(explains(&[created.clone(), replaced.clone()], &[fire(2, 60)]));
        assert!(!explains(&[created.clone(), replaced], &[fire(1, 50), fire(2, 60)]));
        let again = (register(2, 60), done("created", 60));
        assert!(explains(&[created, again], &[fire(1, 50), fire(2, 60)]));
    }

    #[test]
    fn a_touch_keeps_the_payload_and_its_time_is_of_the_clock() {
        let slot = Slot { is_event: false, ident: Ident::Named("timeout") };
        let fire = |fire_at| Fire { slot, serial: None, ..fire(0, fire_at) };
        for (fire_at, is_fine) in [(149, false), (150, true), (160, true), (161, false)] {
            let touch = Act::Touch { after_ms: 50 };
            assert_eq!(explains(&[(touch.clone(), Outcome::Unknown)], &[fire(fire_at)]), is_fine);
            assert_eq!(explains(&[(touch, done("created", fire_at))], &[fire(fire_at)]), is_fine);
        }
    }

    #[test]
    fn of_a_request_that_was_cut_off_the_beginning_may_have_happened() {
        let delete = |slot| Act::Delete { slot };
        let look = |outcome| (2, 0, Act::Read, outcome);
        let cut = [
            (1, 0, register(1, 50), Outcome::Unknown),
            (1, 1, delete(SLOT), Outcome::Unknown),
            (1, 2, register(2, 60), Outcome::Unknown),
        ];
        let with = |last: (u64, u32, Act, Outcome)| {
            let mut events = cut.to_vec();
            events.push(last);
            events
        };
        assert!(explains_requests(&with(look(Outcome::Timers(Vec::new()))), &[]));
        assert!(explains_requests(&with(look(shown(1, 50))), &[]));
        assert!(explains_requests(&with(look(shown(2, 60))), &[]));
        assert!(explains_requests(&with(look(shown(2, 60))), &[fire(1, 50)]));
        // The second attempt: what the first has done is `repeated`, and done once.
        let again = |index, act, outcome| (1, index, act, outcome);
        let mut events = cut.to_vec();
        events.push(again(0, register(1, 50), Outcome::Repeated));
        events.push(again(1, delete(SLOT), cancelled(1)));
        events.push(again(2, register(2, 60), done("created", 60)));
        assert!(explains_requests(&events, &[fire(2, 60)]));
        let done_again = again(0, register(1, 50), done("created", 50));
        events = with(look(shown(1, 50)));
        events.push(done_again);
        assert!(!explains_requests(&events, &[fire(1, 50)]), "it was done before");
    }

    #[test]
    fn leniency_says_what_went_wrong() {
        let events = [Event {
            request: 1,
            index: 0,
            act: register(1, 50),
            outcome: done("created", 50),
            clock: (0, 0),
        }];
        let start = BTreeSet::from([State::default()]);
        let lenient = |fires: &[Fire], lose, invent| {
            follow(&start, None, &events, fires, Leniency { lose, invent }).is_ok()
        };
        assert!(lenient(&[], true, false));
        assert!(!lenient(&[fire(2, 50)], true, false));
        assert!(lenient(&[fire(2, 50)], false, true));
    }
}
