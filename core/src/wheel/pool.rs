//! The memory of the wheels: entries of 8 bytes, in lists of chunks drawn from one pool.
//!
//! A chunk is 512 bytes: 63 entries and one word that says, once the chunk is sealed, which chunk
//! follows and how many entries are in this one. The last chunk of a list is still being filled, so
//! its count is kept in the list itself, where an append finds it without a cache miss.
//!
//! Chunks come in slabs that never move: growth is one allocation of 128 KiB, whatever is held. A
//! freed chunk is linked into the free list through its last word, so a whole list is freed at once
//! without walking it. Memory is reused by all wheels of the pool but not given back to the system.

/// Entries in one chunk.
pub(super) const CHUNK_ENTRIES: usize = 63;
/// The word of a sealed or free chunk that links it: `next` in the low half, count in the high one.
const LINK: usize = CHUNK_ENTRIES;
/// Chunks in one slab.
const SLAB_CHUNKS: usize = 256;
const SLAB_SHIFT: u32 = SLAB_CHUNKS.trailing_zeros();
/// A list packs chunk number and fill count of its last chunk in 32 bits, 6 of them for the count.
/// The consequence is a pool of at most 4.2 billion entries, about as many as there are slots.
const FILL_BITS: u32 = 6;
const FILL_MASK: u32 = (1 << FILL_BITS) - 1;
const CHUNKS_MAX: u32 = 1 << (32 - FILL_BITS);
/// No chunk: the end of the free list.
const NIL: u32 = u32::MAX;

type Chunk = [u64; CHUNK_ENTRIES + 1];
type Slab = [Chunk; SLAB_CHUNKS];

/// One chunk's worth of entries, taken out of a list.
pub(super) type Batch = [u64; CHUNK_ENTRIES];

/// Entries, 8 bytes each, in chunks shared by all wheels of a shard.
#[derive(Debug)]
pub struct EntryPool {
    slabs: Vec<Box<Slab>>,
    /// Head of the list of chunks that were used and given back.
    free: u32,
    /// Chunks from here on were never used, so their memory is not even touched.
    fresh: u32,
}

impl Default for EntryPool {
    fn default() -> Self {
        Self::new()
    }
}

impl EntryPool {
    /// An empty pool; allocates nothing.
    pub const fn new() -> Self {
        Self { slabs: Vec::new(), free: NIL, fresh: 0 }
    }

    /// Bytes held, whether in use or free.
    pub fn memory_bytes(&self) -> usize {
        self.slabs.len() * size_of::<Slab>() + self.slabs.capacity() * size_of::<Box<Slab>>()
    }

    /// Chunks in use by wheels, counted by walking the free list.
    #[cfg(test)]
    pub(super) fn used_chunks(&self) -> usize {
        let mut count = self.fresh as usize;
        let mut number = self.free;
        while number != NIL {
            count -= 1;
            number = self.chunk(number)[LINK] as u32;
        }
        count
    }

    #[inline]
    fn chunk(&self, number: u32) -> &Chunk {
        &self.slabs[(number >> SLAB_SHIFT) as usize][number as usize % SLAB_CHUNKS]
    }

    #[inline]
    fn chunk_mut(&mut self, number: u32) -> &mut Chunk {
        &mut self.slabs[(number >> SLAB_SHIFT) as usize][number as usize % SLAB_CHUNKS]
    }

    fn allocate(&mut self) -> u32 {
        if self.free != NIL {
            let number = self.free;
            self.free = self.chunk(number)[LINK] as u32;
            return number;
        }
        if self.fresh as usize == self.slabs.len() * SLAB_CHUNKS {
            self.grow();
        }
        self.fresh += 1;
        self.fresh - 1
    }

    #[cold]
    fn grow(&mut self) {
        assert!(
            self.fresh < CHUNKS_MAX,
            "the entry pool is at its end: {CHUNKS_MAX} chunks are in use"
        );
        // Zeroed memory comes untouched from the system: no pause to write it.
        let slab = vec![[0; CHUNK_ENTRIES + 1]; SLAB_CHUNKS];
        let slab = Box::try_from(slab).expect("the vector was made as long as a slab");
        self.slabs.push(slab);
    }

    /// Frees the chunks that are linked from `head` to `last`.
    fn free(&mut self, head: u32, last: u32) {
        let free = self.free;
        self.chunk_mut(last)[LINK] = u64::from(free);
        self.free = head;
    }
}

/// A list of entries. What it means by its two words depends on its length:
/// none for 0; for 1 the entry itself, so that lonely entries take no chunk; else first and last
/// chunk, with the last one's fill count.
///
/// A list does not free itself when dropped: it has no pool to give its chunks to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of a list of one, which is stored in the two words.
    #[inline]
    fn inline(&self) -> u64 {
        u64::from(self.head) << 32 | u64::from(self.tail)
    }

    fn set_inline(&mut self, entry: u64) {
        self.head = (entry >> 32) as u32;
        self.tail = entry as u32;
    }

    #[inline]
    fn last_chunk(&self) -> u32 {
        self.tail >> FILL_BITS
    }

    #[inline]
    pub(super) fn push(&mut self, pool: &mut EntryPool, entry: u64) {
        let fill = (self.tail & FILL_MASK) as usize;
        if self.len >= 2 && fill < CHUNK_ENTRIES {
            pool.chunk_mut(self.last_chunk())[fill] = entry;
            self.tail += 1;
            self.len += 1;
        } else {
            self.push_slow(pool, entry);
        }
    }

    /// The first entry, the second, and each that finds the last chunk full.
    #[inline(never)]
    fn push_slow(&mut self, pool: &mut EntryPool, entry: u64) {
        match self.len {
            0 => self.set_inline(entry),
            1 => {
                let number = pool.allocate();
                let chunk = pool.chunk_mut(number);
                chunk[0] = self.inline();
                chunk[1] = entry;
                self.head = number;
                self.tail = number << FILL_BITS | 2;
            }
            _ => {
                let number = pool.allocate();
                self.seal(pool, number);
                pool.chunk_mut(number)[0] = entry;
                self.tail = number << FILL_BITS | 1;
            }
        }
        self.len += 1;
    }

    /// Writes into the last chunk how full it is and which chunk follows.
    fn seal(&self, pool: &mut EntryPool, next: u32) {
        let count = u64::from(self.tail & FILL_MASK);
        pool.chunk_mut(self.last_chunk())[LINK] = count << 32 | u64::from(next);
    }

    /// Moves up to `max` entries (at least one, if there is any) of the first chunk into `batch`;
    /// returns how many.
    pub(super) fn take(&mut self, pool: &mut EntryPool, max: usize, batch: &mut Batch) -> usize {
        if self.len <= 1 {
            batch[0] = self.inline();
            return std::mem::take(&mut self.len) as usize;
        }
        let number = self.head;
        let is_last = number == self.last_chunk();
        let chunk = pool.chunk_mut(number);
        let link = chunk[LINK];
        let held = if is_last { (self.tail & FILL_MASK) as usize } else { (link >> 32) as usize };
        let taken = held.min(max.max(1));
        let left = held - taken;
        batch[..taken].copy_from_slice(&chunk[left..held]);
        self.len -= taken as u32;
        if left == 0 {
            self.head = link as u32;
            pool.free(number, number);
        } else if is_last {
            self.tail -= taken as u32;
        } else {
            chunk[LINK] = (left as u64) << 32 | u64::from(link as u32);
        }
        if self.len == 1 {
            let last = self.head;
            self.set_inline(pool.chunk(last)[0]);
            pool.free(last, last);
        }
        taken
    }

    /// Appends all of `other`, without copying its chunks.
    pub(super) fn append(&mut self, pool: &mut EntryPool, other: List) {
        match (self.len, other.len) {
            (_, 0) => {}
            (_, 1) => self.push(pool, other.inline()),
            (0, _) => *self = other,
            (1, _) => {
                let own = self.inline();
                *self = other;
                self.push(pool, own);
            }
            _ => {
                self.seal(pool, other.head);
                self.tail = other.tail;
                self.len += other.len;
            }
        }
    }

    /// Gives all chunks back at once, without walking them.
    pub(super) fn free(&mut self, pool: &mut EntryPool) {
        if self.len >= 2 {
            pool.free(self.head, self.last_chunk());
        }
        *self = Self::default();
    }

    /// All entries, in any order.
    #[cfg(test)]
    pub(super) fn entries(&self, pool: &EntryPool) -> Vec<u64> {
        if self.len <= 1 {
            return vec![self.inline(); self.len as usize];
        }
        let mut entries = Vec::new();
        let mut number = self.head;
        while number != self.last_chunk() {
            let link = pool.chunk(number)[LINK];
            entries.extend(&pool.chunk(number)[..(link >> 32) as usize]);
            number = link as u32;
        }
        entries.extend(&pool.chunk(number)[..(self.tail & FILL_MASK) as usize]);
        assert_eq!(entries.len(), self.len as usize);
        entries
    }
}
