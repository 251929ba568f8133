//! What a lane holds beside its partitions, taken out and put back; and the way to its partitions
//! for whoever writes them.

use super::close::Closed;
use super::{Lane, LaneNamespace, Shared};
use crate::error::{Rejection, ReplayFault};
use crate::key_group::{KeyGroup, Layout};
use crate::output::NamespaceId;
use crate::ports::Gauges;
use crate::snapshot::{DomainHead, LaneHead, NamespaceHead, SnapshotFault};
use crate::time::{Domain, Timestamp};
use crate::timeline::Timeline;

impl Lane {
    /// What the lane knows beside its partitions, at its position. A namespace that is being let go
    /// is not in it.
    pub(crate) fn head(&self) -> LaneHead {
        let namespaces = self.homes.iter().flatten().map(|it| it.head());
        LaneHead { position: self.last_position(), namespaces: namespaces.collect() }
    }

    /// Puts back what the lane knew; it is new and has applied nothing yet.
    ///
    /// An advance that was under way is over: partitions are written once they have nothing due
    /// left. Control records that waited for it are sent again by their namespaces' homes. Refused if
    /// a function that it needs cannot be made.
    pub(crate) fn load_head(
        &mut self,
        shared: &Shared,
        head: LaneHead,
        gauges: &dyn Gauges,
    ) -> Result<(), ReplayFault> {
        debug_assert!(self.position == 1 && self.by_id.is_empty(), "the lane is new");
        self.position = head.position + 1;
        for it in head.namespaces {
            let it = LaneNamespace::from_head(shared, it, gauges);
            self.admit(it.map_err(|rejection| ReplayFault::operator(&rejection))?);
        }
        Ok(())
    }

    /// Puts a partition back, which must not be there yet; nothing happens if the namespace is not
    /// on this lane. It is as of `position`; `what` is how faults call the snapshot.
    #[allow(clippy::too_many_arguments, reason = "a partition with what is known of it already")]
    pub(crate) fn load_partition(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        namespace: NamespaceId,
        group: KeyGroup,
        position: u64,
        now: Timestamp,
        what: &str,
        bytes: &[u8],
    ) -> Result<(), SnapshotFault> {
        let Some(home) = self.find(namespace) else {
            return Ok(());
        };
        let (index, first_group, groups) = (self.index, self.first_group, self.groups);
        let it = self.home_mut(home);
        if layout.lane_of(group).0 != index || it.partition(group).is_some() {
            let detail = "a partition stands twice, or on a lane where it does not belong";
            return Err(SnapshotFault::damaged(what, 0, detail));
        }
        it.ensure_partition(group, first_group, groups);
        it.with_partition(shared, index, group, position, now, |partition, cx| {
            partition.load(cx, layout, group, what, bytes)
        })?;
        self.list_on_agenda(home);
        self.mark_changed(home);
        Ok(())
    }

    /// Keys of the partitions that have changed since a snapshot of them began last.
    pub(crate) fn dirty_keys(&self) -> u64 {
        let partitions = self.homes.iter().flatten().flat_map(|it| it.partitions());
        let dirty = partitions.filter(|partition| partition.is_dirty());
        dirty.map(|partition| partition.table().len() as u64).sum()
    }
}

impl LaneNamespace {
    fn head(&self) -> NamespaceHead {
        let domains = Domain::ALL.map(|domain| {
            let it = self.around.timeline.of(domain);
            DomainHead {
                reached: it.reached,
                wheel_at: it.wheel.position(),
                held: it.held.as_deref().cloned(),
            }
        });
        NamespaceHead {
            id: self.id,
            config: self.around.config.clone(),
            applied_number: self.applied_number,
            manual_now: self.around.manual_now,
            is_paused: self.around.is_paused,
            is_closed: self.closed.is_some(),
            stopped: self.around.stopped.clone(),
            broadcast: self.broadcast.clone(),
            domains,
        }
    }

    fn from_head(
        shared: &Shared,
        head: NamespaceHead,
        gauges: &dyn Gauges,
    ) -> Result<Self, Rejection> {
        let NamespaceHead { id, config, applied_number, manual_now, is_paused, .. } = head;
        let NamespaceHead { is_closed, broadcast, domains, .. } = head;
        let gauge = gauges.gauge(id);
        let mut it = Self::new(shared, id, config, applied_number, Timestamp::MIN, gauge)?;
        it.around.timeline = Timeline::standing_at([domains[0].wheel_at, domains[1].wheel_at]);
        for (domain, head) in Domain::ALL.into_iter().zip(domains) {
            let time = it.around.timeline.of_mut(domain);
            time.reached = head.reached;
            time.held = head.held.map(Box::new);
            if let Some(reached) = head.reached {
                time.counts.advance(reached);
            }
        }
        it.around.manual_now = manual_now;
        it.around.is_paused = is_paused;
        it.around.stopped = head.stopped;
        if is_closed {
            it.closed = Some(Closed::default());
            it.publish_closed();
        }
        it.restore_broadcast(broadcast);
        Ok(it)
    }
}

#[cfg(test)]
mod tests;
