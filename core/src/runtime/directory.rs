//! The namespaces by name, as requests look them up: read by many, changed by the control state
//! machines.

use super::output_log::OutputLog;
use crate::error::Rejection;
use crate::namespace::NamespaceConfig;
use crate::output::{Cursor, NamespaceId};
use crate::ports::{Gauges, NamespaceGauge, Registry};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The namespaces that were there when it was asked for.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// By name.
    pub by_name: BTreeMap<Arc<str>, Arc<NamespaceEntry>>,
}

/// A namespace as requests see it.
#[derive(Debug)]
pub struct NamespaceEntry {
    /// Its incarnation.
    pub id: NamespaceId,
    /// Its name.
    pub name: Arc<str>,
    /// Its configuration.
    pub config: Arc<NamespaceConfig>,
    /// The version of its configuration; rises with each change.
    pub version: u64,
    pub(super) gauge: Arc<NamespaceGauge>,
}

impl NamespaceEntry {
    /// Timers pending over both domains, as of the shards' last turns.
    pub fn pending(&self) -> u64 {
        self.pending_by_domain().iter().sum()
    }

    pub(super) fn pending_by_domain(&self) -> [u64; 2] {
        // Relaxed, and shards report one after another: a sum may be off for a moment.
        [0, 1].map(|index| self.gauge.pending[index].load(Ordering::Relaxed).max(0) as u64)
    }

    /// Whether its input has ended: every operation on it is refused.
    pub fn is_closed(&self) -> bool {
        // Acquire pairs with the lane that closes it.
        self.gauge.is_closed.load(Ordering::Acquire)
    }

    /// Refuses what would be new input, once it has ended.
    pub fn check_open(&self) -> Result<(), Rejection> {
        if self.is_closed() { Err(Rejection::NamespaceClosed) } else { Ok(()) }
    }

    /// Keys that hold something, as of the shards' last turns.
    pub fn keys(&self) -> u64 {
        self.gauge.keys.load(Ordering::Relaxed).max(0) as u64
    }
}

/// The one directory of an engine.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// As it is handed out: copied when it changes only if somebody still holds it.
    directory: RwLock<Arc<Directory>>,
    gauges: Mutex<HashMap<NamespaceId, Arc<NamespaceGauge>, ahash::RandomState>>,
    outputs: Arc<OutputLog>,
}

impl Namespaces {
    pub(super) fn new(outputs: Arc<OutputLog>) -> Self {
        let gauges = HashMap::with_hasher(ahash::RandomState::new());
        Self { directory: RwLock::default(), gauges: Mutex::new(gauges), outputs }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<NamespaceEntry>> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        directory.by_name.get(name).cloned()
    }

    pub(super) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Arc<str>, Arc<NamespaceEntry>>)) {
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut Arc::make_mut(&mut directory).by_name);
    }
}

impl Gauges for Namespaces {
    fn gauge(&self, namespace: NamespaceId) -> Arc<NamespaceGauge> {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gauges.entry(namespace).or_default())
    }
}

impl Registry for Namespaces {
    fn publish(&self, id: NamespaceId, name: Arc<str>, config: Arc<NamespaceConfig>, version: u64) {
        let gauge = self.gauge(id);
        self.outputs.admit(id, config.retention);
        let entry = NamespaceEntry { id, name: Arc::clone(&name), config, version, gauge };
        self.change(|by_name| {
            by_name.insert(name, Arc::new(entry));
        });
    }

    fn begin_behind(&self, id: NamespaceId, cursor: Cursor) {
        self.outputs.begin_behind(id, cursor);
    }

    fn finish(&self, id: NamespaceId) {
        self.outputs.finish(id);
    }

    fn withdraw(&self, id: NamespaceId, name: &str) {
        self.change(|by_name| {
            // A successor of the same name may have been published already.
            if by_name.get(name).is_some_and(|entry| entry.id == id) {
                by_name.remove(name);
            }
        });
        self.outputs.end(id);
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn namespaces(&self) -> usize {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_at_all_namespaces_copies_none() {
        let namespaces = Namespaces::new(Arc::new(OutputLog::new(0, 1 << 20)));
        let publish = |id, name: &str| {
            namespaces.publish(NamespaceId(id), name.into(), Arc::default(), 1);
        };
        publish(1, "a");
        let (first, second) = (namespaces.directory(), namespaces.directory());
        assert!(Arc::ptr_eq(&first, &second));
        publish(2, "b");
        assert_eq!((first.by_name.len(), namespaces.namespaces()), (1, 2), "it stays as it was");
        let third = Arc::as_ptr(&namespaces.directory());
        publish(3, "c");
        let fourth = namespaces.directory();
        assert_eq!(third, Arc::as_ptr(&fourth), "nobody held it");
        namespaces.withdraw(NamespaceId(7), "c");
        namespaces.withdraw(NamespaceId(2), "b");
        let left = namespaces.directory();
        assert!(left.by_name.keys().map(|name| &**name).eq(["a", "c"]));
        assert_eq!(fourth.by_name.len(), 3);
    }
}
