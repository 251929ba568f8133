//! A fire, as it is handed out.

use super::core::Core;
use super::{Answer, Error};
use crate::output::{OutputId, OutputRecord};
use crate::time::Timestamp;
use std::fmt;
use std::sync::{Arc, Weak};

/// A timer that has fired. It comes again after a restart, until it is acknowledged.
#[derive(Clone)]
pub struct Fire {
    pub(super) cursor: u64,
    id: OutputId,
    key: Vec<u8>,
    name: Option<String>,
    payload: Vec<u8>,
    due: Timestamp,
    fired: Timestamp,
    /// It keeps nothing open.
    core: Weak<Core>,
}

impl Fire {
    pub(super) fn new(cursor: u64, record: &OutputRecord<'_>, core: Weak<Core>) -> Self {
        Self {
            cursor,
            id: record.id,
            key: record.key.to_vec(),
            name: record.name.map(str::to_owned),
            payload: record.payload.map_or(&[][..], |payload| payload.bytes()).to_vec(),
            due: record.fire_at,
            fired: record.due_by,
            core,
        }
    }

    /// The key that the timer belonged to.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The timer's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What was scheduled with it.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// When it was due.
    pub fn fire_at(&self) -> Timestamp {
        self.due
    }

    /// What the clock read when it fired: never less than [`Fire::fire_at`].
    pub fn fired_at(&self) -> Timestamp {
        self.fired
    }

    /// The same each time that this fire is handed out, and never that of another one: what a
    /// handler remembers so as to do its work once.
    pub fn id(&self) -> OutputId {
        self.id
    }

    /// Says that it was handled: it never comes again. Waits until that is durable.
    pub fn ack(&self) -> Result<(), Error> {
        self.submit_ack().wait()
    }

    /// The same, without waiting.
    pub fn submit_ack(&self) -> Answer<()> {
        Core::ack_upgraded(self.core.upgrade().as_ref(), &[self.cursor])
    }

    /// Whether it was handed out by this one.
    pub(super) fn is_of(&self, core: &Arc<Core>) -> bool {
        std::ptr::eq(self.core.as_ptr(), Arc::as_ptr(core))
    }
}

impl fmt::Debug for Fire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fire")
            .field("id", &format_args!("{}", self.id))
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("name", &self.name)
            .field("fire_at", &self.due)
            .field("fired_at", &self.fired)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
