//! Reading an object: everything is checked when it is opened, entries are unpacked when asked for.

use super::{
    BLOCK_BYTES, BLOCK_HEAD_BYTES, DIGEST_AT, Entry, FOOTER_BYTES, FOOTER_MAGIC, HEADER_BYTES,
    HEADER_MAGIC, KIND_DATA, KIND_INDEX, ROW_BYTES, VERSION, long, word,
};
use crate::snapshot::fault::SnapshotFault;
use crc32c::{crc32c, crc32c_append};
use xxhash_rust::xxh3::xxh3_128;
use zstd::bulk::Decompressor;

/// An object whose checksums and digest are right.
pub(crate) struct ObjectReader {
    name: String,
    bytes: Vec<u8>,
    directory: [u8; 16],
    digest: u128,
    blocks: Vec<Block>,
    entries: Vec<Entry>,
    /// Where in the raw data each entry begins.
    starts: Vec<u64>,
    decompressor: Decompressor<'static>,
    /// The raw bytes of one data block, and which it is.
    block: Vec<u8>,
    unpacked: Option<usize>,
    /// An entry that spans blocks.
    joined: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    at: usize,
    compressed: usize,
    raw: usize,
}

/// The footer, once its checksum matched.
struct Footer {
    at: usize,
    index_at: u64,
    data_blocks: u32,
    index_blocks: u32,
    entries: u64,
    digest: u128,
}

impl ObjectReader {
    /// Checks all of an object; `name` is how faults call it.
    pub(crate) fn open(name: &str, bytes: Vec<u8>) -> Result<Self, SnapshotFault> {
        let directory = directory_of(name, &bytes)?;
        let footer = read_footer(name, &bytes)?;
        let (blocks, index) = walk(name, &bytes, &footer)?;
        if xxh3_128(&bytes[..footer.at + DIGEST_AT]) != footer.digest {
            let at = (footer.at + DIGEST_AT) as u64;
            return Err(SnapshotFault::damaged(name, at, "the digest does not match"));
        }
        let Ok(decompressor) = Decompressor::new() else {
            return Err(SnapshotFault::damaged(name, 0, "there is no memory to unpack it"));
        };
        let mut it = Self {
            name: name.to_owned(),
            bytes,
            directory,
            digest: footer.digest,
            blocks,
            entries: Vec::new(),
            starts: Vec::new(),
            decompressor,
            block: Vec::new(),
            unpacked: None,
            joined: Vec::new(),
        };
        it.read_index(&index, &footer)?;
        Ok(it)
    }

    /// How faults call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The data directory that it belongs to.
    pub(crate) fn directory(&self) -> &[u8; 16] {
        &self.directory
    }

    /// Its digest.
    pub(crate) fn digest(&self) -> u128 {
        self.digest
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is in it, in the order in which it was added.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of an entry, by its number in [`ObjectReader::entries`]. Cheapest in order: the
    /// block that was unpacked last is kept.
    pub(crate) fn entry(&mut self, index: usize) -> Result<&[u8], SnapshotFault> {
        let (start, length) = (self.starts[index] as usize, self.entries[index].length as usize);
        if length == 0 {
            return Ok(&[]);
        }
        let (first, last) = (start / BLOCK_BYTES, (start + length - 1) / BLOCK_BYTES);
        let offset = start % BLOCK_BYTES;
        if first == last {
            self.unpack(first)?;
            return Ok(&self.block[offset..offset + length]);
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        // What it asks for is there: the lengths of all entries add up to the raw bytes of blocks.
        joined.reserve_exact(length);
        for block in first..=last {
            self.unpack(block)?;
            let from = if block == first { offset } else { 0 };
            let end = self.block.len().min(from + length - joined.len());
            joined.extend_from_slice(&self.block[from..end]);
        }
        self.joined = joined;
        Ok(&self.joined)
    }

    fn unpack(&mut self, block: usize) -> Result<(), SnapshotFault> {
        if self.unpacked == Some(block) {
            return Ok(());
        }
        self.unpacked = None;
        unpack(
            &self.name,
            &self.bytes,
            self.blocks[block],
            &mut self.decompressor,
            &mut self.block,
        )?;
        self.unpacked = Some(block);
        Ok(())
    }

    fn read_index(&mut self, index: &[Block], footer: &Footer) -> Result<(), SnapshotFault> {
        let at_footer = |detail| SnapshotFault::damaged(&self.name, footer.at as u64, detail);
        let raw: u64 = index.iter().map(|block| block.raw as u64).sum();
        if footer.entries.checked_mul(ROW_BYTES as u64) != Some(raw) {
            return Err(at_footer("the index has another length than its entries"));
        }
        self.entries.reserve_exact(footer.entries as usize);
        self.starts.reserve_exact(footer.entries as usize);
        let data: u64 = self.blocks.iter().map(|block| block.raw as u64).sum();
        let mut start = 0u64;
        // A row may stand in two blocks.
        let mut rows = Vec::new();
        for block in index {
            let (decompressor, unpacked) = (&mut self.decompressor, &mut self.block);
            unpack(&self.name, &self.bytes, *block, decompressor, unpacked)?;
            rows.extend_from_slice(unpacked);
            let (whole, rest) = rows.as_chunks::<ROW_BYTES>();
            for row in whole {
                let fault = |detail| SnapshotFault::damaged(&self.name, block.at as u64, detail);
                let entry = Entry::read(row).ok_or_else(|| fault("an entry is of no kind"))?;
                self.starts.push(start);
                self.entries.push(entry);
                start = start
                    .checked_add(entry.length)
                    .filter(|start| *start <= data)
                    .ok_or_else(|| fault("an entry is longer than what is there"))?;
            }
            rows = rest.to_vec();
        }
        if start != data {
            return Err(at_footer("the entries are shorter than what is there"));
        }
        Ok(())
    }
}

/// The data directory that an object says it belongs to; `name` is how faults call it.
pub(crate) fn directory_of(name: &str, bytes: &[u8]) -> Result<[u8; 16], SnapshotFault> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(SnapshotFault::damaged(name, 0, "it is too short for a header"));
    };
    if &header[..8] != HEADER_MAGIC {
        return Err(SnapshotFault::damaged(name, 0, "it is no object of a snapshot"));
    }
    if word(header, 28) != crc32c(&header[..28]) {
        return Err(SnapshotFault::damaged(name, 28, "the checksum of the header does not match"));
    }
    let found = word(header, 8);
    if found > VERSION {
        return Err(SnapshotFault::Newer { object: name.to_owned(), found, known: VERSION });
    }
    if found == 0 {
        return Err(SnapshotFault::damaged(name, 8, "there is no such format version"));
    }
    let mut directory = [0; 16];
    directory.copy_from_slice(&header[12..28]);
    Ok(directory)
}

fn read_footer(name: &str, bytes: &[u8]) -> Result<Footer, SnapshotFault> {
    let at = bytes.len().saturating_sub(FOOTER_BYTES);
    let fault = |detail| SnapshotFault::damaged(name, at as u64, detail);
    if at < HEADER_BYTES {
        return Err(fault("it is too short for a footer"));
    }
    let footer = &bytes[at..];
    if &footer[..8] != FOOTER_MAGIC {
        return Err(fault("it does not end with a footer: it is cut short, or more follows"));
    }
    if word(footer, 56) != crc32c(&footer[..56]) {
        return Err(fault("the checksum of the footer does not match"));
    }
    if long(footer, 32) != bytes.len() as u64 {
        return Err(fault("it is not as long as its footer says"));
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&footer[DIGEST_AT..DIGEST_AT + 16]);
    Ok(Footer {
        at,
        index_at: long(footer, 8),
        data_blocks: word(footer, 16),
        index_blocks: word(footer, 20),
        entries: long(footer, 24),
        digest: u128::from_le_bytes(digest),
    })
}

/// Checks all blocks and tells where they are: those of data, and those of the index.
fn walk(
    name: &str,
    bytes: &[u8],
    footer: &Footer,
) -> Result<(Vec<Block>, Vec<Block>), SnapshotFault> {
    let mut at = HEADER_BYTES;
    let mut read = |kind, count: u32| {
        let mut blocks = Vec::new();
        for number in 0..count {
            let block = read_block(name, &bytes[..footer.at], at, kind)?;
            if block.raw != BLOCK_BYTES && number + 1 < count {
                let detail = "a block that is not the last one is not full";
                return Err(SnapshotFault::damaged(name, at as u64, detail));
            }
            at += BLOCK_HEAD_BYTES + block.compressed;
            blocks.push(block);
        }
        Ok((blocks, at as u64))
    };
    let (data, index_at) = read(KIND_DATA, footer.data_blocks)?;
    let (index, end) = read(KIND_INDEX, footer.index_blocks)?;
    if index_at != footer.index_at || end != footer.at as u64 {
        let detail = "the blocks do not end where the footer says";
        return Err(SnapshotFault::damaged(name, end, detail));
    }
    Ok((data, index))
}

fn read_block(name: &str, bytes: &[u8], at: usize, kind: u32) -> Result<Block, SnapshotFault> {
    let fault = |detail| SnapshotFault::damaged(name, at as u64, detail);
    let Some((head, rest)) = bytes[at..].split_first_chunk::<BLOCK_HEAD_BYTES>() else {
        return Err(fault("a block is missing"));
    };
    let (compressed, raw) = (word(head, 4) as usize, word(head, 8) as usize);
    let Some(frame) = rest.get(..compressed) else {
        return Err(fault("a block is cut short, or its length is damaged"));
    };
    if word(head, 12) != crc32c_append(crc32c(&head[..12]), frame) {
        return Err(fault("the checksum of a block does not match"));
    }
    if word(head, 0) != kind {
        return Err(fault("a block is of another kind"));
    }
    if !(1..=BLOCK_BYTES).contains(&raw) {
        return Err(fault("the size of a block is out of bounds"));
    }
    Ok(Block { at, compressed, raw })
}

fn unpack(
    name: &str,
    bytes: &[u8],
    block: Block,
    decompressor: &mut Decompressor<'_>,
    out: &mut Vec<u8>,
) -> Result<(), SnapshotFault> {
    let begin = block.at + BLOCK_HEAD_BYTES;
    let frame = &bytes[begin..begin + block.compressed];
    out.clear();
    out.reserve_exact(block.raw);
    let unpacked = decompressor.decompress_to_buffer(frame, out);
    if unpacked.is_ok_and(|length| length == block.raw) {
        return Ok(());
    }
    Err(SnapshotFault::damaged(name, block.at as u64, "a block cannot be unpacked"))
}
