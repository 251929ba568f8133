//! Folders that data directories lie in: plain ones, copies, small and read-only file systems.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A data directory, which stays for whoever has to find out if the test fails.
pub(crate) struct Folder(Option<TempDir>);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("it is there until the end").path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Where nobody keeps it, the data of a failure would be gone.
            drop(self.0.take().map(TempDir::keep));
        }
    }
}

/// Every file below a folder with what it holds, and every folder with nothing.
pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
                found.insert(path, None);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, Some(bytes));
            }
        }
    }
    found
}

/// The files in a folder, by name.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    tree(folder).into_iter().filter_map(|(path, bytes)| bytes.map(|_| path)).collect()
}

/// A file system mounted on a folder of its own.
pub(crate) struct Mounted {
    point: PathBuf,
    _folder: TempDir,
}

impl Mounted {
    /// A file system in memory of so many bytes; `None` if this machine does not let us.
    pub(crate) fn small(bytes: u64) -> Option<Self> {
        Self::mount(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
    }

    /// A view of a folder through which nothing can be written.
    pub(crate) fn read_only(folder: &Path) -> Option<Self> {
        let mounted = Self::mount(&["--bind", folder.to_str()?])?;
        let point = mounted.point.to_str()?;
        succeeds("mount", &["-o", "remount,bind,ro", point]).then_some(mounted)
    }

    fn mount(args: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let point = folder.path().join("mounted");
        fs::create_dir(&point).unwrap();
        let mut args = args.to_vec();
        args.push(point.to_str()?);
        succeeds("mount", &args).then(|| Self { point, _folder: folder })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// Fills what is left, to the last byte.
    pub(crate) fn fill(&self) {
        let mut ballast = File::options().append(true).create(true).open(self.ballast()).unwrap();
        let mut piece = 1 << 20;
        while piece > 0 {
            if ballast.write_all(&vec![1; piece]).is_err() {
                piece /= 2;
            }
        }
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.point.join("ballast")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: whatever still has a file open there ends soon.
        if let Some(point) = self.point.to_str() {
            succeeds("umount", &["-l", point]);
        }
    }
}

fn succeeds(command: &str, args: &[&str]) -> bool {
    let status = Command::new(command)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
