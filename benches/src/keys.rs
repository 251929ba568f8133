//! Keys of one length, packed in the order in which they are visited, as a request brings them.

/// So many different keys of one length, in some order.
#[derive(Debug)]
pub struct Keys {
    bytes: Vec<u8>,
    order: Vec<u32>,
    key_bytes: usize,
}

impl Keys {
    /// The keys of the numbers below `count`, of `key_bytes` bytes (at least ten), shuffled.
    pub fn shuffled(count: u32, key_bytes: usize, seed: u64) -> Self {
        assert!(key_bytes >= 10, "ten digits tell four billion keys apart");
        let order = shuffled(count, seed);
        let mut bytes = Vec::with_capacity(count as usize * key_bytes);
        for n in &order {
            bytes.extend_from_slice(format!("{n:0>key_bytes$}").as_bytes());
        }
        Self { bytes, order, key_bytes }
    }

    /// Their numbers and the keys themselves, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.order.iter().copied().zip(self.bytes.chunks_exact(self.key_bytes))
    }
}

fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for index in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(index, (state % (index as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_there_once_in_an_order_of_the_seed() {
        let keys = Keys::shuffled(1_000, 15, 7);
        let mut numbers: Vec<u32> = keys.iter().map(|(n, _)| n).collect();
        assert_ne!(numbers, shuffled(1_000, 8));
        for (n, key) in keys.iter() {
            assert_eq!(key, format!("{n:0>15}").as_bytes());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
    }
}
