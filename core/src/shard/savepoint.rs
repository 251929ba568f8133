//! A shard's part in a savepoint: a cut through all shards that has no effect without its cause.
//!
//! While time is *held* no tick is written and no command begins, and what is under way comes to its
//! end; operations go on. Once that is so everywhere, each shard *marks*: it notes what its lanes
//! know, begins a copy on write of all asked partitions at once, and takes nothing in until every
//! shard has marked. So whoever was answered by what stands behind one shard's mark asks another
//! shard only behind its mark, too. Then all goes on, and the copies are written in slices.

use super::checkpoint::Progress;
use super::{Message, SavepointRequest, SavepointStep, Shard};
use crate::error::Rejection;
use crate::key_group::{KeyGroup, LaneIndex};
use crate::lane::Lane;
use crate::namespace::{Change, Controls, Step};
use crate::output::NamespaceId;
use crate::snapshot::{LaneMark, Part, SavepointPart};
use std::collections::{BTreeSet, VecDeque};

/// Bytes of operations that are kept while nothing is taken in; what comes beyond is refused as by a
/// full queue.
const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// When a refused request makes sense again.
const RETRY_AFTER_MS: u64 = 100;

/// See the module.
pub(super) struct Savepoint {
    number: u64,
    phase: Phase,
    copies: VecDeque<PartitionCopy>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until nothing is under way.
    Holding,
    /// Until nothing is under way in any shard.
    Held,
    Marked,
    Copying,
}

/// A partition that is being written as it was at the cut.
struct PartitionCopy {
    place: usize,
    namespace: NamespaceId,
    group: KeyGroup,
    position: u64,
    keys: u64,
    bytes: Vec<u8>,
}

impl Shard {
    /// Whether a savepoint keeps time from passing.
    pub(super) fn is_time_held(&self) -> bool {
        self.savepoint.as_ref().is_some_and(|it| match it.phase {
            // A savepoint knows of no restart before it: what was due at one is decided first.
            Phase::Holding => !self.is_undecided(),
            Phase::Held | Phase::Marked => true,
            Phase::Copying => false,
        })
    }

    fn is_undecided(&self) -> bool {
        self.lanes.iter().any(Lane::is_undecided)
    }

    pub(super) fn is_marked(&self) -> bool {
        self.savepoint.as_ref().is_some_and(|it| it.phase == Phase::Marked)
    }

    /// The next message that was kept, if it may be taken now.
    pub(super) fn next_of_backlog(&mut self) -> Option<Message> {
        if self.is_time_held() {
            return None;
        }
        self.backlog_bytes = 0;
        self.backlog.pop_front()
    }

    /// Gives a message back that may be taken now; keeps it otherwise.
    pub(super) fn pass_or_keep(&mut self, message: Message) -> Option<Message> {
        let is_kept = match &message {
            Message::Savepoint(_) | Message::Nudge => false,
            Message::Command(_) => self.is_time_held(),
            _ => self.is_marked(),
        };
        if !is_kept {
            return Some(message);
        }
        if let Message::Ops(part) = message {
            if self.backlog_bytes + part.ops.len_bytes() > BACKLOG_BYTES_MAX {
                part.refuse(&Rejection::QueueFull { retry_after_ms: RETRY_AFTER_MS });
                return None;
            }
            self.backlog_bytes += part.ops.len_bytes();
            self.backlog.push_back(Message::Ops(part));
        } else {
            self.backlog.push_back(message);
        }
        None
    }

    pub(super) fn savepoint_step(&mut self, request: SavepointRequest) {
        let SavepointRequest { number, step } = request;
        let phase = self.savepoint.as_ref().filter(|it| it.number == number).map(|it| it.phase);
        match (step, phase) {
            (SavepointStep::Hold, _) => {
                self.give_up_savepoint();
                let (phase, copies) = (Phase::Holding, VecDeque::new());
                self.savepoint = Some(Box::new(Savepoint { number, phase, copies }));
            }
            (SavepointStep::Mark(namespaces), Some(Phase::Held)) => self.mark(number, &namespaces),
            (SavepointStep::Resume, Some(Phase::Marked)) => {
                if let Some(savepoint) = &mut self.savepoint {
                    savepoint.phase = Phase::Copying;
                }
            }
            (SavepointStep::Cancel, Some(_)) => self.give_up_savepoint(),
            // Of a savepoint that was given up.
            _ => {}
        }
    }

    fn give_up_savepoint(&mut self) {
        let Some(savepoint) = self.savepoint.take() else { return };
        for copy in savepoint.copies {
            let lane = &mut self.lanes[copy.place];
            if let Some(home) = lane.find(copy.namespace)
                && let Some(partition) = lane.home_mut(home).partition_mut(copy.group)
            {
                partition.give_up_copy();
            }
        }
    }

    fn tell_savepoint(&mut self, number: u64, part: SavepointPart) {
        self.turn.visible.parts.push(Part::Savepoint { number, part });
    }

    fn mark(&mut self, number: u64, namespaces: &BTreeSet<NamespaceId>) {
        debug_assert!(!self.lanes.iter().any(Lane::is_draining), "nothing is under way");
        let mut copies = VecDeque::new();
        let mut marks = Vec::new();
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            let mut head = lane.head();
            head.namespaces.retain(|it| namespaces.contains(&it.id));
            let mut controls = self.controls[place].to_state();
            controls.namespaces.retain(|it| namespaces.contains(&NamespaceId(it.id)));
            controls.in_flight.clear();
            let (position, groups) = (head.position, lane.groups());
            let mut counts = Vec::new();
            for namespace in head.namespaces.iter().map(|it| it.id) {
                let Some(home) = lane.find(namespace) else { continue };
                let it = lane.home_mut(home);
                counts.push((namespace, it.around.timeline.keys, it.around.timeline.pending()));
                for group in groups.clone().map(KeyGroup) {
                    let Some(partition) = it.partition_mut(group) else { continue };
                    if partition.is_bare() {
                        continue;
                    }
                    let (keys, bytes) = (partition.begin_copy(), Vec::new());
                    copies.push_back(PartitionCopy {
                        place,
                        namespace,
                        group,
                        position,
                        keys,
                        bytes,
                    });
                }
            }
            marks.push(LaneMark { lane: lane.index(), head, controls, counts });
        }
        self.savepoint = Some(Box::new(Savepoint { number, phase: Phase::Marked, copies }));
        let shard = self.layout.shard_of(LaneIndex(self.first_lane));
        self.tell_savepoint(number, SavepointPart::Marked { shard, lanes: marks });
    }

    /// Says that nothing is under way any more, or writes on at the copies.
    pub(super) fn savepoint_slice(&mut self) -> Progress {
        let Some(mut savepoint) = self.savepoint.take() else {
            return Progress::Idle;
        };
        let shard = self.layout.shard_of(LaneIndex(self.first_lane));
        let number = savepoint.number;
        match savepoint.phase {
            Phase::Holding => {
                let is_draining = self.lanes.iter().any(Lane::is_draining);
                let is_in_flight = self.controls.iter().any(Controls::is_step_in_flight);
                if !is_draining && !is_in_flight && !self.is_undecided() {
                    savepoint.phase = Phase::Held;
                    self.tell_savepoint(number, SavepointPart::Held { shard });
                }
            }
            Phase::Held | Phase::Marked => {}
            Phase::Copying => {
                let mut budget = self.pace.budget;
                while budget > 0 && !self.room.are_parts_held {
                    let Some(copy) = savepoint.copies.front_mut() else {
                        self.tell_savepoint(number, SavepointPart::Done { shard });
                        return Progress::Idle;
                    };
                    budget -= 1;
                    if self.write_copy(copy, &mut budget)
                        && let Some(copy) = savepoint.copies.pop_front()
                    {
                        self.hand_copy_over(number, copy);
                    }
                }
                let is_later = self.room.are_parts_held;
                self.savepoint = Some(savepoint);
                return if is_later { Progress::Later } else { Progress::More };
            }
        }
        self.savepoint = Some(savepoint);
        Progress::Idle
    }

    /// Writes on at a copy; returns whether it is all there.
    fn write_copy(&mut self, copy: &mut PartitionCopy, budget: &mut u32) -> bool {
        let lane = &mut self.lanes[copy.place];
        let home = lane.find(copy.namespace);
        debug_assert!(home.is_some(), "the copies of a namespace are written before it goes");
        let Some(home) = home else { return true };
        let pools = &mut self.shared.pools;
        let partition = lane.home_mut(home).partition_mut(copy.group);
        partition.is_none_or(|partition| partition.write_slice(pools, &mut copy.bytes, budget))
    }

    fn hand_copy_over(&mut self, number: u64, copy: PartitionCopy) {
        let PartitionCopy { namespace, group, position, keys, bytes, .. } = copy;
        let part = SavepointPart::Partition { namespace, group, position, keys, bytes };
        self.tell_savepoint(number, part);
    }

    /// A namespace is about to go: what is copied of it is written to its end first.
    pub(super) fn finish_copies_before(&mut self, step: &Step) {
        if step.change != Change::Remove {
            return;
        }
        let Some(mut savepoint) = self.savepoint.take() else { return };
        let copies = std::mem::take(&mut savepoint.copies);
        for mut copy in copies {
            if copy.namespace == step.namespace {
                while !self.write_copy(&mut copy, &mut u32::MAX.clone()) {}
                self.hand_copy_over(savepoint.number, copy);
            } else {
                savepoint.copies.push_back(copy);
            }
        }
        self.savepoint = Some(savepoint);
    }
}
