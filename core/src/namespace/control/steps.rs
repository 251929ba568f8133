//! Steps under way: sent to all lanes, and waited for by those who are answered once they have come
//! so far.

use super::{Change, ControlEffect, Controls, Step, StepDone, Ticket};
use crate::key_group::LaneIndex;
use crate::namespace::{BroadcastResult, CommandReply, NamespaceConfig, SourceResult};
use crate::output::NamespaceId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct InFlight {
    /// What is sent again after a restart.
    pub(super) change: Change,
    pub(super) applied: u16,
    pub(super) settled: u16,
    pub(super) timers: u64,
    pub(super) is_failed: bool,
    pub(super) publish: Option<Publish>,
    pub(super) waiting: VecDeque<Waiting>,
}

impl InFlight {
    pub(super) fn new(change: Change) -> Self {
        let (publish, waiting) = (None, VecDeque::new());
        Self { change, applied: 0, settled: 0, timers: 0, is_failed: false, publish, waiting }
    }

    /// Whether it closes a namespace, and all that is left to do of it is to wait for its last timer:
    /// nothing else has to wait for that.
    pub(super) fn is_waiting_for_the_end(&self, lanes: u16) -> bool {
        self.change == Change::Close && self.applied == lanes
    }
}

#[derive(Debug)]
pub(super) struct Publish {
    pub(super) name: Arc<str>,
    pub(super) config: Arc<NamespaceConfig>,
    pub(super) version: u64,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) settle: bool,
    pub(super) reply: CommandReply,
    /// The step is another's: what fires of it is not this one's doing.
    pub(super) is_bystander: bool,
}

impl Waiting {
    pub(super) fn new(ticket: Ticket, settle: bool, reply: CommandReply) -> Self {
        Self { ticket, settle, reply, is_bystander: false }
    }
}

impl Controls {
    /// Answers once the newest step of the namespace that is under way has come so far. Lanes take
    /// the steps of a namespace in their order, and say so in that order.
    pub(super) fn answer_behind(
        &mut self,
        name: &str,
        ticket: Ticket,
        settle: bool,
        reply: CommandReply,
        effects: &mut Vec<ControlEffect>,
    ) {
        let id = self.by_name.get(name).map(|control| control.id);
        let lanes = self.lanes;
        let newest = id.and_then(|id| {
            let mut steps = self.in_flight.range_mut((id, 0)..=(id, u64::MAX)).rev();
            steps.find(|(_, step)| !step.is_waiting_for_the_end(lanes))
        });
        match newest {
            Some((_, step)) if settle || step.applied < self.lanes => {
                let waiting = Waiting::new(ticket, settle, reply);
                step.waiting.push_back(Waiting { is_bystander: true, ..waiting });
            }
            _ => effects.push(ControlEffect::Answer(ticket, Ok(reply))),
        }
    }

    pub(super) fn send(
        &mut self,
        namespace: NamespaceId,
        number: u64,
        change: Change,
        publish: Option<Publish>,
        waiting: Option<Waiting>,
        effects: &mut Vec<ControlEffect>,
    ) {
        let waiting = waiting.into_iter().collect();
        let in_flight = InFlight { publish, waiting, ..InFlight::new(change.clone()) };
        self.in_flight.insert((namespace, number), in_flight);
        effects.push(ControlEffect::Send(Step { namespace, number, change }));
    }

    /// After the log was followed: forgets the steps that all lanes have applied, makes the
    /// namespaces known that are configured everywhere, and sends the other steps again.
    pub(crate) fn recovered(
        &mut self,
        numbers: &BTreeMap<NamespaceId, BTreeMap<LaneIndex, u64>>,
        effects: &mut Vec<ControlEffect>,
    ) {
        let lanes = self.lanes as usize;
        let applied = |id: NamespaceId| {
            let everywhere = numbers.get(&id).filter(|by_lane| by_lane.len() == lanes);
            everywhere.and_then(|by_lane| by_lane.values().min().copied()).unwrap_or(0)
        };
        let known: BTreeSet<NamespaceId> = self.by_name.values().map(|it| it.id).collect();
        self.in_flight.retain(|(id, number), step| {
            if known.contains(id) {
                *number > applied(*id)
            } else {
                // Of one that is gone only that is left to say, and only if some lane has it still.
                step.change == Change::Remove && numbers.contains_key(id)
            }
        });
        for (name, control) in &self.by_name {
            if applied(control.id) > 0 {
                let (id, name) = (control.id, Arc::clone(name));
                let (config, version) = (Arc::clone(&control.config), control.version);
                let born = control.born;
                effects.push(ControlEffect::Publish { id, name, config, version, born });
            }
        }
        self.ask_closed();
        for ((namespace, number), step) in &mut self.in_flight {
            (step.applied, step.settled, step.timers) = (0, 0, 0);
            step.is_failed = false;
            step.waiting.clear();
            let (namespace, number, change) = (*namespace, *number, step.change.clone());
            effects.push(ControlEffect::Send(Step { namespace, number, change }));
        }
    }

    /// A lane says how far it is with a step.
    pub(crate) fn step_done(&mut self, done: StepDone, effects: &mut Vec<ControlEffect>) {
        let key = (done.namespace, done.number);
        let lanes = self.lanes;
        let Some(step) = self.in_flight.get_mut(&key) else {
            return;
        };
        step.is_failed |= done.is_failed;
        if done.is_settled {
            step.settled += 1;
            step.timers += done.timers;
        } else {
            step.applied += 1;
        }
        if step.applied == lanes
            && let Some(Publish { name, config, version }) = step.publish.take()
        {
            let id = done.namespace;
            let control = self.by_name.get(&name).filter(|control| control.id == id);
            let born = control.and_then(|control| control.born);
            effects.push(ControlEffect::Publish { id, name, config, version, born });
        }
        let (is_applied, is_settled) = (step.applied == lanes, step.settled == lanes);
        let (timers, is_failed) = (step.timers, step.is_failed);
        let all = std::mem::take(&mut step.waiting);
        if is_applied && is_settled && step.change == Change::Close {
            self.finish(done.namespace, effects);
        }
        let mut later = VecDeque::new();
        for waiting in all {
            if waiting.settle && !is_settled || !is_applied {
                later.push_back(waiting);
                continue;
            }
            let timers = if waiting.is_bystander { 0 } else { timers };
            let reply = match waiting.reply {
                CommandReply::Closed { changed, closing, .. } => {
                    let closing = self.closing(done.namespace).unwrap_or(closing);
                    CommandReply::Closed { changed, closing, timers }
                }
                reply if waiting.is_bystander => reply,
                reply => reply.with(timers, is_failed),
            };
            effects.push(ControlEffect::Answer(waiting.ticket, Ok(reply)));
        }
        if is_applied && is_settled {
            self.in_flight.remove(&key);
        } else if let Some(step) = self.in_flight.get_mut(&key) {
            step.waiting = later;
        }
    }
}

impl CommandReply {
    /// The same, once it is known what came of its step.
    fn with(self, timers: u64, is_failed: bool) -> Self {
        match self {
            Self::Deleted { .. } => Self::Deleted { timers },
            Self::Clock { advanced, now, .. } => Self::Clock { advanced, now, fired: timers },
            Self::Source { result, watermark, .. } if result != SourceResult::Ignored => {
                Self::Source { result, watermark, fired: timers }
            }
            Self::Broadcast { result, .. } => {
                let result = if is_failed { BroadcastResult::Failed } else { result };
                Self::Broadcast { result, visited: timers }
            }
            other => other,
        }
    }
}
