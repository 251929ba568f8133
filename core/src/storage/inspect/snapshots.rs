//! The checkpoints: manifests, the objects that they name, and every key in those.

use super::{CheckpointFiles, Inspection, Weight};
use crate::key_group::Layout;
use crate::ports::SnapshotStore;
use crate::snapshot::{
    Loaded, Manifest, ManifestName, ObjectName, ObjectRef, PartitionReader, SnapshotFault, load,
};
use crate::storage::{Identity, SAVEPOINTS};
use std::collections::BTreeSet;

/// Why a checkpoint cannot be loaded.
enum Unfit {
    Snapshot(SnapshotFault),
    Store(String),
}

impl From<SnapshotFault> for Unfit {
    fn from(fault: SnapshotFault) -> Self {
        Self::Snapshot(fault)
    }
}

impl Unfit {
    fn sentence(&self) -> String {
        match self {
            Self::Snapshot(fault) => fault.to_string(),
            Self::Store(sentence) => sentence.clone(),
        }
    }

    fn file<'a>(&'a self, manifest: &'a str) -> (&'a str, Option<u64>) {
        match self {
            Self::Snapshot(SnapshotFault::Damaged { object, offset, .. }) => {
                (object, Some(*offset))
            }
            Self::Snapshot(
                SnapshotFault::Newer { object, .. } | SnapshotFault::Other { object, .. },
            ) => (object, None),
            _ => (manifest, None),
        }
    }
}

impl Inspection {
    pub(super) fn look_at_snapshots(
        &mut self,
        store: &dyn SnapshotStore,
        identity: Option<&Identity>,
    ) {
        let names = match store.list("") {
            Ok(names) => names,
            Err(error) => {
                let sentence = format!("the snapshots cannot be listed: {error}");
                self.find(Weight::Stops, "snapshots", None, sentence);
                return;
            }
        };
        let mut manifests: Vec<ManifestName> =
            names.iter().filter_map(|name| ManifestName::parse(name)).collect();
        manifests.sort_unstable();
        let mut unfit = Vec::new();
        let mut named = BTreeSet::new();
        for name in manifests.into_iter().rev() {
            let mut info = unknown(name);
            let outcome = self.look_at_checkpoint(store, identity, name, &mut info, &mut named);
            self.checkpoints.push(info);
            unfit.extend(outcome.err().map(|fault| (name.to_string(), fault)));
        }
        let is_healed = self.candidates().any(|it| it.is_whole);
        for (manifest, fault) in unfit {
            let (file, offset) = fault.file(&manifest);
            let weight = match &fault {
                Unfit::Snapshot(SnapshotFault::Newer { .. }) => Weight::Refused,
                _ if is_healed => Weight::Healed,
                _ => Weight::Stops,
            };
            self.find(weight, file, offset, fault.sentence());
        }
        let others = names.iter().filter(|name| !name.starts_with(SAVEPOINTS));
        for name in others.filter(|name| ManifestName::parse(name).is_none()) {
            if ObjectName::parse(name).is_none() {
                let sentence = format!("{name} is not one of ours; it is left alone");
                self.find(Weight::Note, name, None, sentence);
            } else if !named.contains(name) {
                let sentence = format!(
                    "no checkpoint names {name}: one is under way, or was cut off; the next start \
                     removes it"
                );
                self.find(Weight::Note, name, None, sentence);
            }
        }
    }

    fn look_at_checkpoint(
        &mut self,
        store: &dyn SnapshotStore,
        identity: Option<&Identity>,
        name: ManifestName,
        info: &mut CheckpointFiles,
        named: &mut BTreeSet<String>,
    ) -> Result<(), Unfit> {
        let get = |object: &str| {
            store.get(object).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Unfit::Snapshot(SnapshotFault::damaged(object, 0, "it is missing"))
                }
                _ => Unfit::Store(format!("cannot read {object}: {error}")),
            })
        };
        let manifest = Manifest::decode(name, &get(&name.to_string())?)?;
        self.newest_ms = self.newest_ms.max(Some(manifest.now_ms));
        named.extend(manifest.objects.iter().map(|object| object.name.clone()));
        *info = CheckpointFiles {
            is_readable: true,
            created_ms: manifest.created_ms,
            objects: manifest.objects.len(),
            bytes: manifest.objects.iter().map(|object| object.bytes).sum(),
            positions: manifest.positions.clone(),
            output_cursor: manifest.output_cursor,
            ..unknown(name)
        };
        if let Some(identity) = identity {
            let layout =
                Layout::new(identity.max_parallelism, identity.lanes, 1).map_err(Unfit::Store)?;
            let fetch = |object: &ObjectRef| get(&object.name);
            load(&manifest, &identity.directory_id, layout, fetch, |part| {
                if let Loaded::Partition { what, bytes, .. } = part {
                    info.keys += count_keys(what, bytes)?;
                }
                Ok::<(), Unfit>(())
            })?;
        }
        info.is_whole = true;
        Ok(())
    }
}

/// Reads a partition to its end.
fn count_keys(what: &str, bytes: &[u8]) -> Result<u64, SnapshotFault> {
    let mut reader = PartitionReader::open(what, bytes)?;
    while let Some((_, timers)) = reader.next_key()? {
        for _ in 0..timers {
            reader.next_timer()?;
        }
    }
    Ok(reader.keys())
}

fn unknown(name: ManifestName) -> CheckpointFiles {
    CheckpointFiles {
        manifest: name.to_string(),
        is_readable: false,
        is_whole: false,
        created_ms: 0,
        objects: 0,
        bytes: 0,
        keys: 0,
        positions: Vec::new(),
        output_cursor: 0,
    }
}
