//! One key's timers and state against a map, through all the forms a slot can take.

use super::*;
use crate::key_group::xxh3_64;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Oracle = BTreeMap<(Domain, i64, Option<String>), Option<Vec<u8>>>;

struct World {
    pools: Pools,
    table: KeyTable,
    slot: SlotIndex,
    oracle: Oracle,
    state: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Step {
    Put(Domain, i64, Option<String>, Option<Vec<u8>>),
    Take(Domain, i64, Option<String>),
    TakeEarliest(Domain),
    Postpone(Domain, i64),
    State(Option<Vec<u8>>),
}

impl World {
    fn new() -> Self {
        let (mut pools, mut table) = (Pools::default(), KeyTable::default());
        let slot = pools.add(&mut table, b"a key that is longer than 15", xxh3_64(b"x"));
        Self { pools, table, slot, oracle: Oracle::new(), state: None }
    }

    fn identity(time: i64, name: Option<&str>) -> Identity<'_> {
        name.map_or(Identity::Time(Timestamp::from_millis(time)), Identity::Name)
    }

    /// What the owner of a wheel does after each change: the entry stays where it may.
    fn settle(&mut self, domain: Domain, prior: Option<Timestamp>) {
        let earliest = self.pools.earliest(self.slot, domain);
        let armed = match (prior, earliest) {
            (Some(armed), Some(time))
                if armed <= time && time.saturating_since(armed) <= Pools::LAG_MS_MAX =>
            {
                Some(armed)
            }
            (_, earliest) => earliest,
        };
        self.pools.set_armed(self.slot, domain, armed);
        assert_eq!(self.pools.armed(self.slot, domain), armed);
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Put(domain, time, name, payload) => {
                let prior = self.pools.armed(self.slot, *domain);
                let identity = Self::identity(*time, name.as_deref());
                if let Some(cell) = self.pools.take(self.slot, *domain, identity) {
                    self.pools.free_blob(cell);
                }
                let payload_ref = payload.as_deref().map(Payload::Json);
                let link = self.pools.store_blob(name.as_deref(), payload_ref);
                let cell = Cell {
                    time: Timestamp::from_millis(*time),
                    name: NameClass::of(name.as_deref()),
                    link,
                };
                self.pools.insert(self.slot, *domain, cell);
                self.settle(*domain, prior);
                self.oracle.retain(|(d, t, n), _| {
                    d != domain || n != name || (name.is_none() && t != time)
                });
                self.oracle.insert((*domain, *time, name.clone()), payload.clone());
            }
            Step::Take(domain, time, name) => {
                let prior = self.pools.armed(self.slot, *domain);
                let identity = Self::identity(*time, name.as_deref());
                let taken = self.pools.take(self.slot, *domain, identity);
                let before = self.oracle.len();
                self.oracle.retain(|(d, t, n), _| {
                    d != domain || n != name || (name.is_none() && t != time)
                });
                assert_eq!(taken.is_some(), self.oracle.len() < before);
                if let Some(cell) = taken {
                    self.pools.free_blob(cell);
                }
                self.settle(*domain, prior);
            }
            Step::TakeEarliest(domain) => {
                let taken = self.pools.take_earliest(self.slot, *domain);
                let first = self.oracle.keys().find(|(d, _, _)| d == domain).cloned();
                match (taken, first) {
                    (None, None) => {}
                    (Some(cell), Some(first)) => {
                        let (name, payload) = self.pools.blob(cell);
                        assert_eq!(cell.time.as_millis(), first.1);
                        assert_eq!(name, first.2.as_deref());
                        let expected = self.oracle.remove(&first).expect("it was found there");
                        assert_eq!(payload.map(|p| p.bytes().to_vec()), expected);
                        self.pools.free_blob(cell);
                    }
                    (taken, first) => panic!("took {taken:?}, expected {first:?}"),
                }
                self.settle(*domain, None);
            }
            Step::State(state) => {
                match state {
                    Some(state) => self.pools.set_state(self.slot, state),
                    None => self.pools.clear_state(self.slot),
                }
                self.state.clone_from(state);
            }
            Step::Postpone(domain, time) => {
                let to = Timestamp::from_millis(*time);
                let name = DEFAULT_TIMER_NAME;
                if let Some(before) = self.pools.postpone_only(self.slot, *domain, name, to) {
                    let key = (*domain, before.as_millis(), Some(name.to_owned()));
                    let payload = self.oracle.remove(&key).expect("the only timer");
                    self.oracle.insert((*domain, *time, Some(name.to_owned())), payload);
                }
            }
        }
    }

    fn check(&self) {
        let mut found = Vec::new();
        for domain in Domain::ALL {
            let mut earliest = None;
            self.pools.for_each(self.slot, domain, |cell| {
                let (name, payload) = self.pools.blob(cell);
                let identity = Self::identity(cell.time.as_millis(), name);
                assert_eq!(self.pools.timer(self.slot, domain, identity), Some(cell));
                earliest = earliest.or(Some(cell.time));
                found.push((
                    (domain, cell.time.as_millis(), name.map(str::to_owned)),
                    payload.map(|p| p.bytes().to_vec()),
                ));
            });
            assert_eq!(self.pools.earliest(self.slot, domain), earliest);
            if let Some(armed) = self.pools.armed(self.slot, domain) {
                assert!(Some(armed) <= earliest, "an entry never stands behind its timer");
            } else {
                assert_eq!(earliest, None, "what has timers is armed");
            }
        }
        let expected: Vec<_> = self.oracle.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(found, expected);
        assert_eq!(self.pools.count(self.slot), expected.len());
        assert_eq!(self.pools.state(self.slot), self.state.as_deref());
        let is_idle = expected.is_empty() && self.state.is_none();
        assert_eq!(self.pools.is_idle(self.slot), is_idle);
    }
}

fn names() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        Just(Some(DEFAULT_TIMER_NAME.to_owned())),
        "[a-c]{1,2}".prop_map(Some),
        "[a-z]{1,3}".prop_map(Some),
    ]
}

fn times() -> impl Strategy<Value = i64> {
    prop_oneof![0..20i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX), 0..(1i64 << 34)]
}

fn domains() -> impl Strategy<Value = Domain> {
    prop_oneof![Just(Domain::Event), Just(Domain::Processing)]
}

fn states() -> impl Strategy<Value = Option<Vec<u8>>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        1 => Just(None),
        3 => bytes.prop_map(Some),
        1 => (0..20_000_usize).prop_map(|length| Some(vec![7; length])),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let payload = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    prop_oneof![
        5 => (domains(), times(), names(), payload).prop_map(|(d, t, n, p)| Step::Put(d, t, n, p)),
        2 => (domains(), times(), names()).prop_map(|(d, t, n)| Step::Take(d, t, n)),
        2 => domains().prop_map(Step::TakeEarliest),
        1 => (domains(), times()).prop_map(|(d, t)| Step::Postpone(d, t)),
        3 => states().prop_map(Step::State),
    ]
}

proptest! {
    #[test]
    fn a_slot_agrees_with_a_map(steps in prop::collection::vec(steps(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
            world.check();
        }
        world.pools.clear(world.slot);
        prop_assert!(world.pools.is_idle(world.slot));
        let bytes_of_the_key = 32;
        prop_assert_eq!(world.pools.bytes.bytes(), bytes_of_the_key);
        world.pools.remove(&mut world.table, xxh3_64(b"x"), world.slot);
        prop_assert_eq!(world.pools.slots.used(), 0);
        prop_assert_eq!(world.pools.bytes.bytes(), 0);
    }
}

#[test]
fn a_key_with_very_many_timers_keeps_their_order() {
    let mut world = World::new();
    for n in 0..500i64 {
        let time = n * 7_919 % 500;
        let name = (n % 2 == 0).then(|| format!("n{n}"));
        world.apply(&Step::Put(Domain::Processing, time, name, None));
    }
    world.check();
    for _ in 0..500 {
        world.apply(&Step::TakeEarliest(Domain::Processing));
    }
    world.check();
    assert_eq!(world.pools.count(world.slot), 0);
}

#[test]
fn a_key_with_a_state_and_a_timer_needs_no_list() {
    for name in [None, Some(DEFAULT_TIMER_NAME.to_owned())] {
        let mut world = World::new();
        world.apply(&Step::State(Some(vec![1; 8])));
        for time in 0..3 {
            world.apply(&Step::Put(Domain::Event, time, name.clone(), None));
            world.apply(&Step::State(Some(vec![time as u8; 8])));
            world.check();
            assert_eq!(world.pools.lists.bytes(), 0);
            world.apply(&Step::TakeEarliest(Domain::Event));
        }
        // The key, and a state that has taken its own place each time.
        assert_eq!(world.pools.bytes.bytes(), 32 + 16);
    }
}
