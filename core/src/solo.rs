//! The core on the thread that calls it: one namespace, no queues, no clock of its own.
//!
//! For those who want timers inside of their own loop, and for benches: what it costs is what the
//! core costs. Time passes when the caller says so.
//!
//! ```
//! use stormwheel::namespace::NamespaceConfig;
//! use stormwheel::op::{Action, DEFAULT_TIMER_NAME, Op};
//! use stormwheel::solo::Solo;
//! use stormwheel::time::{Domain, Timestamp};
//!
//! let start = Timestamp::from_millis(1_767_225_600_000);
//! let mut timers = Solo::new(&NamespaceConfig::default(), start)?;
//! let silent_for_a_minute =
//!     Action::Touch { name: DEFAULT_TIMER_NAME, domain: Domain::Processing, after_ms: 60_000 };
//! timers.apply(&[Op { key: b"device-9", action: silent_for_a_minute }], start);
//!
//! let mut fired = Vec::new();
//! timers.advance(start.saturating_add(59_999), |fire| fired.push(fire.key.to_vec()));
//! assert!(fired.is_empty());
//! timers.advance(start.saturating_add(60_000), |fire| fired.push(fire.key.to_vec()));
//! assert_eq!(fired, [b"device-9"]);
//! # Ok::<(), stormwheel::error::Rejection>(())
//! ```

use crate::error::Rejection;
use crate::function::Operators;
use crate::key_group::{Layout, ShardIndex, xxh3_64};
use crate::limits::{LANES_DEFAULT, MAX_PARALLELISM_DEFAULT};
use crate::log::Operations;
use crate::namespace::{Asked, Command, DEFAULT_NAMESPACE, NamespaceConfig, SourceChange};
use crate::op::{Op, Outcome};
use crate::output::{NamespaceId, OutputRecord};
use crate::ports::{Gauges, NamespaceGauge, Registry};
use crate::shard::{Ack, CommandRequest, Message, Next, OpsPart, Pace, Room, Shard, Turn};
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
pub struct Solo {
    shard: Shard,
    registry: Arc<OneNamespace>,
    inbox: VecDeque<Message>,
    payload_bytes_max: usize,
    timers_max: Option<u64>,
    /// The largest request so far, so that the next one is written without growing.
    bytes_hint: usize,
}

impl Drop for Solo {
    fn drop(&mut self) {
        self.shard.close();
    }
}

/// The registry of one namespace.
#[derive(Default)]
struct OneNamespace {
    id: Mutex<Option<NamespaceId>>,
    gauge: Arc<NamespaceGauge>,
}

impl Gauges for OneNamespace {
    fn gauge(&self, _: NamespaceId) -> Arc<NamespaceGauge> {
        Arc::clone(&self.gauge)
    }
}

impl Registry for OneNamespace {
    fn publish(&self, id: NamespaceId, _: Arc<str>, _: Arc<NamespaceConfig>, _: u64) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    fn withdraw(&self, _: NamespaceId, _: &str) {}

    fn namespaces(&self) -> usize {
        0
    }
}

impl Solo {
    /// A namespace of its own, with nothing in it.
    pub fn new(config: &NamespaceConfig, now: Timestamp) -> Result<Self, Rejection> {
        Self::with_operators(config, Operators::default(), now)
    }

    /// A namespace of its own that may run one of these functions, with nothing in it.
    pub fn with_operators(
        config: &NamespaceConfig,
        operators: Operators,
        now: Timestamp,
    ) -> Result<Self, Rejection> {
        config.validate()?;
        operators.check(config)?;
        let layout = Layout::new(MAX_PARALLELISM_DEFAULT, LANES_DEFAULT, 1)
            .expect("the defaults are a legal layout");
        let registry = Arc::<OneNamespace>::default();
        let shared = Arc::clone(&registry) as Arc<dyn Registry>;
        let mut solo = Self {
            shard: Shard::new(ShardIndex(0), layout, Pace::default(), shared)
                .with_operators(operators),
            registry,
            inbox: VecDeque::new(),
            payload_bytes_max: config.limits.payload_bytes,
            timers_max: config.limits.timers,
            bytes_hint: 0,
        };
        solo.command(Command::Put { config: config.clone(), expected_version: None }, now, |_| {});
        Ok(solo)
    }

    fn command(
        &mut self,
        command: Command,
        now: Timestamp,
        each: impl FnMut(OutputRecord<'_>) + Send,
    ) {
        let (name, reply) = (DEFAULT_NAMESPACE.to_owned(), Box::new(|_| {}));
        let asked = Box::new(Asked::new(name, command));
        let request = CommandRequest { asked, reply };
        self.work(Some(Message::Command(request)), now, each);
    }

    /// Applies operations in their order, as of `now`; one outcome for each. What fires meanwhile (a
    /// timer that is due already as it is registered) is dropped: see [`Solo::apply_with`].
    pub fn apply(&mut self, ops: &[Op<'_>], now: Timestamp) -> Vec<Outcome> {
        self.apply_with(ops, now, |_| {})
    }

    /// Applies operations in their order, as of `now`, and hands over what fires meanwhile.
    pub fn apply_with(
        &mut self,
        ops: &[Op<'_>],
        now: Timestamp,
        each: impl FnMut(OutputRecord<'_>) + Send,
    ) -> Vec<Outcome> {
        let namespace = self.id();
        let mut taken = Operations::with_capacity(ops.len(), self.bytes_hint);
        let mut refused = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match op.check(self.payload_bytes_max) {
                Ok(()) => taken.push(namespace, op, xxh3_64(op.key), None),
                Err(rejection) => refused.push((index, rejection)),
            }
        }
        self.bytes_hint = self.bytes_hint.max(taken.len_bytes());
        let answer = Arc::new(Mutex::new(Vec::new()));
        let mine = Arc::clone(&answer);
        let reply = Box::new(move |outcomes| {
            *mine.lock().unwrap_or_else(PoisonError::into_inner) = outcomes;
        });
        let (ack, limit) = (Ack::Accepted, self.timers_max);
        let part = OpsPart { namespace, ops: taken, ack, limit, reply };
        self.work(Some(Message::Ops(part)), now, each);
        let mut outcomes =
            std::mem::take(&mut *answer.lock().unwrap_or_else(PoisonError::into_inner));
        for (index, rejection) in refused {
            outcomes.insert(index, Err(rejection));
        }
        outcomes
    }

    /// Lets processing time pass up to `now` and hands over what fires.
    pub fn advance(&mut self, now: Timestamp, each: impl FnMut(OutputRecord<'_>) + Send) {
        self.work(None, now, each);
    }

    /// Moves the watermark and hands over what fires.
    pub fn advance_watermark(
        &mut self,
        watermark: Timestamp,
        now: Timestamp,
        each: impl FnMut(OutputRecord<'_>) + Send,
    ) {
        let change = SourceChange::Watermark(watermark);
        self.command(Command::Source { source: DEFAULT_NAMESPACE.to_owned(), change }, now, each);
    }

    /// Timers pending, over both domains.
    pub fn pending(&self) -> u64 {
        self.shard.stats().pending.iter().sum()
    }

    /// Memory by part, in bytes.
    pub fn memory(&self) -> Vec<(&'static str, usize)> {
        self.shard.memory()
    }

    fn id(&self) -> NamespaceId {
        let id = *self.registry.id.lock().unwrap_or_else(PoisonError::into_inner);
        id.expect("it was published when it was made")
    }

    /// Takes turns until there is nothing left to do at `now`.
    fn work(
        &mut self,
        message: Option<Message>,
        now: Timestamp,
        mut each: impl FnMut(OutputRecord<'_>) + Send,
    ) {
        self.inbox.extend(message);
        loop {
            let inbox = &mut self.inbox;
            let (turn, next) =
                self.shard.turn(now, false, Room::ENDLESS, &mut || inbox.pop_front());
            let Turn { outputs, synced, visible, .. } = turn;
            for block in &outputs {
                block.iter().for_each(&mut each);
            }
            // What is said to shards is said to this one.
            let mut send = |_, message| self.inbox.push_back(message);
            synced.run(&mut send, &mut |_| {});
            visible.run(&mut send, &mut |_| {});
            if next != Next::Now && self.inbox.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Action, Only, Register, When};
    use crate::time::Domain;

    #[test]
    fn outcomes_stand_in_the_order_of_their_operations() {
        let now = Timestamp::from_millis(1_000);
        let mut solo = Solo::new(&NamespaceConfig::default(), now).expect("a legal configuration");
        let register = |at| {
            Action::Register(Register {
                domain: Domain::Event,
                name: None,
                when: When::At(Timestamp::from_millis(at)),
                payload: None,
                resolution_ms: None,
                spread_ms: None,
                only: Only::Always,
            })
        };
        let ops = [
            Op { key: b"a", action: register(5) },
            Op { key: b"", action: register(5) },
            Op { key: b"b", action: register(3) },
        ];
        let outcomes = solo.apply(&ops, now);
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        assert_eq!(outcomes[1], Err(Rejection::KeyEmpty));
        assert_eq!(solo.pending(), 2);
        let mut fired = Vec::new();
        solo.advance_watermark(Timestamp::from_millis(4), now, |fire| {
            fired.push(fire.key.to_vec());
        });
        assert_eq!(fired, [b"b"]);
        assert_eq!(solo.pending(), 1);
    }
}
