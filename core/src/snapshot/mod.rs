//! Snapshots: the bytes of what is taken out of memory and put back, and nothing of where they go.
//!
//! A *partition* is written as its keys with their timers (`keys`). Partitions, the heads of lanes
//! and the states of controls (`head`) are packed into *objects* (`object`): compressed blocks with
//! checksums, an index and a digest. A *manifest* (`manifest`) names the objects that together are
//! one checkpoint, and `load` reads them back, the newest entry of each partition.
//!
//! Bytes in, bytes out: whoever drives this brings the store. What is read may be damaged in any
//! way: that is a [`SnapshotFault`], never a panic, and no size is believed before its checksum.
//! `docs/format.md` draws the bytes.

mod catalog;
mod fault;
mod frame;
mod head;
mod keys;
mod load;
mod manifest;
mod object;
mod part;
mod savepoint;
mod varint;

pub(crate) use catalog::Catalog;
pub use fault::SnapshotFault;
pub(crate) use head::{DomainHead, LaneHead, NamespaceHead, decode_controls, encode_controls};
pub(crate) use keys::{KEY_ENTRY_BYTES_MIN, PartitionReader, Producer, encode_head, encode_slot};
pub(crate) use load::{Loaded, hex, load};
pub(crate) use manifest::{Manifest, ManifestName, ObjectName, ObjectRef, newest};
pub(crate) use object::{Entry, EntryKind, ObjectReader, ObjectWriter, directory_of};
pub(crate) use part::{LaneMark, Part, SavepointPart};
pub(crate) use savepoint::{SavedFile, SavedNamespace, SavepointManifest, highest_incarnation};
