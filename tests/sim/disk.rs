//! A simulated disk behind a page cache. `main.rs` has its fault model in prose; here is how it is
//! kept: each file has what a reader sees, what is durable, and the writes in between; names have
//! the same three.

use crate::machine::{Call, Fault, Machine, Verdict, down};
use crate::power::{NameChange, SECTOR_BYTES, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stormwheel::ports::{Disk, DiskFile};

/// See the module. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    pub(crate) machine: Machine,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) inodes: BTreeMap<u64, Inode>,
    pub(crate) next_inode: u64,
    /// What a name leads to now.
    pub(crate) names: BTreeMap<String, u64>,
    /// What a name leads to after the power went.
    pub(crate) durable_names: BTreeMap<String, u64>,
    /// The changes in between, in their order.
    pub(crate) name_changes: Vec<NameChange>,
    pub(crate) capacity_bytes: u64,
    /// Handles of an earlier process are of no use.
    pub(crate) boots: u64,
}

/// A file, whatever its name.
#[derive(Clone, Default)]
pub(crate) struct Inode {
    /// What a reader sees. Copies of a disk share what neither of them has written to.
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) durable: Arc<Vec<u8>>,
    /// Written and not yet synced, in order; a write that a sync has lied about stays here, and no
    /// later sync makes it durable.
    pub(crate) unsynced: Vec<Write>,
}

struct SimFile {
    disk: SimDisk,
    name: String,
    inode: u64,
    boots: u64,
}

/// The folder of a name; the root is the empty one.
pub(crate) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl SimDisk {
    pub(crate) fn new(machine: Machine) -> Self {
        let state = State { capacity_bytes: u64::MAX, next_inode: 1, ..State::default() };
        Self { machine, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk of its own in the same state.
    pub(crate) fn copy(&self, machine: Machine) -> Self {
        Self { machine, state: Arc::new(Mutex::new(self.lock().clone())) }
    }

    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.lock().capacity_bytes = bytes;
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.lock().capacity_bytes < u64::MAX
    }

    /// Bytes that files take.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// The files with their sizes.
    pub(crate) fn files(&self) -> Vec<(String, u64)> {
        let state = self.lock();
        let size = |inode| state.inodes[inode].bytes.len() as u64;
        state.names.iter().map(|(name, inode)| (name.clone(), size(inode))).collect()
    }

    /// What a file holds, without a call.
    pub(crate) fn peek(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(name).map(|inode| state.inodes[inode].bytes.to_vec())
    }

    /// Puts bytes in the place of a file's, durable, as no process could.
    pub(crate) fn replace(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        if let Some(inode) = state.names.get(name).copied() {
            let bytes = Arc::new(bytes);
            let durable = Arc::clone(&bytes);
            state.inodes.insert(inode, Inode { bytes, durable, unsynced: Vec::new() });
        }
    }

    /// Turns one bit over, in what is durable and in what a reader sees.
    pub(crate) fn rot(&self, name: &str, bit: usize) {
        let mut state = self.lock();
        let Some(inode) = state.names.get(name).copied() else { return };
        let Some(inode) = state.inodes.get_mut(&inode) else { return };
        for bytes in [&mut inode.bytes, &mut inode.durable] {
            if let Some(byte) = Arc::make_mut(bytes).get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    fn file(&self, name: &str, inode: u64) -> Arc<dyn DiskFile> {
        let boots = self.lock().boots;
        Arc::new(SimFile { disk: self.clone(), name: name.to_owned(), inode, boots })
    }

    fn admit(&self, call: Call, name: &str, at: u64, length: u64) -> io::Result<()> {
        match self.machine.admit(call, name, at, length) {
            Verdict::Go => Ok(()),
            Verdict::Fail(fault) => Err(fault.error()),
            Verdict::GoDown | Verdict::Down => Err(down()),
        }
    }

    /// For a call that changes names: in a crash it may have been done or not.
    fn admit_change(
        &self,
        call: Call,
        name: &str,
        change: impl FnOnce(&mut State),
    ) -> io::Result<()> {
        let verdict = self.machine.admit(call, name, 0, 0);
        let (is_done, answer) = match verdict {
            Verdict::Go => (true, Ok(())),
            Verdict::Fail(fault) => (false, Err(fault.error())),
            Verdict::GoDown => (self.machine.draw(2) == 0, Err(down())),
            Verdict::Down => (false, Err(down())),
        };
        if is_done {
            change(&mut self.lock());
        }
        answer
    }
}

impl State {
    pub(crate) fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].bytes.len() as u64).sum()
    }

    fn inode_of(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.lock().names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let mut made = 0;
        self.admit_change(Call::Create, name, |state| {
            made = state.next_inode;
            state.next_inode += 1;
            state.inodes.insert(made, Inode::default());
            state.names.insert(name.to_owned(), made);
            state.name_changes.push(NameChange::Put { name: name.to_owned(), inode: made });
        })?;
        Ok(self.file(name, made))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.admit(Call::Open, name, 0, 0)?;
        let inode = self.lock().inode_of(name)?;
        Ok(self.file(name, inode))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.admit(Call::List, folder, 0, 0)?;
        let state = self.lock();
        if folder.is_empty() {
            // Files, and the folders that something is in.
            let names = state.names.keys().map(|name| name.split('/').next().unwrap_or(name));
            let names: BTreeSet<&str> = names.collect();
            return Ok(names.into_iter().map(str::to_owned).collect());
        }
        let here = state.names.keys().filter(|name| folder_of(name) == folder);
        Ok(here.map(|name| name[folder.len() + 1..].to_owned()).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.lock().inode_of(from)?;
        self.admit_change(Call::Rename, &format!("{from} {to}"), |state| {
            state.names.remove(from);
            state.names.insert(to.to_owned(), inode);
            let (from, to) = (from.to_owned(), to.to_owned());
            state.name_changes.push(NameChange::Rename { from, to, inode });
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let inode = self.lock().inode_of(name)?;
        self.admit_change(Call::Remove, name, |state| {
            state.names.remove(name);
            state.name_changes.push(NameChange::Remove { name: name.to_owned(), inode });
        })
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.admit(Call::SyncFolder, folder, 0, 0)?;
        self.lock().sync_names(folder);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.admit(Call::FreeBytes, "", 0, 0)?;
        let state = self.lock();
        Ok(state.capacity_bytes.saturating_sub(state.used_bytes()))
    }
}

impl SimFile {
    /// What of the file a call finds; a handle of a process that is gone finds nothing.
    fn with<T>(&self, work: impl FnOnce(&mut Inode, u64) -> T) -> io::Result<T> {
        let mut state = self.disk.lock();
        if state.boots != self.boots {
            return Err(down());
        }
        let free = state.capacity_bytes.saturating_sub(state.used_bytes());
        match state.inodes.get_mut(&self.inode) {
            Some(inode) => Ok(work(inode, free)),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

impl DiskFile for SimFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.disk.admit(Call::Length, &self.name, 0, 0)?;
        self.with(|inode, _| inode.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let machine = &self.disk.machine;
        let verdict = machine.admit(Call::Read, &self.name, offset, buffer.len() as u64);
        let most = match verdict {
            Verdict::Fail(Fault::Short) if buffer.len() > 1 => {
                1 + machine.draw(buffer.len() as u64 - 1) as usize
            }
            Verdict::Go | Verdict::Fail(Fault::Short) => buffer.len(),
            Verdict::Fail(fault) => return Err(fault.error()),
            Verdict::GoDown | Verdict::Down => return Err(down()),
        };
        self.with(|inode, _| {
            let start = (offset as usize).min(inode.bytes.len());
            let end = (start + most).min(inode.bytes.len());
            buffer[..end - start].copy_from_slice(&inode.bytes[start..end]);
            end - start
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let machine = &self.disk.machine;
        let verdict = machine.admit(Call::Write, &self.name, offset, bytes.len() as u64);
        // A part of a write ends where a sector does.
        let ends = part_ends(offset, bytes.len());
        let part = || ends[machine.draw(ends.len() as u64) as usize];
        let (most, answer) = match verdict {
            Verdict::Go => (bytes.len(), Ok(())),
            Verdict::Fail(Fault::Short) => (part().max(ends.get(1).copied().unwrap_or(0)), Ok(())),
            Verdict::Fail(Fault::Eintr) => (0, Err(Fault::Eintr.error())),
            // What was asked for may have been done in part.
            Verdict::Fail(fault) => (part(), Err(fault.error())),
            Verdict::GoDown => (part(), Err(down())),
            Verdict::Down => return Err(down()),
        };
        let written = self.with(|inode, free| {
            let start = offset as usize;
            let room = (inode.bytes.len() as u64).saturating_add(free);
            let end = (start + most).min(room.min(usize::MAX as u64) as usize).max(start);
            let written = end - start;
            if written > 0 {
                inode.write(start, &bytes[..written]);
            }
            written
        })?;
        answer?;
        if written == 0 && most > 0 {
            return Err(Fault::Enospc.error());
        }
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.machine.admit(Call::Sync, &self.name, 0, 0) {
            Verdict::Go => self.with(|inode, _| inode.sync()),
            Verdict::Fail(fault) => {
                self.with(|inode, _| inode.lie())?;
                Err(fault.error())
            }
            Verdict::GoDown | Verdict::Down => Err(down()),
        }
    }
}

/// How many bytes of a write may be done: none, all, or up to the end of some sector.
fn part_ends(offset: u64, bytes: usize) -> Vec<usize> {
    let sector = SECTOR_BYTES[0] as u64;
    let first = (sector - offset % sector) as usize;
    let mut ends = vec![0];
    ends.extend((first..bytes).step_by(sector as usize));
    ends.push(bytes);
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Rates;

    fn disk() -> SimDisk {
        SimDisk::new(Machine::new(11))
    }

    #[test]
    fn files_are_made_found_renamed_and_removed() {
        let disk = disk();
        let file = disk.create("a/1").unwrap();
        assert_eq!(disk.create("a/1").err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert_eq!(file.write_at(2, b"xyz").unwrap(), 3);
        assert_eq!(file.len_bytes().unwrap(), 5);
        let mut buffer = [9; 8];
        assert_eq!(disk.open("a/1").unwrap().read_at(1, &mut buffer).unwrap(), 4);
        assert_eq!(buffer[..4], [0, b'x', b'y', b'z']);
        disk.rename("a/1", "b/2").unwrap();
        disk.create("root").unwrap();
        assert_eq!(disk.list("b").unwrap(), ["2"]);
        assert_eq!(disk.list("").unwrap(), ["b", "root"]);
        assert!(disk.list("a").unwrap().is_empty());
        disk.remove("b/2").unwrap();
        assert_eq!(disk.open("b/2").err().unwrap().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = disk();
        disk.set_capacity(10);
        let file = disk.create("f").unwrap();
        assert_eq!(file.write_at(0, &[1; 8]).unwrap(), 8);
        assert_eq!(disk.free_bytes().unwrap(), 2);
        assert_eq!(file.write_at(8, &[1; 8]).unwrap(), 2);
        assert_eq!(file.write_at(10, &[1; 8]).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(file.write_at(0, &[2; 10]).unwrap(), 10, "what is there can be written over");
        disk.set_capacity(11);
        assert_eq!(file.write_at(10, &[1; 8]).unwrap(), 1);
    }

    #[test]
    fn short_and_interrupted_calls_do_less() {
        let disk = disk();
        let file = disk.create("f").unwrap();
        disk.machine.set_rates(Rates { short: 1_000, ..Rates::default() });
        assert_eq!(part_ends(500, 600), [0, 12, 524, 600]);
        assert_eq!(file.write_at(0, &[1; 100]).unwrap(), 100, "no sector is torn");
        for _ in 0..20 {
            assert!([512, 1_024, 1_100].contains(&file.write_at(0, &[1; 1_100]).unwrap()));
        }
        disk.machine.calm();
        disk.machine.fail_in(1, Fault::Eintr);
        let error = file.write_at(0, &[1; 100]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert_eq!(file.write_at(0, &[1; 100]).unwrap(), 100);
    }

    #[test]
    fn a_handle_of_a_process_that_is_gone_is_of_no_use() {
        let disk = disk();
        let file = disk.create("f").unwrap();
        disk.machine.go_down();
        assert!(file.write_at(0, b"x").is_err());
        disk.kill();
        disk.machine.come_up();
        assert!(file.write_at(0, b"x").is_err());
        assert_eq!(disk.open("f").unwrap().write_at(0, b"x").unwrap(), 1);
    }
}
