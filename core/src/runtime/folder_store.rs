//! Snapshots in a plain folder: a [`SnapshotStore`] for those who embed the core and have no object
//! store at hand.
//!
//! An object is written beside its name, synced, and then given its name; the folder is synced
//! before a put returns. The names are those that an object store over the same folder gives, also
//! of what is unfinished (`name#0`): so the tools of the server can look into it.

use super::disk::make_folders;
use crate::ports::SnapshotStore;
use crate::storage::is_snapshot_name;
use std::fs::{File, OpenOptions, read_dir};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

const FILE_MODE: u32 = 0o600;
/// What the name of an object that is being written ends with.
const DRAFT: &str = "#0";

/// See the module. The folder belongs to the process that holds the lock of the data directory.
#[derive(Debug)]
pub struct FolderStore {
    folder: PathBuf,
    swept: OnceLock<()>,
}

impl FolderStore {
    /// A store in this folder. The first put makes it, and removes what a crash left half written:
    /// whoever puts has found that the place is theirs.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, swept: OnceLock::new() }
    }

    fn sweep(&self) -> io::Result<()> {
        if self.swept.get().is_none() {
            for name in self.names()?.iter().filter(|name| is_draft(name)) {
                std::fs::remove_file(self.path(name)?)?;
            }
            self.swept.get_or_init(|| ());
        }
        Ok(())
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let is_below = !name.is_empty()
            && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if is_below {
            Ok(self.folder.join(name))
        } else {
            Err(io::Error::new(ErrorKind::InvalidInput, "the name leads out of the folder"))
        }
    }

    /// All files below the folder, by their names in the store.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut folders = vec![(self.folder.clone(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            let entries = match read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                // A name that is no text is none of ours.
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if entry.file_type()?.is_dir() {
                    folders.push((entry.path(), format!("{name}/")));
                } else {
                    names.push(name);
                }
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Makes the folder of a path if there is none; durable, so that syncing what is in it is
    /// enough.
    fn make_parent(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) else {
            return Ok(());
        };
        make_folders(parent)?;
        let mut changed = parent;
        while let Some(above) = changed.parent().filter(|above| !above.as_os_str().is_empty()) {
            File::open(above)?.sync_all()?;
            if changed == self.folder {
                break;
            }
            changed = above;
        }
        Ok(())
    }
}

fn is_draft(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(name, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number && is_snapshot_name(name)
    })
}

impl SnapshotStore for FolderStore {
    fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let path = self.path(name)?;
        if path.try_exists()? {
            let message = format!("there is an object {name} already");
            return Err(io::Error::new(ErrorKind::AlreadyExists, message));
        }
        self.sweep()?;
        self.make_parent(&path)?;
        let draft = self.path(&format!("{name}{DRAFT}"))?;
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(FILE_MODE).open(&draft)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(name)?)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = self.names()?;
        names.retain(|name| name.starts_with(prefix) && !is_draft(name));
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(name)?) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_the_port_promises() {
        let name = format!("stormwheel-folder-store-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let open = || FolderStore::new(folder.join("snapshots"));
        let store = open();
        assert_eq!(store.list("").unwrap(), [""; 0], "and nothing was made");
        assert!(!folder.exists());
        store.put("b/2", vec![2]).unwrap();
        store.put("b/1", vec![1]).unwrap();
        store.put("c/d/1", vec![3]).unwrap();
        assert_eq!(store.put("b/1", vec![9]).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(store.get("b/1").unwrap(), [1]);
        assert_eq!(store.list("b/").unwrap(), ["b/1", "b/2"]);
        let draft = folder.join("snapshots/manifests/00000001-00000001#0");
        std::fs::create_dir_all(draft.parent().unwrap()).unwrap();
        std::fs::write(&draft, [7]).unwrap();
        std::fs::write(folder.join("snapshots/b/track#1"), [7]).unwrap();
        let names = ["b/1", "b/2", "b/track#1", "c/d/1"];
        assert_eq!(store.list("").unwrap(), names, "the draft is none of it");
        let store = open();
        assert_eq!(store.get("b/2").unwrap(), [2]);
        assert!(draft.exists(), "who only reads changes nothing");
        store.put("b/4", vec![4]).unwrap();
        assert!(!draft.exists());
        assert_eq!(store.get("b/track#1").unwrap(), [7], "it is somebody else's");
        store.remove("b/1").unwrap();
        store.remove("b/1").unwrap();
        assert_eq!(store.get("b/1").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.put("../x", vec![]).unwrap_err().kind(), ErrorKind::InvalidInput);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
