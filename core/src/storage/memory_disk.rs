//! A disk for tests, in memory, that forgets what was not synced.
//!
//! The fault model: at a crash, each sector of 512 bytes of each unsynced write is kept or lost by
//! itself, later writes possibly while earlier ones are lost; a sector is never torn. Unsynced names
//! are kept up to some point in the order of their changes, as a journaling file system does it. A
//! sync that fails leaves the writes readable, and lost at the next crash.

use crate::ports::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR_BYTES: usize = 512;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    Error(ErrorKind),
    /// A read or a write does one byte only; other calls succeed.
    Short,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last sync.
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum NameChange {
    Put(String, usize),
    Remove(String),
    Rename(String, String),
}

#[derive(Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    calls: u64,
    failures: BTreeMap<u64, Failure>,
    free_bytes: Option<u64>,
    /// Names of what was synced, in order.
    synced: Vec<String>,
}

/// The disk. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    index: usize,
}

/// A small random number generator (splitmix64), so that a seed is a history.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl MemoryDisk {
    /// The calls that were made.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets the `n`th call from now (the next one is 0) fail.
    pub(crate) fn fail_at(&self, n: u64, failure: Failure) {
        let mut state = self.state();
        let at = state.calls + n;
        state.failures.insert(at, failure);
    }

    pub(crate) fn set_free_bytes(&self, bytes: u64) {
        self.state().free_bytes = Some(bytes);
    }

    /// A disk with everything of this one that a process that starts now would see: the process
    /// that wrote it died, the machine did not.
    pub(crate) fn kill(&self) -> Self {
        let state = self.state();
        let contents = state.contents.iter().map(|content| Content {
            bytes: content.bytes.clone(),
            durable: content.durable.clone(),
            unsynced: content.unsynced.clone(),
        });
        let next = State {
            contents: contents.collect(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            name_changes: state.name_changes.clone(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(next)) }
    }

    /// A disk with what is left after the power went: nothing unsynced, or some of it by chance.
    pub(crate) fn crash(&self, mut rng: Option<&mut Rng>) -> Self {
        let state = self.state();
        let mut names = state.durable_names.clone();
        let changes = state.name_changes.len();
        let kept = rng.as_mut().map_or(0, |rng| rng.below(changes as u64 + 1) as usize);
        for change in &state.name_changes[..kept] {
            apply(&mut names, change);
        }
        let contents = state.contents.iter().map(|content| {
            let mut bytes = content.durable.clone();
            for (offset, written) in &content.unsynced {
                keep_some(&mut bytes, *offset, written, rng.as_deref_mut());
            }
            Content { durable: bytes.clone(), bytes, unsynced: Vec::new() }
        });
        let next = State {
            contents: contents.collect(),
            durable_names: names.clone(),
            names,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(next)) }
    }

    /// All bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.contents[state.names[name]].bytes.clone()
    }

    /// Puts a durable file there, past all ports.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let index = state.contents.len();
        state.contents.push(Content { durable: bytes.clone(), bytes, unsynced: Vec::new() });
        state.names.insert(name.to_owned(), index);
        state.durable_names.insert(name.to_owned(), index);
    }

    /// All names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Files and folders in the order in which they were synced.
    pub(crate) fn synced(&self) -> Vec<String> {
        self.state().synced.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps all, none or some sectors of a write that was not synced.
fn keep_some(bytes: &mut Vec<u8>, offset: usize, written: &[u8], rng: Option<&mut Rng>) {
    let Some(rng) = rng else { return };
    let odds = rng.below(4);
    let mut at = 0;
    while at < written.len() {
        let place = offset + at;
        let end = (at + SECTOR_BYTES - place % SECTOR_BYTES).min(written.len());
        if odds == 3 || (odds > 0 && rng.below(3) < odds) {
            if bytes.len() < offset + end {
                bytes.resize(offset + end, 0);
            }
            bytes[place..offset + end].copy_from_slice(&written[at..end]);
        }
        at = end;
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Put(name, index) => {
            names.insert(name.clone(), *index);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(index) = names.remove(from) {
                names.insert(to.clone(), index);
            }
        }
    }
}

fn touches(change: &NameChange, folder: &str) -> bool {
    let is_in = |name: &str| name.rsplit_once('/').map_or("", |(of, _)| of) == folder;
    match change {
        NameChange::Put(name, _) | NameChange::Remove(name) => is_in(name),
        NameChange::Rename(from, to) => is_in(from) || is_in(to),
    }
}

impl State {
    /// Counts a call; how it goes wrong, if it does.
    fn call(&mut self) -> io::Result<bool> {
        self.calls += 1;
        match self.failures.remove(&(self.calls - 1)) {
            None => Ok(false),
            Some(Failure::Short) => Ok(true),
            Some(Failure::Error(kind)) => Err(kind.into()),
        }
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.name_changes.push(change);
    }

    fn index(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.call()?;
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let index = state.contents.len();
        state.contents.push(Content::default());
        state.change(NameChange::Put(name.to_owned(), index));
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), index }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.call()?;
        let index = state.index(name)?;
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), index }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.call()?;
        if folder.is_empty() {
            // Files, and the folders that there are because something is in them.
            let names = state.names.keys().map(|name| name.split('/').next().unwrap_or(name));
            let names: BTreeSet<&str> = names.collect();
            return Ok(names.into_iter().map(str::to_owned).collect());
        }
        let names = state.names.keys().filter_map(|name| name.strip_prefix(folder));
        Ok(names.filter_map(|name| name.strip_prefix('/')).map(str::to_owned).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.index(from)?;
        state.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.index(name)?;
        state.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.synced.push(folder.to_owned());
        let last = state.name_changes.iter().rposition(|change| touches(change, folder));
        let durable = last.map_or(0, |last| last + 1);
        let changes: Vec<NameChange> = state.name_changes.drain(..durable).collect();
        for change in &changes {
            apply(&mut state.durable_names, change);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.call()?;
        Ok(state.free_bytes.unwrap_or(u64::MAX))
    }
}

impl DiskFile for MemoryFile {
    fn len_bytes(&self) -> io::Result<u64> {
        let mut state = self.lock();
        state.call()?;
        Ok(state.contents[self.index].bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let is_short = state.call()?;
        let bytes = &state.contents[self.index].bytes;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len()).min(if is_short { 1 } else { usize::MAX });
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let is_short = state.call()?;
        let bytes = &bytes[..bytes.len().min(if is_short { 1 } else { usize::MAX })];
        let content = &mut state.contents[self.index];
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if content.bytes.len() < to {
            content.bytes.resize(to, 0);
        }
        content.bytes[from..to].copy_from_slice(bytes);
        content.unsynced.push((from, bytes.to_vec()));
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        let outcome = state.call();
        let name = state.names.iter().find(|(_, index)| **index == self.index);
        let name = name.map(|(name, _)| name.clone());
        state.synced.extend(name);
        let content = &mut state.contents[self.index];
        // A page that could not be written is marked clean all the same.
        let written = std::mem::take(&mut content.unsynced);
        outcome?;
        for (offset, bytes) in written {
            let end = offset + bytes.len();
            if content.durable.len() < end {
                content.durable.resize(end, 0);
            }
            content.durable[offset..end].copy_from_slice(&bytes);
        }
        Ok(())
    }
}

impl MemoryFile {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
