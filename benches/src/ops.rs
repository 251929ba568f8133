//! The operations that the benches apply, in batches as they come over HTTP.

use crate::keys::Keys;
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{Action, DEFAULT_TIMER_NAME, Only, Op, Register, Target, When};
use stormwheel::solo::Solo;
use stormwheel::time::{Domain, Timestamp};

/// Where the clock of a bench begins.
pub const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// Operations of one request.
const BATCH_OPS: usize = 5_000;

/// A core that holds nothing, at [`START`].
pub fn empty() -> Solo {
    Solo::new(&NamespaceConfig::default(), START).expect("the default configuration is legal")
}

/// Registers an unnamed timer without a payload.
pub fn register(at: Timestamp) -> Action<'static> {
    Action::Register(Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(at),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    })
}

/// Cancels what [`register`] registered.
pub fn cancel(at: Timestamp) -> Action<'static> {
    Action::Delete { domain: Domain::Processing, target: Target::FireAt(at) }
}

/// A heartbeat.
pub fn touch(after_ms: i64) -> Action<'static> {
    Action::Touch { name: DEFAULT_TIMER_NAME, domain: Domain::Processing, after_ms }
}

/// Applies one operation to each key, in the order of the keys.
pub fn apply_all(
    solo: &mut Solo,
    keys: &Keys,
    now: Timestamp,
    action: impl Fn(u32) -> Action<'static>,
) {
    let mut ops = Vec::with_capacity(BATCH_OPS);
    let mut keys = keys.iter();
    loop {
        ops.clear();
        ops.extend(keys.by_ref().take(BATCH_OPS).map(|(n, key)| Op { key, action: action(n) }));
        if ops.is_empty() {
            return;
        }
        std::hint::black_box(solo.apply(&ops, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_gets_its_operation() {
        let keys = Keys::shuffled(12_345, 15, 1);
        let other = Keys::shuffled(12_345, 15, 2);
        let at = |n: u32| START.saturating_add(1 + i64::from(n));
        let mut solo = empty();
        apply_all(&mut solo, &keys, START, |n| register(at(n)));
        assert_eq!(solo.pending(), 12_345);
        apply_all(&mut solo, &other, START, |n| cancel(at(n)));
        assert_eq!(solo.pending(), 0);
        apply_all(&mut solo, &keys, START, |_| touch(1_000));
        let mut fired = 0;
        solo.advance(START.saturating_add(1_000), |_| fired += 1);
        assert_eq!(fired, 12_345);
    }
}
