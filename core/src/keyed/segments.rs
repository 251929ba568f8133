//! A stack that grows without moving or copying what is there.
//!
//! Segment `n` is twice as long as segment `n - 1` and is taken from the allocator zeroed and
//! untouched, so growing costs no pause whatever the size, and memory that is not used yet is not
//! resident. Index arithmetic is one `ilog2`.
//!
//! ```text
//! FIRST = 4:   | 0 1 2 3 | 4 .. 11 | 12 .. 27 | 28 .. 59 | …
//! ```

use bytemuck::Zeroable;

/// See the module. `FIRST` is the length of the first segment, a power of two.
#[derive(Debug)]
pub(crate) struct Segments<T, const FIRST: usize> {
    segments: Vec<Box<[T]>>,
    len: usize,
}

impl<T, const FIRST: usize> Default for Segments<T, FIRST> {
    fn default() -> Self {
        const { assert!(FIRST.is_power_of_two()) };
        Self { segments: Vec::new(), len: 0 }
    }
}

impl<T: Zeroable + Copy, const FIRST: usize> Segments<T, FIRST> {
    #[inline]
    fn place(index: usize) -> (usize, usize) {
        let shifted = index + FIRST;
        let segment = (shifted.ilog2() - FIRST.ilog2()) as usize;
        (segment, shifted - (FIRST << segment))
    }

    /// Puts an element on top.
    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        let index = self.len;
        let (segment, offset) = Self::place(index);
        if segment == self.segments.len() {
            self.segments.push(bytemuck::allocation::zeroed_slice_box(FIRST << segment));
        }
        self.segments[segment][offset] = element;
        self.len += 1;
    }

    /// Takes the topmost element off. Its segment stays.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        let (segment, offset) = Self::place(self.len);
        Some(self.segments[segment][offset])
    }

    /// The element so many below the topmost one.
    #[inline]
    pub(crate) fn below_top(&self, depth: usize) -> Option<T> {
        let (segment, offset) = Self::place(self.len.checked_sub(depth + 1)?);
        Some(self.segments[segment][offset])
    }

    /// Bytes of the elements in use.
    pub(crate) fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_on_last_comes_off_first() {
        let mut numbers: Segments<u32, 4> = Segments::default();
        for n in 0..1_000 {
            numbers.push(n * 3);
        }
        assert_eq!(numbers.bytes(), 4_000);
        let lengths: Vec<usize> = numbers.segments.iter().map(|segment| segment.len()).collect();
        assert_eq!(lengths[..4], [4, 8, 16, 32]);
        for n in (0..1_000).rev() {
            assert_eq!(numbers.below_top(0), Some(n * 3));
            assert_eq!(numbers.below_top(7), (n >= 7).then(|| (n - 7) * 3));
            assert_eq!(numbers.pop(), Some(n * 3));
        }
        assert_eq!(numbers.pop(), None);
    }
}
