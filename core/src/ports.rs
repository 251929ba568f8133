//! The traits through which the pure core is driven.

use crate::namespace::NamespaceConfig;
use crate::output::{NamespaceId, OutputBytes};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// The clocks of a machine, in milliseconds.
pub trait MachineClock: Send + Sync {
    /// The real-time clock, since the Unix epoch. It may step in both directions.
    fn realtime_ms(&self) -> i64;
    /// Time since the machine started, suspends included. It only moves forward.
    fn boottime_ms(&self) -> i64;
    /// The real-time clock in microseconds, for measuring how late something is.
    fn realtime_micros(&self) -> i64 {
        self.realtime_ms().saturating_mul(1_000)
    }
}

/// Where the blocks of a lane go.
pub trait Log: Send {
    /// Takes the records that a lane applied since the last call: `count` of them, the first at
    /// `first_position`, written under the intake clock `now_ms`. What follows from them may leave
    /// the process once they are durable, which is when this returns.
    fn append(&mut self, lane: u16, first_position: u64, count: u32, now_ms: i64, records: &[u8]);
}

/// Where output records go once their cause is durable.
pub trait OutputSink: Send {
    /// Takes a block of output records.
    fn append(&mut self, block: OutputBytes, now_ms: i64);
    /// A namespace is gone: its outputs go, and nothing more comes for it.
    fn end(&mut self, namespace: NamespaceId);
}

/// What all lanes together hold of a namespace.
#[derive(Debug, Default)]
pub struct NamespaceGauge {
    /// Timers pending, by domain: [event, processing].
    pub pending: [AtomicI64; 2],
    /// Keys held.
    pub keys: AtomicI64,
    /// Registrations on their way, where the namespace has a limit: they count against it.
    pub reserved: AtomicI64,
}

/// The gauges of namespaces.
pub trait Gauges: Send + Sync {
    /// The gauge of a namespace: the same one for whoever asks.
    fn gauge(&self, namespace: NamespaceId) -> Arc<NamespaceGauge>;
}

/// Where it is made known which namespaces can be used.
pub trait Registry: Gauges {
    /// This namespace is configured in every lane.
    fn publish(&self, id: NamespaceId, name: Arc<str>, config: Arc<NamespaceConfig>, version: u64);
    /// The namespace of this name and incarnation is gone.
    fn withdraw(&self, id: NamespaceId, name: &str);
    /// How many there are.
    fn namespaces(&self) -> usize;
}
