//! The savepoints: every byte and every count of them. No start depends on one; a restore does.

use super::{Inspection, SavepointFiles, Weight};
use crate::ports::SnapshotStore;
use crate::snapshot::{SavepointManifest, SnapshotFault};
use crate::storage::{
    SAVEPOINTS, SavepointFault, SavepointReader, is_savepoint_id, is_savepoint_name,
};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Inspection {
    pub(super) fn look_at_savepoints(&mut self, store: &Arc<dyn SnapshotStore>) {
        let names = match store.list(SAVEPOINTS) {
            Ok(names) => names,
            Err(error) => {
                let sentence = format!("the savepoints cannot be listed: {error}");
                self.find(Weight::Stops, "savepoints", None, sentence);
                return;
            }
        };
        let ids = names.iter().filter_map(|name| name.strip_prefix(SAVEPOINTS)?.split_once('/'));
        let ids: BTreeSet<&str> = ids.map(|(id, _)| id).collect();
        let is_complete =
            |id: &str| names.contains(&format!("{SAVEPOINTS}{id}/{}", SavepointManifest::NAME));
        for name in names.iter().filter(|name| !is_savepoint_name(name)) {
            let rest = name.strip_prefix(SAVEPOINTS).and_then(|rest| rest.split_once('/'));
            if !rest.is_some_and(|(id, _)| is_complete(id)) {
                let sentence = format!("{name} is not one of ours; it is left alone");
                self.find(Weight::Note, name, None, sentence);
            }
        }
        for id in ids {
            let folder = format!("{SAVEPOINTS}{id}/");
            if !is_complete(id) {
                if is_savepoint_id(id) {
                    let sentence = format!(
                        "{folder} is being written, or was never finished; the next start removes it"
                    );
                    self.find(Weight::Note, &folder, None, sentence);
                }
                continue;
            }
            let mut info = SavepointFiles {
                savepoint: id.to_owned(),
                is_whole: false,
                created_ms: 0,
                bytes: 0,
                timers: 0,
            };
            if let Err(fault) = look_at(store, &folder, &mut info) {
                let (weight, file, offset) = weigh(&fault, &folder);
                let file = file.to_owned();
                self.find(weight, &file, offset, fault.to_string());
            }
            self.savepoints.push(info);
        }
    }
}

fn look_at(
    store: &Arc<dyn SnapshotStore>,
    folder: &str,
    info: &mut SavepointFiles,
) -> Result<(), SavepointFault> {
    let reader = SavepointReader::open(Arc::clone(store), folder)?;
    let it = reader.summary();
    info.created_ms = it.created_ms;
    info.bytes = it.bytes;
    info.timers = it.namespaces.values().map(|[_, timers, _]| timers).sum();
    reader.verify()?;
    info.is_whole = true;
    Ok(())
}

fn weigh<'a>(fault: &'a SavepointFault, folder: &'a str) -> (Weight, &'a str, Option<u64>) {
    match fault {
        SavepointFault::Snapshot(SnapshotFault::Damaged { object, offset, .. }) => {
            (Weight::Copy, object, Some(*offset))
        }
        SavepointFault::Snapshot(SnapshotFault::Newer { object, .. }) => {
            (Weight::Note, object, None)
        }
        SavepointFault::Snapshot(SnapshotFault::Other { object, .. }) => {
            (Weight::Copy, object, None)
        }
        _ => (Weight::Copy, folder, None),
    }
}
