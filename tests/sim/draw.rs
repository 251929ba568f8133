//! Random requests of many features at once: what a simulator does not ask for it does not test.

use crate::act::{Act, Payload, Registration, When};
use crate::rng::Rng;
use stormwheel::namespace::{
    ClockKind, NamespaceConfig, NamespaceLimits, OverduePolicy, WatermarkConfig,
};
use stormwheel::op::{self, Action, Only, Op, Register, Target};
use stormwheel::runtime::Ack;
use stormwheel::time::{Domain, Timestamp};

/// Namespaces that come and go; `default` is there besides.
pub(crate) const SPACES: [&str; 4] = ["default", "orders", "manual-1", "s.2"];
/// Who sends what is to be taken once.
pub(crate) const PRODUCERS: [&str; 2] = ["p-1", "another"];
const NAMES: [&str; 4] = ["timeout", "a", "b", "a-longer-name"];

pub(crate) fn ack(rng: &mut Rng) -> Ack {
    *rng.pick(&[Ack::Synced, Ack::Synced, Ack::Synced, Ack::Written, Ack::Accepted])
}

/// One of so many keys, or an odd one.
pub(crate) fn key(rng: &mut Rng, keys: u64) -> Vec<u8> {
    match rng.below(20) {
        0 => vec![0xff; 1 + rng.below(3) as usize],
        1 => vec![b'k'; 1_000 + rng.below(3) as usize],
        _ => format!("key-{}", rng.below(keys)).into_bytes(),
    }
}

fn domain(rng: &mut Rng) -> Domain {
    if rng.below(3) == 0 { Domain::Event } else { Domain::Processing }
}

fn name(rng: &mut Rng) -> String {
    (*rng.pick(&NAMES)).to_owned()
}

fn payload(rng: &mut Rng) -> Payload {
    match rng.below(24) {
        0..=11 => None,
        12..=17 => Some((true, format!("{{\"n\":{}}}", rng.below(3)).into_bytes())),
        18 => Some((false, Vec::new())),
        // Enough to fill a segment before long.
        19 => Some((false, vec![rng.next() as u8; 1 + rng.below(6_000) as usize])),
        _ => Some((false, vec![rng.next() as u8; 1 + rng.below(40) as usize])),
    }
}

/// A time that is `near` now more often than not.
fn time(rng: &mut Rng, near: i64) -> i64 {
    match rng.below(40) {
        0 => i64::MIN,
        1 => i64::MAX,
        2 => rng.within(-1_000, 1_000),
        3..=5 => near - rng.within(0, 50),
        6..=7 => near + rng.within(60_000, 864_000_000),
        // Many at the same time.
        8..=15 => (near / 64 + rng.within(0, 3)) * 64,
        _ => near + rng.within(0, 300),
    }
}

fn option(rng: &mut Rng, among: &[i64]) -> Option<i64> {
    (rng.below(6) == 0).then(|| *rng.pick(among))
}

/// Something to do to a key.
pub(crate) fn act(rng: &mut Rng, near: [i64; 2]) -> Act {
    let domain = domain(rng);
    let near = near[domain as usize];
    match rng.below(20) {
        0..=11 => Act::Register(Registration {
            domain,
            name: (rng.below(2) == 0).then(|| name(rng)),
            when: match rng.below(4) {
                0 => When::After(rng.within(0, 200)),
                _ => When::At(time(rng, near)),
            },
            payload: payload(rng),
            resolution_ms: option(rng, &[1, 10, 64, 1_000]),
            spread_ms: option(rng, &[0, 1, 50, 5_000]),
            only: match rng.below(12) {
                0 => Only::Absent,
                1 => Only::Present,
                2 => Only::Earlier,
                3 => Only::Later,
                _ => Only::Always,
            },
        }),
        12..=14 => Act::Touch { name: name(rng), domain, after_ms: rng.within(0, 250) },
        15 => Act::DeleteName { domain, name: name(rng) },
        16 => Act::DeleteAt {
            domain,
            at: time(rng, near),
            resolution_ms: option(rng, &[1, 64]),
            spread_ms: option(rng, &[0, 50]),
        },
        17 => Act::DeleteFireAt { domain, at: time(rng, near) },
        18 => Act::DeleteAll,
        _ => Act::Register(Registration {
            domain,
            name: None,
            when: When::At((near / 64 + 1) * 64),
            payload: None,
            resolution_ms: None,
            spread_ms: None,
            only: Only::Always,
        }),
    }
}

/// What each key of a storm is to do.
pub(crate) fn storm(rng: &mut Rng, near: [i64; 2], in_ms: i64) -> Act {
    let domain = domain(rng);
    Act::Register(Registration {
        domain,
        name: (rng.below(2) == 0).then(|| name(rng)),
        when: When::At(near[domain as usize] + in_ms),
        payload: None,
        resolution_ms: Some(1),
        spread_ms: Some(0),
        only: Only::Always,
    })
}

/// Bytes of the log that an operation takes, at most.
pub(crate) fn cost_bytes(key: &[u8], act: &Act) -> usize {
    let payload = match act {
        Act::Register(it) => it.payload.as_ref().map_or(0, |(_, bytes)| bytes.len()),
        _ => 0,
    };
    96 + key.len() + payload
}

/// How long its sources may be silent: always the same, so that there is nothing to tell apart.
fn idle_after_ms(name: &str) -> Option<i64> {
    match name {
        "orders" => Some(200),
        "manual-1" => Some(350),
        _ => None,
    }
}

/// The configuration of a namespace: only what may change does, once it is there.
pub(crate) fn config(rng: &mut Rng, name: &str) -> NamespaceConfig {
    let sources: &[&str] =
        if ["orders", "s.2"].contains(&name) { &["left", "right"] } else { &["left"] };
    NamespaceConfig {
        clock: if name.starts_with("manual") { ClockKind::Manual } else { ClockKind::System },
        resolution_ms: *rng.pick(&[1, 1, 16]),
        spread_ms: *rng.pick(&[0, 0, 30]),
        watermark: WatermarkConfig {
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            idle_after_ms: idle_after_ms(name),
            delay_ms: None,
        },
        overdue: match rng.below(6) {
            0 => OverduePolicy::Spread { over_ms: *rng.pick(&[3, 100, 5_000]) },
            1 => OverduePolicy::Shift,
            2 => OverduePolicy::Drop,
            _ => OverduePolicy::Fire,
        },
        limits: NamespaceLimits {
            timers_per_key: *rng.pick(&[3, 10_000]),
            ..NamespaceLimits::default()
        },
        ..NamespaceConfig::default()
    }
}

/// The operation as the engine takes it.
pub(crate) fn with_op<T>(key: &[u8], act: &Act, work: impl FnOnce(&Op<'_>) -> T) -> Option<T> {
    let at = Timestamp::from_millis;
    let action = match act {
        Act::Register(it) => Action::Register(Register {
            domain: it.domain,
            name: it.name.as_deref(),
            when: match it.when {
                When::At(time) => op::When::At(at(time)),
                When::After(after_ms) => op::When::After(after_ms),
            },
            payload: it.payload.as_ref().map(|(is_json, bytes)| match is_json {
                true => op::Payload::Json(bytes),
                false => op::Payload::Binary(bytes),
            }),
            resolution_ms: it.resolution_ms,
            spread_ms: it.spread_ms,
            only: it.only,
        }),
        Act::Touch { name, domain, after_ms } => {
            Action::Touch { name, domain: *domain, after_ms: *after_ms }
        }
        Act::DeleteName { domain, name } => {
            Action::Delete { domain: *domain, target: Target::Name(name) }
        }
        Act::DeleteAt { domain, at: time, resolution_ms, spread_ms } => Action::Delete {
            domain: *domain,
            target: Target::At {
                at: at(*time),
                resolution_ms: *resolution_ms,
                spread_ms: *spread_ms,
            },
        },
        Act::DeleteFireAt { domain, at: time } => {
            Action::Delete { domain: *domain, target: Target::FireAt(at(*time)) }
        }
        Act::DeleteAll => Action::DeleteAll,
        Act::Once(_, act) => return with_op(key, act, work),
        Act::Read => return None,
    };
    Some(work(&Op { key, action }))
}
