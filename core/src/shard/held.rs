//! Operations that wait because a function has failed at them, or at a timer of their key: they have no
//! position, and are tried again in their order, before anything that comes new.

use super::{Message, OpsPart, Shard};
use crate::error::Rejection;
use crate::key_group::LaneIndex;
use crate::lane::Lane;
use crate::log::Operations;
use crate::namespace::{ControlRecord, Controls, StopReport};
use crate::op::Outcome;
use crate::time::Timestamp;
use std::collections::VecDeque;

/// Bytes of operations that wait; what comes beyond is refused.
const HELD_BYTES_MAX: usize = 64 << 20;

/// See the module.
#[derive(Default)]
pub(super) struct HeldOps {
    parts: VecDeque<OpsPart>,
    bytes: usize,
    /// When they are looked at again; `None`: none waits.
    at: Option<Timestamp>,
    /// How many of them are still to be looked at now.
    round: usize,
}

/// The operations of a part that have to wait, while it is worked through.
#[derive(Default)]
pub(super) struct Waiting {
    ops: Operations,
    places: Vec<usize>,
    at: Option<Timestamp>,
}

impl HeldOps {
    /// Whether some are to be looked at now.
    pub(super) fn is_under_way(&self) -> bool {
        self.round > 0
    }

    /// Something has changed: they are looked at now.
    pub(super) fn look_again(&mut self) {
        self.at = self.at.map(|_| Timestamp::MIN);
    }
}

impl Waiting {
    /// The newest operation, of this record, has to wait for so long.
    #[cold]
    pub(super) fn push(&mut self, place: usize, record: &[u8], hash: u64, until: Timestamp) {
        self.places.push(place);
        self.ops.push_record(record, hash);
        self.at = Some(self.at.map_or(until, |at| at.min(until)));
    }
}

impl Shard {
    /// The next operations that have waited long enough, unless nothing may be taken in.
    pub(super) fn next_held(&mut self, now: Timestamp) -> Option<Message> {
        let held = &mut self.held;
        if held.at.is_none_or(|at| at > now) && held.round == 0 || self.is_marked() {
            return None;
        }
        let held = &mut self.held;
        if held.round == 0 {
            (held.round, held.at) = (held.parts.len(), None);
        }
        let part = held.parts.pop_front()?;
        held.round -= 1;
        held.bytes -= part.ops.len_bytes();
        Some(Message::Ops(part))
    }

    /// There is no room yet for a message.
    pub(super) fn defer(&mut self, message: Message) {
        match message {
            Message::Ops(part) if self.deferred.is_some() => {
                // It has waited before, and goes before the other one.
                self.held.bytes += part.ops.len_bytes();
                self.held.round += 1;
                self.held.parts.push_front(part);
            }
            // A step that had waited for room before: it goes first again.
            step if self.deferred.is_some() => self.roomless.push_front(step),
            message => self.deferred = Some(message),
        }
    }

    /// When something is tried again that a function has failed at.
    pub(super) fn next_retry(&self) -> Option<Timestamp> {
        self.lanes.iter().filter_map(Lane::next_retry).chain(self.held.at).min()
    }

    /// Answers a part, or keeps what has to wait of it: then all of it is answered together later.
    pub(super) fn answer_or_hold(
        &mut self,
        part: OpsPart,
        waiting: Waiting,
        mut outcomes: Vec<Outcome>,
    ) -> Option<(OpsPart, Vec<Outcome>)> {
        let Waiting { ops, places, at } = waiting;
        if places.is_empty() || self.held.bytes + ops.len_bytes() > HELD_BYTES_MAX {
            return Some((part, outcomes));
        }
        let OpsPart { namespace, ack, limit, reply, .. } = part;
        self.held.bytes += ops.len_bytes();
        self.held.at = self.held.at.into_iter().chain(at).min();
        let reply = Box::new(move |late: Vec<Outcome>| {
            for (place, outcome) in places.into_iter().zip(late) {
                outcomes[place] = outcome;
            }
            reply(outcomes);
        });
        self.held.parts.push_back(OpsPart { namespace, ops, ack, limit, reply });
        None
    }

    /// A namespace at home in a lane has stopped on some lane.
    pub(super) fn stopped(&mut self, lane: LaneIndex, report: StopReport) {
        let place = (lane.0 - self.first_lane) as usize;
        if !self.controls[place].is_news(&report) {
            return;
        }
        let record = ControlRecord::Stopped(report);
        self.record_control(lane, &record);
        if let ControlRecord::Stopped(report) = &record {
            self.controls[place].stop(report, &mut self.effects);
        }
    }

    /// Tells the homes of namespaces that these have stopped on some lane, once what that follows from
    /// is durable.
    pub(super) fn report_stops(&mut self) {
        for lane in &mut self.lanes {
            for report in lane.take_stops() {
                let home = LaneIndex((report.namespace.0 % self.layout.lanes() as u64) as u16);
                let message = Message::Stopped(home, report);
                self.turn.synced.sends.push((self.layout.shard_of(home), message));
                self.held.look_again();
            }
        }
        self.shared.stats.stopped = self.controls.iter().map(Controls::stopped_count).sum();
    }

    /// When an operation is tried again that was refused so, if it is.
    pub(super) fn held_until(outcome: &Outcome, now: Timestamp) -> Option<Timestamp> {
        match outcome {
            Err(Rejection::FunctionRetries { retry_after_ms }) => {
                Some(now.saturating_add(*retry_after_ms as i64))
            }
            _ => None,
        }
    }
}
