//! A request's operations on their way to the shards that own their keys.

use super::directory::NamespaceEntry;
use crate::error::Rejection;
use crate::key_group::{Layout, xxh3_64};
use crate::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX, WINDOW_MS_MAX};
use crate::log::encode_op;
use crate::op::{Action, Op, Outcome, Register, Target, When};
use crate::shard::{OpsPart, may_add};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::shard::Reply;

/// Operations of one namespace, written down as records, routed by key group.
///
/// Room that a namespace with a limit on its timers sets aside for a batch goes back when the batch
/// is answered, or dropped without being submitted.
#[derive(Debug)]
pub struct Batch {
    namespace: Arc<NamespaceEntry>,
    layout: Layout,
    parts: Vec<Part>,
    count: usize,
}

/// What goes to one shard.
#[derive(Debug, Default)]
pub(super) struct Part {
    bytes: Vec<u8>,
    /// Which operation of the batch each one is.
    indexes: Vec<u32>,
    reserved: i64,
}

impl Batch {
    pub(super) fn new(namespace: Arc<NamespaceEntry>, layout: Layout) -> Self {
        let mut parts = Vec::new();
        parts.resize_with(layout.shards() as usize, Part::default);
        Self { namespace, layout, parts, count: 0 }
    }

    /// Checks an operation and takes it in. Outcomes come back in the order of the pushes that
    /// were taken; a refused one takes no place.
    #[inline]
    pub fn push(&mut self, op: &Op<'_>) -> Result<(), Rejection> {
        check_op(op, self.namespace.config.limits.payload_bytes)?;
        let lane = self.layout.lane_of(self.layout.group_of(xxh3_64(op.key)));
        let part = &mut self.parts[self.layout.shard_of(lane).0 as usize];
        if let Some(limit) = self.namespace.config.limits.timers
            && may_add(&op.action)
        {
            self.namespace.reserve(limit)?;
            part.reserved += 1;
        }
        encode_op(&mut part.bytes, self.namespace.id, op);
        part.indexes.push(self.count as u32);
        self.count += 1;
        Ok(())
    }

    /// How many operations were taken.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none was taken.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Hands each part to `send`, with the number of its shard. A part that is not taken is refused
    /// as a whole, with what `send` says.
    pub(super) fn submit(
        mut self,
        reply: Reply<Vec<Outcome>>,
        mut send: impl FnMut(usize, usize, OpsPart) -> Result<(), (Rejection, OpsPart)>,
    ) {
        let parts = std::mem::take(&mut self.parts);
        let waiting = parts.iter().filter(|part| !part.indexes.is_empty()).count();
        if waiting == 0 {
            reply(Vec::new());
            return;
        }
        let gather = Arc::new(Gather {
            waiting: AtomicUsize::new(waiting),
            state: Mutex::new(Gathered { outcomes: vec![None; self.count], reply: Some(reply) }),
        });
        for (shard, part) in parts.into_iter().enumerate() {
            let Part { bytes, indexes, reserved } = part;
            if indexes.is_empty() {
                continue;
            }
            let reserved = (reserved > 0).then(|| (Arc::clone(&self.namespace.gauge), reserved));
            let namespace = self.namespace.id;
            let (cost, count) = (bytes.len(), indexes.len() as u32);
            let gather = Arc::clone(&gather);
            let reply = Box::new(move |outcomes| gather.add(&indexes, outcomes));
            if let Err((rejection, part)) =
                send(shard, cost, OpsPart { namespace, bytes, count, reserved, reply })
            {
                part.refuse(&rejection);
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let reserved: i64 = self.parts.iter().map(|part| part.reserved).sum();
        if reserved > 0 {
            // Relaxed: a count that bounds, nothing is ordered by it.
            self.namespace.gauge.reserved.fetch_sub(reserved, Ordering::Relaxed);
        }
    }
}

impl OpsPart {
    fn refuse(self, rejection: &Rejection) {
        if let Some((gauge, count)) = self.reserved {
            gauge.reserved.fetch_sub(count, Ordering::Relaxed);
        }
        (self.reply)(vec![Err(rejection.clone()); self.count as usize]);
    }
}

/// Puts the answers of several shards together.
struct Gather {
    waiting: AtomicUsize,
    state: Mutex<Gathered>,
}

struct Gathered {
    outcomes: Vec<Option<Outcome>>,
    reply: Option<Reply<Vec<Outcome>>>,
}

impl Gather {
    fn add(&self, indexes: &[u32], outcomes: Vec<Outcome>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, outcome) in indexes.iter().zip(outcomes) {
            state.outcomes[*index as usize] = Some(outcome);
        }
        // The lock orders the writes; the count only tells who is last.
        if self.waiting.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let all = std::mem::take(&mut state.outcomes);
        let reply = state.reply.take();
        drop(state);
        if let Some(reply) = reply {
            let all = all.into_iter().map(|outcome| outcome.unwrap_or(Err(Rejection::Stopping)));
            reply(all.collect());
        }
    }
}

#[inline]
fn check_op(op: &Op<'_>, payload_bytes_max: usize) -> Result<(), Rejection> {
    match op.key.len() {
        0 => return Err(Rejection::KeyEmpty),
        1..=KEY_BYTES_MAX => {}
        actual => {
            return Err(Rejection::KeyTooLong { limit: KEY_BYTES_MAX, actual });
        }
    }
    match &op.action {
        Action::Register(register) => check_register(register, payload_bytes_max),
        Action::Touch { name, after_ms, .. } => {
            check_name(name)?;
            if *after_ms < 0 {
                return Err(Rejection::DurationNegative { field: "after" });
            }
            Ok(())
        }
        Action::Delete { target: Target::Name(name), .. } => check_name(name),
        Action::Delete { target: Target::At { resolution_ms, spread_ms, .. }, .. } => {
            check_windows(*resolution_ms, *spread_ms)
        }
        Action::Delete { .. } | Action::DeleteAll => Ok(()),
    }
}

#[inline]
fn check_register(register: &Register<'_>, payload_bytes_max: usize) -> Result<(), Rejection> {
    if let Some(name) = register.name {
        check_name(name)?;
    }
    if matches!(register.when, When::After(..0)) {
        return Err(Rejection::DurationNegative { field: "after" });
    }
    if let Some(payload) = register.payload {
        let (limit, actual) = (payload_bytes_max, payload.bytes().len());
        if actual > limit {
            return Err(Rejection::PayloadTooLarge { limit, actual });
        }
    }
    check_windows(register.resolution_ms, register.spread_ms)
}

fn check_name(name: &str) -> Result<(), Rejection> {
    match name.len() {
        0 => Err(Rejection::NameEmpty),
        1..=NAME_BYTES_MAX => Ok(()),
        actual => Err(Rejection::NameTooLong { limit: NAME_BYTES_MAX, actual }),
    }
}

#[inline]
fn check_windows(resolution_ms: Option<i64>, spread_ms: Option<i64>) -> Result<(), Rejection> {
    for (field, window, least) in [("resolution", resolution_ms, 1), ("spread", spread_ms, 0)] {
        if let Some(window) = window
            && !(least..=WINDOW_MS_MAX).contains(&window)
        {
            let detail = format!("is {window} ms, allowed is {least} to {WINDOW_MS_MAX} ms");
            return Err(Rejection::OptionInvalid { field, detail });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Only, Payload};
    use crate::time::{Domain, Timestamp};

    const REGISTER: Register<'_> = Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(Timestamp::MIN),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    };

    fn check(key: &[u8], action: Action<'_>, expected: Option<(&str, u64)>) {
        let found = check_op(&Op { key, action }, 100);
        let found = found.err().map(|rejection| {
            (rejection.field().unwrap_or_default().to_owned(), rejection.limit().unwrap_or(0))
        });
        assert_eq!(found, expected.map(|(field, limit)| (field.to_owned(), limit)));
    }

    #[test]
    fn what_is_out_of_bounds_is_named_with_its_limit() {
        let long = [b'x'; 1_025];
        let name = "n".repeat(256);
        check(b"k", Action::DeleteAll, None);
        check(&long[1..], Action::DeleteAll, None);
        check(b"", Action::DeleteAll, Some(("key", 0)));
        check(&long, Action::DeleteAll, Some(("key", 1_024)));
        check(b"k", Action::Register(REGISTER), None);
        let named = |name| Action::Register(Register { name: Some(name), ..REGISTER });
        check(b"k", named(&name[1..]), None);
        check(b"k", named(&name), Some(("name", 255)));
        check(b"k", named(""), Some(("name", 0)));
        let payload = |bytes| {
            Action::Register(Register { payload: Some(Payload::Binary(bytes)), ..REGISTER })
        };
        check(b"k", payload(&long[..100]), None);
        check(b"k", payload(&long[..101]), Some(("payload", 100)));
        let when = When::After(-1);
        check(b"k", Action::Register(Register { when, ..REGISTER }), Some(("after", 0)));
        let resolution_ms = Some(0);
        check(
            b"k",
            Action::Register(Register { resolution_ms, ..REGISTER }),
            Some(("resolution", 0)),
        );
        let touch = |after_ms| Action::Touch { name: "t", domain: Domain::Event, after_ms };
        check(b"k", touch(0), None);
        check(b"k", touch(-1), Some(("after", 0)));
    }
}
