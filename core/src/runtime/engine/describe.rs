//! How a namespace stands: what its home knows, and where its function has failed on each lane.

use super::Engine;
use crate::error::Rejection;
use crate::namespace::{ClockKind, NamespaceStatus, Stop};
use crate::output::NamespaceId;
use crate::runtime::batch::Reply;
use crate::runtime::directory::NamespaceEntry;
use crate::runtime::merge::Merge;
use crate::shard::{Message, Read};
use crate::time::Timestamp;
use std::sync::Arc;

impl Engine {
    /// The live figures of a namespace.
    pub fn describe(
        &self,
        namespace: &NamespaceEntry,
        reply: Reply<Result<NamespaceStatus, Rejection>>,
    ) {
        let [pending_event, pending_processing] = namespace.pending_by_domain();
        let (id, keys) = (namespace.id, namespace.keys());
        let is_system = namespace.config.clock == ClockKind::System;
        let now = is_system.then(|| Timestamp::from_millis(self.common().clock.look().now_ms));
        let name = namespace.name.to_string();
        let engine = self.clone();
        let reply: Reply<Result<NamespaceStatus, Rejection>> = Box::new(move |answer| {
            let answer = answer.map(|status| NamespaceStatus {
                now: now.or(status.now),
                keys,
                pending_event,
                pending_processing,
                ..status
            });
            match answer {
                Ok(status) if status.stopped.is_some() => engine.add_failures(id, status, reply),
                answer => reply(answer),
            }
        });
        self.ask(self.shard_of(name.as_bytes()), reply, |reply| {
            Message::Read(Read::Describe { name, reply })
        });
    }

    /// Its home knows of one lane that has stopped; others may have at the same time.
    fn add_failures(
        &self,
        namespace: NamespaceId,
        status: NamespaceStatus,
        reply: Reply<Result<NamespaceStatus, Rejection>>,
    ) {
        let reply: Reply<Result<Vec<Arc<Stop>>, Rejection>> = Box::new(move |stops| {
            // A shard that does not answer takes nothing away from what is known.
            reply(Ok(status.with_failures(stops.unwrap_or_default())));
        });
        let shards = self.common().queues.len();
        let merge = Merge::new(shards, reply, |parts| parts.concat());
        for shard in 0..shards {
            self.ask(shard, merge.part(), |reply| Message::Read(Read::Stops { namespace, reply }));
        }
    }
}
