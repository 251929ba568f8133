//! A sequence of plain elements on large pages, shared by all partitions of a shard.
//!
//! It grows by whole stretches of address space, reserved from the system and touched only as they
//! are used: nothing is copied or moved, and what is not used is not resident. Pages of 2 MiB are
//! asked for, because what lives here is reached in no order: with small ones the address
//! translation costs as much as the memory.
//!
//! Elements can be taken in runs of a power of two, which stay together; runs given back are used
//! again for runs of the same length.

use bytemuck::Pod;
use memmap2::{Advice, MmapMut, MmapOptions};
use std::marker::PhantomData;

const STRETCH_BYTES: usize = 64 << 20;

/// How many elements a stretch has. A constant of the type, and a power of two, so that a place
/// within a stretch is a mask away and needs no check.
pub(crate) const fn stretch_of<T>() -> usize {
    STRETCH_BYTES / size_of::<T>()
}

/// See the module. `STRETCH` is [`stretch_of`] its elements.
#[derive(Debug)]
pub(crate) struct Region<T, const STRETCH: usize> {
    stretches: Vec<MmapMut>,
    /// Elements handed out at least once.
    used: usize,
    /// By the logarithm of their length: runs that were given back.
    free: Vec<Vec<u32>>,
    element: PhantomData<T>,
}

impl<T, const STRETCH: usize> Default for Region<T, STRETCH> {
    fn default() -> Self {
        const { assert!(STRETCH == stretch_of::<T>() && STRETCH.is_power_of_two()) };
        Self { stretches: Vec::new(), used: 0, free: Vec::new(), element: PhantomData }
    }
}

impl<T: Pod, const STRETCH: usize> Region<T, STRETCH> {
    /// The element at `index`, which must have been taken.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> &T {
        let index = index as usize;
        let stretch: &[T; STRETCH] = bytemuck::from_bytes(&self.stretches[index / STRETCH]);
        &stretch[index % STRETCH]
    }

    /// The element at `index`, which must have been taken.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> &mut T {
        let index = index as usize;
        let stretch: &mut [T; STRETCH] =
            bytemuck::from_bytes_mut(&mut self.stretches[index / STRETCH]);
        &mut stretch[index % STRETCH]
    }

    /// Takes a run of `1 << log` elements and returns the index of the first. They are zero if they
    /// were never used before, else as they were given back.
    pub(crate) fn take(&mut self, log: u32) -> u32 {
        if let Some(run) = self.free.get_mut(log as usize).and_then(Vec::pop) {
            return run;
        }
        let length = 1 << log;
        assert!(length <= STRETCH, "a run fits a stretch");
        let mut first = self.used;
        if first / STRETCH != (first + length - 1) / STRETCH {
            // What is left of this stretch is too short: a run does not cross over.
            first = first.next_multiple_of(STRETCH);
        }
        while self.stretches.len() * STRETCH < first + length {
            self.stretches.push(reserve());
        }
        self.used = first + length;
        u32::try_from(first).expect("a shard holds at most 2^32 - 1 keys")
    }

    /// Gives a run back.
    pub(crate) fn release(&mut self, first: u32, log: u32) {
        let classes = self.free.len().max(log as usize + 1);
        self.free.resize_with(classes, Vec::new);
        self.free[log as usize].push(first);
    }

    /// Bytes of the elements handed out at least once.
    pub(crate) fn bytes(&self) -> usize {
        self.used * size_of::<T>()
    }
}

fn reserve() -> MmapMut {
    let stretch = MmapOptions::new().len(STRETCH_BYTES).no_reserve_swap().map_anon();
    let stretch = stretch.expect("the system has memory for what it admitted");
    // A system without large pages says no, and is slower.
    #[cfg(target_os = "linux")]
    let _ = stretch.advise(Advice::HugePage);
    stretch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_stay_together_and_are_used_again() {
        let mut region: Region<u64, { stretch_of::<u64>() }> = Region::default();
        let mut runs = Vec::new();
        for log in [0, 3, 1, 20, 0, 22, 23, 2] {
            let first = region.take(log);
            for n in 0..1u32 << log {
                assert_eq!(*region.get(first + n), 0, "nobody was here before");
                *region.get_mut(first + n) = (runs.len() as u64) << 32 | n as u64;
            }
            runs.push((first, log));
        }
        for (index, (first, log)) in runs.iter().enumerate() {
            for n in 0..1u32 << log {
                assert_eq!(*region.get(first + n), (index as u64) << 32 | n as u64);
            }
        }
        for (first, log) in runs {
            region.release(first, log);
            assert_eq!(region.take(log), first);
        }
    }
}
