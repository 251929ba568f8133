//! A checkpoint read back: the heads and controls of all lanes first, then of each partition the
//! newest entry.
//!
//! Objects are read newest first: the first entry that is met of a partition is the one that
//! counts. Entries belong to a lane by the layout, whatever number of shards wrote them. What
//! belongs to a namespace that no head of its lane knows is dropped: it is gone, or it was made after
//! the head, and then the log holds all of it.

use super::catalog::Catalog;
use super::fault::SnapshotFault;
use super::head::{LaneHead, decode_controls};
use super::manifest::{Manifest, ObjectRef, parse_digest};
use super::object::{EntryKind, ObjectReader};
use crate::key_group::{KeyGroup, LaneIndex, Layout};
use crate::namespace::ControlsState;
use crate::output::NamespaceId;
use std::collections::BTreeSet;

/// One part of a checkpoint.
#[derive(Debug)]
pub(crate) enum Loaded<'a> {
    /// The head of a lane. All of them come before the first partition.
    Head { lane: LaneIndex, head: LaneHead },
    /// The controls at home in a lane. All of them come before the first partition.
    Controls { lane: LaneIndex, state: ControlsState },
    /// A partition as it was at this position of its lane.
    Partition {
        lane: LaneIndex,
        namespace: NamespaceId,
        group: KeyGroup,
        position: u64,
        /// How faults call it.
        what: &'a str,
        bytes: &'a [u8],
    },
}

/// Reads a checkpoint: `fetch` gets an object, `each` takes the parts. Returns which object holds
/// what, for the checkpoints to come.
pub(crate) fn load<E: From<SnapshotFault>>(
    manifest: &Manifest,
    directory: &[u8; 16],
    layout: Layout,
    fetch: impl FnMut(&ObjectRef) -> Result<Vec<u8>, E>,
    mut each: impl FnMut(Loaded<'_>) -> Result<(), E>,
) -> Result<Catalog, E> {
    check(manifest, directory, layout)?;
    let mut objects = Objects { manifest, directory, fetch, open: None };
    let known = load_lanes(&mut objects, layout, &mut each)?;
    let (mut seen, mut indexes) = (BTreeSet::new(), Vec::new());
    for number in (0..manifest.objects.len()).rev() {
        let object = objects.open(number)?;
        indexes.push(object.entries().to_vec());
        for index in (0..object.entries().len()).rev() {
            let entry = object.entries()[index];
            let EntryKind::Partition { namespace, group, position } = entry.kind else { continue };
            let what = format!("{}: key group {} of {:x}", object.name(), group.0, namespace.0);
            if group.0 >= layout.max_parallelism() {
                let limit = layout.max_parallelism();
                return Err(SnapshotFault::other(&what, "key group", &group.0, &limit).into());
            }
            let lane = layout.lane_of(group);
            if !known.contains(&(lane, namespace)) || !seen.insert((namespace, group)) {
                continue;
            }
            let bytes = object.entry(index)?;
            each(Loaded::Partition { lane, namespace, group, position, what: &what, bytes })?;
        }
    }
    let mut catalog = Catalog::default();
    for (object, entries) in manifest.objects.iter().zip(indexes.into_iter().rev()) {
        catalog.add(object.clone(), &entries);
    }
    catalog.keep(&seen);
    Ok(catalog)
}

/// Hands the heads and controls over, and tells which namespaces are known on which lane.
fn load_lanes<E: From<SnapshotFault>>(
    objects: &mut Objects<'_, impl FnMut(&ObjectRef) -> Result<Vec<u8>, E>>,
    layout: Layout,
    each: &mut impl FnMut(Loaded<'_>) -> Result<(), E>,
) -> Result<BTreeSet<(LaneIndex, NamespaceId)>, E> {
    let manifest = objects.manifest;
    let (mut heads, mut controls) = (BTreeSet::new(), BTreeSet::new());
    let mut known = BTreeSet::new();
    let all: BTreeSet<LaneIndex> = (0..layout.lanes()).map(LaneIndex).collect();
    for number in (0..manifest.objects.len()).rev() {
        if heads == all && controls == all {
            break;
        }
        let object = objects.open(number)?;
        for index in (0..object.entries().len()).rev() {
            match object.entries()[index].kind {
                EntryKind::LaneHead { lane, position } if heads.insert(lane) => {
                    let what = format!("{}: head of lane {}", object.name(), lane.0);
                    let expected = manifest.positions.get(lane.0 as usize).copied();
                    let head = LaneHead::decode(&what, object.entry(index)?)?;
                    if expected != Some(position) || head.position != position {
                        let expected = expected.unwrap_or_default();
                        let found = head.position;
                        let fault = SnapshotFault::other(&what, "position", &found, &expected);
                        return Err(fault.into());
                    }
                    known.extend(head.namespaces.iter().map(|it| (lane, it.id)));
                    each(Loaded::Head { lane, head })?;
                }
                EntryKind::Controls { lane } if controls.insert(lane) => {
                    let what = format!("{}: controls of lane {}", object.name(), lane.0);
                    let state = decode_controls(&what, object.entry(index)?)?;
                    each(Loaded::Controls { lane, state })?;
                }
                _ => {}
            }
        }
    }
    for (found, what) in [(heads, "head"), (controls, "control state")] {
        if found != all {
            let missing = all.symmetric_difference(&found).next().map_or(0, |lane| lane.0);
            let missing = format!("{what} of lane {missing}");
            let manifest = manifest.name().to_string();
            return Err(SnapshotFault::Incomplete { manifest, missing }.into());
        }
    }
    Ok(known)
}

fn check(manifest: &Manifest, directory: &[u8; 16], layout: Layout) -> Result<(), SnapshotFault> {
    let name = manifest.name().to_string();
    let own = hex(directory);
    if manifest.directory != own {
        return Err(SnapshotFault::other(&name, "directory id", &manifest.directory, &own));
    }
    for (field, found, expected) in [
        ("max_parallelism", manifest.max_parallelism, layout.max_parallelism()),
        ("lanes", manifest.lanes, layout.lanes()),
    ] {
        if found != expected {
            return Err(SnapshotFault::other(&name, field, &found, &expected));
        }
    }
    Ok(())
}

/// A directory id as a manifest has it.
pub(crate) fn hex(directory: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*directory))
}

/// The objects of a manifest; the one that was opened last stays open.
struct Objects<'a, F> {
    manifest: &'a Manifest,
    directory: &'a [u8; 16],
    fetch: F,
    open: Option<(usize, ObjectReader)>,
}

impl<F> Objects<'_, F> {
    fn open<E: From<SnapshotFault>>(&mut self, number: usize) -> Result<&mut ObjectReader, E>
    where
        F: FnMut(&ObjectRef) -> Result<Vec<u8>, E>,
    {
        let is_open = self.open.as_ref().is_some_and(|(open, _)| *open == number);
        if !is_open {
            // The one before goes first: two at a time would be twice the memory.
            self.open = None;
            let it = &self.manifest.objects[number];
            let bytes = (self.fetch)(it)?;
            self.open = Some((number, open(it, self.directory, bytes)?));
        }
        Ok(self.open.as_mut().map(|(_, object)| object).expect("it was just opened"))
    }
}

/// Opens an object and holds it against what its manifest says of it.
fn open(
    it: &ObjectRef,
    directory: &[u8; 16],
    bytes: Vec<u8>,
) -> Result<ObjectReader, SnapshotFault> {
    let name = &it.name;
    let object = ObjectReader::open(name, bytes)?;
    if object.directory() != directory {
        let (found, expected) = (hex(object.directory()), hex(directory));
        return Err(SnapshotFault::other(name, "directory id", &found, &expected));
    }
    if object.len() as u64 != it.bytes {
        return Err(SnapshotFault::other(name, "length", &object.len(), &it.bytes));
    }
    if parse_digest(&it.digest) != Some(object.digest()) {
        let found = format!("{:032x}", object.digest());
        return Err(SnapshotFault::other(name, "digest", &found, &it.digest));
    }
    Ok(object)
}

#[cfg(test)]
mod tests;
