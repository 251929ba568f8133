//! From a key to its key group, its lane and its shard.
//!
//! `key_group = xxh3_64(key) % max_parallelism`. The hash is part of the on-disk format: fixed for
//! ever, held by golden values below. Lanes and shards are contiguous ranges, as Flink's subtasks
//! are ranges of key groups.

use crate::limits::{LANES_MAX, MAX_PARALLELISM_MAX};

/// The hash that places a key. Frozen: see the golden values in the tests of this module.
pub fn xxh3_64(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The number of one key group, below the max parallelism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u16);

/// The number of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneIndex(pub u16);

/// The number of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

/// How keys are laid out over groups, lanes and shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    max_parallelism: u16,
    lanes: u16,
    shards: u16,
}

impl Layout {
    /// A layout, or what is wrong with its numbers.
    pub fn new(max_parallelism: u16, lanes: u16, shards: u16) -> Result<Self, String> {
        if !(1..=MAX_PARALLELISM_MAX).contains(&max_parallelism) {
            return Err(format!(
                "max parallelism is {max_parallelism}, allowed is 1 to {MAX_PARALLELISM_MAX}"
            ));
        }
        if lanes == 0 || lanes > LANES_MAX || lanes > max_parallelism {
            let most = LANES_MAX.min(max_parallelism);
            return Err(format!("the number of lanes is {lanes}, allowed is 1 to {most}"));
        }
        if shards == 0 || shards > lanes {
            return Err(format!("the number of shards is {shards}, allowed is 1 to {lanes}"));
        }
        Ok(Self { max_parallelism, lanes, shards })
    }

    /// The number of key groups.
    pub const fn max_parallelism(self) -> u16 {
        self.max_parallelism
    }

    /// The number of lanes.
    pub const fn lanes(self) -> u16 {
        self.lanes
    }

    /// The number of shards.
    pub const fn shards(self) -> u16 {
        self.shards
    }

    /// The key group of a key with this hash.
    pub const fn group_of(self, hash: u64) -> KeyGroup {
        if self.max_parallelism.is_power_of_two() {
            // The same number, without a division.
            return KeyGroup((hash & (self.max_parallelism as u64 - 1)) as u16);
        }
        KeyGroup((hash % self.max_parallelism as u64) as u16)
    }

    /// The lane that a key group belongs to.
    pub const fn lane_of(self, group: KeyGroup) -> LaneIndex {
        LaneIndex((group.0 as u32 * self.lanes as u32 / self.max_parallelism as u32) as u16)
    }

    /// The shard that owns a lane.
    pub const fn shard_of(self, lane: LaneIndex) -> ShardIndex {
        ShardIndex((lane.0 as u32 * self.shards as u32 / self.lanes as u32) as u16)
    }

    /// The lanes of a shard, a contiguous range.
    pub fn lanes_of(self, shard: ShardIndex) -> impl Iterator<Item = LaneIndex> {
        (0..self.lanes).map(LaneIndex).filter(move |lane| self.shard_of(*lane) == shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        // Golden values of XXH3-64 with seed 0. A change here makes every data directory unreadable.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(xxh3_64(b"a"), 0xe6c6_32b6_1e96_4e1f);
        assert_eq!(xxh3_64(b"abc"), 0x78af_5f94_892f_3950);
        assert_eq!(xxh3_64(b"order-17"), GOLDEN_ORDER_17);
        assert_eq!(xxh3_64(&[0xff; 1024]), GOLDEN_1024);
    }

    const GOLDEN_ORDER_17: u64 = 0x234c_efc8_1040_cbbe;
    const GOLDEN_1024: u64 = 0x91a9_afd3_ad9e_b82e;

    #[test]
    fn every_group_has_one_lane_and_every_lane_one_shard_in_order() {
        for (groups, lanes, shards) in [(128, 16, 1), (128, 16, 3), (7, 7, 7), (32_768, 1_024, 64)]
        {
            let layout = Layout::new(groups, lanes, shards).expect("a legal layout");
            let mut last = (0, 0);
            for group in 0..groups {
                let lane = layout.lane_of(KeyGroup(group));
                let shard = layout.shard_of(lane);
                assert!(lane.0 < lanes && shard.0 < shards);
                assert!((shard.0, lane.0) >= last, "ranges are contiguous");
                last = (shard.0, lane.0);
            }
            assert_eq!(last, (shards - 1, lanes - 1), "no lane and no shard is empty");
            let all: usize =
                (0..shards).map(|shard| layout.lanes_of(ShardIndex(shard)).count()).sum();
            assert_eq!(all, lanes as usize);
        }
    }

    #[test]
    fn an_impossible_layout_says_what_is_allowed() {
        assert!(Layout::new(0, 1, 1).is_err());
        assert!(Layout::new(40_000, 1, 1).is_err());
        assert!(Layout::new(8, 16, 1).unwrap_err().contains("1 to 8"));
        assert!(Layout::new(128, 16, 17).unwrap_err().contains("1 to 16"));
    }
}
