//! A request's operations on their way to the shards that own their keys.

use super::directory::NamespaceEntry;
use crate::error::Rejection;
use crate::key_group::{Layout, xxh3_64};
use crate::log::{Operations, Produced};
use crate::op::{Op, Outcome};
use crate::shard::OpsPart;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::shard::{Ack, Reply};

/// Operations of one namespace, written down as records, routed by key group.
#[derive(Debug)]
pub struct Batch {
    namespace: Arc<NamespaceEntry>,
    layout: Layout,
    payload_bytes_max: usize,
    parts: Vec<Part>,
    count: usize,
    ack: Ack,
    /// Who sends it, and the sequence of the request, if it is to be taken once only.
    producer: Option<(String, u64)>,
    /// Operations pushed so far, refused ones included.
    pushed: u32,
}

/// What goes to one shard.
#[derive(Debug, Default)]
pub(super) struct Part {
    ops: Operations,
    /// Which operation of the batch each one is.
    indexes: Vec<u32>,
}

impl Batch {
    /// An empty batch; no payload may have more than `payload_bytes_max`, nor than the namespace allows.
    pub(super) fn new(
        namespace: Arc<NamespaceEntry>,
        layout: Layout,
        payload_bytes_max: usize,
    ) -> Self {
        let payload_bytes_max = payload_bytes_max.min(namespace.config.limits.payload_bytes);
        let mut parts = Vec::new();
        parts.resize_with(layout.shards() as usize, Part::default);
        let (count, ack, producer, pushed) = (0, Ack::default(), None, 0);
        Self { namespace, layout, payload_bytes_max, parts, count, ack, producer, pushed }
    }

    /// When the batch is to be answered; once it is durable, unless this is called.
    pub fn ack(&mut self, ack: Ack) {
        self.ack = ack;
    }

    /// Who sends the batch, and which of its requests it is; sequences of later ones are greater. What
    /// a key group has seen of it already, from an earlier attempt, is answered with
    /// [`crate::op::ResultKind::Repeated`] and changes nothing. Before the first push.
    pub fn producer(&mut self, name: &str, sequence: u64) {
        self.producer = Some((name.to_owned(), sequence));
    }

    /// The batch goes on where another one of the same request ends, after so many pushes. Before the
    /// first push.
    pub fn goes_on_after(&mut self, pushed: u32) {
        self.pushed = pushed;
    }

    /// Pushes so far, refused ones and those of the batches that it goes on after included.
    pub const fn pushed(&self) -> u32 {
        self.pushed
    }

    /// Checks an operation and takes it in. Outcomes come back in the order of the pushes that
    /// were taken; a refused one takes no place.
    #[inline]
    pub fn push(&mut self, op: &Op<'_>) -> Result<(), Rejection> {
        let index = self.pushed;
        self.pushed += 1;
        op.check(self.payload_bytes_max)?;
        op.check_operator(self.namespace.config.runs_function())?;
        let hash = xxh3_64(op.key);
        let lane = self.layout.lane_of(self.layout.group_of(hash));
        let part = &mut self.parts[self.layout.shard_of(lane).0 as usize];
        let produced = self.producer.as_ref().map(|(producer, sequence)| {
            let sequence = *sequence;
            Produced { producer, sequence, index }
        });
        part.ops.push(self.namespace.id, op, hash, produced.as_ref());
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
        self,
        reply: Reply<Vec<Outcome>>,
        mut send: impl FnMut(usize, usize, OpsPart) -> Result<(), Box<(Rejection, OpsPart)>>,
    ) {
        let Self { namespace, parts, ack, .. } = self;
        let waiting = parts.iter().filter(|part| !part.indexes.is_empty()).count();
        if waiting == 0 {
            reply(Vec::new());
            return;
        }
        let mut reply = Some(reply);
        let gather = (waiting > 1).then(|| {
            let outcomes = vec![None; self.count];
            let state = Mutex::new(Gathered { outcomes, reply: reply.take() });
            Arc::new(Gather { waiting: AtomicUsize::new(waiting), state })
        });
        for (shard, part) in parts.into_iter().enumerate() {
            let Part { ops, indexes } = part;
            if indexes.is_empty() {
                continue;
            }
            let limit = namespace.config.limits.timers;
            let cost = ops.len_bytes();
            let reply: Reply<Vec<Outcome>> = match (&gather, reply.take()) {
                (Some(gather), _) => {
                    let gather = Arc::clone(gather);
                    Box::new(move |outcomes| gather.add(&indexes, outcomes))
                }
                // All of it goes to one shard, which keeps the order.
                (None, Some(reply)) => reply,
                (None, None) => return,
            };
            let part = OpsPart { namespace: namespace.id, ops, ack, limit, reply };
            if let Err(refused) = send(shard, cost, part) {
                let (rejection, part) = *refused;
                part.refuse(&rejection);
            }
        }
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
