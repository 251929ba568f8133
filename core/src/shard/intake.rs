//! What a turn takes in of what waits: as much as its pace and the room in the log allow.

use super::turn::NoMoreRoom;
use super::{Message, Shard};
use crate::log::BLOCK_OVERHEAD_BYTES;
use crate::partition::Course;
use crate::time::Timestamp;

impl Shard {
    /// Takes messages in until the pace, the room or the inbox ends it. Returns whether the inbox is
    /// empty.
    pub(super) fn take_in(
        &mut self,
        now: Timestamp,
        inbox: &mut dyn FnMut() -> Option<Message>,
    ) -> bool {
        self.apply_rest(now);
        let (mut ops, mut messages, mut bytes) = (0, 0, 0);
        while ops < self.pace.ops && messages < self.pace.messages && bytes < self.pace.bytes {
            if self.has_rest_to_do() {
                // What came later is not taken in before it.
                return false;
            }
            let may_step = !self.room.are_steps_held;
            // One that waits by itself came before those that wait for room.
            let is_first = !matches!(self.deferred, Some(Message::Step(_)));
            let step = if may_step && is_first { self.roomless.pop_front() } else { None };
            let held = if step.is_none() { self.next_held(now) } else { None };
            self.shared.course = if held.is_some() { Course::Again } else { Course::New };
            let first = step.or(held);
            let first = first.or_else(|| self.deferred.take()).or_else(|| self.next_of_backlog());
            let Some(message) = first.or_else(&mut *inbox) else {
                return true;
            };
            messages += 1;
            let Some(message) = self.pass_or_keep(message) else {
                continue;
            };
            let message = match message {
                Message::Command(request) if self.room.are_commands_refused => {
                    (request.reply)(Err(NoMoreRoom::Full.rejection()));
                    continue;
                }
                step @ Message::Step(_) if !may_step => {
                    self.roomless.push_back(step);
                    continue;
                }
                message => message,
            };
            let message = if let Some(message_bytes) = message.log_bytes(self.lanes.len()) {
                ops += message.ops();
                bytes += message_bytes;
                let blocks = self.lanes.len() * BLOCK_OVERHEAD_BYTES;
                let cost = (message_bytes + blocks) as u64;
                let needed = cost.saturating_add(self.room.reserve_bytes);
                let is_missing = self.room.log_bytes < needed;
                let is_behind = self.rest.is_some() && matches!(message, Message::Ops(_));
                let no_more = self.room.no_more.filter(|_| is_missing || is_behind);
                let message = match (no_more, message) {
                    (Some(no_more), Message::Ops(part)) => {
                        part.refuse(&no_more.rejection());
                        continue;
                    }
                    (None, waiting) if is_behind || is_missing && !self.room.is_widest => {
                        self.defer(waiting);
                        return false;
                    }
                    (_, message) => message,
                };
                self.room.log_bytes = self.room.log_bytes.saturating_sub(cost);
                self.room.is_widest = false;
                message
            } else {
                message
            };
            self.take(message, now);
        }
        false
    }
}
