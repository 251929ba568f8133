//! Segments: files of one size, written with zeroes before they are used, and used again.
//!
//! Writing into a file that is there in full is three to four times as fast to sync as letting one
//! grow. So a background loop keeps a few spares ready; journals and the output log take theirs from
//! it, and give back what they are done with.
//!
//! A segment never stands under a name in `journal/` or `outputs/` before it is whole: its zeroes
//! and its header are synced while it is a spare, and both folders are synced after the renaming.
//! Nor is it a spare before its zeroes are synced: until then its name says so, since a file whose
//! sync has failed looks whole to the next process, and is not.

use super::{DiskFault, write_all};
use crate::limits::{IDENTIFIER_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::log::block::{BLOCK_HEADER_BYTES, BlockSalt};
use crate::log::segment::{
    JOURNAL_FOLDER, OUTPUT_FOLDER, SEGMENT_HEADER_BYTES, SPARE_FOLDER, SegmentHeader, parse_spare,
    spare_path, unmade_path,
};
use crate::ports::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a segment, its header included.
pub(crate) const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// The least that a segment can have: room for the header and for a few blocks.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// Bytes that can stand beside a payload in a record of a journal or of the output log.
const BESIDE_PAYLOAD_BYTES_MAX: usize = KEY_BYTES_MAX + NAME_BYTES_MAX + IDENTIFIER_BYTES_MAX + 256;
/// Spares that are kept ready.
pub(crate) const SPARES_DEFAULT: usize = 2;
/// Zeroes are written in pieces of this.
const ZERO_BYTES: usize = 1 << 20;

/// How segments are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentsOptions {
    pub(crate) directory_id: [u8; 16],
    /// Bytes of each; at least [`SEGMENT_BYTES_MIN`].
    pub(crate) segment_bytes: u64,
    /// Spares that are kept ready.
    pub(crate) spares: usize,
    /// Bytes of all segments together, spares and what others report included. Beyond it no
    /// segment is made.
    pub(crate) bytes_max: u64,
}

impl SegmentsOptions {
    pub(crate) fn new(directory_id: [u8; 16]) -> Self {
        Self {
            directory_id,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            spares: SPARES_DEFAULT,
            bytes_max: u64::MAX,
        }
    }
}

/// A segment in use.
#[derive(Clone)]
pub(crate) struct Segment {
    /// Its name, with the folder.
    pub(crate) name: Arc<str>,
    pub(crate) file: Arc<dyn DiskFile>,
    /// What its first page says.
    pub(crate) header: SegmentHeader,
}

/// The segments of a data directory, shared by all that write into them.
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    options: SegmentsOptions,
    salt: BlockSalt,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Names of what is ready.
    spares: Vec<String>,
    /// Names of what is no use.
    unfit: Vec<String>,
    /// Segments that are being made, and so count although nobody has them yet.
    in_making: u64,
    next_spare: u64,
    /// Bytes of what is in use, by name.
    in_use: BTreeMap<String, u64>,
    other_bytes: u64,
    is_full: bool,
    /// So many at once were looked for, and there was no room.
    wanted: usize,
}

impl State {
    fn bytes(&self, segment_bytes: u64) -> u64 {
        let ready = (self.spares.len() as u64 + self.in_making) * segment_bytes;
        self.in_use.values().sum::<u64>() + ready + self.other_bytes
    }
}

impl Segments {
    /// Looks at what is there, and changes nothing yet: see [`Segments::tidy`].
    pub(crate) fn open(disk: Arc<dyn Disk>, options: SegmentsOptions) -> Result<Self, DiskFault> {
        assert!(options.segment_bytes >= SEGMENT_BYTES_MIN, "segments are too small");
        assert_eq!(options.segment_bytes % 8, 0, "blocks stand at multiples of eight");
        let mut state = State { next_spare: 1, ..State::default() };
        for folder in [JOURNAL_FOLDER, OUTPUT_FOLDER] {
            for file in disk.list(folder).map_err(DiskFault::at(folder, "list"))? {
                let name = format!("{folder}/{file}");
                let bytes = length_of(&*disk, &name)?;
                state.in_use.insert(name, bytes);
            }
        }
        for file in disk.list(SPARE_FOLDER).map_err(DiskFault::at(SPARE_FOLDER, "list"))? {
            let name = format!("{SPARE_FOLDER}/{file}");
            let Some((number, is_made)) = parse_spare(&file) else { continue };
            state.next_spare = state.next_spare.max(number.saturating_add(1));
            let is_whole = is_made && length_of(&*disk, &name)? == options.segment_bytes;
            if is_whole && state.spares.len() < options.spares {
                state.spares.push(name);
            } else {
                state.unfit.push(name);
            }
        }
        let salt = BlockSalt::of(&options.directory_id);
        Ok(Self { disk, options, salt, state: Mutex::new(state) })
    }

    /// Bytes of each segment that is made, its header included.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }

    /// Bytes of the largest payload for which a segment has room, whatever stands beside it.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        let room = capacity(self.options.segment_bytes) as usize - BLOCK_HEADER_BYTES;
        PAYLOAD_BYTES_MAX.min(room - BESIDE_PAYLOAD_BYTES_MAX)
    }

    pub(crate) fn directory_id(&self) -> [u8; 16] {
        self.options.directory_id
    }

    /// Removes spares that are not whole, of another size, or too many; and counts no more what the
    /// sealing of the journals has removed.
    pub(crate) fn tidy(&self) -> Result<(), DiskFault> {
        let left = self.disk.list(JOURNAL_FOLDER).map_err(DiskFault::at(JOURNAL_FOLDER, "list"))?;
        let left: Vec<String> =
            left.iter().map(|file| format!("{JOURNAL_FOLDER}/{file}")).collect();
        let is_there = |name: &String| folder_of(name) != JOURNAL_FOLDER || left.contains(name);
        self.state().in_use.retain(|name, _| is_there(name));
        let unfit = std::mem::take(&mut self.state().unfit);
        for name in &unfit {
            self.disk.remove(name).map_err(DiskFault::at(name, "remove"))?;
        }
        let is_empty = unfit.is_empty() && self.state().spares.is_empty();
        // A spare may have its name from a process that ended before that was durable.
        if is_empty { Ok(()) } else { self.sync_folder(SPARE_FOLDER) }
    }

    /// What blocks are salted with.
    pub(crate) fn salt(&self) -> BlockSalt {
        self.salt
    }

    /// Bytes of all segments, in use and spare, and of what others reported.
    pub(crate) fn bytes(&self) -> u64 {
        self.state().bytes(self.options.segment_bytes)
    }

    /// Bytes of the journals' segments.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let state = self.state();
        let journals = state.in_use.iter().filter(|(name, _)| folder_of(name) == JOURNAL_FOLDER);
        journals.map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that there is room for: on the disk, and below the bound.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let allowed = self.options.bytes_max.saturating_sub(self.bytes());
        Ok(self.disk.free_bytes()?.min(allowed))
    }

    /// Spares that are ready.
    #[cfg(test)]
    pub(crate) fn spares(&self) -> usize {
        self.state().spares.len()
    }

    /// What else counts against the bound: snapshots, say.
    pub(crate) fn set_other_bytes(&self, bytes: u64) {
        self.state().other_bytes = bytes;
    }

    /// The last spare that was to be made found no room, on the disk or under the bound.
    pub(crate) fn is_full(&self) -> bool {
        self.state().is_full
    }

    /// Makes a spare if there are fewer than there should be, and says whether it made one. That
    /// there is no room is no fault: [`Segments::is_full`] says so until a later call finds some.
    pub(crate) fn prepare(&self) -> Result<bool, DiskFault> {
        if self.state().spares.len() >= self.options.spares {
            let wanted = self.state().wanted;
            return match self.look_for_room(wanted) {
                Err(fault) if !fault.is_full() => Err(fault),
                _ => Ok(false),
            };
        }
        match self.make() {
            Ok(name) => {
                self.state().spares.push(name);
                Ok(true)
            }
            Err(fault) if fault.is_full() => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether so many segments can be taken, as far as that can be told beforehand. If not, that is
    /// a fault, and [`Segments::is_full`] says so until there is room for them.
    pub(crate) fn look_for_room(&self, count: usize) -> Result<(), DiskFault> {
        let missing = count.saturating_sub(self.state().spares.len()) as u64;
        let missing_bytes = missing.saturating_mul(self.options.segment_bytes);
        let has_room = missing == 0
            || self.free_bytes().map_err(DiskFault::at(SPARE_FOLDER, "look for room in"))?
                >= missing_bytes;
        let mut state = self.state();
        state.is_full = !has_room;
        state.wanted = if has_room { 0 } else { count };
        if has_room {
            return Ok(());
        }
        let detail = format!("there is no room for {missing_bytes} bytes");
        let source = io::Error::new(ErrorKind::StorageFull, detail);
        Err(DiskFault::new(SPARE_FOLDER, "make segments in", source))
    }

    /// A segment under this name: a spare, or one made on the spot, which takes its time. The size
    /// that the header names is set here.
    pub(crate) fn take(&self, name: &str, header: SegmentHeader) -> Result<Segment, DiskFault> {
        if let Some(segment) = self.take_ready(name, header)? {
            return Ok(segment);
        }
        let spare = self.make()?;
        self.label(&spare, name, header)
    }

    /// A segment under this name if there is a spare.
    pub(crate) fn take_ready(
        &self,
        name: &str,
        header: SegmentHeader,
    ) -> Result<Option<Segment>, DiskFault> {
        let spare = self.state().spares.pop();
        spare.map(|spare| self.label(&spare, name, header)).transpose()
    }

    /// Takes back what is no longer needed: for later use, or away with it.
    pub(crate) fn retire(&self, name: &str) -> Result<(), DiskFault> {
        let (spare, folder) = {
            let mut state = self.state();
            let bytes = state.in_use.remove(name);
            let is_kept = state.spares.len() + (state.in_making as usize) < self.options.spares
                && bytes == Some(self.options.segment_bytes)
                && state.bytes(self.options.segment_bytes) + self.options.segment_bytes
                    <= self.options.bytes_max;
            (is_kept.then(|| spare_path(state.reserve())), folder_of(name))
        };
        let outcome = match &spare {
            Some(spare) => self.rename(name, spare),
            None => match self.disk.remove(name) {
                // It went before, and then its folder could not be synced.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(DiskFault::at(name, "remove")),
            }
            .and_then(|()| self.sync_folder(folder)),
        };
        if let Some(spare) = spare {
            let mut state = self.state();
            state.in_making -= 1;
            if outcome.is_ok() {
                state.spares.push(spare);
            }
        }
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a spare: zeroes all over, synced, and so is its name.
    fn make(&self) -> Result<String, DiskFault> {
        let segment_bytes = self.options.segment_bytes;
        let number = {
            let mut state = self.state();
            if state.bytes(segment_bytes).saturating_add(segment_bytes) > self.options.bytes_max {
                state.is_full = true;
                let source = io::Error::new(ErrorKind::StorageFull, "the bound is reached");
                return Err(DiskFault::new(SPARE_FOLDER, "make a segment in", source));
            }
            state.reserve()
        };
        let (name, unmade) = (spare_path(number), unmade_path(number));
        let outcome = self.fill(&unmade).and_then(|()| {
            self.disk.rename(&unmade, &name).map_err(DiskFault::at(&unmade, "rename"))?;
            self.sync_folder(SPARE_FOLDER)
        });
        if outcome.is_err() {
            // What is half made is in the way when there is no room; that it cannot be removed
            // either is no worse than what is reported.
            let _ = self.disk.remove(&unmade).or_else(|_| self.disk.remove(&name));
        }
        let mut state = self.state();
        state.in_making -= 1;
        state.is_full = matches!(&outcome, Err(fault) if fault.is_full());
        outcome.map(|()| name)
    }

    fn fill(&self, name: &str) -> Result<(), DiskFault> {
        let free = self.disk.free_bytes().map_err(DiskFault::at(name, "look for room for"))?;
        if free < self.options.segment_bytes {
            let source = io::Error::new(ErrorKind::StorageFull, "the disk is full");
            return Err(DiskFault::new(name, "make", source));
        }
        let file = self.disk.create(name).map_err(DiskFault::at(name, "create"))?;
        zero(&*file, 0, self.options.segment_bytes).map_err(DiskFault::at(name, "write"))?;
        file.sync().map_err(DiskFault::at(name, "sync"))
    }

    /// Gives a spare its header and its name.
    fn label(&self, spare: &str, name: &str, header: SegmentHeader) -> Result<Segment, DiskFault> {
        let header = SegmentHeader {
            size: self.options.segment_bytes,
            directory_id: self.options.directory_id,
            ..header
        };
        let file = self.disk.open(spare).map_err(DiskFault::at(spare, "open"))?;
        write_all(&*file, 0, &header.encode()).map_err(DiskFault::at(spare, "write"))?;
        file.sync().map_err(DiskFault::at(spare, "sync"))?;
        self.rename(spare, name)?;
        self.state().in_use.insert(name.to_owned(), header.size);
        Ok(Segment { name: name.into(), file, header })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskFault> {
        self.disk.rename(from, to).map_err(DiskFault::at(from, "rename"))?;
        self.sync_folder(folder_of(to))?;
        self.sync_folder(folder_of(from))
    }

    fn sync_folder(&self, folder: &str) -> Result<(), DiskFault> {
        self.disk.sync_folder(folder).map_err(DiskFault::at(folder, "sync"))
    }
}

impl State {
    /// The number of a spare that is about to be there.
    fn reserve(&mut self) -> u64 {
        self.next_spare += 1;
        self.in_making += 1;
        self.next_spare - 1
    }
}

/// Writes zeroes in pieces.
pub(super) fn zero(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeroes = vec![0; (to.saturating_sub(from) as usize).min(ZERO_BYTES)];
    let mut at = from;
    while at < to {
        let piece = &zeroes[..((to - at) as usize).min(zeroes.len())];
        write_all(file, at, piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Bytes that blocks can have in a segment of this size; the rest is the header, and room for the
/// block that ends a journal, which so can always be written.
pub(crate) const fn capacity(segment_bytes: u64) -> u64 {
    segment_bytes - SEGMENT_HEADER_BYTES as u64 - BLOCK_HEADER_BYTES as u64
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn length_of(disk: &dyn Disk, name: &str) -> Result<u64, DiskFault> {
    let file = disk.open(name).map_err(DiskFault::at(name, "open"))?;
    file.len_bytes().map_err(DiskFault::at(name, "measure"))
}
