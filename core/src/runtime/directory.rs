//! The namespaces by name, as requests look them up: read by many, changed by the control state
//! machines.

use super::output_log::OutputLog;
use crate::error::Rejection;
use crate::namespace::NamespaceConfig;
use crate::output::NamespaceId;
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

    pub(super) fn keys(&self) -> u64 {
        self.gauge.keys.load(Ordering::Relaxed).max(0) as u64
    }

    /// Sets room for one more timer aside.
    pub(super) fn reserve(&self, limit: u64) -> Result<(), Rejection> {
        let reserved = self.gauge.reserved.fetch_add(1, Ordering::Relaxed) as u64;
        if self.pending() + reserved >= limit {
            self.gauge.reserved.fetch_sub(1, Ordering::Relaxed);
            return Err(Rejection::TimersExceeded { limit });
        }
        Ok(())
    }
}

/// The one directory of an engine.
#[derive(Debug)]
pub(super) struct Namespaces {
    by_name: RwLock<BTreeMap<Arc<str>, Arc<NamespaceEntry>>>,
    gauges: Mutex<HashMap<NamespaceId, Arc<NamespaceGauge>, ahash::RandomState>>,
    outputs: Arc<OutputLog>,
}

impl Namespaces {
    pub(super) fn new(outputs: Arc<OutputLog>) -> Self {
        let gauges = HashMap::with_hasher(ahash::RandomState::new());
        Self { by_name: RwLock::default(), gauges: Mutex::new(gauges), outputs }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<NamespaceEntry>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.get(name).cloned()
    }

    pub(super) fn directory(&self) -> Directory {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        Directory { by_name: by_name.clone() }
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
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        by_name.insert(name, Arc::new(entry));
    }

    fn withdraw(&self, id: NamespaceId, name: &str) {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        // A successor of the same name may have been published already.
        if by_name.get(name).is_some_and(|entry| entry.id == id) {
            by_name.remove(name);
        }
        drop(by_name);
        self.outputs.end(id);
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn namespaces(&self) -> usize {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}
