//! Broadcasts: which namespace takes them, and what they have left.

use super::Engine;
use crate::error::Rejection;
use crate::namespace::Broadcast;
use crate::runtime::batch::Reply;
use crate::runtime::directory::NamespaceEntry;
use crate::shard::{Message, Read};
use std::sync::Arc;

impl Engine {
    /// Refuses broadcasts for a namespace whose operator takes none.
    pub fn check_broadcasts(&self, namespace: &NamespaceEntry) -> Result<(), Rejection> {
        self.inner.operators.check_broadcast(&namespace.config)
    }

    /// Refuses a broadcast that the namespace does not take.
    pub(super) fn check_broadcast(
        &self,
        entry: Option<&NamespaceEntry>,
        it: &Broadcast,
    ) -> Result<(), Rejection> {
        let config = &entry.ok_or(Rejection::NamespaceUnknown)?.config;
        self.inner.operators.check_broadcast(config)?;
        let (limit, actual) = (config.limits.payload_bytes, it.value.len());
        if actual > limit {
            return Err(Rejection::PayloadTooLarge { limit, actual });
        }
        Ok(())
    }

    /// The broadcast state, as the namespace's function has written it down; none if there is none.
    pub fn broadcast_state(
        &self,
        namespace: &NamespaceEntry,
        reply: Reply<Result<Option<Arc<[u8]>>, Rejection>>,
    ) {
        let namespace = namespace.id;
        self.ask(0, reply, |reply| Message::Read(Read::Broadcast { namespace, reply }));
    }
}
