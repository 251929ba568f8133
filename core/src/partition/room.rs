//! Whether an operation would add to the timers that there are: asked before it has a position, where
//! a namespace may hold no more than so many.

use super::{Context, Partition};
use crate::error::Rejection;
use crate::keyed::Identity;
use crate::log::KeyRecord;
use crate::op::{Action, Only, Register, When};
use crate::time::Timestamp;

/// When what is registered is to fire: the time after resolution, then spread.
#[inline]
pub(super) fn fire_at(
    cx: &Context<'_>,
    key: &[u8],
    register: &Register<'_>,
) -> Result<Timestamp, Rejection> {
    let Register { domain, name, when, resolution_ms, spread_ms, .. } = *register;
    let (field, time) = match when {
        When::At(time) => ("at", time),
        When::After(after_ms) => ("after", cx.after(domain, after_ms)?),
    };
    cx.fire_at(key, name, time, resolution_ms, spread_ms).ok_or(Rejection::TimeOverflow { field })
}

impl Partition {
    /// Whether an operation would leave one timer more than there were. What is about to be refused
    /// for another reason adds nothing, and neither does what fires at once.
    ///
    /// A timer that is due and has not been let go yet counts as standing: it goes before the one
    /// that takes its place comes.
    pub(crate) fn would_add(&self, cx: &Context<'_>, hash: u64, record: &KeyRecord<'_>) -> bool {
        let op = &record.op;
        let (domain, name, fire_at) = match &op.action {
            Action::Register(register) if register.only != Only::Present => {
                (register.domain, register.name, fire_at(cx, op.key, register))
            }
            Action::Touch { name, domain, after_ms } => {
                let (name, when) = (Some(*name), When::After(*after_ms));
                let (resolution_ms, spread_ms, payload) = (None, None, None);
                let (domain, only) = (*domain, Only::Always);
                let touch =
                    Register { domain, name, when, payload, resolution_ms, spread_ms, only };
                (domain, name, fire_at(cx, op.key, &touch))
            }
            _ => return false,
        };
        let Ok(fire_at) = fire_at else {
            return false;
        };
        if record.produced.as_ref().is_some_and(|produced| self.producers.has_taken(produced)) {
            return false;
        }
        let slot = cx.shared.pools.find(&self.table, op.key, hash);
        let identity = name.map_or(Identity::Time(fire_at), Identity::Name);
        let is_standing =
            slot.is_some_and(|slot| cx.shared.pools.timer(slot, domain, identity).is_some());
        !is_standing && cx.check_room(slot).is_ok() && !cx.fires_at_once(slot, domain, fire_at)
    }
}
