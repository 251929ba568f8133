//! A data directory as a [`Disk`]: files of the operating system, kept to one process by a lock.

use crate::ports::{Disk, DiskFile};
use crate::storage::{IDENTITY_FILE, Identity, IdentityFault};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError, read_dir};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The file that is locked while a process owns the directory. It holds the owner's pid.
pub const LOCK_FILE: &str = "LOCK";
/// What timers carry is nobody's business but the service's.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why a data directory cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderFault {
    /// Another process owns it.
    #[error(
        "{} is in use by process {}; stop that one, or name another directory", folder.display(), holder(*pid)
    )]
    Held {
        /// The data directory.
        folder: PathBuf,
        /// Who has it, as far as the lock file says so.
        pid: Option<u32>,
    },
    /// There is something else in it, or it is not whole.
    #[error("{}: {source}", folder.display())]
    NotOurs {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        source: IdentityFault,
    },
    /// The file system did not do what it was asked to.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the file system said.
        source: io::Error,
    },
}

impl FolderFault {
    /// This process may not do that there.
    pub fn is_refused(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
}

/// Refuses a folder that holds something and is no data directory, before anything is written: not
/// even a lock is left in it.
fn check_ours(folder: &Path) -> Result<(), FolderFault> {
    if folder.join(IDENTITY_FILE).exists() {
        return Ok(());
    }
    Identity::check_empty(&FolderDisk { folder: folder.to_owned(), lock: None })
        .map_err(|source| FolderFault::NotOurs { folder: folder.to_owned(), source })
}

/// A folder of the file system.
#[derive(Debug)]
pub struct FolderDisk {
    folder: PathBuf,
    /// Locked as long as it is open; none if this disk is for reading only.
    lock: Option<File>,
}

impl FolderDisk {
    /// Opens a data directory for this process alone; it is made if there is none.
    pub fn open(folder: &Path) -> Result<Self, FolderFault> {
        let fault = |path: &Path, action| {
            let path = path.to_owned();
            move |source| FolderFault::Io { path, action, source }
        };
        make_folders(folder).map_err(fault(folder, "create"))?;
        check_ours(folder)?;
        let path = folder.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(fault(&path, "open"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The pid only helps to find the owner: without it the answer is the same.
                let _ = lock.read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                return Err(FolderFault::Held { folder: folder.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(fault(&path, "lock")(source)),
        }
        lock.set_len(0).map_err(fault(&path, "write"))?;
        match writeln!(lock, "{}", std::process::id()) {
            // The pid only helps to find the owner, and the lock holds without it.
            Err(error) if error.kind() == ErrorKind::StorageFull => {}
            outcome => outcome.map_err(fault(&path, "write"))?,
        }
        Ok(Self { folder: folder.to_owned(), lock: Some(lock) })
    }

    /// Opens a data directory for looking at it: nothing is written, and nobody is kept out.
    pub fn open_read_only(folder: &Path) -> Result<Self, FolderFault> {
        read_dir(folder).map_err(|source| FolderFault::Io {
            path: folder.to_owned(),
            action: "open",
            source,
        })?;
        Ok(Self { folder: folder.to_owned(), lock: None })
    }

    /// The process that owns a data directory at the moment, as the kernel's table of locks says;
    /// 0 if it is one that cannot be seen from here. The lock is not touched.
    pub fn holder(folder: &Path) -> io::Result<Option<u32>> {
        let path = folder.join(LOCK_FILE);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let written = written.trim().parse().unwrap_or(0);
        let locks = std::fs::read_to_string("/proc/locks")?;
        Ok(find_holder(&locks, metadata.dev(), metadata.ino(), written))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a name, which stays below the folder.
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let is_below = !name.is_empty()
            && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if is_below {
            Ok(self.folder.join(name))
        } else {
            Err(io::Error::new(ErrorKind::InvalidInput, "the name leads out of the folder"))
        }
    }

    /// The same, for something that changes it.
    fn path_to_change(&self, name: &str) -> io::Result<PathBuf> {
        if self.lock.is_none() {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        self.path(name)
    }

    /// Makes the folder of a path if there is none; durable, so that syncing what is in it is enough.
    fn make_parent(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) else {
            return Ok(());
        };
        make_folders(parent)?;
        let mut changed = parent;
        while changed != self.folder
            && let Some(above) = changed.parent()
        {
            File::open(above)?.sync_all()?;
            changed = above;
        }
        Ok(())
    }
}

impl Disk for FolderDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path_to_change(name)?;
        self.make_parent(&path)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Arc::new(FolderFile { file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let is_owner = self.lock.is_some();
        let file = OpenOptions::new().read(true).write(is_owner).open(self.path(name)?)?;
        Ok(Arc::new(FolderFile { file }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let is_root = folder.is_empty();
        let path = if is_root { self.folder.clone() } else { self.path(folder)? };
        let entries = match read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is no text is none of ours.
            if is_root || entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path_to_change(from)?, self.path_to_change(to)?);
        self.make_parent(&to)?;
        std::fs::rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path_to_change(name)?)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let path =
            if folder.is_empty() { self.folder.clone() } else { self.path_to_change(folder)? };
        match File::open(path) {
            Ok(opened) => opened.sync_all(),
            // A folder that was never made has no names.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Who holds the lock of a file, of those in a table of the kernel:
/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`. Some file systems number their device otherwise
/// there: then the process that the file names must be the one.
fn find_holder(locks: &str, device: u64, inode: u64, written: u32) -> Option<u32> {
    let device = format!("{:02x}:{:02x}", rustix::fs::major(device), rustix::fs::minor(device));
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK").skip(3);
        let (pid, place) = (words.next()?.parse::<u32>().ok()?, words.next()?);
        let (found_device, found_inode) = place.rsplit_once(':')?;
        let is_it = found_inode.parse() == Ok(inode) && (found_device == device || pid == written);
        is_it.then_some(if pid == 0 { written } else { pid })
    })
}

/// Makes a folder, and those above it, for this user alone.
pub(super) fn make_folders(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

struct FolderFile {
    file: File,
}

impl DiskFile for FolderFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // The length is part of what fdatasync makes durable; the times of the file are not.
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this process's own, gone at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("stormwheel-disk-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_made_read_renamed_and_removed() {
        let folder = Folder::new("files");
        let disk = FolderDisk::open(&folder.0).unwrap();
        assert_eq!(disk.list("journal").unwrap(), Vec::<String>::new());
        disk.sync_folder("journal").unwrap();
        let file = disk.create("spare/2").unwrap();
        assert_eq!(file.write_at(5, b"abc").unwrap(), 3);
        file.sync().unwrap();
        assert_eq!(disk.create("spare/2").err().unwrap().kind(), ErrorKind::AlreadyExists);
        drop(disk.create("spare/1").unwrap());
        assert_eq!(disk.list("spare").unwrap(), ["1", "2"]);
        disk.rename("spare/2", "journal/x.log").unwrap();
        disk.sync_folder("journal").unwrap();
        disk.remove("spare/1").unwrap();
        let file = disk.open("journal/x.log").unwrap();
        assert_eq!(file.len_bytes().unwrap(), 8);
        let mut bytes = [9; 8];
        assert_eq!(file.read_at(3, &mut bytes).unwrap(), 5);
        assert_eq!(&bytes[..5], b"\0\0abc");
        assert_eq!(disk.list("spare").unwrap(), Vec::<String>::new());
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("modes");
        let disk = FolderDisk::open(&folder.0.join("data")).unwrap();
        drop(disk.create("spare/1").unwrap());
        for (name, mode) in
            [("", 0o700), ("data", 0o700), ("data/LOCK", 0o600), ("data/spare/1", 0o600)]
        {
            let found = std::fs::metadata(folder.0.join(name)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{name}");
        }
    }

    #[test]
    fn names_stay_below_the_folder() {
        let folder = Folder::new("names");
        let disk = FolderDisk::open(&folder.0).unwrap();
        for name in ["", "..", "../x", "a/../../x", "/etc/passwd", "./x", "a/.."] {
            assert_eq!(disk.create(name).err().unwrap().kind(), ErrorKind::InvalidInput, "{name}");
            assert_eq!(disk.open(name).err().unwrap().kind(), ErrorKind::InvalidInput, "{name}");
            assert!(disk.remove(name).is_err(), "{name}");
            assert!(disk.rename("LOCK", name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_directory_has_one_owner() {
        let folder = Folder::new("lock");
        let first = FolderDisk::open(&folder.0).unwrap();
        let fault = FolderDisk::open(&folder.0).unwrap_err();
        let pid = std::process::id();
        let place = folder.0.display();
        let expected = format!("{place} is in use by process {pid}; stop that one");
        assert!(fault.to_string().starts_with(&expected), "{fault}");
        let reader = FolderDisk::open_read_only(&folder.0).unwrap();
        assert_eq!(reader.create("x").err().unwrap().kind(), ErrorKind::ReadOnlyFilesystem);
        drop(first);
        FolderDisk::open(&folder.0).unwrap();
    }

    #[test]
    fn who_has_a_directory_is_known_without_its_lock() {
        let folder = Folder::new("holder");
        assert_eq!(FolderDisk::holder(&folder.0).unwrap(), None);
        let disk = FolderDisk::open(&folder.0).unwrap();
        assert_eq!(FolderDisk::holder(&folder.0).unwrap(), Some(std::process::id()));
        drop(disk);
        assert_eq!(FolderDisk::holder(&folder.0).unwrap(), None);
        let table = "1: FLOCK  ADVISORY  WRITE 7 fe:00:11 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 8 fe:00:12 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 00:31:13 0 EOF\n";
        assert_eq!(find_holder(table, 0xfe00, 11, 0), Some(7));
        assert_eq!(find_holder(table, 0xfe00, 12, 0), None, "another kind of lock");
        assert_eq!(find_holder(table, 0xfe00, 13, 0), None, "another device");
        assert_eq!(find_holder(table, 0xfe00, 13, 9), Some(9), "but the process that it names");
    }

    #[test]
    fn a_reader_makes_nothing() {
        let folder = Folder::new("reader");
        assert!(FolderDisk::open_read_only(&folder.0).is_err());
        assert!(!folder.0.exists());
    }
}
