//! Byte strings of many sizes in few allocations: long keys, names and payloads.
//!
//! Strings up to 1 KiB live in cells of fixed sizes, cut from slabs; longer ones have an allocation
//! of their own. A handle is four bytes. A cell does not know its length: whoever holds the handle
//! does, or wrote it into the string.

use super::segments::Segments;
use crate::prefetch::prefetch;

/// The handle of a byte string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BytesHandle(u32);

impl BytesHandle {
    /// As it is stored in a slot.
    pub(crate) const fn to_raw(self) -> u32 {
        self.0
    }

    /// From where it was stored.
    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }
}

const CLASS_BITS: u32 = 4;
const INDEX_BITS: u32 = 32 - CLASS_BITS;
const CELL_BYTES: [usize; 15] =
    [8, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024];
const LARGE: usize = CELL_BYTES.len();
const SLAB_CELLS: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct BytesPool {
    classes: [Class; CELL_BYTES.len()],
    large: Vec<Box<[u8]>>,
    large_free: Vec<u32>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Class {
    slabs: Vec<Box<[u8]>>,
    used: u32,
    free: Segments<u32, 64>,
}

impl BytesPool {
    /// Stores the parts one behind the other.
    pub(crate) fn store(&mut self, parts: &[&[u8]]) -> BytesHandle {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let class = CELL_BYTES.partition_point(|cell| *cell < total);
        let index = if class == LARGE { self.take_large(total) } else { self.take_cell(class) };
        assert!(index < (1 << INDEX_BITS), "a size class of the byte pool is full");
        let handle = BytesHandle((class as u32) << INDEX_BITS | index);
        self.fill(handle, parts);
        handle
    }

    fn fill(&mut self, handle: BytesHandle, parts: &[&[u8]]) {
        let mut rest = self.cell_mut(handle);
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
    }

    /// Stores the parts in place of the string of a handle, where that was if it has the room and no
    /// smaller cell would do. The old handle must not be used again.
    pub(crate) fn replace(&mut self, handle: BytesHandle, parts: &[&[u8]]) -> BytesHandle {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let class = CELL_BYTES.partition_point(|cell| *cell < total);
        if class == LARGE || class != Self::parts(handle).0 {
            self.free(handle);
            return self.store(parts);
        }
        self.fill(handle, parts);
        handle
    }

    /// The cell of a handle: the string, and for small ones what is left of the cell behind it.
    #[inline]
    pub(crate) fn get(&self, handle: BytesHandle) -> &[u8] {
        let (class, index) = Self::parts(handle);
        if class == LARGE {
            return &self.large[index];
        }
        let cell = CELL_BYTES[class];
        let start = index % SLAB_CELLS * cell;
        &self.classes[class].slabs[index / SLAB_CELLS][start..start + cell]
    }

    /// Asks for the first line of a cell. The handle may be one that is not used any more.
    #[inline]
    pub(crate) fn prefetch(&self, handle: BytesHandle) {
        let (class, index) = Self::parts(handle);
        let Some(class_of) = self.classes.get(class) else { return };
        let start = index % SLAB_CELLS * CELL_BYTES[class];
        if let Some(first) = class_of.slabs.get(index / SLAB_CELLS).and_then(|it| it.get(start)) {
            prefetch(first);
        }
    }

    /// Gives a string back. The handle must not be used again.
    pub(crate) fn free(&mut self, handle: BytesHandle) {
        let (class, index) = Self::parts(handle);
        if class == LARGE {
            self.bytes -= self.large[index].len();
            self.large[index] = Box::default();
            self.large_free.push(index as u32);
        } else {
            self.bytes -= CELL_BYTES[class];
            self.classes[class].free.push(index as u32);
        }
    }

    /// Bytes of the cells in use.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn parts(handle: BytesHandle) -> (usize, usize) {
        ((handle.0 >> INDEX_BITS) as usize, (handle.0 & ((1 << INDEX_BITS) - 1)) as usize)
    }

    fn cell_mut(&mut self, handle: BytesHandle) -> &mut [u8] {
        let (class, index) = Self::parts(handle);
        if class == LARGE {
            return &mut self.large[index];
        }
        let cell = CELL_BYTES[class];
        let start = index % SLAB_CELLS * cell;
        &mut self.classes[class].slabs[index / SLAB_CELLS][start..start + cell]
    }

    fn take_cell(&mut self, class: usize) -> u32 {
        let cell = CELL_BYTES[class];
        self.bytes += cell;
        let class = &mut self.classes[class];
        if let Some(index) = class.free.pop() {
            return index;
        }
        if class.used as usize == class.slabs.len() * SLAB_CELLS {
            class.slabs.push(vec![0; cell * SLAB_CELLS].into_boxed_slice());
        }
        class.used += 1;
        class.used - 1
    }

    fn take_large(&mut self, total: usize) -> u32 {
        self.bytes += total;
        let string = vec![0; total].into_boxed_slice();
        if let Some(index) = self.large_free.pop() {
            self.large[index as usize] = string;
            return index;
        }
        self.large.push(string);
        (self.large.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_all_sizes_come_back_and_their_cells_are_used_again() {
        let mut pool = BytesPool::default();
        let sizes = [0, 1, 8, 9, 31, 32, 33, 1_023, 1_024, 1_025, 70_000];
        let handles: Vec<_> = sizes
            .iter()
            .map(|size| {
                let text: Vec<u8> = (0..*size).map(|n| (n % 251) as u8).collect();
                let (a, b) = text.split_at(size / 3);
                (pool.store(&[a, b]), text)
            })
            .collect();
        for (handle, text) in &handles {
            assert_eq!(&pool.get(*handle)[..text.len()], text);
        }
        let held = pool.bytes();
        for (handle, _) in &handles {
            pool.free(*handle);
        }
        assert_eq!(pool.bytes(), 0);
        for (handle, text) in &handles {
            let again = pool.store(&[text]);
            assert_eq!(again.to_raw() >> INDEX_BITS, handle.to_raw() >> INDEX_BITS);
        }
        assert_eq!(pool.bytes(), held);
        assert!(pool.classes.iter().all(|class| class.used <= 3));
    }

    #[test]
    fn a_string_of_the_same_size_takes_the_place_of_another() {
        let mut pool = BytesPool::default();
        let first = pool.store(&[b"12345678"]);
        let again = pool.replace(first, &[b"8765", b"4321"]);
        assert_eq!((again, pool.get(again)), (first, &b"87654321"[..]));
        for size in [9, 1_024, 1_025, 70_000, 3] {
            let text: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let handle = pool.replace(again, &[&text]);
            assert_eq!(&pool.get(handle)[..size], text);
            assert_eq!(pool.replace(handle, &[b"87654321"]), again);
        }
        assert_eq!(pool.bytes(), 8);
    }

    #[test]
    fn many_cells_of_one_size_do_not_overlap() {
        let mut pool = BytesPool::default();
        let handles: Vec<_> = (0..1_000u32).map(|n| pool.store(&[&n.to_le_bytes()])).collect();
        for (n, handle) in handles.iter().enumerate() {
            assert_eq!(&pool.get(*handle)[..4], &(n as u32).to_le_bytes());
        }
    }
}
