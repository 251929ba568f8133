//! The traits through which the pure core is driven.

use crate::namespace::NamespaceConfig;
use crate::output::{Cursor, NamespaceId};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

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

/// The files of a data directory, by names relative to it (`journal/00000001-000-0000000001.log`).
///
/// Nothing is durable before it is synced: bytes by [`DiskFile::sync`], names by
/// [`Disk::sync_folder`]. Unsynced writes may reach the disk in any order, or not at all.
pub trait Disk: Send + Sync {
    /// Makes an empty file under a name that is not taken; its folder is made if need be.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// The names of the files in a folder, without the folder's, in ascending order; none if there
    /// is no such folder. Of the data directory itself (an empty name), those of the folders in it too.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Gives a file another name, in place of whatever has that one; its folder is made if need be.
    /// It has one of the two names at any moment, also after a crash.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
    /// Bytes that are free for more.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One file of a [`Disk`].
pub trait DiskFile: Send + Sync {
    /// How long it is.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Reads at an offset; fewer bytes than asked for is no error, none is the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes at an offset, growing the file if need be; fewer bytes than given is no error.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Makes what was written durable. If it fails, nothing is known of what was written since the
    /// last success, and trying again proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// Where snapshots go: whole objects under names that are never taken twice.
pub trait SnapshotStore: Send + Sync {
    /// Stores an object, durable when this returns. A name that is taken is
    /// [`io::ErrorKind::AlreadyExists`], and leaves what has it as it is.
    fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()>;
    /// An object.
    fn get(&self, name: &str) -> io::Result<Vec<u8>>;
    /// The names that begin so, in ascending order.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;
    /// Removes an object; one that is not there is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// What all lanes together hold of a namespace.
#[derive(Debug, Default)]
pub struct NamespaceGauge {
    /// Timers pending, by domain: [event, processing].
    pub pending: [AtomicI64; 2],
    /// Keys held.
    pub keys: AtomicI64,
    /// Timers that are just being added, where the namespace has a limit: they count against it.
    pub reserved: AtomicI64,
    /// Its input has ended: operations are refused.
    pub is_closed: AtomicBool,
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
    /// The outputs of this namespace, which is about to be published, stand behind this cursor.
    fn begin_behind(&self, _id: NamespaceId, _cursor: Cursor) {}
    /// This namespace is closed, and all that will ever come of it can be read.
    fn finish(&self, _id: NamespaceId) {}
    /// The namespace of this name and incarnation is gone, with its outputs.
    fn withdraw(&self, id: NamespaceId, name: &str);
    /// How many there are.
    fn namespaces(&self) -> usize;
}
