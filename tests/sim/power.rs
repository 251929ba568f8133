//! What is left on the disk when the process dies, and when the power goes.

use crate::disk::{Inode, SimDisk, State, folder_of};
use crate::rng::Rng;
use std::sync::Arc;

/// A write that is not durable yet.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    at: usize,
    bytes: Vec<u8>,
    /// A sync failed since: the page counts as clean, and no later sync writes it.
    is_lied_about: bool,
}

impl Write {
    /// What of it another one does not cover.
    fn outside(self, other: &Self) -> Vec<Self> {
        let (end, other_end) = (self.at + self.bytes.len(), other.at + other.bytes.len());
        let before = (self.at, end.min(other.at));
        let behind = (self.at.max(other_end), end);
        let parts = [before, behind].into_iter().filter(|(start, stop)| start < stop);
        let part = |(start, stop): (usize, usize)| Self {
            at: start,
            bytes: self.bytes[start - self.at..stop - self.at].to_vec(),
            is_lied_about: self.is_lied_about,
        };
        parts.map(part).collect()
    }
}

/// A change of names that is not durable yet.
#[derive(Debug, Clone)]
pub(crate) enum NameChange {
    Put { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Remove { name: String, inode: u64 },
}

/// The sizes in which a disk tears what it writes.
pub(crate) const SECTOR_BYTES: [usize; 2] = [512, 4_096];

impl Inode {
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(Arc::make_mut(&mut self.bytes), at, bytes);
        self.unsynced.push(Write { at, bytes: bytes.to_vec(), is_lied_about: false });
    }

    /// Makes durable what was written, but for what a sync has lied about.
    pub(crate) fn sync(&mut self) {
        let mut lied = Vec::new();
        if self.unsynced.is_empty() {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        for write in std::mem::take(&mut self.unsynced) {
            if write.is_lied_about {
                lied.push(write);
                continue;
            }
            put(durable, write.at, &write.bytes);
            // What is durable now is not overwritten by something older that never was.
            lied = lied.into_iter().flat_map(|older| older.outside(&write)).collect();
        }
        self.unsynced = lied;
    }

    /// A sync has failed: what was written counts as clean from now on.
    pub(crate) fn lie(&mut self) {
        for write in &mut self.unsynced {
            write.is_lied_about = true;
        }
    }

    /// The power goes: each sector holds what is durable, or one of the states that it went through
    /// since.
    fn lose(&mut self, sector_bytes: usize, kept: Kept, rng: &mut Rng) {
        let mut kept_bytes = std::mem::take(&mut self.durable);
        let bytes = Arc::make_mut(&mut kept_bytes);
        let writes = std::mem::take(&mut self.unsynced);
        let until = writes.len() as u64;
        let prefix = rng.below(until + 1);
        for (index, write) in writes.iter().enumerate() {
            let is_whole = match kept {
                Kept::None => continue,
                Kept::All => true,
                Kept::Prefix => (index as u64) < prefix,
                Kept::Writes => rng.below(2) == 0,
                Kept::Sectors => false,
            };
            // A lie is a lie: most of what was lied about never arrives.
            if write.is_lied_about && rng.below(4) > 0 {
                continue;
            }
            if is_whole {
                put(bytes, write.at, &write.bytes);
            } else if kept == Kept::Sectors {
                let end = write.at + write.bytes.len();
                for sector in write.at / sector_bytes..=(end - 1) / sector_bytes {
                    let start = (sector * sector_bytes).max(write.at);
                    let stop = ((sector + 1) * sector_bytes).min(end);
                    if rng.below(2) == 0 {
                        put(bytes, start, &write.bytes[start - write.at..stop - write.at]);
                    }
                }
            }
        }
        self.bytes = Arc::clone(&kept_bytes);
        self.durable = kept_bytes;
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, from: &[u8]) {
    if bytes.len() < at + from.len() {
        bytes.resize(at + from.len(), 0);
    }
    bytes[at..at + from.len()].copy_from_slice(from);
}

/// What of the unsynced is kept when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    None,
    All,
    /// What came first.
    Prefix,
    /// Each write or change by itself.
    Writes,
    /// Each sector by itself.
    Sectors,
}

impl Kept {
    const WEIGHTS: [u32; 5] = [2, 1, 2, 2, 4];
    const EACH: [Self; 5] = [Self::None, Self::All, Self::Prefix, Self::Writes, Self::Sectors];

    fn draw(rng: &mut Rng) -> Self {
        Self::EACH[rng.weighted(&Self::WEIGHTS)]
    }
}

impl State {
    /// Makes durable what has changed in a folder. A renaming into it is; the old name is gone with
    /// it, whatever its folder.
    pub(crate) fn sync_names(&mut self, folder: &str) {
        for change in std::mem::take(&mut self.name_changes) {
            let into = match &change {
                NameChange::Put { name, .. } | NameChange::Remove { name, .. } => name,
                NameChange::Rename { to, .. } => to,
            };
            if folder_of(into) == folder {
                self.keep(change);
            } else {
                self.name_changes.push(change);
            }
        }
    }

    fn keep(&mut self, change: NameChange) {
        let names = &mut self.durable_names;
        match change {
            NameChange::Put { name, inode } => {
                names.insert(name, inode);
            }
            NameChange::Rename { from, to, inode } => {
                if names.get(&from) == Some(&inode) {
                    names.remove(&from);
                }
                // What was put under the old name and is still on its way never gets there.
                self.name_changes.retain(|change| {
                    !matches!(change, NameChange::Put { name, inode: put }
                        if *name == from && *put == inode)
                });
                names.insert(to, inode);
            }
            NameChange::Remove { name, inode } => {
                if names.get(&name) == Some(&inode) {
                    names.remove(&name);
                }
            }
        }
    }

    fn lose_names(&mut self, rng: &mut Rng) {
        let changes = std::mem::take(&mut self.name_changes);
        let prefix = rng.below(changes.len() as u64 + 1) as usize;
        let kept = Kept::draw(rng);
        for (index, change) in changes.into_iter().enumerate() {
            let is_kept = match kept {
                Kept::None => false,
                Kept::All => true,
                Kept::Prefix => index < prefix,
                Kept::Writes | Kept::Sectors => rng.below(2) == 0,
            };
            if is_kept {
                self.keep(change);
            }
        }
        // An older change that is kept may name what a younger one, made durable before, has named
        // otherwise; a file then has two names, which a disk without a journal can leave behind.
        self.names.clone_from(&self.durable_names);
    }
}

impl SimDisk {
    /// The process dies; the page cache does not.
    pub(crate) fn kill(&self) {
        self.lock().boots += 1;
    }

    /// The power goes: what was not synced may be gone.
    pub(crate) fn cut_power(&self, rng: &mut Rng) {
        let mut state = self.lock();
        state.boots += 1;
        state.lose_names(rng);
        let sector_bytes = *rng.pick(&SECTOR_BYTES);
        let named: std::collections::BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| named.contains(inode));
        for inode in state.inodes.values_mut() {
            let kept = Kept::draw(rng);
            inode.lose(sector_bytes, kept, rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Fault, Machine};
    use std::collections::BTreeSet;
    use stormwheel::ports::Disk;

    fn after_power_cuts(prepare: impl Fn(&SimDisk)) -> BTreeSet<Vec<(String, Vec<u8>)>> {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let disk = SimDisk::new(Machine::new(seed));
            prepare(&disk);
            disk.cut_power(&mut Rng::new(seed));
            let files = disk.files().into_iter();
            seen.insert(files.map(|(name, _)| (name.clone(), disk.peek(&name).unwrap())).collect());
        }
        seen
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go() {
        let seen = after_power_cuts(|disk| {
            let file = disk.create("f").unwrap();
            file.write_at(0, b"aaaa").unwrap();
            file.sync().unwrap();
            disk.sync_folder("").unwrap();
            file.write_at(0, b"bb").unwrap();
            file.write_at(2, b"cc").unwrap();
        });
        let contents: BTreeSet<Vec<u8>> = seen.iter().map(|files| files[0].1.clone()).collect();
        let expected = [b"aaaa", b"bbaa", b"aacc", b"bbcc"].map(|bytes| bytes.to_vec());
        assert_eq!(contents, BTreeSet::from(expected));
    }

    #[test]
    fn an_unsynced_name_may_go_with_all_it_names() {
        let seen = after_power_cuts(|disk| {
            let file = disk.create("a/f").unwrap();
            file.write_at(0, b"x").unwrap();
            file.sync().unwrap();
        });
        assert_eq!(seen.len(), 2);
        let seen = after_power_cuts(|disk| {
            disk.create("a/f").unwrap();
            disk.sync_folder("a").unwrap();
            disk.rename("a/f", "b/f").unwrap();
        });
        let names: BTreeSet<&str> = seen.iter().map(|files| files[0].0.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["a/f", "b/f"]));
        let seen = after_power_cuts(|disk| {
            disk.create("a/f").unwrap();
            disk.rename("a/f", "b/f").unwrap();
            disk.sync_folder("b").unwrap();
        });
        assert_eq!(seen.len(), 1, "a renaming is durable with the folder that it leads into");
        let seen = after_power_cuts(|disk| {
            disk.create("a/f").unwrap();
            disk.sync_folder("a").unwrap();
            disk.remove("a/f").unwrap();
        });
        assert_eq!(seen.len(), 2, "what was removed may be back");
    }

    #[test]
    fn a_large_write_is_torn_at_its_sectors() {
        let seen = after_power_cuts(|disk| {
            let file = disk.create("f").unwrap();
            file.write_at(0, &[0; 4_096 * 2]).unwrap();
            file.sync().unwrap();
            disk.sync_folder("").unwrap();
            file.write_at(0, &[1; 4_096 * 2]).unwrap();
        });
        let mut sizes = BTreeSet::new();
        for files in &seen {
            let bytes = &files[0].1;
            for sector in bytes.chunks(512) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "no sector is torn");
            }
            sizes.insert(bytes.chunks(512).filter(|sector| sector[0] == 1).count());
        }
        assert!(sizes.len() > 6, "{sizes:?}");
    }

    #[test]
    fn a_sync_that_failed_lies_until_the_power_goes() {
        let seen = after_power_cuts(|disk| {
            let file = disk.create("f").unwrap();
            file.write_at(0, b"a").unwrap();
            file.sync().unwrap();
            disk.sync_folder("").unwrap();
            file.write_at(0, b"b").unwrap();
            disk.machine.fail_in(1, Fault::Sync);
            assert!(file.sync().is_err());
            file.sync().unwrap();
            let mut buffer = [0];
            assert_eq!(file.read_at(0, &mut buffer).unwrap(), 1);
            assert_eq!(buffer, *b"b", "it reads back as if nothing had happened");
        });
        assert_eq!(seen.len(), 2, "the second sync proved nothing");
        let seen = after_power_cuts(|disk| {
            let file = disk.create("f").unwrap();
            disk.sync_folder("").unwrap();
            file.write_at(0, b"b").unwrap();
            disk.machine.fail_in(1, Fault::Sync);
            assert!(file.sync().is_err());
            disk.kill();
            let file = disk.open("f").unwrap();
            file.write_at(0, b"c").unwrap();
            file.sync().unwrap();
        });
        assert_eq!(seen.len(), 1, "written again and synced, it is durable");
    }
}
